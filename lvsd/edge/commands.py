"""Runs an operator's commands: none delays the event loop, none outlives its time, none has lvsd's rights."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from lvsd.edge.aside import aside
from lvsd.edge.unprivileged import NotRunError, Spawned, abandon, spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.config.model import Command
    from lvsd.model import Seconds

LONGEST_OUTPUT: Final = 4096
"""Bytes of a command's output that are kept; the rest is read and dropped."""

PATIENCE: Final[Seconds] = 1.0
"""How long a command has from SIGTERM to SIGKILL."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit status, or None and the `problem` where it has none.

    `user` is as whom it ran. `local` is lvsd's own shortage, which says nothing about the command.
    """

    status: int | None
    output: str
    problem: str
    user: str
    local: bool = False

    @property
    def passed(self) -> bool:
        """Whether it ended with status 0."""
        return self.status == 0

    @property
    def reason(self) -> str:
        """What the operator reads; it does not vary from run to run."""
        return self.problem or f"ended with status {self.status}"


async def run(command: Command, arguments: Sequence[str] = (), *, timeout: Seconds) -> Ended:  # noqa: ASYNC109
    """Run a command with `arguments` after its own, for at most `timeout` seconds.

    Its faults are told and never raised. One that was broken off is killed with all of its process group;
    where that has not ended it yet (its disk hangs), it is not started again as long as it has not.
    """
    argv = (*command.argv, *arguments)
    if argv in _hanging:
        return Ended(None, "", "an earlier run of it hangs and cannot be killed", command.user)
    try:
        child = await _start(argv, command.user, timeout)
    except NotRunError as error:
        return Ended(None, "", str(error), error.user, error.local)
    return await child.end(timeout)


_CHUNK = 65536
_BREATH: Seconds = 0.005

_hanging: set[tuple[str, ...]] = set()
_late: set[asyncio.Task[None]] = set()


async def _start(argv: tuple[str, ...], user: str, limit: Seconds) -> _Child:
    try:
        spawning = aside(partial(spawn, argv, user), "command")
    except RuntimeError:
        problem = "no thread can be started for it: raise TasksMax= of the unit"
        raise NotRunError(problem, user, local=True) from None
    try:
        async with asyncio.timeout(limit):
            return _Child(argv, await asyncio.shield(spawning))
    except TimeoutError:
        _hanging.add(argv)
        _end_late(argv, spawning)
        problem = f"it could not be started in {limit:g}s"
        raise NotRunError(problem, user) from None
    except asyncio.CancelledError:
        await asyncio.wait({_end_late(argv, spawning)}, timeout=PATIENCE)
        raise


def _end_late(argv: tuple[str, ...], spawning: asyncio.Future[Spawned]) -> asyncio.Task[None]:
    """End what nobody waits for any more, as soon as it has been started."""

    async def end() -> None:
        try:
            spawned = await spawning
            os.close(spawned.end)
            await aside(partial(abandon, spawned.popen), "command")
        except NotRunError:
            pass
        finally:
            _hanging.discard(argv)

    task = asyncio.get_running_loop().create_task(end())
    _late.add(task)
    task.add_done_callback(_late.discard)
    return task


class _Child:
    """A command that runs: its output is read, and its end is waited for."""

    def __init__(self, argv: tuple[str, ...], spawned: Spawned) -> None:
        assert spawned.popen.stdout is not None  # noqa: S101 - it is a pipe
        self._argv = argv
        self._popen, self._end, self._user = spawned.popen, spawned.end, spawned.user
        self._pipe = spawned.popen.stdout
        self._output = b""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._rest: asyncio.TimerHandle | None = None
        os.set_blocking(self._pipe.fileno(), False)
        self._loop.add_reader(self._end, self._notice)
        self._listen()

    async def end(self, limit: Seconds) -> Ended:
        """Wait for the end, or bring it about; return how it ended."""
        try:
            in_time = await self._ends(limit)
            if not in_time:
                await self._break_off()
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            await self._ends(PATIENCE)
            raise
        finally:
            status = self._leave()
        output = self._output.decode(errors="replace")
        if not in_time or status is None:
            return Ended(None, output, f"timed out after {limit:g}s", self._user)
        if status < 0:
            return Ended(None, output, f"killed by {_name(-status)}", self._user)
        return Ended(status, output, "", self._user)

    async def _ends(self, limit: Seconds) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._ended.wait()
        return self._ended.is_set()

    async def _break_off(self) -> None:
        self._signal(signal.SIGTERM)
        await self._ends(PATIENCE)
        self._signal(signal.SIGKILL)  # where it has ended, its children may not have
        await self._ends(PATIENCE)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(OSError):
            os.killpg(self._popen.pid, number)

    def _notice(self) -> None:
        self._loop.remove_reader(self._end)
        self._ended.set()

    def _listen(self) -> None:
        self._loop.add_reader(self._pipe.fileno(), self._read)

    def _read(self) -> None:
        """Keep what there is room for; one that floods is read with breaks, and waits in between."""
        chunk = self._pipe.read(_CHUNK)
        self._output += (chunk or b"")[: LONGEST_OUTPUT - len(self._output)]
        if chunk == b"":
            self._loop.remove_reader(self._pipe.fileno())
        elif len(self._output) == LONGEST_OUTPUT:
            self._loop.remove_reader(self._pipe.fileno())
            self._rest = self._loop.call_later(_BREATH, self._listen)

    def _leave(self) -> int | None:
        """Let go of everything; return the exit status, or None where it has not ended."""
        self._loop.remove_reader(self._pipe.fileno())
        if self._rest is not None:
            self._rest.cancel()
        if not self._ended.is_set():
            _hanging.add(self._argv)
            self._loop.remove_reader(self._end)
            self._loop.add_reader(self._end, self._end_late)
            return None
        self._output += (self._pipe.read(LONGEST_OUTPUT) or b"")[: LONGEST_OUTPUT - len(self._output)]
        return self._reap()

    def _end_late(self) -> None:
        self._loop.remove_reader(self._end)
        _hanging.discard(self._argv)
        self._reap()

    def _reap(self) -> int:
        self._pipe.close()
        os.close(self._end)
        return self._popen.wait()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
