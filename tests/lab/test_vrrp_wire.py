"""Advertisements and the announcing of addresses on a real kernel, and with keepalived at the other end.

A socket belongs to the network of the thread that opens it, so each host runs an event loop in its own.
What is said of keepalived was seen with one version; another is left out, for it may have become better.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from peers import Keepalived, installed_version
from waiting import until

from lvsd.edge.neighbours import FILTERABLE, Announcer, NeighbourWatch
from lvsd.edge.virtual_mac import VirtualMacs
from lvsd.edge.vrrp_socket import AT_ONCE, Packet, VrrpSocket
from lvsd.errors import KernelError
from lvsd.lab.classic import VIP, VIP6, classic
from lvsd.lab.lab import Lab
from lvsd.lab.network import Network
from lvsd.model import Address
from lvsd.vrrp.packet import GROUP_V4, GROUP_V6, RESIGNED, Advertisement, decode, encode
from lvsd.vrrp.virtual_mac import virtual_mac

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from lvsd.lab.machine import Machine

VS1, VS2 = Address.parse("192.168.0.1"), Address.parse("192.168.0.2")
VS1_V6, VS2_V6 = Address.parse("fd00:0:0:1::1"), Address.parse("fd00:0:0:1::2")
VIP_V4, VIP_V6 = Address.parse(VIP), Address.parse(VIP6)
GROUPS = {4: GROUP_V4, 6: GROUP_V6}
NOWHERE = "02:00:00:00:00:99"
IFA_F_TENTATIVE = 0x40


@pytest.fixture
async def pair() -> AsyncIterator[Lab]:
    """The part of the classic network that these tests need: both directors and a client."""
    hosts = tuple(host for host in classic().hosts if host.name in {"vs1", "vs2", "client"})
    async with Lab(Network(hosts)) as built:
        yield built


@pytest.fixture
def vs1(pair: Lab) -> Machine:
    return pair.hosts["vs1"]


@pytest.fixture
def vs2(pair: Lab) -> Machine:
    return pair.hosts["vs2"]


# Hearing and sending


@asynccontextmanager
async def hearing(
    machine: Machine, version: int, last: Callable[[Packet], bool]
) -> AsyncIterator[asyncio.Future[list[Packet]]]:
    """Listen on the host; what is yielded has all packets up to the `last` one in the end."""
    ready = threading.Event()

    async def hear() -> list[Packet]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        packets: list[Packet] = []

        def take(packet: Packet) -> None:
            packets.append(packet)
            if last(packet) and not done.done():
                done.set_result(None)

        opened = VrrpSocket("eth0", version, take)
        ready.set()
        try:
            async with asyncio.timeout(30):
                await done
        finally:
            opened.close()
        return packets

    task = asyncio.create_task(machine.do(asyncio.run, hear()))
    assert await asyncio.to_thread(ready.wait, 30)
    yield task


async def send(
    machine: Machine, packets: Sequence[tuple[bytes, Address, Address]], interface: str = "eth0"
) -> None:
    async def say() -> None:
        opened = VrrpSocket(interface, packets[0][1].version, lambda _: None)
        try:
            for payload, source, destination in packets:
                opened.send(payload, source, destination)
        finally:
            opened.close()

    await machine.do(asyncio.run, say())


async def link_local(machine: Machine) -> Address:
    """Return the address by which IPv6 has its neighbours know the host's eth0, once its link is in use."""
    found: list[Address] = []

    async def is_in_use() -> bool:
        table = await machine.do(Path("/proc/thread-self/net/if_inet6").read_text)
        rows = [line.split() for line in table.splitlines()]
        own = [row for row in rows if row[5] == "eth0" and row[0].startswith("fe80")]
        found[:] = [Address(bytes.fromhex(row[0])) for row in own if not int(row[4], 16) & IFA_F_TENTATIVE]
        return bool(found)

    await until(is_in_use)
    return found[0]


async def mac(machine: Machine) -> str:
    return (await machine.do(Path("/sys/class/net/eth0/address").read_text)).strip()


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        pytest.param(VS1, GROUP_V4, id="IPv4 multicast"),
        pytest.param(VS1, VS2, id="IPv4 unicast"),
        pytest.param(None, GROUP_V6, id="IPv6 multicast"),
        pytest.param(VS1_V6, VS2_V6, id="IPv6 unicast"),
    ],
)
async def test_what_one_host_sends_the_other_hears(
    vs1: Machine, vs2: Machine, source: Address | None, destination: Address
) -> None:
    for host in vs2, vs1:
        own = await link_local(host)
    source = source or own
    async with hearing(vs2, source.version, lambda _: True) as heard:
        await send(vs1, [(b"whatever", source, destination)])
    assert await heard == [Packet("eth0", source, destination, 255, b"whatever")]


