"""A VIP with a virtual MAC address: a failover changes nothing that a client has learnt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from vrrp_peers import BACKUP, MASTER, Instance, KeepalivedRouter
from waiting import until

from lvsd.lab.classic import VIP, VIP6
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders
from lvsd.vrrp.packet import PROTOCOL
from lvsd.vrrp.virtual_mac import interface_name, virtual_mac

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine

INTERVAL = 0.3
MARGIN = 1.5
"""Seconds that the lab's one slow CPU may add, and a client whose lost SYN is sent again after 1 s."""

SERVICES = f"""\
virtual_services:
  www: {{address: "{VIP}:80", check: none, scheduler: rr, forward: dr, real_servers: [192.168.0.3]}}
  www6: {{address: "[{VIP6}]:80", check: none, scheduler: rr, forward: dr, real_servers: ["fd00:0:0:1::3"]}}
vrrp:
"""


@dataclass(frozen=True, slots=True)
class Family:
    """What the tests do over IPv4 and IPv6 alike."""

    version: int
    vip: str
    prefix: int

    @property
    def mac(self) -> str:
        return virtual_mac(51, self.version)

    @property
    def interface(self) -> str:
        return interface_name(51, self.version)

    def instance(self, priority: int, *, virtual: bool = True) -> str:
        return f"""\
  vip{self.version}:
    interface: eth0
    virtual_router_id: 51
    priority: {priority}
    advertisement_interval: {INTERVAL}s
    virtual_mac: {str(virtual).lower()}
    addresses: ["{self.vip}/{self.prefix}"]
"""


V4, V6 = Family(4, VIP, 24), Family(6, VIP6, 64)
FAMILIES = (V4, V6)
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])


def config(priority: int, *families: Family, virtual: bool = True) -> str:
    return SERVICES + "".join(each.instance(priority, virtual=virtual) for each in families)


class Learnt:
    """What a client learns of where the VIPs are: which MAC addresses each has had."""

    def __init__(self, client: Machine) -> None:
        self._client = client
        self.macs: dict[str, set[str]] = {each.vip: set() for each in FAMILIES}

    @classmethod
    @contextlib.asynccontextmanager
    async def by(cls, client: Machine) -> AsyncIterator[Self]:
        learnt = cls(client)
        following = asyncio.create_task(learnt._follow())
        yield learnt
        following.cancel()

    async def look(self) -> None:
        shown = await self._client.run(["ip", "neigh", "show", "dev", "eth0"])
        for words in map(str.split, shown.output.splitlines()):
            if words[0] in self.macs and "lladdr" in words:
                self.macs[words[0]].add(words[words.index("lladdr") + 1])

    async def _follow(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.2)


async def interfaces(machine: Machine) -> set[str]:
    """Return the interfaces with virtual MACs that a host has."""
    names = await machine.do(socket.if_nameindex)
    return {name for _, name in names if name.startswith("vrrp")}


async def has(machine: Machine, *names: str) -> None:
    """Wait until a host has just these interfaces with virtual MACs."""

    async def has_them() -> bool:
        return await interfaces(machine) == set(names)

    await until(has_them, 20.0)


async def advertiser(hearing: Machine, family: Family) -> str:
    """Return the MAC address that the next advertisement comes from."""
    ethertype, protocol_at = {4: (0x0800, 9), 6: (0x86DD, 6)}[family.version]
    with await hearing.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as frames:
        frames.bind(("eth0", ethertype))
        async with asyncio.timeout(20):
            while True:
                packet, sender = await asyncio.get_running_loop().sock_recvfrom(frames, 2048)
                if packet[protocol_at] == PROTOCOL:
                    mac: bytes = sender[4]
                    return mac.hex(":")


async def arp_settings(machine: Machine) -> list[str]:
    """Return arp_ignore and arp_announce of a director's interface."""
    folder = Path("/proc/sys/net/ipv4/conf/eth0")
    return [(await machine.do((folder / name).read_text)).strip() for name in ("arp_ignore", "arp_announce")]


