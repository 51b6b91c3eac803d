"""A host of the lab while it runs: start programs on it, open sockets on it, read its table."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lvsd.lab import links
from lvsd.lab.client import HttpClient, Session, telnet_banner
from lvsd.lab.kernel import LabError
from lvsd.lab.misbehaving import Behaviour, MisbehavingServer
from lvsd.lab.namespaces import MS_BIND, Residence, mount
from lvsd.lab.process import Process, spawn
from lvsd.lab.table import Table, parse_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lvsd.lab.links import InterfaceAddress
    from lvsd.lab.network import Host
    from lvsd.lab.services import Service

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended and what it wrote."""

    status: int
    output: str


class Machine:
    """A running host.

    `directory` is its own place on tmpfs, readable from everywhere: `directory/run` is what the host sees
    as /run/lvsd, `directory/log` what it sees as /var/log.
    """

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.processes: list[Process] = []
        self.services: dict[str, Process] = {}
        self.residence = Residence(host.name)
        self._servers: list[MisbehavingServer] = []
        self._clients: list[HttpClient] = []

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    async def boot(self, etc_hosts: Path) -> None:
        """Make the host's namespaces, files and settings; it has no link yet."""
        await self.residence.enter()
        await self.do(self._furnish, etc_hosts)

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the host's namespaces, without blocking the event loop; return its result."""
        return await self.residence.do(call, *args, **kwargs)

    async def start(
        self, argv: Sequence[str], *, name: str | None = None, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program; `env` is added to our own environment. It is ended with the lab at the latest."""
        return await self._start(argv, name or Path(argv[0]).name, "log", env or {})

    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,  # noqa: ASYNC109 - the limit is the caller's
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> Completed:
        """Run a command to its end; with `check`, raise LabError with its output when it fails."""
        process = await self._start(argv, Path(argv[0]).name, "commands", env or {})
        try:
            status = await process.wait(timeout)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        completed = Completed(status, process.output)
        if check and status != 0:
            message = f"{self.name}: {' '.join(argv)}: status {status}: {completed.output.strip()}"
            raise LabError(message)
        return completed

    async def serve(self, service: Service) -> Process:
        """Start a service, or start it again after its end; returns once it takes connections.

        Raises LabError with what it said when it ends, or takes none for 30 seconds.
        """
        directory = self.directory / "programs" / service.name
        directory.mkdir(exist_ok=True)
        process = await self.start(service.prepare(directory), name=service.name)
        self.services[service.name] = process
        give_up_at = time.monotonic() + 30.0
        while not await self.do(_listens, service.port):
            if process.status is not None or time.monotonic() > give_up_at:
                message = f"{self.name}: {service.name} takes no connections: {process.output.strip()}"
                raise LabError(message)
            await asyncio.sleep(0.03)
        return process

    async def serve_all(self) -> None:
        """Start what the network's description says runs here."""
        await asyncio.gather(*map(self.serve, self.host.services))

    async def until_listening(self, port: int, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """Wait until something takes TCP connections on the port; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not await self.do(_listens, port):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.03)

    async def stop(self, service: str) -> None:
        """Kill a service by its name (`nginx`, `telnetd`); its port refuses connections from then on."""
        process = self.services.pop(service)
        process.kill()
        await process.wait()

    async def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        """Return a non-blocking socket of this host; whoever asks closes it."""
        making = asyncio.ensure_future(self.do(socket.socket, family, kind, protocol))
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(lambda done: done.result().close())
            raise
        made.settimeout(0)
        return made

    async def misbehave(self, port: int, behaviour: Behaviour) -> MisbehavingServer:
        """Start a server, here in this process, that answers as told: see `misbehaving`."""
        server = MisbehavingServer(self, port)
        self._servers.append(server)
        await server.behave(behaviour)
        return server

    async def request_every(self, interval: float, address: str, **settings: object) -> HttpClient:
        """Start to send an HTTP request every `interval` seconds and record each: see `HttpClient`."""
        client = HttpClient(self, address, interval=interval, **settings)  # type: ignore[arg-type]
        self._clients.append(client)
        client.start()
        return client

    async def request(self, address: str, **settings: object) -> str:
        """Send one HTTP request and return the body; raises OSError, TimeoutError or ValueError."""
        return await HttpClient(self, address, **settings).fetch()  # type: ignore[arg-type]

    async def telnet(
        self,
        address: str,
        port: int = 23,
        *,
        expect: str = "login:",
        timeout: float = 5.0,  # noqa: ASYNC109
    ) -> str:
        """Open a telnet session, negotiate, and return what was sent up to and including `expect`."""
        return await telnet_banner(self, address, port, expect=expect, timeout=timeout)

    async def connect(self, address: str, port: int, *, timeout: float = 5.0) -> Session:  # noqa: ASYNC109
        """Open a connection that stays, to show whether it lives: see `Session`."""
        return await Session.open(self, address, port, timeout=timeout)

    async def read_table(self) -> Table:
        """Return the host's IPVS table."""
        return parse_table(await self.do(_IPVS.read_text))

    async def addresses(self) -> tuple[InterfaceAddress, ...]:
        """Return the addresses the host has now, link-local and loopback ones left out."""
        return await self.do(links.addresses)

    async def has_address(self, address: str) -> bool:
        """Tell whether the host has the address on any interface, whatever its prefix length."""
        return any(each.address.partition("/")[0] == address for each in await self.addresses())

    async def close(self) -> None:
        """End all that runs on the host, kindly first."""
        for client in self._clients:
            await client.stop()
        for server in self._servers:
            await server.close()
        await self.do(lambda: None)  # what was being started has been
        for process in self.processes:
            process.terminate()
        for process in reversed(self.processes):
            await process.stop()

    def report(self) -> str:
        """Return the tails of all logs of the host and its IPVS table, for a failed test."""
        logs = [
            path for path in (self.directory / "log").rglob("*") if path.is_file() and path.stat().st_size
        ]
        parts = [f"--- {path.name}\n{_tail(path)}" for path in sorted(logs)]
        rows = self.residence.ask(_IPVS.read_text).splitlines()[3:]
        return "\n".join(parts + (["--- IPVS table", *rows] if rows else []))

    async def _start(self, argv: Sequence[str], name: str, folder: str, env: Mapping[str, str]) -> Process:
        log = self.directory / folder / f"{name}.{len(self.processes)}.log"
        # Recorded there and not here, so that it is ended even if nobody waits for it any more.
        return await self.do(lambda: self._record(spawn(name, argv, log, {**os.environ, **env}, Path.cwd())))

    def _record(self, process: Process) -> Process:
        self.processes.append(process)
        return process

    def _furnish(self, etc_hosts: Path) -> None:
        """Put the host's own files where programs look for them, and set what it is to have set."""
        for part in ("run", "log", "commands", "programs"):
            (self.directory / part).mkdir(parents=True)
        Path("/run/lvsd").mkdir(exist_ok=True)
        mount(str(self.directory / "run"), "/run/lvsd", flags=MS_BIND)
        mount(str(self.directory / "log"), "/var/log", flags=MS_BIND)
        mount(str(etc_hosts), "/etc/hosts", flags=MS_BIND)
        for name, text in {**_SYSCTLS, **self.host.sysctls}.items():
            Path("/proc/sys", name.replace(".", "/")).write_text(text)


# An IPv6 address is usable at once, without duplicate address detection.
_SYSCTLS = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.default.router_solicitations": "0",
}
_TAIL = 4000
_IPVS = Path("/proc/thread-self/net/ip_vs")
_LISTENING = "0A"


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode(errors="replace").rstrip()


def _listens(port: int) -> bool:
    """Tell whether some socket of the calling thread's network listens on the port."""
    for family in ("tcp", "tcp6"):
        for line in Path("/proc/thread-self/net", family).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                return True
    return False
