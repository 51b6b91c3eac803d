"""A pair of directors of which one is killed again and again, and a pair with many instances."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from vrrp_pair import VRID, Pair, instance
from waiting import until

from lvsd.lab.classic import DIRECTORS, classic
from lvsd.lab.lab import Lab
from lvsd.lab.network import Interface, Network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.events import Record
    from lvsd.lab.director import DirectorProcess
    from lvsd.lab.holders import Holders

RESTARTS = 10
EVERY = 2.0
"""Seconds from a start to the kill after it: in the lab it may get nowhere in that time."""

RED = ["vip", *(f"red{number}" for number in range(1, 10))]
BLUE = [f"blue{number}" for number in range(10)]
INTERVAL = 0.5
DOWN_AFTER = INTERVAL * (3 + 156 / 256)
TOGETHER = 1.0
"""Seconds from the first instance of a group to the last, on the lab's one slow CPU."""


@pytest.fixture
async def wide() -> AsyncIterator[Lab]:
    """The classic network whose directors have one more interface."""
    side = (Interface("eth1", bridge="side"),)
    hosts = (replace(it, interfaces=side) if it.name in DIRECTORS else it for it in classic().hosts)
    async with Lab(Network(tuple(hosts))) as built:
        yield built


async def test_a_director_that_is_killed_again_and_again_costs_no_request(lab: Lab) -> None:
    async with Pair.start(lab, instance("vip", 150), instance("vip", 100)) as pair:
        begun_at = time.monotonic()
        begins = []
        for number in range(RESTARTS):
            await pair.vs1.kill()
            begins.append(time.monotonic())
            await pair.vs1.begin()
            await asyncio.sleep(EVERY)
            if number % 2:  # every other start gets somewhere
                await pair.vs1.saw("director.started")
        await pair.vs1.saw("director.ready")
        await pair.is_with("vs1")
        await pair.client.stop()
        # Either the VIP has stayed, or vs2 had it, and vs1 let go of it as soon as it heard that.
        two_starts = 2 * max(later - earlier for earlier, later in pairwise([*begins, time.monotonic()]))
        assert longest_on_both(pair.holders, begun_at) < two_starts, pair.story(begun_at)
        assert pair.holders.orphaned(begun_at) < 0.1, pair.story(begun_at)
        assert pair.lost(begun_at) == [], pair.story(begun_at)


async def test_twenty_instances_move_by_sync_group_and_come_back(wide: Lab) -> None:
    async with Pair.start(wide, twenty(150), twenty(100)) as pair:
        await until(lambda: masters_are(pair, RED + BLUE, []))

        begun_at = time.monotonic()
        # One instance of a group tracks an interface: all of it go, the others stay.
        moved_at = pair.vs1.seq, pair.vs2.seq
        await wide.cut("vs1", "eth1")
        await until(lambda: masters_are(pair, BLUE, RED))
        assert spread(pair.vs1, moved_at[0], "fault", RED) < TOGETHER
        assert spread(pair.vs2, moved_at[1], "master", RED) < TOGETHER
        moved_at = pair.vs1.seq, pair.vs2.seq
        await wide.mend("vs1", "eth1")
        await until(lambda: masters_are(pair, RED + BLUE, []))
        assert spread(pair.vs1, moved_at[0], "master", RED) < TOGETHER
        assert spread(pair.vs2, moved_at[1], "backup", RED) < TOGETHER

        assert pair.lost(begun_at) == [], pair.story(begun_at)

        cut_at, moved_at = time.monotonic(), pair.vs2.seq
        await wide.cut("vs1")
        await until(lambda: masters_are(pair, [], RED + BLUE))
        assert spread(pair.vs2, moved_at, "master", RED + BLUE) < TOGETHER
        assert pair.client.outage(cut_at, time.monotonic()) < DOWN_AFTER + TOGETHER
        await wide.mend("vs1")
        await until(lambda: masters_are(pair, RED + BLUE, []))
        await pair.is_with("vs1")
        # None went more often than that.
        twice_out = ["backup", "master", *["fault", "backup", "master"] * 2]
        assert [pair.changes(name)[0] for name in RED] == [twice_out] * len(RED)


def longest_on_both(holders: Holders, begin: float) -> float:
    """Return the longest time that both hosts had the VIP without a break."""
    moments = [held.at for held in holders.history[1:]] + [time.monotonic()]
    spells = zip(holders.history, moments, strict=True)
    return max((end - held.at for held, end in spells if len(held.by) > 1 and end > begin), default=0.0)


def twenty(priority: int) -> str:
    """Return instances of two groups; one of the first group tracks eth1."""
    instances = []
    for number, name in enumerate(RED + BLUE):
        settings = [f"advertisement_interval: {INTERVAL}s", f"sync_group: {'red' if name in RED else 'blue'}"]
        settings += ["track: {interfaces: [eth1]}"] if name == RED[3] else []
        vip = f"192.168.0.{101 + number}"
        instances.append(instance(name, priority, *settings, vrid=VRID + number, vip=vip))
    return "".join(instances)


async def masters_are(pair: Pair, of_vs1: list[str], of_vs2: list[str]) -> bool:
    """Tell whether each director is master of these and no other instances."""
    masters = [
        {name for name, told in each.state().vrrp.items() if told["state"] == "master"}
        for each in pair.directors
    ]
    return masters == [set(of_vs1), set(of_vs2)]


def spread(director: DirectorProcess, after: int, state: str, names: list[str]) -> float:
    """Return how long after the first of these instances the last went to a state, each of them once."""
    told = director.found("vrrp.changed", after=after, new=state)
    changed = [record for record in told if record["old"] != state]  # what else is the matter is told as well
    assert sorted(record["instance"] for record in changed) == sorted(names)
    moments = [_moment(record) for record in changed]
    return max(moments) - min(moments)


def _moment(record: Record) -> float:
    return datetime.fromisoformat(record["ts"]).timestamp()
