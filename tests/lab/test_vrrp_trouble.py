"""What a network, its hosts and their clocks may do to a pair of directors, which keep the VIP served."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vrrp_pair import VS1, VS2, Pair, Stranger, arp_of, instance, mac_of

from lvsd.lab import links
from lvsd.lab.classic import VIP
from lvsd.model import Address
from lvsd.vrrp.packet import RESIGNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lvsd.lab.lab import Lab
    from lvsd.lab.vrrp_capture import VrrpCapture

HOUR = 3600.0
MALFORMED = 5_004
ARP_IGNORE = Path("/proc/sys/net/ipv4/conf/all/arp_ignore")
REJECTED = [
    "old: it is of version 3, and this director's of version 2",
    "old: its interval is 2 s, not 1 s, and version 2 needs the same",
    "old: its password is another",
    "vip: it is of version 2, and this director's of version 3",
]
DIFFERS = [
    "it advertises 192.168.0.77, this director 192.168.0.101",
    "its interval is 2 s, this director's 0.3 s",
]
DOWN_AFTER = 0.3 * (3 + 156 / 256)
MARGIN = 0.8
"""Seconds that the lab's one slow CPU may add to what the protocol takes."""

PUNCTUAL = 0.5
"""Seconds that an advertisement may be late while the lab's one processor also sends and sees a flood."""


async def test_loss_delay_clock_steps_and_malformed_packets_change_nothing(lab: Lab) -> None:
    async with Pair.start(lab, instance("vip", 150), instance("vip", 100)) as pair:
        before, begun_at = pair.changes(), time.monotonic()

        await lab.impair("vs2", loss=0.3)
        await lab.impair("vs2", sent=True, loss=0.3)
        with stepped(pair.capture) as step:
            await asyncio.sleep(15)
            step(HOUR)
            await asyncio.sleep(15)
            step(-HOUR)
            await asyncio.sleep(15)
        await asyncio.sleep(15)
        await lab.mend("vs2")
        assert pair.changes() == before, pair.story(begun_at)
        asked = {(str(said.source), said.priority) for _, said in pair.capture.advertisements(begin=begun_at)}
        assert asked == {(VS1, 150), (VS2, RESIGNED)}

        for name in "vs1", "vs2":
            await lab.impair(name, delay=0.2, jitter=0.05, duplicate=0.3, reorder=0.3)
        await asyncio.sleep(8)
        for name in "vs1", "vs2":
            await lab.mend(name)
        assert pair.changes() == before, pair.story(begun_at)

        async with Stranger.on(lab.hosts["rs3"]) as stranger:
            flooded_at = time.monotonic()
            for number, (payload, hop_limit) in enumerate(malformed(stranger)):
                stranger.send(payload, hop_limit=hop_limit)
                if number % 20 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(2)
        assert pair.capture.lateness(VS1, flooded_at).worst < PUNCTUAL
        assert [record["source"] for record in pair.told("vrrp.rejected")] == [str(stranger.address)] * 2

        assert pair.changes() == before, pair.story(begun_at)
        assert [held.by for held in pair.holders.history if held.at > begun_at] == []
        await pair.client.stop()
        assert pair.lost(begun_at) == []


async def test_what_is_wrong_with_addresses_peers_and_cables_is_told_and_comes_right(lab: Lab) -> None:
    vs1, vs2, rs3 = (lab.hosts[name] for name in ("vs1", "vs2", "rs3"))
    await vs2.do(links.add_address, "eth0", f"{VIP}/24")
    await rs3.do(ARP_IGNORE.write_text, "0")
    settings = [(instance("vip", each, "advertisement_interval: 0.3s"), old(each)) for each in (150, 100)]
    async with Pair.start(lab, *map("".join, settings)) as pair:
        # The backup had the VIP before it began.
        assert pair.vs2.found("address.added", cause="adopted", address=f"{VIP}/24")
        assert pair.vs2.found("address.removed", address=f"{VIP}/24")

        # A real server answers ARP for it.
        await pair.vs1.saw("address.contested", address=f"{VIP}/24", mac=mac_of(rs3))
        await rs3.do(ARP_IGNORE.write_text, "1")
        await asyncio.sleep(1.5)
        before, begun_at = pair.changes(), time.monotonic()
        assert len(pair.told("address.contested", address=f"{VIP}/24")) == 1

        # Somebody puts the VIP on the backup, and takes it from the master.
        seen = pair.vs2.seq
        await vs2.do(links.add_address, "eth0", f"{VIP}/24")
        await pair.vs2.saw("address.removed", after=seen, address=f"{VIP}/24")
        await pair.holders.become("vs1")
        assert len(pair.vs2.found("address.added", after=seen, cause="adopted")) == 1
        seen = pair.vs1.seq
        await vs1.run(["ip", "address", "del", f"{VIP}/24", "dev", "eth0"])
        await pair.vs1.saw("address.removed", after=seen, cause="drift", address=f"{VIP}/24")
        await pair.vs1.saw("address.added", after=seen, cause="mended", address=f"{VIP}/24")
        await pair.holders.become("vs1")
        assert pair.holders.orphaned(begun_at) < 0.5

        await strangers_are_told_apart(pair)
        assert pair.changes() == before, pair.story(begun_at)
        assert pair.lost(begun_at) == []
        assert "I am real server #3" not in {
            (each.body or "").strip() for each in pair.client.requests if each.started_at > begun_at
        }

        await ways_are_cut(pair)


