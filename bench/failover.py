"""What clients see of a failover, and how long two directors hold the VIP at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bench import lateness
from bench.directors import Keepalived, Lvsd
from bench.report import Figure, milliseconds, say
from bench.setups import Balanced, Check, Setup, Shared
from bench.watch import Watch, until
from lvsd.lab.holders import Holders
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page
from lvsd.lab.network import Host, Network
from lvsd.lab.vrrp_capture import VrrpCapture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bench.directors import Director
    from lvsd.lab.client import HttpClient
    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds

INTERVALS: tuple[Seconds, ...] = (1.0, 0.1)
FIRST, SECOND = "vs1", "vs2"
ADDRESSES = {FIRST: "192.168.0.1", SECOND: "192.168.0.2"}
PRIORITIES = {FIRST: 150, SECOND: 100}
RS1, RS2 = "192.168.0.3", "192.168.0.4"
VIP = "192.168.0.101"
SERVICE = Balanced(VIP, (RS1, RS2))
CLIENT_EVERY: Seconds = 0.02
CLIENT_WAITS: Seconds = 1.0
SETTLED: Seconds = 1.0
"""How long the VIP has been where it belongs, beside two intervals, before the next thing happens."""

PATIENCE: Seconds = 60.0

STEPS = ("crash", "back after the crash", "stop", "fail-back", "cut", "healed", "crash and restart")

_NO_ARP = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
_NO_REDIRECTS = {"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.default.send_redirects": "0"}

_OUTAGE = (
    "One pair of directors at a time, priorities 150 and 100, version 3, both with the table of two web "
    "servers, connections synchronised by the kernels. The one of 150 is master: kill -9 of all its "
    "processes (its kernel goes on forwarding, and keeps the VIP), started again, SIGTERM, started again, "
    "its cable pulled, its cable plugged in, kill -9 and started again at once. One client sends an HTTP "
    "request to the VIP every 20 ms and gives up after 1 s: the longest time without an answer, and how "
    "many requests failed. One run. In brackets in the first column what the protocol allows: three "
    "intervals and the skew after a crash or cut, the skew after a stop."
)
_BOTH = (
    "In the same steps: how long both hosts had the VIP at once, by the notices of their kernels. After a "
    "crash that nobody mends it stays there."
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """When something happened to a pair, and when that was over."""

    begin: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two directors of one kind that share the VIP, while a client uses it."""

    lab: Lab
    first: Director
    interval: Seconds
    client: HttpClient
    holders: Holders
    capture: VrrpCapture

    async def see(self, act: Callable[[], Awaitable[object]], master: str) -> _Seen:
        """Let something happen, and wait until `master` has long been what its name says."""
        begin = time.monotonic()
        await act()
        await until(partial(self._is_settled, master, begin), PATIENCE)
        return _Seen(begin, time.monotonic())

    def _is_settled(self, master: str, begin: Seconds) -> bool:
        """Tell whether one director alone has advertised, and nobody else taken the VIP, for a while."""
        since = max(begin, time.monotonic() - SETTLED - 2 * self.interval)
        quiet = self.holders.history[-1].at < since and master in self.holders.now
        return quiet and since > begin and self.capture.sources(since) == {ADDRESSES[master]}


async def measure() -> list[Figure]:
    """Return the figures of the failover."""
    figures = []
    for interval in INTERVALS:
        theirs = await _measure_pair(partial(Keepalived, vrrp=True), interval)
        ours = await _measure_pair(Lvsd, interval)
        for step in STEPS:
            what = f"{milliseconds(interval)}: {step}"
            figures.append(Figure(what + _bound(step, interval), ours[step][0], theirs[step][0], _OUTAGE))
        for step in STEPS[1:]:
            what = f"{milliseconds(interval)}: {step}, VIP on both"
            figures.append(Figure(what, ours[step][1], theirs[step][1], _BOTH))
    return figures + await lateness.measure()


