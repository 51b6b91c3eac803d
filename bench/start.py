"""From an empty table to a full one, and one real server more by a reload."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.clock import longest
from bench.directors import Clocked, Director, Keepalived, Lvsd
from bench.report import Figure, median, megabytes, milliseconds, say
from bench.setups import ipvsadm_rules, lvsd_yaml, server_key, setup
from bench.watch import EVERY, Watch, until
from lvsd.edge.ipvs import Ipvs
from lvsd.ipvs.plan import plan
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.setups import Setup
    from lvsd.ipvs.change import Change
    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds

SERVERS = 5
RUNS = {1000: 2, 5000: 1}
"""How often each size is started, by the number of services."""

NEW_SERVERS = ("10.2.0.1", "10.2.0.2")
"""What is added by reloads after each start, one at a time."""

NETLINK_RUNS = 3
RESTORED = 1000
"""The most services for which `ipvsadm -R`, which takes half a minute for more, is waited for."""

QUIET: Seconds = 2.0
"""After a table is full, until the director has settled: lvsd writes a snapshot to its log then."""

_NETLINK = (
    f"lvsd: `Ipvs.program` of the planned changes on an empty table, median of {NETLINK_RUNS}. "
    "keepalived: from its first row seen to its last, which is its own work between the requests as well. "
    "ipvsadm: `ipvsadm -R` from exec to exit."
)
_SPAN = "From the first virtual service's first row seen to the last one's last, looked for every 5 ms."
_EXEC = (
    "From before the fork to the last row seen. No probes: `check: none`, no checkers. Median of the runs."
)
_RELOAD = "From SIGHUP to the row of one real server more seen. Median over the reloads."
_PAUSE = (
    "One more start and its reloads, during which nobody watches the table closely. A clock in lvsd's event "
    "loop strikes every 10 ms: how late it struck at most, waiting for the only CPU included. keepalived can "
    "have none: it does nothing else meanwhile."
)
_IDLE = (
    "The same clock in an event loop that does nothing else, while `lvsd check` reads the file twice: "
    "what the machine itself makes late."
)
_MEMORY = (
    "VmHWM from /proc, all processes added up: keepalived's two, lvsd and its parser, which leaves a minute "
    "after the last reload. The parser's child, which does one reload's work, has ended by then."
)

UNHURRIED: Seconds = 0.5
"""How often is looked where looking would be a part of what is measured."""


@dataclass(slots=True)
class _Taken:
    """What was taken of one director at one size."""

    full: list[Seconds] = field(default_factory=list)
    span: list[Seconds] = field(default_factory=list)
    reload: list[Seconds] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


async def measure() -> list[Figure]:
    """Return the figures of the start."""
    async with Lab(Network((Host("vs1", ("192.168.0.1/24",)),))) as lab:
        vs1 = lab.hosts["vs1"]
        watch = await Watch.open(vs1)
        try:
            figures = []
            for services, runs in RUNS.items():
                figures += await _measure_size(vs1, watch, setup(services, SERVERS), runs)
            return figures
        finally:
            watch.close()


async def _measure_size(vs1: Machine, watch: Watch, wanted: Setup, runs: int) -> list[Figure]:
    size = f"{len(wanted.services):,} x {SERVERS}"
    taken: dict[str, _Taken] = defaultdict(_Taken)
    netlink, restore = [], []
    for run in range(1, runs + 1):
        netlink += await _program(vs1, wanted)
        if len(wanted.services) <= RESTORED:
            restore.append(await _restore(vs1, wanted))
            say(f"start {size}, run {run} of {runs}: ipvsadm -R {milliseconds(restore[-1])}")
        for director in (Lvsd(vs1), Keepalived(vs1)):
            await _start(director, watch, wanted, taken[director.name])
            say(f"start {size}, run {run} of {runs}: {_said(director, taken[director.name])}")
    ours, theirs = taken["lvsd"], taken["keepalived"]
    idle = await _idle_pause(vs1, wanted)
    start_pause, reload_pause = await _pauses(Clocked(vs1), watch, wanted)
    return [
        Figure(
            f"{size}: rows programmed, netlink part",
            milliseconds(statistics.median(netlink)),
            median(theirs.span),
            _NETLINK,
            ipvsadm=median(restore) if restore else "",
        ),
        Figure(f"{size}: first row to last", median(ours.span), median(theirs.span), _SPAN),
        Figure(f"{size}: exec to full table", median(ours.full), median(theirs.full), _EXEC),
        Figure(f"{size}: reload, one server more", median(ours.reload), median(theirs.reload), _RELOAD),
        Figure(f"{size}: longest pause, start", milliseconds(start_pause), "-", _PAUSE),
        Figure(f"{size}: longest pause, reload", milliseconds(reload_pause), "-", _PAUSE),
        Figure(f"{size}: longest pause, idle loop", milliseconds(idle), "-", _IDLE),
        Figure(f"{size}: peak memory", megabytes(max(ours.memory)), megabytes(max(theirs.memory)), _MEMORY),
    ]


async def _start(director: Director, watch: Watch, wanted: Setup, taken: _Taken) -> None:
    first, last = wanted.services[0], wanted.services[-1]
    began_at = await director.start(wanted)
    first_at = await until(lambda: bool(watch.servers(first.key)))
    full_at = await until(lambda: len(watch.servers(last.key)) == SERVERS)
    while await watch.rows() < wanted.rows:
        full_at = time.monotonic()
    taken.full.append(full_at - began_at)
    taken.span.append(full_at - first_at)
    await asyncio.sleep(QUIET)
    for server in NEW_SERVERS:
        taken.reload.append(await _reload(director, watch, wanted, server))
    taken.memory.append(director.memory("VmHWM"))
    await director.kill()


async def _pauses(director: Clocked, watch: Watch, wanted: Setup) -> tuple[Seconds, Seconds]:
    """Return the longest pauses during a start, and during reloads."""
    last = wanted.services[-1]
    began_at = await director.start(wanted)
    await until(lambda: len(watch.servers(last.key)) == SERVERS, every=UNHURRIED)
    await asyncio.sleep(QUIET)
    quiet_at = time.monotonic()
    for server in NEW_SERVERS:
        await _reload(director, watch, wanted, server, every=UNHURRIED)
    start = director.longest_pause(began_at, quiet_at)
    reload = director.longest_pause(quiet_at, time.monotonic())
    await director.kill()
    return start, reload


async def _idle_pause(vs1: Machine, wanted: Setup) -> Seconds:
    """Return the longest pause of an event loop that does nothing."""
    file, config = vs1.directory / "idle", vs1.directory / "idle.yaml"
    file.unlink(missing_ok=True)
    config.write_text(lvsd_yaml(wanted))
    clock = await vs1.start([sys.executable, "-m", "bench.clock", str(file)], name="clock")
    await until(file.exists)
    began_at = time.monotonic()
    for _ in range(2):
        await vs1.run([sys.executable, "-m", "lvsd", "check", str(config)], timeout=60.0)
    ended_at = time.monotonic()
    clock.kill()
    await clock.wait()
    return longest(file, began_at, ended_at)


async def _reload(
    director: Director, watch: Watch, wanted: Setup, server: str, every: Seconds = EVERY
) -> Seconds:
    """Return how long a reload that adds `server` takes."""
    director.configure(wanted.with_one_more(server))
    last, key = wanted.services[-1], server_key(server)
    begun_at = director.reload()
    there_at = await until(lambda: key in watch.servers(last.key), every=every)
    await asyncio.sleep(QUIET)
    return there_at - begun_at


async def _program(vs1: Machine, wanted: Setup) -> list[Seconds]:
    changes = tuple(plan({}, wanted.table()))
    taken = []
    for _ in range(NETLINK_RUNS):
        taken.append(await vs1.do(lambda: asyncio.run(_programmed(changes))))
        await vs1.run(["/usr/sbin/ipvsadm", "-C"])
    return taken


async def _programmed(changes: Sequence[Change]) -> Seconds:
    async with Ipvs() as ipvs:
        began_at = time.perf_counter()
        refused = await ipvs.program(changes)
        taken = time.perf_counter() - began_at
    if refused:
        message = f"the kernel refused {len(refused)} changes"
        raise RuntimeError(message)
    return taken


async def _restore(vs1: Machine, wanted: Setup) -> Seconds:
    rules = vs1.directory / "rules"
    rules.write_text(ipvsadm_rules(wanted))
    began_at = time.monotonic()
    await vs1.run(["/bin/sh", "-c", f"exec /usr/sbin/ipvsadm -R <{rules}"], timeout=120.0)
    taken = time.monotonic() - began_at
    await vs1.run(["/usr/sbin/ipvsadm", "-C"])
    return taken


def _said(director: Director, taken: _Taken) -> str:
    return (
        f"{director.name}: full after {milliseconds(taken.full[-1])}, reload {milliseconds(taken.reload[-1])}"
    )