async def test_link_local_peers_hear_each_other(vs1: Machine, vs2: Machine) -> None:
    source, destination = await link_local(vs1), await link_local(vs2)
    async with hearing(vs2, 6, lambda _: True) as heard:
        await send(vs1, [(b"", source, destination)])
    assert await heard == [Packet("eth0", source, destination, 255, b"")]


async def test_the_source_is_the_one_asked_for(vs1: Machine, vs2: Machine) -> None:
    await vs1.run(["ip", "address", "add", f"{VIP}/24", "dev", "eth0"])
    async with hearing(vs2, 4, lambda packet: packet.payload == b"2") as heard:
        await send(vs1, [(b"1", VIP_V4, GROUP_V4), (b"2", VS1, VS2)])
    assert [packet.source for packet in await heard] == [VIP_V4, VS1]


@pytest.mark.parametrize(("source", "version"), [(VS2, 4), (VS2_V6, 6)], ids=["IPv4", "IPv6"])
async def test_a_source_that_the_host_does_not_have_is_an_error(
    vs1: Machine, source: Address, version: int
) -> None:
    with pytest.raises(OSError, match=r"Invalid argument|Network is unreachable"):
        await send(vs1, [(b"", source, GROUPS[version])])


@pytest.mark.parametrize("version", [4, 6])
async def test_a_missing_interface_is_an_error(vs1: Machine, version: int) -> None:
    async def open_it() -> None:
        VrrpSocket("eth7", version, lambda _: None)

    with pytest.raises(OSError, match="No such device") as raised:
        await vs1.do(asyncio.run, open_it())
    assert raised.value.errno == errno.ENODEV


@pytest.mark.parametrize("version", [4, 6])
async def test_nobody_hears_themselves(vs1: Machine, version: int) -> None:
    source = VS1 if version == 4 else await link_local(vs1)

    async def say_and_listen() -> list[Packet]:
        heard: list[Packet] = []
        first, second = VrrpSocket("eth0", version, heard.append), VrrpSocket("eth0", version, heard.append)
        first.send(b"", source, GROUPS[version])
        await asyncio.sleep(0.3)
        first.close()
        second.close()
        return heard

    assert await vs1.do(asyncio.run, say_and_listen()) == []


async def test_advertisements_go_before_other_traffic(vs1: Machine, vs2: Machine) -> None:
    """The type of service and the traffic class are those of what routers say to each other."""
    frames = await vs2.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    frames.bind(("eth0", 0x0003))  # ETH_P_ALL
    with frames:
        await send(vs1, [(b"v4", VS1, GROUP_V4), (b"v4", VS1, VS2)])
        await send(vs1, [(b"v6", await link_local(vs1), GROUP_V6), (b"v6", VS1_V6, VS2_V6)])
        seen = set()
        async with asyncio.timeout(10):
            while len(seen) < 4:
                packet = await asyncio.get_running_loop().sock_recv(frames, 2048)
                if packet[0] >> 4 == 4 and packet[9] == 112:
                    seen.add((packet[16:20], packet[1]))
                elif packet[0] >> 4 == 6 and packet[6] == 112:
                    seen.add((packet[24:40], int.from_bytes(packet[:2]) >> 4 & 0xFF))
    assert seen == {(each, 0xC0) for each in (GROUP_V4, VS2, GROUP_V6, VS2_V6)}


async def test_when_a_timer_fires_nothing_is_left_unheard(vs1: Machine, vs2: Machine) -> None:
    """A process that was held up hears what came meanwhile before its timers go off."""
    ready, sent = threading.Event(), threading.Event()

    async def be_held_up() -> int:
        loop = asyncio.get_running_loop()
        heard: list[Packet] = []
        opened = VrrpSocket("eth0", 4, heard.append)
        fired: asyncio.Future[int] = loop.create_future()
        loop.call_later(0.01, lambda: fired.set_result(len(heard)))
        ready.set()
        sent.wait(30)  # blocks the loop: that is the point
        count = await fired
        opened.close()
        return count

    held_up = asyncio.create_task(vs2.do(asyncio.run, be_held_up()))
    assert await asyncio.to_thread(ready.wait, 30)
    await send(vs1, [(b"", VS1, GROUP_V4)] * 200)
    sent.set()
    assert await held_up == 200 < AT_ONCE


