"""Keeps the state file: what this run owns, for the next one; and sees to it that there is one run only."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lvsd.edge import state_file
from lvsd.errors import LvsdError
from lvsd.events import StateLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lvsd.director import Director
    from lvsd.events import Event
    from lvsd.model import Seconds
    from lvsd.vips import Vips

REMEMBER_AFTER: Final[Seconds] = 0.1
"""Changes are gathered so long before they are written down."""


class AlreadyRunsError(LvsdError):
    """Another lvsd keeps this host's table: two would take each other's rows for leftovers."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A process's claim to be the only lvsd; without a descriptor none could be made."""

    descriptor: int | None

    def release(self) -> None:
        """Let another lvsd have it. The end of the process does the same."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def claim(directory: Path) -> Claim:
    """Claim `directory`; raise AlreadyRunsError where another lvsd has it.

    Where no file can be made there, nothing is claimed: two have nothing to take from each other then.
    """
    file = directory / "lock"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return Claim(None)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        message = f"another lvsd runs on this host already: process {holder}, which holds {file}"
        raise AlreadyRunsError(message) from None
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    return Claim(descriptor)


class Memory:
    """Writes the state file when it is told that something changed."""

    def __init__(self, file: Path, director: Director, vips: Vips, report: Callable[[Event], None]) -> None:
        self._file = file
        self._director = director
        self._vips = vips
        self._report = report
        self._changed = asyncio.Event()
        self._trouble = ""

    def note_change(self) -> None:
        """Ask for the file to be written soon."""
        self._changed.set()

    async def run(self) -> None:
        """Write what changes, for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(REMEMBER_AFTER)
            self._changed.clear()
            await self.write()

    async def write(self) -> None:
        """Write the file now. A trouble that lasts is told once."""
        rows = state_file.freeze(self._director.ledger.owned)
        addresses = list(self._vips.owned.values())
        trouble = ""
        try:
            await asyncio.to_thread(state_file.write, self._file, rows, addresses)
        except OSError as error:
            trouble = error.strerror or str(error)
            if trouble != self._trouble:
                self._report(StateLost(file=str(self._file), reason=trouble))
        self._trouble = trouble
