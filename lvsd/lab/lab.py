"""Builds a network on the kernel we are on, and takes it down again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from lvsd.lab.kernel import LabError
from lvsd.lab.machine import Machine
from lvsd.lab.namespaces import Residence
from lvsd.lab.network import Host, Network
from lvsd.lab.process import spawn


class Lab:
    """A network that runs while the `async with` block does.

    `hosts` are the machines by name. Needs a lab's kernel: see `kernel.run_in_kernel`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.hosts: Mapping[str, Machine] = {}
        self._directory = Path()
        self._switch = Residence("switch")
        self._shaped: set[tuple[str, str]] = set()
        self._silent: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._build()
        except BaseException:
            await self._take_down()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._take_down()

    async def cut(self, name: str, interface: str = "eth0") -> None:
        """Pull a host's cable: both ends see the link go down."""
        await self._switch.do(_set_up, self._port(name, interface), up=False)

    async def mend(self, name: str, interface: str = "eth0") -> None:
        """Undo `cut`, `silence`, `impair` and the like on one of a host's interfaces."""
        port = self._port(name, interface)
        await self._switch.do(_set_up, port, up=True)
        await self._forward(port, on=True)
        await self._tc(port, None)
        await self._tc(interface, None, self.hosts[name])

    async def silence(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass between a host and the others, with the link up: a broken switch."""
        await self._forward(self._port(name, interface), on=False)

    async def deafen(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass to a host; what it sends arrives."""
        await self._tc(self._port(name, interface), "loss 100%")

    async def mute(self, name: str, interface: str = "eth0") -> None:
        """Let nothing pass from a host; what is sent to it arrives."""
        await self._tc(interface, "loss 100%", self.hosts[name])

    async def impair(
        self,
        name: str,
        *,
        loss: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        interface: str = "eth0",
    ) -> None:
        """Lose a share (0 to 1) of what is sent to a host, and delay it by seconds, plus or minus jitter."""
        wishes = [f"delay {delay * 1000:.3f}ms {jitter * 1000:.3f}ms"] if delay or jitter else []
        wishes += [f"loss {loss * 100:.4f}%"] if loss else []
        await self._tc(self._port(name, interface), " ".join(wishes) or None)

    async def report(self) -> str:
        """Return what every host's logs say and its IPVS table, for a failed test."""
        parts = []
        for name, machine in self.hosts.items():
            table = await machine.do(Path("/proc/thread-self/net/ip_vs").read_text)
            rows = table.splitlines()[3:]
            said = "\n".join([machine.report(), *(["--- IPVS table", *rows] if rows else [])]).strip()
            parts += [f"===== {name}\n{said}"] if said else []
        return "\n".join(parts)

    async def _build(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="lvsd-lab-", dir="/run"))
        self._directory.chmod(0o755)
        etc_hosts = self._directory / "hosts"
        etc_hosts.write_text(self.network.etc_hosts())
        self.hosts = {host.name: Machine(host, self._directory / host.name) for host in self.network.hosts}
        for machine in self.hosts.values():
            await machine.boot(etc_hosts)
        await self._switch.enter()  # last, so that it can see the names of the hosts' networks
        await self._ip(self._switch, self._links())
        for machine in self.hosts.values():
            await self._ip(machine.residence, _settings(machine.host))
        for machine in self.hosts.values():
            for service in machine.host.services:
                await machine.serve(service)

    async def _take_down(self) -> None:
        for machine in self.hosts.values():
            await machine.close()
        _kill_residents({machine.name for machine in self.hosts.values()})
        for machine in self.hosts.values():
            machine.residence.leave()
        self._switch.leave()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _links(self) -> list[str]:
        bridges = [
            line
            for bridge in self.network.bridges
            for line in (f"link add {bridge} type bridge", f"link set {bridge} up")
        ]
        cables = [
            line
            for name, machine in self.hosts.items()
            for card in machine.host.cards()
            for line in (
                f"link add {self._port(name, card.name)} type veth peer name {card.name} netns {name}",
                f"link set {self._port(name, card.name)} master {card.bridge} up",
            )
        ]
        return bridges + cables

    def _port(self, name: str, interface: str) -> str:
        """Return the name of the switch's end of a cable: at most 15 letters."""
        host = self.hosts[name].host
        cards = [card.name for card in host.cards()]
        return f"p{self.network.hosts.index(host)}-{cards.index(interface)}"

    async def _ip(self, place: Residence, lines: Iterable[str]) -> None:
        await self._command(place, ["ip", "-batch", str(self._script(lines))])

    async def _tc(self, interface: str, netem: str | None, machine: Machine | None = None) -> None:
        place = self._switch if machine is None else machine.residence
        where = (place.name, interface)
        if netem is not None:
            await self._command(place, f"tc qdisc replace dev {interface} root netem {netem}".split())
            self._shaped.add(where)
        elif where in self._shaped:
            await self._command(place, f"tc qdisc del dev {interface} root".split())
            self._shaped.remove(where)

    async def _forward(self, port: str, *, on: bool) -> None:
        if on is not (port in self._silent):
            return
        await self._command(self._switch, f"bridge link set dev {port} state {3 if on else 0}".split())
        self._silent ^= {port}

    async def _command(self, place: Residence, argv: list[str]) -> None:
        log = self._directory / "commands.log"
        process = await place.do(spawn, argv[0], argv, log, dict(os.environ), self._directory)
        if await process.wait():
            message = f"the lab's network: {' '.join(argv)}: {process.output}"
            raise LabError(message)

    def _script(self, lines: Iterable[str]) -> Path:
        path = self._directory / "batch"
        path.write_text("\n".join(lines) + "\n")
        return path


def _settings(host: Host) -> Iterator[str]:
    """Yield what `ip` is told on a host once its cables are plugged in."""
    yield "link set lo up"
    for card in host.cards():
        for address in card.addresses:
            yield f"address add {address} dev {card.name} {_family_options(address)}"
        yield f"link set {card.name} up"
    for gateway in host.gateways:
        yield f"route add default via {gateway}"
    if host.vips:
        yield "link add dummy0 type dummy"
        yield "link set dummy0 up"
        for address in host.vips:
            yield f"address add {address}/{128 if ':' in address else 32} dev dummy0"


def _family_options(address: str) -> str:
    return "nodad" if ":" in address else "broadcast +"


_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ = struct.Struct("16sH22x")


def _set_up(interface: str, *, up: bool) -> None:
    """Bring an interface up or down without the 45 ms of a process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        asked = _IFREQ.pack(interface.encode(), 0)
        _, flags = _IFREQ.unpack(fcntl.ioctl(handle, _SIOCGIFFLAGS, asked))
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(handle, _SIOCSIFFLAGS, _IFREQ.pack(interface.encode(), wanted))


def _kill_residents(names: set[str]) -> None:
    """Kill whatever still lives in a host's network: what left its session, such as a login of telnetd."""
    networks = {os.stat(f"/run/netns/{name}").st_ino for name in names if Path("/run/netns", name).exists()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino in networks:
                    os.kill(int(entry.name), signal.SIGKILL)