# keepalived at the other end


class Vrrpd(Keepalived):
    """keepalived with its VRRP process alone."""

    def argv(self) -> Sequence[str]:
        files = {"-f": self.file, "-p": self._pid_file("parent"), "-r": self._pid_file("vrrp")}
        return [
            "/usr/sbin/keepalived", "-P", "-n", "-l", "-D", "-G",
            *(str(word) for pair in files.items() for word in pair),
        ]  # fmt: skip


def conf(version: int, vip: str, settings: str = "") -> str:
    return f"""\
vrrp_instance vip {{
    interface eth0
    version {version}
    virtual_router_id 51
    priority 100
    {settings}
    virtual_ipaddress {{
        {vip}
    }}
}}
"""


SIGNED = "authentication {\nauth_type PASS\nauth_pass geheim\n}"
UNICAST = f"unicast_src_ip {VS2}\nunicast_peer {{\n{VS1}\n}}"
UNICAST_V6 = f"unicast_src_ip {VS2_V6}\nunicast_peer {{\n{VS1_V6}\n}}"
FAST = "advert_int 0.25"

SAID = Advertisement(
    version=3, vrid=51, priority=100, interval=0.25, addresses=(VIP_V4,), source=VS2, covers_addresses=True
)
V2 = replace(SAID, version=2, interval=1.0, covers_addresses=False)
V6 = replace(SAID, addresses=(VIP_V6,), source=VS2_V6)


@dataclass(frozen=True)
class Peering:
    """keepalived's configuration on vs2, and what it says as master, to vs1 or to a group."""

    config: str
    said: Advertisement
    ours: Address | None = VS1
    """None is what vs1 has for a link-local address."""
    theirs: Address | None = None
    """None is the group."""
    hop_limit: int = 255
    """keepalived's: over IPv6 it leaves that of unicast as the host has it."""

    async def says(self, vs2: Machine) -> tuple[Advertisement, Address | None]:
        """Return what keepalived says, and to whom."""
        if self.theirs is not None:
            return self.said, self.ours
        version = self.said.source.version
        source = self.said.source if version == 4 else await link_local(vs2)
        return replace(self.said, source=source), GROUPS[version]

    async def hears(self, vs1: Machine) -> tuple[Advertisement, Address]:
        """Return what makes keepalived a backup, and to whom it is said."""
        said = replace(self.said, priority=200, source=self.ours or await link_local(vs1))
        return said, self.theirs or GROUPS[said.source.version]


KEEPALIVED = pytest.mark.parametrize(
    "peering",
    [
        pytest.param(Peering(conf(2, f"{VIP}/24"), V2), id="v2"),
        pytest.param(Peering(conf(2, f"{VIP}/24", SIGNED), replace(V2, password=b"geheim")), id="v2 PASS"),
        pytest.param(Peering(conf(2, f"{VIP}/24", UNICAST), V2, theirs=VS2), id="v2 unicast"),
        pytest.param(Peering(conf(3, f"{VIP}/24", FAST), SAID), id="v3"),
        pytest.param(Peering(conf(3, f"{VIP}/24", f"{FAST}\n{UNICAST}"), SAID, theirs=VS2), id="v3 unicast"),
        pytest.param(Peering(conf(3, f"{VIP6}/64", FAST), V6, None), id="v3 IPv6"),
        pytest.param(
            Peering(conf(3, f"{VIP6}/64", f"{FAST}\n{UNICAST_V6}"), V6, VS1_V6, VS2_V6, hop_limit=64),
            id="v3 IPv6 unicast",
        ),
    ],
)


@KEEPALIVED
async def test_what_keepalived_says_is_understood(vs1: Machine, vs2: Machine, peering: Peering) -> None:
    _skip_unless_known()
    said, destination = await peering.says(vs2)
    async with hearing(vs1, said.source.version, _resigns) as hears:
        peer = await Vrrpd.start(vs2, peering.config)
        await peer.process.saw("Entering MASTER STATE")
        await peer.stop()
    heard = await hears
    assert {(packet.hop_limit, packet.destination) for packet in heard} == {(peering.hop_limit, destination)}
    *first, last = [decode(packet.payload, packet.source, packet.destination) for packet in heard]
    assert first == [said] * len(first) != []
    assert last == replace(said, priority=RESIGNED)