async def test_a_failover_changes_nothing_that_a_client_has_learnt(lab: Lab) -> None:
    vs1, vs2, client = (lab.hosts[name] for name in ("vs1", "vs2", "client"))
    names = [each.interface for each in FAMILIES]
    async with Holders.of(VIP, [vs1, vs2]) as holders, Holders.of(VIP6, [vs1, vs2]) as holders6:

        async def is_with(director: DirectorProcess, since: float) -> None:
            for each in holders, holders6:
                await each.become(director.machine.name)
            await asyncio.sleep(4 * INTERVAL)
            for each in holders, holders6:
                assert each.now == {director.machine.name}, each.story(since)

        first = await DirectorProcess.start(vs1, config(150, *FAMILIES))
        second = await DirectorProcess.start(vs2, config(100, *FAMILIES))
        await is_with(first, 0.0)
        await has(vs1, *names)
        await has(vs2)
        changed = first.found("vrrp.changed", new="master")
        assert sorted(told["addresses"] for told in changed) == [[f"{VIP}/24"], [f"{VIP6}/64"]]
        added = {(told["interface"], told["address"]) for told in first.found("address.added")}
        assert added == {("vrrp.51", f"{VIP}/32"), ("vrrp6.51", f"{VIP6}/128")}

        for family in FAMILIES:
            assert await advertiser(vs2, family) == family.mac

        asking = [await client.request_every(0.05, each.vip, count=100_000) for each in FAMILIES]

        def outage(since: float) -> float:
            return max(each.outage(since, time.monotonic()) for each in asking)

        async with Learnt.by(client) as learnt:
            stopped_at = time.monotonic()
            await first.stop()
            await is_with(second, stopped_at)
            await has(vs1)
            await has(vs2, *names)
            assert outage(stopped_at) < INTERVAL + MARGIN, holders.story(stopped_at)

            await first.restart()
            back_at = time.monotonic()
            await is_with(first, back_at)
            await has(vs2)
            assert outage(back_at) < MARGIN, holders.story(back_at)

            cut_at = time.monotonic()
            await lab.cut("vs1")
            await is_with(second, cut_at)
            assert outage(cut_at) < 4 * INTERVAL + MARGIN, holders.story(cut_at)
            mended_at = time.monotonic()
            await lab.mend("vs1")
            await is_with(first, mended_at)
            await has(vs1, *names)
            await has(vs2)
            assert outage(mended_at) < MARGIN, holders.story(mended_at)
            await learnt.look()
        assert learnt.macs == {each.vip: {each.mac} for each in FAMILIES}
        for director in first, second:
            for event in "vrrp.rejected", "vrrp.unsent", "address.refused", "library.warned":
                assert director.found(event) == []


async def test_what_a_run_leaves_is_adopted_given_up_or_withdrawn(bare_lab: Lab) -> None:
    vs1, vs2 = bare_lab.hosts["vs1"], bare_lab.hosts["vs2"]

    async def numbers() -> dict[str, int]:
        return {name: number for number, name in await vs1.do(socket.if_nameindex) if "vrrp" in name}

    before_all = await arp_settings(vs1)
    async with Holders.of(VIP, [vs1, vs2]) as holders, Holders.of(VIP6, [vs1, vs2]) as holders6:
        director = await DirectorProcess.start(vs1, config(150, *FAMILIES))
        await holders.become("vs1")
        await holders6.become("vs1")
        before, moves = await numbers(), [len(each.history) for each in (holders, holders6)]
        assert list(before) == ["vrrp.51", "vrrp6.51"]
        await director.kill()
        planned = await director.ask("plan", "-c", str(director.config))
        assert "ip address" not in planned.output
        await director.restart()
        for instance in "vip4", "vip6":
            await director.saw("vrrp.changed", instance=instance, new="master")
        await asyncio.sleep(2 * INTERVAL)
        assert await numbers() == before
        assert [len(each.history) for each in (holders, holders6)] == moves

        other = await DirectorProcess.start(vs2, config(100, *FAMILIES))
        await director.kill()
        for each in holders, holders6:
            await each.become("vs1", "vs2")
        director.config.write_text(config(50, *FAMILIES))
        await director.begin()
        for each in holders, holders6:
            await each.become("vs2")
        await has(vs1)
        assert await interfaces(vs2) == set(before)
        assert await arp_settings(vs1) == before_all
        assert await arp_settings(vs2) == ["1", "2"]

        await other.kill()
        withdrawn = await other.ask("withdraw")
        assert "vrrp.51 removed" in withdrawn.output
        assert "vrrp6.51 removed" in withdrawn.output
        await has(vs2)
        assert await arp_settings(vs2) == before_all