async def _measure_pair(kind: Callable[[Machine], Director], interval: Seconds) -> dict[str, tuple[str, str]]:
    """Return what a client saw of each step, and how long the VIP was on both."""
    async with _pair(kind, interval) as pair:
        first, lab = pair.first, pair.lab
        seen = {
            "crash": await pair.see(first.crash, SECOND),
            "back after the crash": await pair.see(first.resume, FIRST),
            "stop": await pair.see(first.stop, SECOND),
            "fail-back": await pair.see(first.resume, FIRST),
            "cut": await pair.see(partial(lab.cut, FIRST), SECOND),
            "healed": await pair.see(partial(lab.mend, FIRST), FIRST),
            "crash and restart": await pair.see(partial(_restart, first), FIRST),
        }
        await asyncio.sleep(CLIENT_WAITS)  # requests under way come to their end
        told = {step: (_outage(pair, when), _shared(pair, when)) for step, when in seen.items()}
    for step, (outage, shared) in told.items():
        say(f"failover, {milliseconds(interval)}, {first.name}, {step}: {outage}, VIP on both {shared}")
    return told


async def _restart(director: Director) -> None:
    await director.crash()
    await director.resume()


@contextlib.asynccontextmanager
async def _pair(kind: Callable[[Machine], Director], interval: Seconds) -> AsyncIterator[_Pair]:
    async with contextlib.AsyncExitStack() as stack:
        lab = await stack.enter_async_context(Lab(_network()))
        for name in ("rs1", "rs2"):
            await lab.hosts[name].misbehave(80, Page("here\n"))
        machines = [lab.hosts[name] for name in ADDRESSES]
        holders = await stack.enter_async_context(Holders.of(VIP, machines))
        capture = await stack.enter_async_context(VrrpCapture.of(lab))
        client = await lab.hosts["client"].request_every(
            CLIENT_EVERY, VIP, timeout=CLIENT_WAITS, count=100_000
        )
        setup = Setup((SERVICE,), Check("tcp", interval=1.0))
        first, second = (kind(machine) for machine in machines)
        pair = _Pair(lab, first, interval, client, holders, capture)
        for director in (first, second):
            shared = Shared(VIP, PRIORITIES[director.machine.name], interval)
            await director.start(replace(setup, shared=shared))
        for machine in machines:
            watch = await Watch.open(machine)
            await until(partial(_is_full, watch), PATIENCE)
            watch.close()
        await pair.see(partial(asyncio.sleep, 0.0), FIRST)
        yield pair
        await client.stop()


def _network() -> Network:
    return Network((
        *(Host(name, (f"{address}/24",), sysctls=_NO_REDIRECTS) for name, address in ADDRESSES.items()),
        Host("rs1", (f"{RS1}/24",), vips=(VIP,), sysctls=_NO_ARP),
        Host("rs2", (f"{RS2}/24",), vips=(VIP,), sysctls=_NO_ARP),
        Host("client", ("192.168.0.200/24",)),
    ))  # fmt: skip


def _is_full(watch: Watch) -> bool:
    return len(watch.servers(SERVICE.key)) == len(SERVICE.servers)


def _bound(step: str, interval: Seconds) -> str:
    """Return what the protocol allows before the backup is master (RFC 9568, 6.1), where it says so."""
    skew = interval * (256 - PRIORITIES[SECOND]) / 256
    allowed = {"crash": 3 * interval + skew, "cut": 3 * interval + skew, "stop": skew}
    return f" ({milliseconds(allowed[step])})" if step in allowed else ""


def _outage(pair: _Pair, seen: _Seen) -> str:
    longest = pair.client.outage(seen.begin, seen.end)
    failed = pair.client.failures_between(seen.begin - 10 * CLIENT_EVERY, seen.end)
    return f"{milliseconds(longest)} ({len(failed)} failed)"


def _shared(pair: _Pair, seen: _Seen) -> str:
    return milliseconds(pair.holders.shared(seen.begin, seen.end))