@KEEPALIVED
async def test_what_is_said_keepalived_understands(vs1: Machine, vs2: Machine, peering: Peering) -> None:
    _skip_unless_known()
    said, destination = await peering.hears(vs1)
    async with advertising(vs1, said, destination) as resign:
        peer = await Vrrpd.start(vs2, peering.config)
        await peer.process.saw("Entering BACKUP STATE")
        await asyncio.sleep(5 * said.interval)
        assert "Entering MASTER STATE" not in peer.process.output
        resign()
        await peer.process.saw("Entering MASTER STATE")


async def test_keepalived_2_2_7_wants_a_pseudo_header_in_a_checksum_of_version_3(
    vs1: Machine, vs2: Machine
) -> None:
    """RFC 9568, 5.2.8 has none for IPv4; it cannot be told so, for `v3_checksum_as_v2` came with 2.2.8."""
    _skip_unless_known()
    said = replace(SAID, priority=200, source=VS1, covers_addresses=False)
    async with advertising(vs1, said, GROUP_V4):
        peer = await Vrrpd.start(vs2, conf(3, f"{VIP}/24", f"{FAST}\nv3_checksum_as_v2"))
        await peer.process.saw("Entering MASTER STATE")
        await peer.process.saw("Invalid VRRPv3 checksum")
        assert "Unknown keyword 'v3_checksum_as_v2'" in peer.process.output


@asynccontextmanager
async def advertising(
    machine: Machine, said: Advertisement, destination: Address
) -> AsyncIterator[Callable[[], None]]:
    """Advertise as a master does; what is yielded makes it resign and be silent."""
    started, over = threading.Event(), threading.Event()

    async def advertise() -> None:
        opened = VrrpSocket("eth0", said.source.version, lambda _: None)
        while not over.is_set():
            opened.send(encode(said, destination), said.source, destination)
            started.set()
            await asyncio.sleep(said.interval / 2)
        opened.send(encode(replace(said, priority=RESIGNED), destination), said.source, destination)
        opened.close()

    task = asyncio.create_task(machine.do(asyncio.run, advertise()))
    assert await asyncio.to_thread(started.wait, 30)
    try:
        yield over.set
    finally:
        over.set()
        await task


def _resigns(packet: Packet) -> bool:
    return decode(packet.payload, packet.source, packet.destination).priority == RESIGNED


def _skip_unless_known() -> None:
    if (installed := installed_version(Keepalived.package)) != Keepalived.version:
        pytest.skip(f"keepalived is {installed or 'not installed'}, not {Keepalived.version}")


# Who has an address


ADDRESSES = pytest.mark.parametrize("vip", [pytest.param(VIP_V4, id="IPv4"), pytest.param(VIP_V6, id="IPv6")])


async def announce(machine: Machine, *addresses: Address, interface: str = "eth0") -> None:
    def call() -> None:
        announcer = Announcer()
        announcer.announce(interface, addresses)
        announcer.close()

    await machine.do(call)


async def hold(machine: Machine, vip: Address, interface: str = "eth0") -> None:
    option = [] if vip.version == 4 else ["nodad"]
    await machine.run(["ip", "address", "add", str(vip), "dev", interface, *option])


@ADDRESSES
@pytest.mark.parametrize("forwarding", ["0", "1"])
async def test_an_announced_address_is_in_every_cache(
    pair: Lab, vs1: Machine, vip: Address, forwarding: str
) -> None:
    client, there = pair.hosts["client"], ["to", str(vip), "dev", "eth0"]
    await vs1.do(Path("/proc/sys/net/ipv6/conf/eth0/forwarding").write_text, forwarding)
    await client.run(["ip", "neigh", "replace", *there, "lladdr", NOWHERE, "nud", "reachable"])
    await announce(vs1, vip)

    async def known() -> str:
        return (await client.run(["ip", "neigh", "show", *there])).output

    async def updated() -> bool:
        return f"lladdr {await mac(vs1)} " in await known()

    await until(updated, 10.0)
    if vip.version == 6:
        assert (" router " in await known()) == (forwarding == "1")