async def test_what_a_run_left_set_is_given_back_though_its_interface_is_gone(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    before = await arp_settings(vs1)

    async def are_given_back() -> bool:
        return await arp_settings(vs1) == before

    async def crash_and_lose_the_interface() -> DirectorProcess:
        director = await DirectorProcess.start(vs1, config(150, V4))
        await director.saw("address.added", interface=V4.interface)
        assert await arp_settings(vs1) == ["1", "2"]
        await director.kill()
        await vs1.run(["ip", "link", "del", V4.interface])
        return director

    director = await crash_and_lose_the_interface()
    director.config.write_text(config(150, V4, virtual=False))
    await director.restart()
    await until(are_given_back, 20.0)
    await director.stop()
    director = await crash_and_lose_the_interface()
    await director.ask("withdraw")
    assert await are_given_back()


async def test_a_reload_gives_and_takes_the_virtual_mac(bare_lab: Lab) -> None:
    vs1, client = bare_lab.hosts["vs1"], bare_lab.hosts["client"]
    director = await DirectorProcess.start(vs1, config(150, *FAMILIES, virtual=False))
    for each in FAMILIES:
        await director.saw("address.added", interface="eth0", address=f"{each.vip}/{each.prefix}")
    for virtual in True, False, True:
        last = director.seq
        await director.reload(config(150, *FAMILIES, virtual=virtual))
        await has(vs1, *([each.interface for each in FAMILIES] if virtual else []))
        for each in FAMILIES:
            await director.saw("address.added", interface=each.interface if virtual else "eth0", after=last)
            known = await knows(client, each.vip)
            assert (known == each.mac) == virtual, known
    assert [told["new"] for told in director.found("vrrp.changed", instance="vip4")] == ["backup", "master"]


async def test_what_the_kernel_refuses_is_told_and_what_somebody_takes_away_is_there_again(
    bare_lab: Lab,
) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await vs1.run(["ip", "link", "add", "vrrp.51", "type", "dummy"])
    director = await DirectorProcess.start(vs1, config(150, V4))
    told = await director.saw("address.refused", interface="vrrp.51", address=f"{VIP}/32")
    assert told["reason"] == "vrrp.51 is another interface than one with 00:00:5e:00:01:33 on eth0"
    for disturbance in ("del", "vrrp.51"), ("del", "vrrp.51"), ("set", "vrrp.51", "down"):
        last = director.seq
        await vs1.run(["ip", "link", *disturbance])
        if "del" in disturbance:
            await director.saw("address.added", interface="vrrp.51", address=f"{VIP}/32", after=last)

    async def is_up() -> bool:
        return "state UP" in (await vs1.run(["ip", "-o", "link", "show", "vrrp.51"])).output

    await until(is_up)
    await until(lambda: vs1.has_address(VIP))
    assert len(director.found("address.refused")) == 1


@BOTH
async def test_a_director_that_cannot_have_the_virtual_mac_leaves_the_vip_to_the_other(
    bare_lab: Lab, family: Family
) -> None:
    vs1, vs2 = bare_lab.hosts["vs1"], bare_lab.hosts["vs2"]
    if family is V4:
        await vs1.run(["ip", "link", "add", family.interface, "type", "dummy"])
    else:
        await vs1.do(Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text, "1")
    async with Holders.of(family.vip, [vs1, vs2]) as holders:
        texts = config(150, family), config(100, family)
        first, _ = await asyncio.gather(*map(DirectorProcess.start, (vs1, vs2), texts))
        instance = f"vip{family.version}"
        await first.saw("vrrp.tracked", instance=instance, tracked=f"address {family.vip}", well=False)
        await first.saw("vrrp.changed", instance=instance, old="master", new="backup")
        await holders.become("vs2")
        seen, moves = first.seq, len(holders.history)
        await asyncio.sleep(8 * INTERVAL)
        await first.reload(config(150, family))
        await asyncio.sleep(8 * INTERVAL)
        assert first.found("vrrp.changed", after=seen) == []
        assert len(holders.history) == moves, holders.story()
        assert list(first.state().vrrp[instance]["failing"]) == [f"address {family.vip}"]


@BOTH
async def test_keepalived_with_a_virtual_mac_follows_and_is_followed(bare_lab: Lab, family: Family) -> None:
    vs1, vs2, client = (bare_lab.hosts[name] for name in ("vs1", "vs2", "client"))
    instance = Instance(
        priority=100, interval=INTERVAL, addresses=(f"{family.vip}/{family.prefix}",), settings=("use_vmac",)
    )
    if family is V6:  # the first address is a link-local one
        vip = "fe80::101/64"
        instance = replace(instance, addresses=(vip, *instance.addresses))
    async with Holders.of(family.vip, [vs1, vs2]) as holders, Learnt.by(client) as learnt:
        keepalived = await KeepalivedRouter.start(vs2, instance.conf())
        await holders.become("vs2")
        text = config(150, family)
        if family is V6:
            text = text.replace("addresses: [", f'addresses: ["{vip}", ')
        lvsd = await DirectorProcess.start(vs1, text)
        await holders.become("vs1")
        await keepalived.become(BACKUP)
        await knows(client, family.vip)
        await lvsd.stop()
        await holders.become("vs2")
        await keepalived.become(MASTER)
        await has(vs1)
        await learnt.look()
        assert learnt.macs[family.vip] == {family.mac}
        assert not lvsd.found("vrrp.rejected")
        assert not lvsd.found("vrrp.differs")


async def knows(client: Machine, vip: str) -> str:
    """Have a client look for the VIP anew, and return the MAC address that it has found.

    keepalived must not be asked: it asks back as the VIP, and tells its other MAC address by that.
    """
    learnt = Learnt(client)

    async def has_learnt() -> bool:
        await client.run(["ip", "neigh", "flush", "to", vip, "dev", "eth0"])
        with await client.socket(
            socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM
        ) as asking:
            asking.sendto(b"", (vip, 9))
        await asyncio.sleep(0.2)
        await learnt.look()
        return bool(learnt.macs[vip])

    await until(has_learnt, 20.0)
    (mac,) = learnt.macs[vip]
    return mac
