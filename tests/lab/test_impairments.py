"""What the lab does to packets on their way, and who it then sees advertising and holding an address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lvsd.lab import links
from lvsd.lab.classic import VIP, VIP6, classic
from lvsd.lab.holders import Holders, owners
from lvsd.lab.lab import Lab
from lvsd.lab.network import Network
from lvsd.lab.vrrp_capture import VrrpCapture
from lvsd.model import Address
from lvsd.vrrp.packet import GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL, Advertisement, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.machine import Machine

ADDRESSES = {"vs1": "192.168.0.1", "vs2": "192.168.0.2"}
ADDRESSES6 = {"vs1": "fd00:0:0:1::1", "vs2": "fd00:0:0:1::2"}
PORT = 7000


@pytest.fixture
async def pair() -> AsyncIterator[Lab]:
    """The classic network's two directors and nothing else, which know each other's hardware address."""
    hosts = tuple(host for host in classic(services=False).hosts if host.name in ADDRESSES)
    async with Lab(Network(hosts)) as built:
        assert await arrive(*built.hosts.values(), 1) == [0]
        yield built


async def arrive(sender: Machine, receiver: Machine, count: int) -> list[int]:
    """Send numbered datagrams from one host to another; return those that arrive, in their order."""
    inbox = await receiver.socket(kind=socket.SOCK_DGRAM)
    outbox = await sender.socket(kind=socket.SOCK_DGRAM)
    with inbox, outbox:
        inbox.bind(("", PORT))
        for number in range(count):
            outbox.sendto(number.to_bytes(2), (ADDRESSES[receiver.name], PORT))
            await asyncio.sleep(0.002)
        numbers = []
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.4):
                    numbers.append(int.from_bytes(await asyncio.get_running_loop().sock_recv(inbox, 2)))
        return numbers


async def test_packets_are_duplicated(pair: Lab) -> None:
    await pair.impair("vs2", duplicate=1.0)
    numbers = await arrive(pair.hosts["vs1"], pair.hosts["vs2"], 10)
    assert Counter(numbers) == dict.fromkeys(range(10), 2)


async def test_packets_are_reordered_and_none_is_lost(pair: Lab) -> None:
    await pair.impair("vs2", delay=0.05, reorder=0.5)
    numbers = await arrive(pair.hosts["vs1"], pair.hosts["vs2"], 50)
    assert numbers != sorted(numbers)
    assert sorted(numbers) == list(range(50))


def test_reordering_without_a_delay_is_refused() -> None:
    with pytest.raises(ValueError, match="there is none"):
        links.Impairment(reorder=0.5)


@pytest.mark.parametrize("sent", [False, True])
async def test_an_impairment_is_of_one_way_until_it_is_relieved(pair: Lab, *, sent: bool) -> None:
    vs1, vs2 = pair.hosts.values()
    await pair.impair("vs2", sent=sent, loss=0.3)
    lossy, whole = ((vs2, vs1), (vs1, vs2)) if sent else ((vs1, vs2), (vs2, vs1))
    assert 100 < len(await arrive(*lossy, 200)) < 180
    assert await arrive(*whole, 50) == list(range(50))
    await pair.relieve("vs2", sent=sent)
    assert await arrive(*lossy, 50) == list(range(50))


async def test_both_ways_are_impaired_independently_and_mended_together(pair: Lab) -> None:
    vs1, vs2 = pair.hosts.values()
    await pair.impair("vs2", duplicate=1.0)
    await pair.mute("vs2")
    assert len(await arrive(vs1, vs2, 10)) == 20
    assert await arrive(vs2, vs1, 10) == []
    await pair.mend("vs2")
    assert await arrive(vs1, vs2, 10) == list(range(10))
    assert await arrive(vs2, vs1, 10) == list(range(10))


async def test_a_cut_leaves_addresses_and_routes_and_is_healed(pair: Lab) -> None:
    vs1, vs2 = pair.hosts.values()
    before = await vs2.addresses()
    await pair.cut("vs2")
    assert await arrive(vs1, vs2, 3) == []
    assert await vs2.addresses() == before
    await pair.mend("vs2")
    assert await arrive(vs1, vs2, 3) == [0, 1, 2]


async def advertise(machine: Machine, *, at: str = VIP, priority: int = 100, interval: float = 0.1) -> None:
    """Send one advertisement of version 3 as the host."""
    address = Address.parse(at)
    ours, group = (ADDRESSES, GROUP_V4) if address.version == 4 else (ADDRESSES6, GROUP_V6)
    said = Advertisement(
        version=3,
        vrid=51,
        priority=priority,
        interval=interval,
        addresses=(address,),
        source=Address.parse(ours[machine.name]),
    )
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with await machine.socket(family, socket.SOCK_RAW, PROTOCOL) as link:
        if address.version == 4:
            link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOP_LIMIT)
            link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, said.source)
            link.sendto(encode(said, group), (str(group), 0))
        else:
            link.bind((str(said.source), 0))
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            index = await machine.do(socket.if_nametoindex, "eth0")
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            link.sendto(encode(said, group), (str(group), 0, 0, index))


async def test_every_vrrp_packet_is_heard_once_and_nothing_else(pair: Lab) -> None:
    vs1, vs2 = pair.hosts.values()
    async with VrrpCapture.of(pair) as capture:
        begun_at = time.monotonic()
        await advertise(vs1, priority=150)
        await arrive(vs1, vs2, 5)
        await advertise(vs2)
        await advertise(vs2, at=VIP6)
        with await vs1.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL) as link:
            link.sendto(b"nonsense", ("192.168.0.2", 0))
        await asyncio.sleep(0.05)
        ended_at = time.monotonic()
    assert [(each.source, each.destination, each.hop_limit) for each in capture.heard] == [
        ("192.168.0.1", "224.0.0.18", 255),
        ("192.168.0.2", "224.0.0.18", 255),
        ("fd00:0:0:1::2", "ff02::12", 255),
        ("192.168.0.1", "192.168.0.2", 64),
    ]
    (_, first), *rest = capture.advertisements(vrid=51)
    assert (first.version, first.priority, first.interval, len(rest)) == (3, 150, 0.1, 2)
    assert capture.heard[-1].said is None
    assert "version 6" in capture.heard[-1].error
    assert begun_at <= capture.heard[0].at <= capture.heard[-1].at <= ended_at


async def test_what_is_lost_later_is_heard_and_what_a_cut_or_mute_host_sends_is_not(pair: Lab) -> None:
    vs1, vs2 = pair.hosts.values()
    async with VrrpCapture.of(pair) as capture:
        await pair.deafen("vs2")
        await advertise(vs1)
        await pair.mute("vs2")
        await advertise(vs2)
        await asyncio.sleep(0.05)
        assert [each.source for each in capture.heard] == ["192.168.0.1"]


async def test_lateness_is_what_comes_on_top_of_the_interval(pair: Lab) -> None:
    vs1, vs2 = pair.hosts.values()
    async with VrrpCapture.of(pair) as capture:
        for pause in (0.05, 0.05, 0.15, 0.05):
            await advertise(vs1, interval=0.05)
            await advertise(vs2, priority=0)
            await asyncio.sleep(pause)
        await advertise(vs1, interval=0.05)
        await asyncio.sleep(0.05)
        late = capture.lateness("192.168.0.1")
        assert late.count == 4
        assert 0.09 < late.worst == late.almost_worst < 0.2
        assert late.median < 0.05
        with pytest.raises(ValueError, match=r"192\.168\.0\.2 has not advertised twice"):
            capture.lateness("192.168.0.2")


@pytest.mark.parametrize("address", [f"{VIP}/24", f"{VIP6}/64"])
async def test_the_holders_of_an_address_are_followed_and_when_it_was_on_both(
    pair: Lab, address: str
) -> None:
    vs1, vs2 = pair.hosts.values()
    vip = address.partition("/")[0]
    await vs1.do(links.add_address, "eth0", address)
    async with Holders.of(vip, pair.hosts.values()) as holders:
        assert holders.now == {"vs1"}
        await vs2.do(links.add_address, "eth0", "192.168.0.77/24")
        await vs2.do(links.add_address, "eth0", address)
        both_at = await holders.become("vs1", "vs2")
        await asyncio.sleep(0.2)
        await vs1.run(["ip", "address", "del", address, "dev", "eth0"])
        one_at = await holders.become("vs2")
        await vs2.run(["ip", "address", "del", address, "dev", "eth0"])
        none_at = await holders.become()
        await asyncio.sleep(0.1)
        assert holders.shared() == pytest.approx(one_at - both_at)
        assert 0.2 <= holders.shared() < 1.0
        assert holders.shared(begin=one_at) == 0.0
        assert holders.orphaned() >= 0.1
        assert holders.orphaned(end=none_at) == 0.0
        assert [set(held.by) for held in holders.history] == [{"vs1"}, {"vs1", "vs2"}, {"vs2"}, set()]
        assert await owners(pair.hosts.values(), vip) == set()
        with pytest.raises(TimeoutError, match="vs1\\+vs2"):
            await holders.become("vs1", timeout=0.1)


async def test_a_clients_outage_is_the_longest_time_without_an_answer(lab: Lab) -> None:
    client = await lab.hosts["client"].request_every(0.02, "192.168.0.3", timeout=0.2)
    begun_at = time.monotonic()
    await asyncio.sleep(0.5)
    await lab.silence("rs1")
    silent_at = time.monotonic()
    await asyncio.sleep(0.4)
    await lab.mend("rs1")
    await asyncio.sleep(0.6)
    await client.stop()
    assert 0.35 < client.outage(begun_at, time.monotonic()) < 1.0
    assert client.outage(begun_at, silent_at) < 0.3