@asynccontextmanager
async def watching(
    machine: Machine, addresses: Sequence[Address], probed: Address | None = None, claims: int = 1
) -> AsyncIterator[asyncio.Future[list[tuple[Address, str]]]]:
    """Watch the addresses on the host for half a second, or until there were that many claims."""
    ready = threading.Event()

    async def watch() -> list[tuple[Address, str]]:
        heard: list[tuple[Address, str]] = []
        enough = asyncio.Event()

        def claimed(address: Address, by: bytes) -> None:
            heard.append((address, by.hex(":")))
            if len(heard) == claims:
                enough.set()

        opened = NeighbourWatch("eth0", claimed)
        opened.watch(addresses)
        ready.set()
        if probed is not None:
            opened.probe(probed)
        with suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), 10.0 if claims else 0.5)
        opened.close()
        return heard

    task = asyncio.create_task(machine.do(asyncio.run, watch()))
    assert await asyncio.to_thread(ready.wait, 30)
    yield task


@ADDRESSES
async def test_who_announces_a_watched_address_claims_it(vs1: Machine, vs2: Machine, vip: Address) -> None:
    async with watching(vs1, [vip]) as claimed:
        await announce(vs2, vip)
    assert await claimed == [(vip, await mac(vs2))]


@ADDRESSES
async def test_who_holds_a_watched_address_in_silence_claims_it_when_asked(
    vs1: Machine, vs2: Machine, vip: Address
) -> None:
    await hold(vs1, vip)
    await hold(vs2, vip)
    async with watching(vs1, [vip], probed=vip) as claimed:
        pass
    assert await claimed == [(vip, await mac(vs2))]


async def test_two_holders_of_an_address_are_seen_when_one_sends_a_packet(vs1: Machine, vs2: Machine) -> None:
    await hold(vs2, VIP_V4)
    async with watching(vs1, [VIP_V4]) as claimed:
        with await vs2.socket(kind=socket.SOCK_DGRAM) as talker:
            talker.bind((VIP, 0))
            talker.sendto(b"", ("192.168.0.200", 9))  # whose MAC address the host asks for as the VIP
    assert await claimed == [(VIP_V4, await mac(vs2))]


async def test_other_addresses_and_own_announcements_are_no_claims(vs1: Machine, vs2: Machine) -> None:
    async with watching(vs1, [VIP_V4, VIP_V6], claims=0) as claimed:
        await announce(vs1, VIP_V4, VIP_V6)
        await announce(vs2, VS2, VS2_V6)
    assert await claimed == []


async def test_hundreds_of_addresses_are_watched(vs1: Machine, vs2: Machine) -> None:
    for count in (FILTERABLE, FILTERABLE + 1):
        many = [Address((10 << 24 | number).to_bytes(4)) for number in range(1, count + 1)]
        async with watching(vs1, many, claims=2) as claimed:
            await announce(vs2, many[0], many[-1])
        assert await claimed == [(each, await mac(vs2)) for each in (many[0], many[-1])]


async def test_one_who_answers_for_another_interface_is_seen(vs1: Machine, vs2: Machine) -> None:
    """A real server that was not told to keep silent about the VIP on its dummy0."""
    await vs2.run(["ip", "link", "add", "dummy0", "up", "type", "dummy"])
    await hold(vs2, VIP_V4, "dummy0")
    async with watching(vs1, [VIP_V4], probed=VIP_V4) as claimed:
        pass
    assert await claimed == [(VIP_V4, await mac(vs2))]


# A virtual MAC address


async def make(machine: Machine, vrid: int, version: int) -> str:
    async def add() -> str:
        async with VirtualMacs() as virtual_macs:
            return await virtual_macs.add("eth0", vrid, version)

    return await machine.do(asyncio.run, add())


@ADDRESSES
async def test_a_virtual_mac_answers_for_the_vip_and_for_nothing_else(
    pair: Lab, vs1: Machine, vip: Address
) -> None:
    client, own = pair.hosts["client"], VS1 if vip.version == 4 else VS1_V6
    await hold(vs1, vip, await make(vs1, 51, vip.version))
    for address, answers in (vip, virtual_mac(51, vip.version)), (own, await mac(vs1)):
        async with watching(client, [address], probed=address, claims=0) as claimed:
            pass
        assert await claimed == [(address, answers)]


@ADDRESSES
async def test_a_virtual_mac_is_announced(pair: Lab, vs1: Machine, vip: Address) -> None:
    name = await make(vs1, 51, vip.version)
    async with watching(pair.hosts["client"], [vip]) as claimed:
        await announce(vs1, vip, interface=name)
    assert await claimed == [(vip, virtual_mac(51, vip.version))]


