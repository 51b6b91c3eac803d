"""A program that runs on a host of the lab."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Process:
    """A program on a host, in a session of its own; its output goes to `log`, a file on tmpfs."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id, and that of its session."""
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Its exit status, -N after signal N, None while it runs."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """All it has written so far, standard output and error together."""
        return self.log.read_text(errors="replace")

    async def wait(self, timeout: float | None = None) -> int:  # noqa: ASYNC109 - the limit is the caller's
        """Wait for its end and return its exit status; raises TimeoutError after `timeout` seconds."""
        if self.status is None:
            await asyncio.wait_for(_ended(self.pid), timeout)
        return self._popen.wait()

    async def saw(self, text: str, timeout: float = 30.0) -> str:  # noqa: ASYNC109
        """Wait until `text` is in its output and return the output.

        Raises TimeoutError after `timeout` seconds, or when it ended without saying so, with what it said.
        """
        give_up_at = asyncio.get_running_loop().time() + timeout
        while True:
            ended = self.status is not None
            if text in (output := self.output):
                return output
            if ended or asyncio.get_running_loop().time() > give_up_at:
                message = f"{self.name} did not say {text!r} in {timeout:g} s; it said: {output[-4000:]}"
                raise TimeoutError(message)
            await asyncio.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send it, alone, a signal; nothing happens when it has ended."""
        self._popen.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and all it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, patience: float = 2.0) -> int:
        """Ask it to end, kill it after `patience` seconds, and leave nothing of it; return its status."""
        self.terminate()
        with contextlib.suppress(TimeoutError):
            await self.wait(patience)
        self.kill()
        return await self.wait()


def spawn(
    name: str, argv: Sequence[str], log: Path, environment: Mapping[str, str], directory: Path
) -> Process:
    """Start a program in the calling thread's namespaces."""
    with log.open("ab") as output:
        popen = subprocess.Popen(  # noqa: S603 - running the caller's program is the purpose
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
    return Process(name, popen, log)


async def _ended(pid: int) -> None:
    """Return when the process has ended."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
