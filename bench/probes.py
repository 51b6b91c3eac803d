"""What probing costs: CPU a probe, and memory, with many real servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.directors import Keepalived, Lvsd
from bench.report import Figure, megabytes, say
from bench.setups import Check, setup
from bench.watch import Watch, accepted, until
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network
from lvsd.lab.services import Nginx

if TYPE_CHECKING:
    from bench.directors import Director
    from bench.setups import Setup
    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds

A_SERVICE = 50
"""Real servers a virtual service."""

INTERVALS: dict[int, Seconds] = {500: 2.5, 2000: 10.0}
"""By the number of real servers: 200 probes a second, which the lab's one CPU can do on a bad day, too."""

WINDOW: Seconds = 10.0
FIRST_PROBES: Seconds = 3.0
"""How long after its start a director has begun to probe, at the latest."""

PATIENCE: Seconds = 40.0
"""How long is waited for all to be up."""


_CPU = (
    "utime + stime of the director over 10 s, divided by the connections that the real servers' kernel took "
    "meanwhile: 200 a second, every 2.5 s to each of 500 and every 10 s to each of 2,000, an address each, "
    "all of them one nginx. The kernel's clock counts in ticks of 10 ms: figures within a tenth are equal."
)
_RSS = "VmRSS after that, the real servers up and in the table; all processes added up, as above."


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was taken of one director."""

    cpu: Seconds
    probes: int
    memory: int
    missing: int

    @property
    def each(self) -> str:
        """CPU a probe."""
        return f"{self.cpu / max(self.probes, 1) * 1e6:.0f} us{self._remark}"

    @property
    def _remark(self) -> str:
        return f" ({self.missing} not up)" if self.missing else ""


async def measure() -> list[Figure]:
    """Return the figures of the probes."""
    network = Network((
        Host("vs1", ("192.168.0.1/24",), gateways=("192.168.0.3",)),
        Host("rs1", ("192.168.0.3/24",), services=(Nginx("here\n"),)),
    ))  # fmt: skip
    async with Lab(network) as lab:
        vs1, rs1 = lab.hosts["vs1"], lab.hosts["rs1"]
        # Every address of the network is rs1's own, without one being added for each.
        await rs1.run(["/usr/sbin/ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"])
        figures = []
        for servers in INTERVALS:
            for type_ in ("tcp", "http"):
                figures += await _measure_size(vs1, rs1, type_, servers)
        return figures


async def _measure_size(vs1: Machine, rs1: Machine, type_: str, servers: int) -> list[Figure]:
    wanted = setup(servers // A_SERVICE, A_SERVICE, Check(type_, INTERVALS[servers]))
    ours = await _take(Lvsd(vs1), rs1, wanted)
    theirs = await _take(Keepalived(vs1), rs1, wanted)
    what = f"{type_.upper()}, {servers:,} real servers"
    for name, taken in (("lvsd", ours), ("keepalived", theirs)):
        say(f"probes, {what}: {name} {taken.each} a probe ({taken.probes}), {megabytes(taken.memory)}")
    return [
        Figure(f"{what}: CPU a probe", ours.each, theirs.each, _CPU),
        Figure(f"{what}: memory", megabytes(ours.memory), megabytes(theirs.memory), _RSS),
    ]


async def _take(director: Director, rs1: Machine, wanted: Setup) -> _Taken:
    """Return what a director takes once every real server was probed."""
    assert wanted.check is not None  # noqa: S101 - it is about probes
    watch = await Watch.open(director.machine)
    begun_at = await director.start(wanted)
    with contextlib.suppress(TimeoutError):  # a machine too busy for this many probes; the figure says so
        await until(lambda: not _missing(watch, wanted), PATIENCE)
    await asyncio.sleep(begun_at + FIRST_PROBES + wanted.check.interval - time.monotonic())
    cpu, probes = director.cpu(), await accepted(rs1)
    await asyncio.sleep(WINDOW)
    made = await accepted(rs1) - probes
    taken = _Taken(director.cpu() - cpu, made, director.memory(), _missing(watch, wanted))
    watch.close()
    await director.kill()
    return taken


def _missing(watch: Watch, wanted: Setup) -> int:
    """Return how many real servers are not in the table."""
    return sum(len(service.servers) - len(watch.servers(service.key)) for service in wanted.services)
