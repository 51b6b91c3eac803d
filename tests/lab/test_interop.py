"""lvsd and keepalived 2.2.7 as each other's peer, either as master: election, stop, crash, cut, return.

v3_checksum_as_v2 is younger than 2.2.7; tests/test_directors.py has a peer of that kind.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import pytest
from vrrp_peers import Instance, KeepalivedRouter
from waiting import until

from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lvsd.lab.lab import Lab

    Program = DirectorProcess | KeepalivedRouter

V4 = ("192.168.0.1", "192.168.0.2")
V6 = ("fd00:0:0:1::1", "fd00:0:0:1::2")


def by_unicast(instance: Instance, hosts: tuple[str, str] = V4) -> Instance:
    """Return keepalived's side of an instance that it shares with lvsd by unicast."""
    vs1, vs2 = hosts
    return replace(instance, peers=(vs1,), source=vs2)


V3 = Instance(interval=0.3)
IPV6 = replace(V3, addresses=("fe80::101/64", "fd00:0:0:1::101/64"))
V2 = Instance(version=2, interval=1)
V2_PASSWORD = replace(V2, name="password", vrid=52, password="secret", addresses=("192.168.0.102/24",))  # noqa: S106
V2_UNICAST = by_unicast(replace(V2, name="unicast", vrid=53, addresses=("192.168.0.103/24",)))
V2_BOTH = by_unicast(replace(V2_PASSWORD, name="both", vrid=54, addresses=("192.168.0.104/24",)))
SETTINGS = {
    "version 3, multicast": (V3,),
    "version 3, unicast": (by_unicast(V3),),
    "IPv6, multicast": (IPV6,),
    "IPv6, unicast": (by_unicast(IPV6, V6),),
    # Beside each other, since it counts in whole seconds.
    "version 2, multicast and unicast, with and without a password": (V2, V2_PASSWORD, V2_UNICAST, V2_BOTH),
}


@pytest.mark.parametrize("instances", SETTINGS.values(), ids=SETTINGS)
async def test_lvsd_and_keepalived_follow_each_other(bare_lab: Lab, instances: Sequence[Instance]) -> None:
    async with Pair.start(bare_lab, instances) as pair:
        # lvsd has the higher priority, and preempts.
        await pair.elects(pair.lvsd)
        await pair.follows(pair.lvsd)

        # keepalived gets the higher priority, and preempts.
        pair.keepalived.reload(of_keepalived(instances, 200))
        await pair.elects(pair.keepalived)
        await pair.follows(pair.keepalived)

        told = [record["event"] for record in pair.lvsd.lines(whole=True)]
        assert not {"vrrp.rejected", "vrrp.differs"} & set(told)


@dataclass(slots=True)
class Pair:
    """lvsd on vs1, of priority 150, keepalived on vs2, at first of 100, and who has each VIP."""

    lab: Lab
    lvsd: DirectorProcess
    keepalived: KeepalivedRouter
    holders: dict[str, Holders]
    """By instance."""

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, lab: Lab, instances: Sequence[Instance]) -> AsyncIterator[Self]:
        """Start keepalived, wait until it is master of these instances, and start lvsd."""
        vs1, vs2 = lab.hosts["vs1"], lab.hosts["vs2"]
        vips = {each.name: each.addresses[-1].partition("/")[0] for each in instances}
        async with contextlib.AsyncExitStack() as stack:
            holders = {
                name: await stack.enter_async_context(Holders.of(vip, [vs1, vs2]))
                for name, vip in vips.items()
            }
            keepalived = await KeepalivedRouter.start(vs2, of_keepalived(instances, 100))
            for each in holders.values():
                await each.become("vs2")
            yield cls(lab, await DirectorProcess.start(vs1, of_lvsd(instances, 150)), keepalived, holders)

    async def follows(self, master: Program) -> None:
        """Stop, cut off and kill the master: the other takes over each time, and gives way to its return."""
        name, other = master.machine.name, self._other(master)
        await master.stop()
        await self._is_with(other)
        await master.begin()
        await self.elects(master)
        await self.lab.cut(name)
        await self._is_with(other)
        await self.lab.mend(name)
        await self.elects(master)
        await master.kill()
        await self._is_with(other, master)  # the dead one's kernel keeps the VIP
        await master.begin()
        await self.elects(master)

    async def elects(self, master: Program) -> None:
        """Wait until one is master of all instances and alone has the VIPs, and the other is backup."""
        await self._is_with(master)
        await self._says(self._other(master), "backup")

    async def _is_with(self, master: Program, *dead: Program) -> None:
        for each in self.holders.values():
            await each.become(*(program.machine.name for program in (master, *dead)))
        await self._says(master, "master")

    async def _says(self, program: Program, state: str) -> None:
        """Wait until all instances of a program are in a state, as its log has it."""

        async def holds() -> bool:
            return _states(program) == dict.fromkeys(self.holders, state)

        await until(holds)

    def _other(self, program: Program) -> Program:
        return self.keepalived if program is self.lvsd else self.lvsd


def of_keepalived(instances: Sequence[Instance], priority: int) -> str:
    """Return keepalived.conf."""
    first, *others = (replace(each, priority=priority) for each in instances)
    return first.conf(*others)


def of_lvsd(instances: Sequence[Instance], priority: int) -> str:
    """Return lvsd.yaml with the other side of keepalived's instances."""
    lines = ["virtual_services: {}", "vrrp:"]
    for each in instances:
        lines += [
            f"  {each.name}:",
            "    interface: eth0",
            f"    virtual_router_id: {each.vrid}",
            f"    version: {each.version}",
            f"    priority: {priority}",
            f"    advertisement_interval: {each.interval}s",
            f"    addresses: {list(each.addresses)}",
        ]
        if each.password:
            lines.append(f"    password: {each.password}")
        if each.peers:
            lines += [f"    unicast_peers: ['{each.source}']", f"    source_address: '{each.peers[0]}'"]
    return "\n".join(lines) + "\n"


def _states(program: Program) -> dict[str, str]:
    """Return the last state of each instance that the latest start of a program has logged."""
    if isinstance(program, KeepalivedRouter):
        return {instance: state.lower() for instance, state in program.states.items()}
    return {each["instance"]: each["new"] for each in program.found("vrrp.changed")}
