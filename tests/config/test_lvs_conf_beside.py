"""An lvs.conf beside lvsd's own YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lvsd.config.model import DirectorAddress
from lvsd.errors import ConfigError
from lvsd.model import Address

if TYPE_CHECKING:
    from conftest import Loads

LVS = (
    "LVS_TYPE=VS_DR\nVIP=eth0:101 192.168.0.101 255.255.255.0 192.168.0.0\n"
    "SERVICE=t www rr rs1:www\nSERVICE=t telnet rr rs2:telnet\n"
)
VIP = DirectorAddress(Address.parse("192.168.0.101"), 24, "eth0", "eth0:101")
VIP2 = DirectorAddress(Address.parse("192.168.1.101"), 32, "eth1", "")
VRRP = "vrrp: {vip: {virtual_router_id: 51}}\n"

NAMED = "lvs_conf: lvs.yaml\n"
INCLUDED = "virtual_services: {include: lvs.yaml}\n"


@pytest.mark.parametrize("named", [NAMED, INCLUDED, NAMED + INCLUDED])
def test_services_come_from_lvs_conf_and_its_vip_is_the_instances(loads: Loads, named: str) -> None:
    config, notes = loads(f"{named}{VRRP}", lvs=LVS)
    assert (config.format, config.files) == ("lvsd", ("lvsd.yaml", "lvs.yaml"))
    assert [service.name for service in config.services] == ["www", "telnet"]
    (instance,) = config.settings.vrrp
    assert (instance.interface, instance.addresses) == ("eth0", (VIP,))
    assert config.settings.addresses == ()
    assert notes == ()


def test_services_of_both_are_merged(loads: Loads) -> None:
    own = (
        "virtual_services:\n  include: lvs.yaml\n  ssh: {address: '192.168.0.101:22', real_servers: [rs1]}\n"
    )
    config, _ = loads(f"{own}{VRRP}", lvs=LVS)
    assert [service.name for service in config.services] == ["ssh", "www", "telnet"]


def test_services_from_lvs_conf_can_be_tracked(loads: Loads) -> None:
    config, _ = loads(
        f"{NAMED}vrrp: {{vip: {{virtual_router_id: 51, track: {{services: [www]}}}}}}\n", lvs=LVS
    )
    assert [tracked.name for tracked in config.settings.vrrp[0].track] == ["www"]


@pytest.mark.parametrize("vrrp", ["", "vrrp:\n", "vrrp: {}\n"])
def test_without_an_instance_the_vips_are_the_directors(loads: Loads, vrrp: str) -> None:
    config, _ = loads(
        f"{NAMED}director: {{name: vs9, addresses: [{{address: 192.0.2.1/24, interface: eth5}}]}}\n{vrrp}",
        lvs=LVS,
    )
    assert config.settings.director == "vs9"
    assert [str(address) for address in config.settings.addresses] == ["192.0.2.1/24", "192.168.0.101/24"]
    assert config.settings.addresses[1] == VIP
    assert config.settings.vrrp == ()
    assert loads(f"{NAMED}{vrrp}", lvs=LVS)[0].settings.addresses == (VIP,)


def test_an_instance_may_have_another_interface_than_the_vip(loads: Loads) -> None:
    config, _ = loads(f"{NAMED}vrrp: {{vip: {{virtual_router_id: 51, interface: eth7}}}}\n", lvs=LVS)
    (instance,) = config.settings.vrrp
    assert (instance.interface, instance.addresses) == ("eth7", (VIP,))


def test_several_vips_on_one_device_are_one_instances(loads: Loads) -> None:
    more = "VIP=eth0:102 192.168.0.102 255.255.255.255 192.168.0.102\n"
    config, _ = loads(f"{NAMED}{VRRP}", lvs=LVS + more)
    (instance,) = config.settings.vrrp
    assert (instance.interface, [str(vip) for vip in instance.addresses]) == (
        "eth0",
        ["192.168.0.101/24", "192.168.0.102/32"],
    )


def test_vips_on_several_devices_leave_the_interface_to_the_operator(loads: Loads) -> None:
    more = "VIP=eth1 192.168.1.101 255.255.255.255 192.168.1.101\n"
    with pytest.raises(ConfigError, match=r"^lvsd.yaml:2:8: vrrp.vip: `interface` is missing$"):
        loads(f"{NAMED}{VRRP}", lvs=LVS + more)
    config, _ = loads(f"{NAMED}vrrp: {{vip: {{virtual_router_id: 51, interface: eth0}}}}\n", lvs=LVS + more)
    assert config.settings.vrrp[0].addresses == (VIP, VIP2)


def test_the_vips_go_to_the_one_instance_without_addresses(loads: Loads) -> None:
    other = "six: {virtual_router_id: 51, interface: eth0, addresses: ['fe80::1/64']}"
    config, notes = loads(f"{NAMED}vrrp: {{{other}, vip: {{virtual_router_id: 51}}}}\n", lvs=LVS)
    six, vip = config.settings.vrrp
    assert (six.family, vip.addresses) == (6, (VIP,))
    assert notes == ()


def test_an_instance_with_addresses_keeps_them(loads: Loads) -> None:
    own = "vrrp: {vip: {virtual_router_id: 51, interface: eth3, addresses: [192.168.0.101/32]}}\n"
    config, notes = loads(f"{NAMED}{own}", lvs=LVS)
    (instance,) = config.settings.vrrp
    assert [(str(vip), vip.interface) for vip in instance.addresses] == [("192.168.0.101/32", "eth3")]
    assert config.settings.addresses == ()
    assert notes == ()


def test_synchronisation_goes_with_the_instance_of_lvs_conf(loads: Loads) -> None:
    config, _ = loads(f"{NAMED}{VRRP}ipvs: {{sync: {{interface: eth0}}}}\n", lvs=LVS)
    assert config.settings.ipvs.sync is not None
    assert config.settings.ipvs.sync.instance == "vip"


def test_an_included_file_may_name_it(loads: Loads) -> None:
    config, _ = loads("include: part.yaml\n" + VRRP, part=INCLUDED, lvs=LVS)
    assert config.files == ("lvsd.yaml", "part.yaml", "lvs.yaml")
    assert config.settings.vrrp[0].addresses == (VIP,)


def test_a_vip_without_any_network_is_a_mistake_in_lvs_conf(loads: Loads) -> None:
    lvs = LVS.replace("255.255.255.0", "0.0.0.0")  # noqa: S104 - a netmask
    with pytest.raises(ConfigError, match=r"^lvs.yaml:2:14: vrrp.vip.addresses\[0\].address: the prefix of"):
        loads(f"{NAMED}{VRRP}", lvs=lvs)
    with pytest.raises(ConfigError, match=r"^lvs.yaml:2:14: director.addresses\[0\].address: the prefix of"):
        loads(NAMED, lvs=lvs)


def test_a_directors_addresses_that_are_no_list_are_the_mistake_they_are(loads: Loads) -> None:
    with pytest.raises(ConfigError, match=r"^lvsd.yaml:2:23: director.addresses: must be a list, not 'x'$"):
        loads(f"{NAMED}director: {{addresses: x}}\n", lvs=LVS)
    with pytest.raises(ConfigError, match=r"^lvsd.yaml:2:11: director: must be a mapping, not 'x'$"):
        loads(f"{NAMED}director: x\n", lvs=LVS)
