"""Probes begin in their order and in turns, so that however many are due, those under way go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from misbehaving import LOOPBACK, answering, http, page, serving, tcp

from lvsd.edge.prober import A_TURN, Prober
from lvsd.edge.probes import Probes
from lvsd.events import ProbesLate
from lvsd.health.outcome import Ended, Outcome
from lvsd.health.roster import Target
from lvsd.health.verdict import Health, next_probe_at
from lvsd.model import Address

if TYPE_CHECKING:
    from lvsd.config.model import Check
    from lvsd.events import Event


class Scripted:
    """Probes that end when told to."""

    def __init__(self) -> None:
        self.begun: list[Address] = []
        self.end = asyncio.Event()

    async def probe(self, _check: Check, address: Address, _port: int) -> Outcome:
        self.begun.append(address)
        await self.end.wait()
        return Outcome.passed("connected")


def targets(count: int, check: Check) -> list[Target]:
    return [Target(check, Address([10, 0, number >> 8, number & 255]), 80) for number in range(count)]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def scripted() -> Scripted:
    return Scripted()


def prober_of(scripted: Scripted) -> Prober:
    return Prober(scripted, lambda *_: None)  # type: ignore[arg-type]


async def test_probes_that_are_due_at_once_begin_in_their_order_a_few_each_turn(scripted: Scripted) -> None:
    prober, wanted = prober_of(scripted), targets(100, tcp())
    for number, target in enumerate(wanted):
        prober.at(target, number / 100)
    begun = 0
    while begun < 100:
        await turns(1)
        assert len(scripted.begun) <= begun + A_TURN
        begun = len(scripted.begun)
    assert scripted.begun == [target.address for target in wanted]
    await prober.close()


async def test_target_that_waits_for_its_turn_can_be_forgotten(scripted: Scripted) -> None:
    prober, wanted = prober_of(scripted), targets(20, tcp())
    for target in wanted:
        prober.at(target, 0.0)
    await turns(3)
    left = len(scripted.begun)
    assert 0 < left < 20
    for target in wanted:
        prober.forget(target)
    await turns(20)
    assert len(scripted.begun) <= left + A_TURN
    await prober.close()


async def test_nothing_begins_once_it_is_closed(scripted: Scripted) -> None:
    prober = prober_of(scripted)
    for target in targets(20, tcp()):
        prober.at(target, 0.0)
    await turns(3)
    await prober.close()
    left = len(scripted.begun)
    await turns(20)
    assert len(scripted.begun) == left


async def test_where_more_is_asked_for_than_can_be_done_no_server_fails_and_each_has_its_turn() -> None:
    """A hundred times as many probes are due as a CPU can make, all at the same moment."""
    loop, probes = asyncio.get_running_loop(), Probes()
    events: list[Event] = []
    failed: list[Outcome] = []
    ended = Counter[Target]()
    enough = asyncio.Event()

    def finished(target: Target, outcome: Outcome) -> None:
        ended[target] += 1
        if ended.total() > 3 * len(due):
            enough.set()
        if outcome.ended is not Ended.PASSED:
            failed.append(outcome)
        due[target] = next_probe_at(target.check, Health(), due[target], loop.time())
        prober.at(target, due[target])

    prober = Prober(probes, finished, events.append)
    async with serving(answering(page(b"here"))) as port:
        check = http(expect="here", interval=0.01, fast_interval=0.01, timeout=0.5)
        # Targets that differ in what has no part in a probe.
        wanted = [Target(replace(check, fall=number), LOOPBACK, port) for number in range(3000)]
        due = dict.fromkeys(wanted, loop.time())
        for target in wanted:
            prober.at(target, due[target])
        async with asyncio.timeout(60):
            await enough.wait()
        await prober.close()
        await probes.close()
    assert failed == []
    assert max(ended.values()) <= min(ended.values()) + 2
    assert [type(event) for event in events] == [ProbesLate]
