"""keepalived and ldirectord on a host of the lab, with the table watched while they work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Self

from waiting import until

from lvsd.lab.classic import VIP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from lvsd.lab.machine import Machine
    from lvsd.lab.process import Process

RS1, RS2, STRANGER = "192.168.0.3", "192.168.0.4", "192.168.0.9"
WWW = ("TCP", VIP, 80)

Rows = dict[str, tuple[str, int]]
"""The web service's real servers by address: how they are reached, and their weight."""


class Peer:
    """A director that is not lvsd, on `machine`; a new text of its configuration goes into the same file."""

    package: ClassVar[str]
    version: ClassVar[str]
    """The one that these tests state facts about."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.file = machine.directory / f"{self.package}.conf"
        self.process: Process

    @classmethod
    async def start(cls, machine: Machine, config: str) -> Self:
        """Start it on a configuration."""
        peer = cls(machine)
        await peer.begin(config)
        return peer

    async def begin(self, config: str | None = None) -> None:
        """Start it (again), with a new text where one is given."""
        self._write(config)
        # Where keepalived dumps to, and what spares ldirectord to start itself a second time.
        env = {"TMPDIR": str(self.machine.directory), "PERLIO": "perlio"}
        self.process = await self.machine.start(self.argv(), name=self.package, env=env)

    def argv(self) -> Sequence[str]:
        """Return its command line."""
        raise NotImplementedError

    def reload(self, config: str | None = None) -> None:
        """Ask it to read its file again, with a new text where one is given."""
        self._write(config)
        self.process.signal(signal.SIGHUP)

    async def reload_every(self, interval: float) -> None:
        """Ask it to read its unchanged file again and again, at exact intervals, until cancelled."""
        loop = asyncio.get_running_loop()
        due_at = loop.time()
        while True:
            self.reload()
            due_at += interval
            await asyncio.sleep(due_at - loop.time())

    async def kill(self) -> None:
        """Kill the process we started, and it alone."""
        self.process.signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """Ask it to end and wait for that."""
        self.process.terminate()
        await self.process.wait(10.0)

    async def rows(self) -> Rows:
        """Return the rows of the web service now; none where there is no such service."""
        table = await self.machine.read_table()
        servers = table[WWW]["servers"] if WWW in table else {}
        return {address: (row["forward"], row["weight"]) for (address, _), row in servers.items()}

    async def has(self, *addresses: str) -> None:
        """Wait until these real servers have a row, and no other has."""

        async def holds() -> bool:
            return (await self.rows()).keys() == set(addresses)

        await until(holds)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[list[Rows]]:
        """Yield a list that gets the rows as they are and then each time they differ."""
        seen = [await self.rows()]

        async def watch() -> None:
            while True:
                rows = await self.rows()
                if rows != seen[-1]:
                    seen.append(rows)
                await asyncio.sleep(0.02)

        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            task.cancel()

    async def keeps(self, *addresses: str, seconds: float) -> None:
        """Assert that the rows are these servers', and do not change once within that time."""
        async with self.watched() as seen:
            await asyncio.sleep(seconds)
        assert [set(rows) for rows in seen] == [set(addresses)]

    def _write(self, config: str | None) -> None:
        if config is not None:
            self.file.write_text(config)


class Keepalived(Peer):
    """keepalived: a parent, and a checker that it starts again when that one ends."""

    package = "keepalived"
    version = "2.2.7"

    def argv(self) -> Sequence[str]:
        """Return the command line: in the foreground, its log on its output, its files its own."""
        files = {"-f": self.file, "-p": self._pid_file("parent"), "-c": self._pid_file("checker")}
        return [
            "/usr/sbin/keepalived", "-C", "-n", "-l", "-G",
            *(str(word) for pair in files.items() for word in pair),
        ]  # fmt: skip

    def kill_checker(self) -> None:
        """Kill the process that checks, and it alone."""
        os.kill(int(self._pid_file("checker").read_text()), signal.SIGKILL)

    def _pid_file(self, of: str) -> Path:
        return self.machine.directory / f"keepalived-{of}.pid"


class Ldirectord(Peer):
    """ldirectord, in the foreground."""

    package = "ldirectord"
    version = "4.12.0"

    def argv(self) -> Sequence[str]:
        """Return the command line."""
        return ["/usr/sbin/ldirectord", str(self.file), "start"]


@cache
def installed_version(package: str) -> str:
    """Return the upstream version of a Debian package, or "" where it is not installed."""
    command = ["dpkg-query", "--show", "--showformat", "${source:Upstream-Version}", package]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return ""


def keepalived_conf(*, kind: str = "DR", timeout: int = 1, settings: str = "") -> str:
    """Return a configuration that checks both web servers each second, with one retry 0.2 s later."""
    servers = "".join(_KEEPALIVED_SERVER % (address, timeout) for address in (RS1, RS2))
    return _KEEPALIVED % (settings, VIP, kind, servers)


def ldirectord_cf(*, settings: str = "") -> str:
    """Return a configuration that checks both web servers and then sleeps for a second."""
    return _LDIRECTORD % (settings, VIP, RS1, RS2)


_KEEPALIVED = """\
global_defs {
    router_id lab
    %s
}
virtual_server %s 80 {
    delay_loop 1
    lb_algo rr
    lb_kind %s
    protocol TCP
%s}
"""
_KEEPALIVED_SERVER = """\
    real_server %s 80 {
        HTTP_GET {
            url {
                path /
                status_code 200
            }
            connect_timeout %d
            retry 1
            delay_before_retry 0.2
        }
    }
"""
_LDIRECTORD = """\
checkinterval = 1
checktimeout = 1
%s
supervised = yes
virtual = %s:80
    real = %s:80 gate
    real = %s:80 gate
    scheduler = rr
    protocol = tcp
    checktype = connect
"""
