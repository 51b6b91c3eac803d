from __future__ import annotations

import pytest

from lvsd.config.model import DirectorAddress
from lvsd.edge import vip_keeper
from lvsd.edge.addresses import FoundAddress
from lvsd.edge.vip_keeper import VipKeeper, misplaced
from lvsd.effects import Effect, Report
from lvsd.errors import KernelError
from lvsd.events import AddressMisplaced
from lvsd.model import Address
from lvsd.vips import Vips


def vip(text: str) -> DirectorAddress:
    address, _, prefix = text.partition("/")
    return DirectorAddress(Address.parse(address), int(prefix), "eth0")


def own(text: str) -> FoundAddress:
    address, _, prefix = text.partition("/")
    return FoundAddress(Address.parse(address), int(prefix), "eth0", "")


@pytest.mark.parametrize(
    ("address", "there", "wrong"),
    [
        ("192.168.0.101/24", ["192.168.0.1/24"], False),
        ("192.168.0.101/24", ["192.168.1.1/24"], True),
        ("192.168.0.101/24", ["192.168.1.1/24", "192.168.0.1/16"], False),
        ("192.168.0.101/32", ["10.0.0.1/8"], False),
        ("192.168.0.101/24", [], False),
        ("2001:db8::101/64", ["2001:db8:1::1/64", "fe80::1/64"], True),
        ("2001:db8::101/128", ["2001:db8:1::1/64"], False),
        ("2001:db8::101/64", ["fe80::1/64"], False),
    ],
)
def test_a_vip_in_no_network_of_its_interface_is_told(address: str, there: list[str], *, wrong: bool) -> None:
    told = misplaced(vip(address), map(own, there))
    expected = AddressMisplaced(address=address, interface="eth0", networks=there)
    assert told == ([Report(expected)] if wrong else [])


class Kernel:
    """Interfaces by number, and addresses on them by the interface's name of the moment."""

    def __init__(self) -> None:
        self.names = {5: "eth0"}
        self.there: set[tuple[Address, int]] = set()

    def all(self) -> list[FoundAddress]:
        return [FoundAddress(address, 24, self.names[number], "") for address, number in self.there]

    def add(self, wanted: DirectorAddress, _: object) -> None:
        self.there.add((wanted.address, self.number(wanted.interface)))

    def remove(self, wanted: DirectorAddress, _: object = None) -> bool:
        where = wanted.address, self.number(wanted.interface)
        was_there = where in self.there
        self.there.discard(where)
        return was_there

    def number(self, name: str) -> int:
        numbers = {name: number for number, name in self.names.items()}
        if name not in numbers:
            raise KernelError(name)
        return numbers[name]


async def test_vips_are_taken_off_an_interface_that_gets_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, wanted = Kernel(), vip("192.168.0.101/24")
    monkeypatch.setattr(
        vip_keeper, "number_of", lambda name: dict(map(reversed, kernel.names.items())).get(name, 0)
    )
    monkeypatch.setattr(vip_keeper, "_name", lambda number: kernel.names.get(number, ""))
    vips, told = Vips([]), list[Effect]()
    keeper = VipKeeper(vips, kernel, told.extend, lambda *_: None)  # type: ignore[arg-type]
    vips.want([wanted], [wanted])
    keeper.keep("vrrp")
    assert kernel.there == {(wanted.address, 5)}
    kernel.names = {5: "lan0"}
    keeper.keep("vrrp")
    assert kernel.there == set()
    kernel.names = {5: "lan0", 6: "eth0"}
    keeper.keep("vrrp")
    assert kernel.there == {(wanted.address, 6)}
    kernel.names = {6: "lan1", 7: "eth0"}
    keeper.keep("vrrp")
    assert kernel.there == {(wanted.address, 7)}


@pytest.mark.parametrize("before", [True, False], ids=["before it is looked", "after"])
async def test_an_interface_that_gets_another_name_at_that_moment_keeps_no_vip(
    monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    class Renaming(Kernel):
        renames = False

        def all(self) -> list[FoundAddress]:
            if self.renames and before:
                self.names = {5: "lan0"}
            found = super().all()
            if self.renames:
                self.names = {5: "lan0"}
            return found

    kernel, wanted = Renaming(), vip("192.168.0.101/24")
    monkeypatch.setattr(
        vip_keeper, "number_of", lambda name: dict(map(reversed, kernel.names.items())).get(name, 0)
    )
    monkeypatch.setattr(vip_keeper, "_name", lambda number: kernel.names.get(number, ""))
    vips = Vips([])
    keeper = VipKeeper(vips, kernel, lambda _: None, lambda *_: None)  # type: ignore[arg-type]
    vips.want([wanted], [wanted])
    keeper.keep("vrrp")
    kernel.renames = True
    for _ in range(3):
        keeper.keep("vrrp")
    assert kernel.there == set()