@ADDRESSES
async def test_the_vip_of_a_virtual_mac_is_reached(pair: Lab, vs1: Machine, vip: Address) -> None:
    """Answers leave by another interface than packets come in, which a strict filter would not have."""
    client, strict = pair.hosts["client"], Path("/proc/sys/net/ipv4/conf/all/rp_filter")
    await vs1.do(strict.write_text, "1")
    await hold(vs1, vip, await make(vs1, 51, vip.version))
    family = socket.AF_INET if vip.version == 4 else socket.AF_INET6
    with await client.socket(family) as knocking, pytest.raises(ConnectionRefusedError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(knocking, (str(vip), 9)), 5.0)
    known = await client.run(["ip", "neigh", "show", "to", str(vip), "dev", "eth0"])
    assert f"lladdr {virtual_mac(51, vip.version)} " in known.output


@ADDRESSES
async def test_clients_never_learn_the_other_mac_of_a_vip(pair: Lab, vs1: Machine, vip: Address) -> None:
    """Even when the director itself speaks as the VIP and asks who its partner is."""
    client = pair.hosts["client"]
    await hold(vs1, vip, await make(vs1, 51, vip.version))
    own = await mac(vs1)
    family, target = (
        (socket.AF_INET, "192.168.0.200") if vip.version == 4 else (socket.AF_INET6, "fd00:0:0:1::200")
    )
    async with watching(client, [vip], claims=0) as claimed:
        with await vs1.socket(family, socket.SOCK_DGRAM) as talker:
            talker.bind((str(vip), 0))
            talker.sendto(b"", (target, 9))
    assert (vip, own) not in await claimed


async def test_advertisements_leave_with_the_virtual_mac(vs1: Machine, vs2: Machine) -> None:
    """RFC 9568, 7.2: so that switches learn where it is."""
    name = await make(vs1, 51, 4)
    await hold(vs1, VIP_V4, name)
    frames = await vs2.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    frames.bind(("eth0", 0x0800))
    with frames:
        await send(vs1, [(b"", VS1, GROUP_V4)], name)
        async with asyncio.timeout(10):
            packet, sender = await asyncio.get_running_loop().sock_recvfrom(frames, 2048)
    assert packet[9] == 112
    assert sender[4].hex(":") == virtual_mac(51, 4)


async def test_a_virtual_mac_is_made_found_and_removed(vs1: Machine) -> None:
    def arp() -> tuple[str, ...]:
        settings = Path("/proc/sys/net/ipv4/conf/eth0")
        return tuple((settings / each).read_text().strip() for each in ("arp_ignore", "arp_announce"))

    async def live() -> list[object]:
        async with VirtualMacs() as virtual_macs:
            return [
                [await virtual_macs.add("eth0", vrid, version) for vrid, version in wanted],
                await virtual_macs.add("eth0", 51, 4),
                arp(),
                [await virtual_macs.remove(vrid, version) for vrid, version in wanted],
                await virtual_macs.remove(51, 4),
            ]

    wanted = [(51, 4), (52, 4), (51, 6)]
    assert await vs1.do(arp) == ("0", "0")
    made, again, changed, removed, once_more = await vs1.do(asyncio.run, live())
    assert made == ["vrrp.51", "vrrp.52", "vrrp6.51"]
    assert (again, changed, removed, once_more) == ("vrrp.51", ("1", "2"), [True] * 3, False)
    assert await vs1.do(arp) == ("0", "0")
    assert (await vs1.run(["ip", "-o", "link", "show", "type", "macvlan"])).output == ""


async def test_a_virtual_mac_that_a_crash_left_behind_is_adopted(vs1: Machine) -> None:
    assert await make(vs1, 51, 4) == await make(vs1, 51, 4) == "vrrp.51"


async def test_an_interface_of_that_name_is_left_alone(vs1: Machine) -> None:
    await vs1.run(["ip", "link", "add", "vrrp.51", "type", "dummy"])
    with pytest.raises(
        KernelError, match=r"^vrrp\.51 is another interface than one with 00:00:5e:00:01:33 on eth0$"
    ):
        await make(vs1, 51, 4)


async def test_a_virtual_mac_needs_an_interface(vs1: Machine) -> None:
    async def add() -> None:
        async with VirtualMacs() as virtual_macs:
            await virtual_macs.add("eth7", 51, 4)

    with pytest.raises(KernelError, match="there is no interface eth7"):
        await vs1.do(asyncio.run, add())
