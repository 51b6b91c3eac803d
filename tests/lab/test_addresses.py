"""Virtual addresses on the interfaces of a real kernel."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.model import DirectorAddress, Scope
from lvsd.edge.addresses import NO_RIGHT, Addresses, FoundAddress
from lvsd.errors import KernelError
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERFACE = "vip0"
VIP = DirectorAddress(Address.parse("192.168.0.101"), 24, INTERFACE, f"{INTERFACE}:101")
PLAIN = DirectorAddress(Address.parse("192.168.0.102"), 32, INTERFACE)
VIP6 = DirectorAddress(Address.parse("fd00::101"), 64, INTERFACE)
ALL = [VIP, PLAIN, VIP6]


@pytest.fixture(autouse=True)
def _interface() -> Iterator[None]:
    ip("link", "add", INTERFACE, "type", "dummy")
    ip("link", "set", INTERFACE, "up")
    ip("address", "add", "192.168.0.1/24", "dev", INTERFACE)
    ip("address", "add", "fd00::1/64", "dev", INTERFACE, "nodad")
    yield
    ip("link", "del", INTERFACE)


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with Addresses() as opened:
        yield opened


def ip(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        ["/sbin/ip", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def shown(address: DirectorAddress) -> str:
    """Return the line that `ip address` has for an address, or nothing."""
    lines = ip("-o", "address", "show", "dev", INTERFACE).splitlines()
    return next((line for line in lines if f" {address.address}/" in line), "")


@pytest.mark.parametrize("address", ALL, ids=str)
def test_an_address_is_added_and_removed(addresses: Addresses, address: DirectorAddress) -> None:
    assert addresses.find(address) is None
    assert addresses.add(address) is None
    assert addresses.find(address) is not None
    assert f" {address} " in shown(address)
    assert addresses.remove(address)
    assert addresses.find(address) is None
    assert shown(address) == ""
    assert "192.168.0.1/24" in ip("-o", "address", "show", "dev", INTERFACE)


def test_an_address_has_its_label(addresses: Addresses) -> None:
    addresses.add(VIP)
    assert f" {INTERFACE}:101\\" in shown(VIP)
    addresses.add(PLAIN)
    assert f" {INTERFACE}\\" in shown(PLAIN)


@pytest.mark.parametrize("scope", Scope)
def test_an_address_has_its_scope(addresses: Addresses, scope: Scope) -> None:
    vip = replace(PLAIN, scope=scope)
    addresses.add(vip)
    assert f" {vip} scope {scope} " in shown(vip)
    assert addresses.remove(vip)
    assert shown(vip) == ""


def test_a_scope_that_the_network_does_not_have_is_refused(addresses: Addresses) -> None:
    with pytest.raises(KernelError, match="its network is there with another scope: write it with /32"):
        addresses.add(replace(VIP, scope=Scope.LINK))


def test_an_ipv6_address_serves_at_once_and_is_never_a_source(addresses: Addresses) -> None:
    addresses.add(VIP6)
    assert "nodad" in shown(VIP6)
    assert "tentative" not in shown(VIP6)
    for to in "fd00::3", "fd00::102":  # the nearest to the VIP, by its bits
        assert "src fd00::1 " in ip("route", "get", to)


@pytest.mark.parametrize(
    ("address", "there", "found"),
    [
        (VIP, f"{VIP.address}/24", FoundAddress(VIP.address, 24, INTERFACE, INTERFACE)),
        (VIP, f"{VIP.address}/32", FoundAddress(VIP.address, 32, INTERFACE, INTERFACE)),
        (VIP6, f"{VIP6.address}/128", FoundAddress(VIP6.address, 128, INTERFACE, "")),
    ],
    ids=["another label", "another prefix", "IPv6"],
)
def test_an_address_found_there_is_adopted_as_it_is(
    addresses: Addresses, address: DirectorAddress, there: str, found: FoundAddress
) -> None:
    ip("address", "add", there, "dev", INTERFACE)
    before = shown(address)
    assert addresses.find(address) is not None
    assert addresses.add(address) == found
    assert str(found) == f"{there} on {INTERFACE}"
    assert shown(address) == before
    assert addresses.remove(address)
    assert shown(address) == ""


def test_a_found_address_says_its_label() -> None:
    assert str(FoundAddress(VIP.address, 24, "eth0", "eth0:1")) == "192.168.0.101/24 on eth0 as eth0:1"


def test_what_is_not_there_need_not_be_removed(addresses: Addresses) -> None:
    assert not addresses.remove(VIP)
    assert not addresses.remove(VIP6)


def test_a_missing_interface_is_named(addresses: Addresses) -> None:
    nowhere = DirectorAddress(VIP.address, 24, "eth7")
    for call in addresses.add, addresses.remove, addresses.find:
        with pytest.raises(KernelError, match="there is no interface eth7"):
            call(nowhere)


def test_a_refused_address_has_the_kernels_reason(addresses: Addresses) -> None:
    with pytest.raises(KernelError, match=rf"cannot add 192.168.0.101/33 on {INTERFACE}: Invalid argument"):
        addresses.add(replace(VIP, prefix=33))
    disabled = Path(f"/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6")
    disabled.write_text("1")
    with pytest.raises(KernelError, match=rf"cannot add fd00::101/64 on {INTERFACE}: IPv6 is disabled there"):
        addresses.add(VIP6)


def test_without_the_right_it_says_which() -> None:
    os.seteuid(65534)
    try:
        with Addresses() as addresses, pytest.raises(KernelError, match="CAP_NET_ADMIN") as raised:
            addresses.add(VIP)
    finally:
        os.seteuid(0)
    assert str(raised.value) == NO_RIGHT


def test_hundreds_of_calls_leave_nothing_behind(addresses: Addresses) -> None:
    before = ip("address", "show", "dev", INTERFACE)
    for _ in range(50):
        addresses.add(VIP)
        addresses.remove(VIP)
    assert ip("address", "show", "dev", INTERFACE) == before


@pytest.mark.parametrize(
    ("address", "route"), [(VIP, "192.168.0.0/24"), (VIP6, "fd00::/64")], ids=["IPv4", "IPv6"]
)
def test_an_address_brings_a_route_only_where_none_is(
    addresses: Addresses, address: DirectorAddress, route: str
) -> None:
    version = f"-{address.address.version}"
    for own in "192.168.0.1/24", "fd00::1/64":
        ip("address", "del", own, "dev", INTERFACE)
    addresses.add(address)
    assert route in ip(version, "route", "show", "dev", INTERFACE)
    addresses.remove(address)
    assert route not in ip(version, "route", "show", "dev", INTERFACE)
    wider = "192.168.0.1/16" if address.address.version == 4 else "fd00::1/48"
    ip("address", "add", wider, "dev", INTERFACE)
    addresses.add(address)
    assert "noprefixroute" in shown(address)
    assert route not in ip(version, "route", "show", "dev", INTERFACE)
