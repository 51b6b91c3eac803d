"""Two and three directors share a VIP: whatever becomes of the master, one of them serves the clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pytest
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders
from lvsd.lab.lab import Lab
from lvsd.lab.network import Host, Network
from lvsd.lab.vrrp_capture import VrrpCapture
from lvsd.vrrp.packet import RESIGNED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from lvsd.lab.client import HttpClient, Request

INTERVAL = 0.3
MARGIN = 1.5
"""Seconds that the lab's one slow CPU may add to what the protocol takes."""

CONFIG = """\
checks:
  web: {{type: http, path: /, interval: 1s, timeout: 1s, fast_interval: 200ms, rise: 1, fall: 3}}
virtual_services:
  www:
    address: {vip}:80
    protocol: tcp
    scheduler: rr
    forward: dr
    check: web
    real_servers: [192.168.0.3, 192.168.0.4]
vrrp:
  vip:
    interface: eth0
    virtual_router_id: 51
    priority: {priority}
    advertisement_interval: {interval}s
    addresses: [{vip}/24]
ipvs:
  sync: {{interface: eth0}}
"""


@dataclass(slots=True)
class Cluster:
    """Directors that share the VIP, who has it, and who advertises it."""

    lab: Lab
    priorities: Mapping[str, int]
    directors: dict[str, DirectorProcess]
    holders: Holders
    capture: VrrpCapture

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, lab: Lab, **priorities: int) -> AsyncIterator[Self]:
        """Start directors with these priorities, all at once, and wait until one is master."""
        machines = [lab.hosts[name] for name in priorities]
        texts = [CONFIG.format(vip=VIP, interval=INTERVAL, priority=each) for each in priorities.values()]
        async with Holders.of(VIP, machines) as holders, VrrpCapture.of(lab) as capture:
            starts = map(DirectorProcess.start, machines, texts)
            directors = dict(zip(priorities, await asyncio.gather(*starts), strict=True))
            yield cls(lab, priorities, directors, holders, capture)

    def down_after(self, name: str) -> float:
        """Return how long a director hears nothing before it is master (RFC 9568, 6.1)."""
        return 3 * INTERVAL + self.skew(name)

    def skew(self, name: str) -> float:
        """Return how long after a resignation a director is master."""
        return INTERVAL * (256 - self.priorities[name]) / 256

    async def is_with(self, name: str, *, after: float, stays: tuple[str, ...] = ()) -> float:
        """Wait until a director alone advertises, and return how long after a moment it began to.

        It has the VIP then, `stays` are who else has, and that does not change for four intervals.
        """
        source = self.lab.hosts[name].host.addresses[0].partition("/")[0]
        await until(lambda: self._is_heard(source, after))
        advertised = self.capture.advertisements(source, begin=after)
        taken_at = next(at for at, said in advertised if said.priority != RESIGNED)
        await self.holders.become(name, *stays)
        settled_at = time.monotonic()
        await asyncio.sleep(4 * INTERVAL)
        assert self.capture.sources(settled_at) == {source}, self.capture.story(after)
        assert self.holders.now == {name, *stays}, self.holders.story(after)
        return taken_at - after

    def lost(self, client: HttpClient, begin: float) -> list[Request]:
        """Return the requests that failed since a moment, but those under way when the VIP came or went.

        Of those the next director may know nothing yet, and its kernel resets them.
        """
        moves = [held.at for held in self.holders.history]
        return [
            failed
            for failed in client.failures_between(begin, time.monotonic())
            if not any(-0.1 < at - failed.started_at < failed.duration + 0.1 for at in moves)
        ]

    async def _is_heard(self, source: str, after: float) -> bool:
        return source in self.capture.sources(after)


@pytest.fixture
async def three() -> AsyncIterator[Lab]:
    """The classic network with one more director."""
    async with Lab(Network((*classic().hosts, Host("vs3", ("192.168.0.6/24",))))) as built:
        yield built


async def client_of(lab: Lab) -> HttpClient:
    return await lab.hosts["client"].request_every(0.02, VIP, count=100_000)


