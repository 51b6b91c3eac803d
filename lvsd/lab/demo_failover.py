"""The second part of `make demo`: two directors share the VIP, and the client hardly notices who has it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders
from lvsd.lab.narration import check, say, tell

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from lvsd.lab.client import HttpClient
    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine

ASKS_EVERY = 0.02
SETTLES = 1.5
"""Seconds for which the client goes on after a change: what it does to it shows by then."""

PRIORITIES = {"vs1": 150, "vs2": 100}
BOUND = 3 + (256 - PRIORITIES["vs2"]) / 256
"""What the protocol takes at most to notice a death: three intervals and the skew (RFC 9568, 6.1)."""


async def failover(lab: Lab, shared: str, own: str) -> None:
    """Tell it; `shared` is the lvs_dr.conf of both directors, `own` what stands beside it on each."""
    vs1, vs2 = (lab.hosts[name] for name in PRIORITIES)
    say(
        "Two directors share the VIP: one lvs_dr.conf for both, and a file of its own beside it on each",
        *(line for line in own.splitlines() if not line.startswith("#")),
    )
    async with Holders.of(VIP, [vs1, vs2]) as holders:
        first, second = [await _start(machine, shared, own) for machine in (vs1, vs2)]
        await holders.become("vs1")
        tell("vs1 has the higher priority, and the VIP; vs2 probes as well, and keeps its own table")
        asking = await lab.hosts["client"].request_every(ASKS_EVERY, VIP)
        await asyncio.sleep(SETTLES)
        story = _Story(holders, asking)

        await story.step("vs1 is stopped (SIGTERM): it resigns", first.stop(), "vs2")
        await story.step("vs1 is back, and takes over once it can serve", first.restart(), "vs1")
        await story.step("lvsd on vs1 is killed (kill -9), and stays dead", first.kill(), "vs1", "vs2")
        tell("both have the VIP: the kernel of vs1 goes on, and the neighbours were told of vs2")
        await story.step("it is back, and drops the VIP before it takes it again", first.restart(), "vs1")
        await story.step("vs1 is cut off: its cable is pulled", lab.cut("vs1"), "vs2", bound=BOUND)
        await story.step("the cable is back", lab.mend("vs1"), "vs1")
        await asking.stop()
        await _explain(second)
        await first.stop()
        await second.stop()


class _Story:
    """What happens to the VIP, step by step, and what the client sees of it."""

    def __init__(self, holders: Holders, asking: HttpClient) -> None:
        self._holders = holders
        self._asking = asking

    async def step(self, title: str, deed: Awaitable[object], *owners: str, bound: float = 1.0) -> None:
        """Do it, and tell when the VIP was with `owners` and how long the client had no answer."""
        say(title)
        began = time.monotonic()
        await deed
        moved_at = await self._holders.become(*owners)
        await asyncio.sleep(SETTLES)
        end = time.monotonic()
        outage = self._asking.outage(began, end - 0.5)
        failed = len(self._asking.failures_between(began, end))
        who = " and ".join(owners)
        tell(
            f"the VIP is with {who} after {(moved_at - began) * 1000:.0f} ms; "
            f"the client's longest time without an answer: {outage * 1000:.0f} ms, {failed} requests failed"
        )
        check(outage <= bound + 1.0, f"the client had no answer for {outage:.1f} s")


async def _start(machine: Machine, shared: str, own: str) -> DirectorProcess:
    (machine.directory / "lvs_dr.conf").write_text(shared)
    text = own.replace("priority: 150", f"priority: {PRIORITIES[machine.name]}")
    return await DirectorProcess.start(machine, text)


async def _explain(director: DirectorProcess) -> None:
    say("What vs2's log says of it")
    for record in director.lines():
        if record["event"] == "vrrp.changed":
            tell(f"{record['ts'][11:23]} {record['old']} -> {record['new']}: {record['reason']}")
    log = director.machine.directory / "failover.log"
    log.write_bytes(director.process.log.read_bytes())
    explained = await director.ask("explain", "vip", "--log", str(log))
    tell("", "lvsd explain vip:", *explained.output.rstrip().splitlines())