async def strangers_are_told_apart(pair: Pair) -> None:
    """Let somebody advertise with other settings."""
    async with Stranger.on(pair.lab.hosts["rs3"]) as stranger:
        for payload in strange(stranger) * 5:
            stranger.send(payload)
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)
    for director in pair.directors:
        rejected = director.found("vrrp.rejected", source=str(stranger.address))
        assert sorted(f"{each['instance']}: {each['reason']}" for each in rejected) == REJECTED
        differs = director.found("vrrp.differs", instance="vip", peer=str(stranger.address))
        assert sorted(each["reason"] for each in differs) == DIFFERS
    assert len(pair.vs1.found("vrrp.contested", peer=str(stranger.address), priority=50)) == 1
    assert len(pair.told("vrrp.contested")) == 1


async def ways_are_cut(pair: Pair) -> None:
    """Let vs1 hear nothing, then be heard by nobody, then neither, all with the link up."""
    lab, before = pair.lab, pair.changes()
    await lab.deafen("vs1")
    await asyncio.sleep(3)
    await lab.mend("vs1")
    await asyncio.sleep(1)
    assert pair.changes() == before

    for cut in lab.mute, lab.silence:
        cut_at = time.monotonic()
        await cut("vs1")
        await pair.holders.become("vs1", "vs2")
        await asyncio.sleep(1)
        assert pair.client.outage(cut_at, time.monotonic()) < DOWN_AFTER + MARGIN, pair.story(cut_at)
        async with arp_of(lab.hosts["client"]) as claimants:
            mended_at = time.monotonic()
            await lab.mend("vs1")
            await pair.is_with("vs1")
            await asyncio.sleep(1)
            assert mac_of(lab.hosts["vs1"]) in claimants(VIP), pair.story(mended_at)
        assert pair.client.outage(mended_at, time.monotonic()) < MARGIN, pair.story(mended_at)
    assert len(pair.vs1.found("vrrp.contested", peer=VS2, priority=100, yields="peer")) == 1
    assert pair.changes() == [before[0], [*before[1], *["master", "backup"] * 2]]


@contextmanager
def stepped(capture: VrrpCapture) -> Iterator[Callable[[float], None]]:
    """Let the time of day be set to so much off the true one; it is put back at the end.

    In user-mode-linux the clock is the lab's own; where it is this machine's, it is left alone.
    """
    own = "User Mode Linux" in Path("/proc/cpuinfo").read_text()
    true = time.time() - time.monotonic()

    def step(off: float) -> None:
        if own:
            capture.read()  # what was stamped by the clock so far
            time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + true + off)

    try:
        yield step
    finally:
        step(0)


def malformed(stranger: Stranger) -> Iterator[tuple[bytes, int]]:
    """Yield packets that no director can heed, and their hop limits: a sixth of each kind."""
    good = stranger.said()
    draw = random.Random(51)  # noqa: S311 - the same each time
    for _ in range(MALFORMED // 6):
        yield draw.randbytes(draw.randrange(1, 64)), 255
        yield good[: draw.randrange(1, len(good))], 255
        yield bytes([*good[:6], good[6] ^ draw.randrange(1, 256), *good[7:]]), 255
        yield good, 254
        yield stranger.said(vrid=draw.randrange(60, 256)), 255
        yield bytes([*good[:3], draw.randrange(2, 256), *good[4:]]), 255


def old(priority: int) -> str:
    """Return an instance of version 2 beside the other."""
    settings = ("version: 2", "password: secret", "advertisement_interval: 1s")
    return instance("old", priority, *settings, vrid=52, vip="192.168.0.102")


def strange(stranger: Stranger) -> list[bytes]:
    """Return advertisements that contradict the directors' settings, and one that resigns for another."""
    asked = {"vrid": 52, "version": 2, "password": b"secret", "addresses": (Address.parse("192.168.0.102"),)}
    elsewhere = (Address.parse("192.168.0.77"),)
    return [
        stranger.said(**asked | {"password": b"other"}),
        stranger.said(**asked | {"password": b""}),
        stranger.said(**asked | {"version": 3, "password": b""}),
        stranger.said(**asked | {"interval": 2.0}),
        stranger.said(version=2),
        stranger.said(priority=50, interval=2.0, addresses=elsewhere),
        stranger.said(priority=RESIGNED),
    ]
