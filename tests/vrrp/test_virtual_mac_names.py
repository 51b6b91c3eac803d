from __future__ import annotations

from dataclasses import replace

import pytest

from lvsd.config.model import DirectorAddress, VrrpInstance
from lvsd.model import Address
from lvsd.vrrp.virtual_mac import interface_name, parse_name, placed, virtual_mac


def vip(text: str, interface: str = "eth0", label: str = "") -> DirectorAddress:
    address, _, prefix = text.partition("/")
    return DirectorAddress(Address.parse(address), int(prefix), interface, label)


OTHER = (vip("2001:db8::102/64"), vip("192.168.1.101/24", "eth1"))
V4 = VrrpInstance(
    name="vip",
    interface="eth0",
    vrid=51,
    version=3,
    family=4,
    priority=100,
    interval=1.0,
    virtual_mac=True,
    addresses=(vip("192.168.0.101/24", label="eth0:101"),),
    excluded=(vip("192.168.0.102/24"), *OTHER),
)


def test_a_vrid_has_a_mac_for_each_ip_version() -> None:
    assert (virtual_mac(51, 4), virtual_mac(255, 6)) == ("00:00:5e:00:01:33", "00:00:5e:00:02:ff")


def test_vips_of_the_ip_version_go_to_the_interface_with_the_mac_as_single_hosts() -> None:
    moved = (vip("192.168.0.101/32", "vrrp.51"), vip("192.168.0.102/32", "vrrp.51"))
    assert placed(V4) == (*moved, *OTHER)


def test_link_local_vips_keep_their_prefix_since_without_it_nobody_on_the_lan_is_reached() -> None:
    v6 = replace(V4, family=6, addresses=(vip("fe80::101/64"), vip("2001:db8::101/64")), excluded=())
    assert placed(v6) == (vip("fe80::101/64", "vrrp6.51"), vip("2001:db8::101/128", "vrrp6.51"))


def test_without_a_virtual_mac_all_stay_as_they_are_configured() -> None:
    assert placed(replace(V4, virtual_mac=False)) == (*V4.addresses, *V4.excluded)


@pytest.mark.parametrize(("vrid", "version"), [(1, 4), (51, 6), (255, 4)])
def test_an_interface_is_known_by_its_name(vrid: int, version: int) -> None:
    assert parse_name(interface_name(vrid, version)) == (vrid, version)


@pytest.mark.parametrize("name", ["eth0", "vrrp.", "vrrp.0", "vrrp5.51", "vrrp.51x", "xvrrp.51", "vrrp.²"])
def test_other_interfaces_are_not(name: str) -> None:
    assert parse_name(name) is None
