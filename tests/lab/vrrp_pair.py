"""Two directors in failover with a client that asks throughout, and all that is to be said of how it went."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from waiting import until

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess
from lvsd.lab.holders import Holders
from lvsd.lab.vrrp_capture import VrrpCapture
from lvsd.model import Address
from lvsd.vrrp.neighbours import ETHERNET_ARP, parse_arp
from lvsd.vrrp.packet import GROUP_V4, HOP_LIMIT, PROTOCOL, Advertisement, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lvsd.events import Record
    from lvsd.lab.client import HttpClient, Request
    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine

VS1, VS2 = "192.168.0.1", "192.168.0.2"
PRIORITIES = {"vs1": 150, "vs2": 100}
VRID = 51

_SERVICES = f"""\
checks:
  web: {{type: http, path: /, interval: 1s, timeout: 1s, fast_interval: 200ms, rise: 1, fall: 3}}
virtual_services:
  www:
    address: {VIP}:80
    protocol: tcp
    scheduler: rr
    forward: dr
    check: web
    real_servers: [192.168.0.3, 192.168.0.4]
vrrp:
"""


def instance(name: str, priority: int, *settings: str, vrid: int = VRID, vip: str = VIP) -> str:
    """Return an instance of the configuration, with lines of other settings."""
    lines = ("interface: eth0", f"virtual_router_id: {vrid}", f"priority: {priority}")
    lines += (f"addresses: [{vip}/24]", *settings)
    return f"  {name}:\n" + "".join(f"    {line}\n" for line in lines)


@dataclass(slots=True)
class Pair:
    """Directors vs1, of priority 150, and vs2, of 100, who has the VIP, what they say, and the client."""

    lab: Lab
    vs1: DirectorProcess
    vs2: DirectorProcess
    holders: Holders
    capture: VrrpCapture
    client: HttpClient

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, lab: Lab, vs1: str, vs2: str) -> AsyncIterator[Self]:
        """Start both with these instances; go on once vs1 is master, vs2 backup, and the client is served."""
        machines = lab.hosts["vs1"], lab.hosts["vs2"]
        async with Holders.of(VIP, machines) as holders, VrrpCapture.of(lab) as capture:
            starts = map(DirectorProcess.start, machines, (_SERVICES + vs1, _SERVICES + vs2))
            directors = await asyncio.gather(*starts)
            client = await lab.hosts["client"].request_every(0.02, VIP, count=1_000_000)
            pair = cls(lab, *directors, holders, capture, client)
            await pair.is_with("vs1")
            await asyncio.sleep(0.5)
            assert not pair.lost(time.monotonic() - 0.2)
            yield pair

    @property
    def directors(self) -> tuple[DirectorProcess, DirectorProcess]:
        """Both directors."""
        return self.vs1, self.vs2

    async def is_with(self, name: str) -> None:
        """Wait until one director is master and has the VIP alone, and the other says that it is backup."""
        try:
            await until(lambda: self._is_with(name))
        except TimeoutError as late:
            late.add_note(self.story())
            raise

    def changes(self, instance: str = "vip") -> list[list[str]]:
        """Return the states that an instance has gone to, on either director, in its latest run."""
        changed = (director.found("vrrp.changed", instance=instance) for director in self.directors)
        return [[each["new"] for each in records if each["new"] != each["old"]] for records in changed]

    def told(self, event: str, **fields: object) -> list[Record]:
        """Return the events of one name of either director's latest run."""
        return [record for director in self.directors for record in director.found(event, **fields)]

    def lost(self, begin: float) -> list[Request]:
        """Return the requests since a moment that failed, but those under way when the VIP came or went."""
        moves = [held.at for held in self.holders.history[1:]]
        return [
            failed
            for failed in self.client.failures_between(begin, time.monotonic())
            if not any(-0.1 < at - failed.started_at < failed.duration + 0.1 for at in moves)
        ]

    def story(self, begin: float = 0.0) -> str:
        """Return who had the VIP when and what was advertised, for a failed test."""
        return f"{self.holders.story(begin)}\n{self.capture.story(begin)}"

    async def _is_with(self, name: str) -> bool:
        states = {each.machine.name: each.state().vrrp.get("vip", {}).get("state") for each in self.directors}
        masters = {host for host, state in states.items() if state == "master"}
        return self.holders.now == masters == {name} and sorted(map(str, states.values())) == [
            "backup",
            "master",
        ]


class Stranger:
    """A third host on the LAN that sends VRRP packets of any kind to all."""

    def __init__(self, address: str, links: dict[int, socket.socket]) -> None:
        self.address = Address.parse(address)
        self._links = links

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, machine: Machine) -> AsyncIterator[Self]:
        """Send from a host of the lab."""
        address = machine.host.addresses[0].partition("/")[0]
        with contextlib.ExitStack() as stack:
            links = {}
            for hop_limit in HOP_LIMIT, HOP_LIMIT - 1:
                link = stack.enter_context(await machine.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL))
                link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hop_limit)
                link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
                links[hop_limit] = link
            yield cls(address, links)

    def send(self, payload: bytes, *, hop_limit: int = HOP_LIMIT) -> None:
        """Send a payload, whatever it is."""
        self._links[hop_limit].sendto(payload, (str(GROUP_V4), 0))

    def said(self, **settings: object) -> bytes:
        """Return the payload of an advertisement as vs1's, but of priority 200, and with these settings."""
        told: dict[str, object] = {
            "version": 3, "vrid": VRID, "priority": 200, "interval": 1.0, "addresses": (Address.parse(VIP),),
        }  # fmt: skip
        return encode(Advertisement(source=self.address, **told | settings), GROUP_V4)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def arp_of(machine: Machine) -> AsyncIterator[Callable[[str], set[str]]]:
    """Yield what tells which MACs have claimed an address since, as far as a host has heard."""
    with await machine.do(_open_arp) as link:
        frames: list[bytes] = []

        def claimants(address: str) -> set[str]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frames.append(link.recv(128))
            claims = [claim for frame in frames if (claim := parse_arp(frame)) is not None]
            return {claim.mac.hex(":") for claim in claims if str(claim.address) == address}

        yield claimants


def mac_of(machine: Machine) -> str:
    """Return the hardware address of a host's eth0."""
    return machine.residence.ask(Path("/sys/class/net/eth0/address").read_text).strip()


def _open_arp() -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ARP))
    link.settimeout(0)
    link.bind(("eth0", ETHERNET_ARP))
    return link
