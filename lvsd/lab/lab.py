"""Builds a network on the kernel we are on, and takes it down again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lvsd.lab import links
from lvsd.lab.machine import Machine
from lvsd.lab.namespaces import Residence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from lvsd.lab.network import Host, Network


class Lab:
    """A network that runs while the `async with` block does.

    `hosts` are the machines by name. Needs a lab's kernel: see `kernel.run_in_kernel`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.hosts: Mapping[str, Machine] = {}
        self._directory = Path()
        self.switch = Residence("switch")
        """Where the bridges are, and the other end of each cable: a place to listen to all of them."""
        self._stack = contextlib.AsyncExitStack()
        self._impaired: set[tuple[Residence, str]] = set()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is not None and (report := self.report()):
            failure.add_note(report)
        await self._stack.__aexit__(kind, failure, trace)

    async def cut(self, name: str, interface: str = "eth0") -> None:
        """Pull a host's cable: both ends see the link go down."""
        await self.switch.do(links.set_up, self._port(name, interface), up=False)

    async def mend(self, name: str, interface: str = "eth0") -> None:
        """Undo `cut`, `silence`, `deafen`, `mute` and `impair` on one of a host's interfaces."""
        port = self._port(name, interface)
        await self.switch.do(links.set_up, port, up=True)
        await self.switch.do(links.set_forwarding, port, forwards=True)
        for sent in (False, True):
            await self.relieve(name, interface, sent=sent)

    async def silence(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass between a host and the others, with the link up: a broken switch."""
        await self.switch.do(links.set_forwarding, self._port(name, interface), forwards=False)

    async def deafen(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass to a host; what it sends arrives."""
        await self.impair(name, interface, loss=1.0)

    async def mute(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass from a host; what is sent to it arrives."""
        await self.impair(name, interface, sent=True, loss=1.0)

    async def impair(
        self, name: str, interface: str = "eth0", *, sent: bool = False, **impairment: float
    ) -> None:
        """Impair what is sent to a host, or with `sent` what it sends: see `links.Impairment`.

        The last call for that way counts; the other way stays as it is.
        """
        place, at = self._sender(name, interface, sent=sent)
        await place.do(links.impair, at, links.Impairment(**impairment))
        self._impaired.add((place, at))

    async def relieve(self, name: str, interface: str = "eth0", *, sent: bool = False) -> None:
        """Undo `impair` for one way."""
        place, at = self._sender(name, interface, sent=sent)
        if (place, at) in self._impaired:
            self._impaired.remove((place, at))
            await place.do(links.relieve, at)

    def report(self) -> str:
        """Return what every host's logs say and its IPVS table, for a failed test."""
        said = ((name, machine.report()) for name, machine in self.hosts.items())
        return "\n".join(f"===== {name}\n{text}" for name, text in said if text)

    async def _build(self, stack: contextlib.AsyncExitStack) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="lvsd-lab-", dir="/run"))
        self.switch = Residence(self._directory.name)
        stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._directory.chmod(0o755)
        etc_hosts = self._directory / "hosts"
        etc_hosts.write_text(self.network.etc_hosts())
        self.hosts = {host.name: Machine(host, self._directory / host.name) for host in self.network.hosts}
        residences = [machine.residence for machine in self.hosts.values()]
        for residence in (*residences, self.switch):
            stack.callback(residence.leave)
        stack.callback(_kill_residents, residences)
        for machine in self.hosts.values():
            await machine.boot(etc_hosts)
        await self.switch.enter()  # last, so that it can see the names of the hosts' networks
        await self._connect()
        for machine in self.hosts.values():
            await machine.do(_plug_in, machine.host)
            stack.push_async_callback(machine.close)
        # All start together, and the slowest is waited for.
        starts = (machine.serve_all() for machine in self.hosts.values())
        for failure in await asyncio.gather(*starts, return_exceptions=True):
            if failure is not None:
                raise failure

    async def _connect(self) -> None:
        for bridge in self.network.bridges:
            await self.switch.do(links.add_bridge, bridge)
        for name, machine in self.hosts.items():
            for card in machine.host.cards():
                port = self._port(name, card.name)
                there = machine.residence.thread_id
                await self.switch.do(links.add_cable, port, card.bridge, card.name, there)

    def _port(self, name: str, interface: str) -> str:
        """Return the name of the switch's end of a cable: at most 15 letters."""
        host = self.hosts[name].host
        cards = [card.name for card in host.cards()]
        return f"p{self.network.hosts.index(host)}-{cards.index(interface)}"

    def _sender(self, name: str, interface: str, *, sent: bool) -> tuple[Residence, str]:
        """Return the end of a cable where netem has what the host sends, or what is sent to it."""
        if sent:
            return self.hosts[name].residence, interface
        return self.switch, self._port(name, interface)


def _plug_in(host: Host) -> None:
    """Set up a host's interfaces, once their cables are there."""
    links.set_up("lo", up=True)
    for card in host.cards():
        links.set_up(card.name, up=True)
        for address in card.addresses:
            links.add_address(card.name, address)
    for gateway in host.gateways:
        links.add_gateway(gateway)
    if host.vips:
        links.add_dummy("dummy0")
        for address in host.vips:
            links.add_address("dummy0", address)


def _kill_residents(residences: Iterable[Residence]) -> None:
    """Kill whatever still lives in a host's network: what left its session, such as a login of telnetd."""
    networks = {residence.network for residence in residences}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in networks:
                    os.kill(int(entry.name), signal.SIGKILL)
