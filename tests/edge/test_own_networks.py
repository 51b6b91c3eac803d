"""VIPs in no network of their interface are noted when a configuration is read, whoever is master."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import pytest

from lvsd.cli import main
from lvsd.config.model import DirectorAddress
from lvsd.edge import own_networks
from lvsd.edge.addresses import FoundAddress
from lvsd.edge.own_networks import OwnNetworks
from lvsd.edge.parser import Parser
from lvsd.errors import KernelError
from lvsd.model import Address

if TYPE_CHECKING:
    from pathlib import Path

ON_LOOPBACK = """\
virtual_services: {}
director:
  addresses:
    - {address: 192.0.2.9/24, interface: lo}
    - {address: 192.0.2.10/32, interface: lo}
    - {address: 192.0.2.11/24, interface: nonesuch}
vrrp:
  vip: {interface: lo, virtual_router_id: 51, addresses: [192.0.2.12/24]}
"""


class Kernel:
    """An interface eth0 with addresses of both IP versions, eth1 with a link-local one; counts questions."""

    asked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def all(self) -> list[FoundAddress]:
        Kernel.asked += 1
        there = {
            "eth0": ["192.168.0.1/24", "192.168.1.101/24", "fd00::1/64", "fe80::1/64"],
            "eth1": ["fe80::2/64"],
        }
        return [
            FoundAddress(vip(text, name).address, vip(text, name).prefix, name, "")
            for name, texts in there.items()
            for text in texts
        ]


def vip(text: str, interface: str = "eth0") -> DirectorAddress:
    address, _, prefix = text.partition("/")
    return DirectorAddress(Address.parse(address), int(prefix), interface)


@pytest.mark.parametrize(
    ("address", "interface", "networks"),
    [
        ("192.168.0.101/24", "eth0", []),
        ("192.168.1.101/24", "eth0", ["192.168.0.1/24"]),  # held already, which makes no network of its own
        ("192.168.1.101/24", "eth1", []),
        ("192.168.1.101/24", "eth2", []),
        ("192.168.1.101/32", "eth0", []),
        ("fd00::101/64", "eth0", []),
        ("fd00:1::101/64", "eth0", ["fd00::1/64", "fe80::1/64"]),
        ("fd00:1::101/64", "eth1", []),
        ("fd00:1::101/128", "eth0", []),
        ("fe80::101/64", "eth0", []),
    ],
)
def test_a_vip_that_misses_all_networks_of_its_interface_is_noted(
    monkeypatch: pytest.MonkeyPatch, address: str, interface: str, networks: list[str]
) -> None:
    monkeypatch.setattr(own_networks, "Addresses", Kernel)
    wanted = vip(address, interface)
    assert OwnNetworks().missed([wanted]) == ({wanted: networks} if networks else {})


def test_vips_that_are_there_already_are_no_network_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_networks, "Addresses", Kernel)
    held, other = vip("192.168.1.101/24"), vip("192.168.1.102/24")
    assert OwnNetworks().missed([held, other]).keys() == {held, other}
    assert OwnNetworks().missed([other]) == {}


def test_the_kernel_is_asked_once_for_all_vips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_networks, "Addresses", Kernel)
    before = Kernel.asked
    assert len(OwnNetworks().missed([vip(f"192.168.9.{number}/24") for number in range(1, 100)])) == 99
    assert Kernel.asked == before + 1


def test_where_the_kernel_cannot_be_asked_nothing_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        message = "routing netlink cannot be used: Operation not permitted"
        raise KernelError(message)

    monkeypatch.setattr(own_networks, "Addresses", refuse)
    assert OwnNetworks().missed([vip("192.168.9.1/24")]) == {}


async def test_check_and_the_daemon_note_it_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lvsd.yaml"
    file.write_text(ON_LOOPBACK)
    assert main(["check", str(file)]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        f"{file}:4:17: director.addresses[0].address: note: 192.0.2.9/24 is in no network of lo (127.0.0.1/8"
    )
    advice = "mend it, its prefix or its interface, or write /32 if it is meant so"
    assert first.endswith(f"), where clients may not find it: {advice}")
    assert second.startswith(
        f"{file}:8:59: vrrp.vip.addresses[0]: note: 192.0.2.12/24 is in no network of lo ("
    )
    parser = Parser()
    try:
        loaded = await parser.load(str(file))
    finally:
        parser.close()
    assert [str(note) for note in loaded.notes] == [first, second]
