"""Has configurations parsed by a process of its own; the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Final

from lvsd.config.frames import Broken, FrameReader
from lvsd.edge.parser_process import STATUS, TIME_LIMIT, ParserProcess
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from lvsd.config.frames import Loaded

CHUNK: Final = 32 * 1024
"""How much of the answer is taken at once: some 30 services, well under a millisecond."""


class Parser:
    """Loads one configuration at a time. A process that has ended is replaced when it is needed."""

    def __init__(self, begun: ParserProcess | None = None) -> None:
        """Use `begun`, which parses already what `load` is called for first."""
        self._begun = begun
        self._process = begun
        self._loop = asyncio.get_running_loop()

    async def load(self, path: str) -> Loaded:
        """Return the configuration in the file at `path`; raise ConfigError."""
        try:
            async with asyncio.timeout(TIME_LIMIT):
                return await self._load(path)
        except TimeoutError:
            raise _failure(path, f"it took more than {TIME_LIMIT:.0f} s") from None

    def close(self) -> int:
        """End the process; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        self._loop.remove_reader(process.control)
        return process.end()

    async def _load(self, path: str) -> Loaded:
        may_have_left = self._process is not None and self._begun is None
        reader, status = await self._receive(self._ask(path))
        if status is None:
            status = self.close()
            if may_have_left:
                return await self._load(path)
        try:
            return reader.loaded()
        except Broken:
            raise _failure(path, f"the process that parses it {_ended(status)}") from None

    def _ask(self, path: str) -> ParserProcess:
        begun, self._begun = self._begun, None
        if begun is not None:
            return begun
        if self._process is None:
            self._process = _started(path)
        else:
            self._loop.remove_reader(self._process.control)
            self._process.ask(path)
        return self._process

    async def _receive(self, process: ParserProcess) -> tuple[FrameReader, int | None]:
        """Return what was answered, and the child's exit status, None where the process itself has ended."""
        reader = FrameReader()
        try:
            while chunk := await self._loop.sock_recv(process.answer, CHUNK):
                reader.feed(chunk)
                await asyncio.sleep(0)  # `sock_recv` returns at once while there is more
            told = await self._loop.sock_recv(process.control, STATUS.size)
        except ConnectionError:
            told = b""
        except BaseException:  # broken off: nobody needs what the process is doing
            self.close()
            raise
        if not told:
            return reader, None
        process.answer.close()
        self._loop.add_reader(process.control, self.close)  # readable when the process has ended
        return reader, STATUS.unpack(told)[0]


def _started(path: str) -> ParserProcess:
    try:
        return ParserProcess(path)
    except OSError as error:
        raise _failure(path, f"the process that parses it cannot be started: {error.strerror}") from None


def _failure(path: str, problem: str) -> ConfigError:
    return ConfigError([Mistake(Place(path), "", f"could not be read: {problem}")])


def _ended(status: int) -> str:
    match -status:
        case signal.SIGXCPU:
            return f"took more than {TIME_LIMIT:.0f} s"
        case signal.SIGKILL:
            return "was killed, perhaps because this host is short of memory"
        case number if number > 0:
            return f"was killed by signal {number}"
        case _:
            return f"ended with status {status}"
