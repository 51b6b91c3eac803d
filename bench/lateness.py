"""How late advertisements come from a director that does nothing else, and from one that probes a lot."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bench.clock import longest
from bench.directors import Keepalived, Lvsd
from bench.report import Figure, milliseconds, say
from bench.setups import Check, Shared, setup
from bench.watch import Watch, accepted, until
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network
from lvsd.lab.services import Nginx
from lvsd.lab.vrrp_capture import VrrpCapture

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.directors import Director
    from bench.setups import Setup
    from lvsd.lab.machine import Machine
    from lvsd.lab.vrrp_capture import Lateness
    from lvsd.model import Seconds

WINDOW: Seconds = 40.0
INTERVAL: Seconds = 0.1
SERVERS, A_SERVICE = 500, 50
RATES = (0, 1000)
"""Probes a second."""

RELOADED = 1000
"""So many services, each with a real server, does a director reload that is disturbed."""

RELOADS_EVERY: Seconds = 10.0

DIRECTOR = "192.168.0.1"
SHARED = Shared("192.168.0.101", 150, INTERVAL)
PATIENCE: Seconds = 40.0

_IDLE = (
    "How late a clock that strikes every 10 ms in a process that does nothing else was at most in the same "
    "time: what the lab's one CPU makes late."
)
_LATE = (
    f"One director that is master without a partner and advertises every 100 ms for {WINDOW:.0f} s, with 500 "
    "real servers that it does not probe, or by TCP every 500 ms; how many probes the real servers' kernel "
    "took is in brackets. Each advertisement's time as the lab's kernel stamped it, less that of the one "
    "before, less 100 ms: median, 99.9th percentile, worst. A peer takes over when one is some 250 ms late."
)
_DISTURBED = (
    "The same, with 1,000 virtual services of one real server each, probed by TCP every second, while every "
    "10 s a file with one real server more or less is reloaded, and 5 s after each reload `ipvsadm -C` "
    "empties the table: lvsd programs it anew, keepalived does not notice."
)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was taken of one director."""

    late: Lateness
    probes: float
    """A second."""
    idle: Seconds

    def __str__(self) -> str:
        moments = (max(0.0, each) for each in (self.late.median, self.late.almost_worst, self.late.worst))
        return f"{' / '.join(map(milliseconds, moments))} ({self.probes:.0f}/s)"


async def measure() -> list[Figure]:
    """Return the figures of the lateness."""
    figures: list[Figure] = []
    for rate in RATES:
        check = Check("tcp", SERVERS / rate) if rate else None
        wanted = setup(SERVERS // A_SERVICE, A_SERVICE, check)
        figures += await _compare(f"lateness at {rate:,} probes/s", wanted, _LATE)
    wanted = setup(RELOADED, 1, Check("tcp", 1.0))
    return figures + await _compare("lateness under reloads", wanted, _DISTURBED, disturb=True)


async def _compare(what: str, it: Setup, how: str, *, disturb: bool = False) -> list[Figure]:
    wanted, what = replace(it, shared=SHARED), f"{milliseconds(INTERVAL)}: {what}"
    theirs = await _measure_one(partial(Keepalived, vrrp=True), wanted, disturb=disturb)
    ours = await _measure_one(Lvsd, wanted, disturb=disturb)
    say(f"failover, {what}: keepalived {theirs}, lvsd {ours}")
    return [
        Figure(what, str(ours), str(theirs), how),
        Figure(f"{what}, idle loop", milliseconds(ours.idle), milliseconds(theirs.idle), _IDLE),
    ]


async def _measure_one(kind: Callable[[Machine], Director], wanted: Setup, *, disturb: bool) -> _Taken:
    network = Network((
        Host("vs1", (f"{DIRECTOR}/24",), gateways=("192.168.0.3",)),
        Host("rs1", ("192.168.0.3/24",), services=(Nginx("here\n"),)),
    ))  # fmt: skip
    async with Lab(network) as lab, VrrpCapture.of(lab) as capture:
        vs1, rs1 = lab.hosts["vs1"], lab.hosts["rs1"]
        await rs1.run(["/usr/sbin/ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"])
        director = kind(vs1)
        await director.start(wanted)
        watch = await Watch.open(vs1)
        with contextlib.suppress(TimeoutError):  # a machine too busy for so many probes; the figure says so
            await until(lambda: _are_full(watch, wanted), PATIENCE)
        watch.close()
        await until(lambda: capture.last() is not None, PATIENCE)
        strikes = rs1.directory / "strikes"
        await rs1.start([sys.executable, "-m", "bench.clock", str(strikes)], name="clock")
        await until(strikes.exists)
        await asyncio.sleep(2.0)
        begin, probes = time.monotonic(), await accepted(rs1)
        await (_disturb(director, wanted, begin + WINDOW) if disturb else asyncio.sleep(WINDOW))
        end, made = time.monotonic(), await accepted(rs1) - probes
        await director.stop()
        return _Taken(
            capture.lateness(DIRECTOR, begin, end), made / (end - begin), longest(strikes, begin, end)
        )


async def _disturb(director: Director, wanted: Setup, end: Seconds) -> None:
    """Reload again and again, and empty the table between, until a moment."""
    setups = itertools.cycle((wanted.with_one_more("10.1.200.1"), wanted))
    for each in setups:
        director.configure(each)
        director.reload()
        await asyncio.sleep(RELOADS_EVERY / 2)
        await director.machine.run(["/usr/sbin/ipvsadm", "-C"])
        await asyncio.sleep(RELOADS_EVERY / 2)
        if time.monotonic() >= end:
            return


def _are_full(watch: Watch, wanted: Setup) -> bool:
    """Tell whether all real servers are in the table."""
    return all(len(watch.servers(service.key)) == len(service.servers) for service in wanted.services)
