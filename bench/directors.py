"""lvsd and keepalived on a host of the lab, started, reloaded and ended alike, and what each takes."""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clock import longest
from bench.setups import keepalived_conf, lvsd_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.setups import Setup
    from lvsd.lab.machine import Machine
    from lvsd.lab.process import Process
    from lvsd.model import Seconds

_TICKS = os.sysconf("SC_CLK_TCK")


class Director(ABC):
    """One of the two programs on `machine`. Its log is a file on tmpfs."""

    name: str

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._config = machine.directory / f"{self.name}.conf"
        self._process: Process | None = None

    async def start(self, setup: Setup) -> Seconds:
        """Start it on an empty table and with no memory of an earlier run; return when (monotonic)."""
        self.configure(setup)
        self._forget()
        return await self.resume()

    async def resume(self) -> Seconds:
        """Start it again, with what it remembers and what it left in the kernel; return when (monotonic)."""
        began_at = time.monotonic()
        self._process = await self.machine.start(self._command(), name=self.name)
        return began_at

    def configure(self, setup: Setup) -> None:
        """Write the configuration, and tell nobody."""
        self._config.write_text(self._render(setup))

    def reload(self) -> Seconds:
        """Tell it to reload; return when (monotonic)."""
        self._running.signal(signal.SIGHUP)
        return time.monotonic()

    async def crash(self) -> None:
        """End all of it at once; the kernel keeps what it has."""
        self._running.kill()
        await self._running.wait()

    async def kill(self) -> None:
        """End it at once, and empty the table."""
        await self.crash()
        await self.machine.run(["/usr/sbin/ipvsadm", "-C"])

    async def stop(self) -> None:
        """Let it end in order."""
        await self._running.stop(patience=20.0)

    def cpu(self) -> Seconds:
        """Return user and system time of its processes, those ended included, as the kernel accounts it."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self._pids()) / _TICKS

    def memory(self, field: str = "VmRSS") -> int:
        """Return the sum over its processes of a field of /proc/PID/status, in bytes; VmHWM is the peak."""
        return sum(_status(pid, field) for pid in self._pids()) * 1024

    @property
    def _running(self) -> Process:
        assert self._process is not None  # noqa: S101 - it was started
        return self._process

    def _pids(self) -> Sequence[int]:
        main = self._running.pid
        return [main, *_children(main)]

    @abstractmethod
    def _render(self, setup: Setup) -> str: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    def _forget(self) -> None:  # noqa: B027 - keepalived remembers nothing
        """Remove what it remembers."""


class Lvsd(Director):
    """lvsd; `lateness` holds what the clock in its event loop noted, where it has one."""

    name = "lvsd"

    def __init__(self, machine: Machine, *options: str) -> None:
        super().__init__(machine)
        self._options = options

    def _render(self, setup: Setup) -> str:
        return lvsd_yaml(setup)

    def _command(self) -> list[str]:
        program = ["bench.launcher", *self._options] if self._options else ["lvsd"]
        return [sys.executable, "-m", *program, "run", "-c", str(self._config)]

    def _forget(self) -> None:
        (self.machine.directory / "run" / "state.json").unlink(missing_ok=True)


class Clocked(Lvsd):
    """lvsd with a clock in its event loop that notes how late it strikes."""

    def __init__(self, machine: Machine) -> None:
        self._lateness = machine.directory / "lateness"
        super().__init__(machine, "--lateness", str(self._lateness))

    def longest_pause(self, begin: Seconds, end: Seconds) -> Seconds:
        """Return how late the loop was at most between two moments (monotonic)."""
        return longest(self._lateness, begin, end)

    def _forget(self) -> None:
        super()._forget()
        self._lateness.unlink(missing_ok=True)


class Keepalived(Director):
    """keepalived: `-n` in the foreground, `-l` with its log on standard error, without VRRP unless told."""

    name = "keepalived"

    def __init__(self, machine: Machine, *, vrrp: bool = False) -> None:
        super().__init__(machine)
        self._only = () if vrrp else ("-C",)

    def _render(self, setup: Setup) -> str:
        return keepalived_conf(setup)

    def _command(self) -> list[str]:
        pids = [f"{option}{self.machine.directory}/{option.strip('-')}.pid" for option in ("-p", "-c", "-r")]
        return ["/usr/sbin/keepalived", "-n", "-l", *self._only, "-f", str(self._config), *pids]


def _children(pid: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _parent(int(entry.name)) == pid:
            yield int(entry.name)


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except OSError:  # it has ended
        return 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, text = line.partition(":")
        if name == field:
            return int(text.split()[0])
    return 0
