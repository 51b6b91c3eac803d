"""lvsd itself on a host of the lab, followed by its log."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from lvsd.edge.history import records
from lvsd.lab import quick
from lvsd.lab.kernel import LabError
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lvsd.events import Record
    from lvsd.lab.machine import Completed, Machine
    from lvsd.lab.process import Process

START_WITHIN = 60.0
"""Seconds for a start: the lab's kernel takes three for the imports alone, and more on a busy machine."""


def command(*words: str) -> list[str]:
    """Return the command line of an `lvsd` subcommand."""
    return [sys.executable, "-m", "lvsd", *words]


class DirectorProcess:
    """lvsd on `machine` with one configuration file, over any number of starts; `log` is its output."""

    def __init__(self, machine: Machine, config: Path) -> None:
        self.machine = machine
        self.config = config
        self.processes: list[Process] = []
        self._logs: list[_Log] = []
        self._state = State()
        self._folded = 0

    @classmethod
    async def start(
        cls, machine: Machine, config: str | Path, *, wrapper: Sequence[str] = (), file: str = "lvsd.yaml"
    ) -> Self:
        """Start lvsd on a file, or on a text that is put into `file`, and wait until it is ready."""
        if isinstance(config, str):
            text, config = config, machine.directory / file
            config.write_text(text)
        director = cls(machine, config)
        await director.begin(wrapper=wrapper)
        await director.saw("director.ready")
        return director

    @property
    def process(self) -> Process:
        """The latest start."""
        return self.processes[-1]

    async def begin(self, *, wrapper: Sequence[str] = ()) -> None:
        """Start it (again), and do not wait."""
        argv = [*wrapper, *command("run", "-c", str(self.config))]
        self.processes.append(await self.machine.start(argv, name="lvsd", env=quick.ENVIRONMENT))
        self._logs.append(_Log(self.process.log))

    async def restart(self) -> None:
        """Start it again and wait until it is ready."""
        await self.begin()
        await self.saw("director.ready")

    def lines(self, *, whole: bool = False) -> list[Record]:
        """Return what the latest start has logged, or with `whole` all of them."""
        logs = self._logs if whole else self._logs[-1:]
        return [record for log in logs for record in log.read()]

    def state(self) -> State:
        """Return the log of all starts, folded; what is logged later goes into the same state when asked."""
        records = self.lines(whole=True)
        for record in records[self._folded :]:
            self._state.fold(record)
        self._folded = len(records)
        return self._state

    def found(self, event: str, *, after: int = 0, **fields: Any) -> list[Record]:  # noqa: ANN401
        """Return the events of that name of the latest start, with these fields and a `seq` above `after`."""
        return [
            record
            for record in self.lines()
            if record["event"] == event
            and record["seq"] > after
            and all(record.get(field) == value for field, value in fields.items())
        ]

    @property
    def seq(self) -> int:
        """The number of the last line so far."""
        return max((record["seq"] for record in self.lines()), default=0)

    async def saw(
        self,
        event: str,
        *,
        after: int = 0,
        timeout: float = START_WITHIN,  # noqa: ASYNC109 - the limit is the caller's
        **fields: Any,  # noqa: ANN401
    ) -> Record:
        """Wait for such an event of the latest start and return it."""
        give_up_at = asyncio.get_running_loop().time() + timeout
        while True:
            ended = self.process.status is not None
            if found := self.found(event, after=after, **fields):
                return found[0]
            if ended or asyncio.get_running_loop().time() > give_up_at:
                message = f"no {event} {fields} in {timeout:g} s; the log ends: {self.process.output[-3000:]}"
                raise LabError(message)
            await asyncio.sleep(0.02)

    async def reload(self, config: str | None = None) -> Record:
        """Reload, with a new text where one is given; return the event that says how it went."""
        if config is not None:
            self.config.write_text(config)
        after = self.seq
        self.process.signal(signal.SIGHUP)
        return await self._either("config.loaded", "config.rejected", after=after)

    async def stop(self) -> None:
        """Ask it to stop and wait for its end; raise LabError where it fails."""
        self.process.terminate()
        status = await self.process.wait(START_WITHIN)
        if status != 0:
            message = f"lvsd ended with status {status}: {self.process.output[-3000:]}"
            raise LabError(message)

    async def kill(self) -> None:
        """Kill it at once."""
        self.process.kill()
        await self.process.wait(START_WITHIN)

    async def ask(self, *words: str, check: bool = True) -> Completed:
        """Run another `lvsd` subcommand on the same host."""
        return await self.machine.run(command(*words), check=check)

    async def _either(self, *events: str, after: int) -> Record:
        waiting = [asyncio.ensure_future(self.saw(event, after=after)) for event in events]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        return done.pop().result()


class _Log:
    """What one start has logged, read as it grows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self._records: list[Record] = []

    def read(self) -> list[Record]:
        """Return all lines so far that are whole."""
        with self._file.open("rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._records += records(whole.splitlines(keepends=True))
        return self._records