async def test_a_pair_serves_whatever_becomes_of_its_master(lab: Lab) -> None:
    started_at = time.monotonic()
    async with Cluster.start(lab, vs1=150, vs2=100) as cluster:
        vs1 = cluster.directors["vs1"]
        await cluster.is_with("vs1", after=started_at)
        client = await client_of(lab)

        killed_at = time.monotonic()
        vs1.process.kill()
        # What is in the kernel goes on, the VIP too.
        taken_after = await cluster.is_with("vs2", after=killed_at, stays=("vs1",))
        assert taken_after < cluster.down_after("vs2") + MARGIN
        assert client.outage(killed_at, time.monotonic()) < MARGIN

        back_at = time.monotonic()
        await vs1.restart()
        await cluster.is_with("vs1", after=back_at)
        assert client.outage(back_at, time.monotonic()) < MARGIN

        stopped_at = time.monotonic()
        await vs1.stop()
        assert await cluster.is_with("vs2", after=stopped_at) < cluster.skew("vs2") + MARGIN
        assert client.outage(stopped_at, time.monotonic()) < cluster.skew("vs2") + MARGIN
        # Those under way as well: they are handed over.
        assert client.failures_between(stopped_at - 1, time.monotonic()) == ()

        back_at = time.monotonic()
        await vs1.restart()
        await cluster.is_with("vs1", after=back_at)
        assert client.outage(back_at, time.monotonic()) < MARGIN
        await client.stop()
        assert cluster.lost(client, killed_at) == [], cluster.holders.story(killed_at)


async def test_a_cut_or_paused_master_gives_way_and_one_is_left_when_it_is_back(lab: Lab) -> None:
    started_at = time.monotonic()
    async with Cluster.start(lab, vs1=150, vs2=100) as cluster:
        vs1 = cluster.directors["vs1"]
        await cluster.is_with("vs1", after=started_at)
        client = await client_of(lab)

        cut_at = time.monotonic()
        await lab.cut("vs1")
        assert await cluster.is_with("vs2", after=cut_at) < cluster.down_after("vs2") + MARGIN
        assert client.outage(cut_at, time.monotonic()) < cluster.down_after("vs2") + MARGIN

        mended_at = time.monotonic()
        await lab.mend("vs1")
        await cluster.is_with("vs1", after=mended_at)
        assert client.outage(mended_at, time.monotonic()) < MARGIN

        os.killpg(vs1.process.pid, signal.SIGSTOP)
        await cluster.is_with("vs2", after=time.monotonic(), stays=("vs1",))
        woken_at = time.monotonic()
        os.killpg(vs1.process.pid, signal.SIGCONT)
        assert await cluster.holders.become("vs2") - woken_at < MARGIN
        await vs1.saw("vrrp.changed", old="master", new="backup", master="192.168.0.2")
        taken_back_after = await cluster.is_with("vs1", after=woken_at)
        assert taken_back_after > cluster.down_after("vs1") / 4, cluster.capture.story(woken_at)


async def test_a_director_unheard_or_deaf_is_one_of_two_masters_until_that_is_mended(lab: Lab) -> None:
    started_at = time.monotonic()
    async with Cluster.start(lab, vs1=150, vs2=100) as cluster:
        await cluster.is_with("vs1", after=started_at)
        client = await client_of(lab)

        muted_at = time.monotonic()
        await lab.mute("vs1")
        await cluster.is_with("vs2", after=muted_at, stays=("vs1",))
        assert client.outage(muted_at, time.monotonic()) < cluster.down_after("vs2") + MARGIN

        mended_at = time.monotonic()
        await lab.mend("vs1")
        await cluster.is_with("vs1", after=mended_at)

        await lab.deafen("vs2")
        await cluster.holders.become("vs1", "vs2")
        await asyncio.sleep(4 * INTERVAL)
        await lab.mend("vs2")
        await cluster.is_with("vs1", after=time.monotonic())
        # Who hears the other, and outranks it, keeps the clients.
        assert client.outage(mended_at, time.monotonic()) < MARGIN


async def test_of_equals_one_alone_follows_and_then_the_last(three: Lab) -> None:
    started_at = time.monotonic()
    async with Cluster.start(three, vs1=150, vs2=100, vs3=100) as cluster:
        await cluster.is_with("vs1", after=started_at)
        client = await client_of(three)
        left = set(cluster.directors)
        master = "vs1"
        while left := left - {master}:
            stopped_at = time.monotonic()
            await cluster.directors[master].stop()
            await asyncio.sleep(4 * INTERVAL)
            (master,) = cluster.holders.now
            assert await cluster.is_with(master, after=stopped_at) < cluster.skew(master) + MARGIN
            assert client.outage(stopped_at, time.monotonic()) < cluster.skew(master) + MARGIN
        await client.stop()
        assert cluster.lost(client, 0.0) == [], cluster.holders.story()
