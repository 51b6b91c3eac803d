"""Interfaces with virtual MACs come before their VIPs and go after them, however fast roles change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from lvsd.config.model import DirectorAddress, VrrpInstance
from lvsd.edge import mac_keeper
from lvsd.edge.mac_keeper import MacKeeper
from lvsd.errors import KernelError
from lvsd.events import AddressRefused
from lvsd.model import Address
from lvsd.vrrp.virtual_mac import interface_name, placed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.events import Event

INSTANCE = VrrpInstance(
    name="vip",
    interface="eth0",
    vrid=51,
    version=3,
    family=6,
    priority=100,
    interval=1.0,
    virtual_mac=True,
    addresses=(DirectorAddress(Address.parse("2001:db8::101"), 64, "eth0"),),
)
(VIP,) = placed(INSTANCE)


class FakeMacs:
    """A kernel whose answers take a turn of the loop; refuses with `refusal` while there is one."""

    done: ClassVar[list[str]]
    refusal: ClassVar[str]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def add(self, interface: str, vrid: int, version: int) -> None:
        await self._do(f"add {interface_name(vrid, version)} on {interface}")

    async def remove(self, vrid: int, version: int) -> None:
        await self._do(f"remove {interface_name(vrid, version)}")

    async def _do(self, what: str) -> None:
        await asyncio.sleep(0)
        if self.refusal:
            raise KernelError(self.refusal)
        self.done.append(what)


class Host:
    """A keeper, and what it has told and done."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.refused: list[tuple[DirectorAddress, str]] = []
        self.holding: list[VrrpInstance] = []
        self.keeper = MacKeeper(self.keep, lambda _: self.keep(), self.placed, self.told.append)
        self.keeper.begin()

    def placed(self, vip: DirectorAddress, refusal: str) -> None:
        self.refused.append((vip, refusal))

    def keep(self) -> None:
        self.keeper.want(self.holding)
        vips = [vip for each in self.holding for vip in placed(each) if self.keeper.bears(vip)]
        FakeMacs.done.append(f"vips {len(vips)}")

    def hold(self, *instances: VrrpInstance) -> None:
        self.holding = list(instances)
        self.keep()


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setattr(mac_keeper, "VirtualMacs", FakeMacs)
    monkeypatch.setattr(mac_keeper, "RETRY_EVERY", 0.0)
    monkeypatch.setattr(mac_keeper, "_is_up", lambda interface: interface != "eth9")
    FakeMacs.done, FakeMacs.refusal = [], ""
    told = Host()
    yield told
    await told.keeper.close()


def done() -> list[str]:
    told, FakeMacs.done = FakeMacs.done, []
    return told


async def test_the_interface_comes_first_and_goes_last(host: Host) -> None:
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    assert done() == ["vips 0", "add vrrp6.51 on eth0", "vips 1"]
    host.hold()
    await host.keeper.finish(1.0)
    assert done() == ["vips 0", "vips 0", "remove vrrp6.51"]


@pytest.mark.parametrize("turns", range(6))
async def test_a_change_back_and_forth_ends_as_it_is_wanted_last(host: Host, turns: int) -> None:
    async def change(*instances: VrrpInstance) -> None:
        host.hold(*instances)
        for _ in range(turns):
            await asyncio.sleep(0)

    for instances in ([INSTANCE], [], [INSTANCE], []):
        await change(*instances)
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    assert host.keeper.bears(VIP)
    assert [each for each in done() if "vips" not in each][-1:] == ["add vrrp6.51 on eth0"]
    host.hold()
    await host.keeper.finish(1.0)
    assert done()[-1] == "remove vrrp6.51"


async def test_an_instance_on_another_interface_gets_another(host: Host) -> None:
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    done()
    moved = tuple(replace(vip, interface="eth1") for vip in INSTANCE.addresses)
    host.hold(replace(INSTANCE, interface="eth1", addresses=moved))
    await host.keeper.finish(1.0)
    assert done() == ["vips 0", "vips 0", "remove vrrp6.51", "add vrrp6.51 on eth1", "vips 1"]


async def test_a_refusal_is_told_once_and_tried_again(host: Host) -> None:
    FakeMacs.refusal = "no right"
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert host.told == [AddressRefused(address=str(VIP), interface="vrrp6.51", reason="no right")]
    assert set(host.refused) == {(VIP, "no right")}
    FakeMacs.refusal = ""
    async with asyncio.timeout(1.0):
        while not host.keeper.bears(VIP):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_who_is_master_again_does_not_wait_for_the_next_try(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mac_keeper, "RETRY_EVERY", 3600.0)
    FakeMacs.refusal = "no right"
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    host.hold()
    FakeMacs.refusal = ""
    host.hold(INSTANCE)
    await host.keeper.finish(1.0)
    assert host.keeper.bears(VIP)


async def test_a_refusal_for_want_of_the_parent_is_not_told_beside_its_fault(host: Host) -> None:
    FakeMacs.refusal = "there is no interface eth9"
    moved = tuple(replace(vip, interface="eth9") for vip in INSTANCE.addresses)
    host.hold(replace(INSTANCE, interface="eth9", addresses=moved))
    await host.keeper.finish(1.0)
    assert host.told == []


async def test_without_a_virtual_mac_nothing_is_made(host: Host) -> None:
    plain = replace(INSTANCE, virtual_mac=False)
    host.hold(plain)
    await host.keeper.finish(1.0)
    assert done() == ["vips 1"]
