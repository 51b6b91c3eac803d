"""Keeps the state file: what this run owns, for the next one; and sees to it that there is one run only."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from lvsd.edge import runtime, state_file
from lvsd.errors import LvsdError
from lvsd.events import StateLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lvsd.config.model import DirectorAddress
    from lvsd.director import Director
    from lvsd.events import Event
    from lvsd.model import Seconds, ServiceKey
    from lvsd.vips import Vips

REMEMBER_AFTER: Final[Seconds] = 0.1
"""Changes are gathered so long before they are written down."""

AT_ONCE: Final = 50
"""Services rendered before the loop gets its turn: about a millisecond."""


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
    file = directory / runtime.LOCK
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
    """Writes the state file when something changed; what did not change is not rendered anew."""

    def __init__(self, file: Path, director: Director, vips: Vips, report: Callable[[Event], None]) -> None:
        self._file = file
        self._owned = director.ledger.owned
        self._vips = vips
        self._report = report
        self._entries: dict[ServiceKey, bytes] = {}
        self._stale = set(self._owned)
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._trouble = ""
        self._writing = threading.Lock()

    def note_change(self, keys: Iterable[ServiceKey]) -> None:
        """Ask for the file to be written soon, for what is owned under `keys` changed."""
        self._stale.update(keys)
        self._changed.set()

    async def run(self) -> None:
        """Write what changes, for ever."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(REMEMBER_AFTER)
            await self.write()

    async def write(self) -> None:
        """Write the file now. A trouble that lasts is told once."""
        async with self._turn:
            self._changed.clear()
            await self._render()
            trouble = ""
            try:
                owned, shared = list(self._vips.owned.items()), self._vips.shared
                passing = [address for where, address in owned if where in shared]
                addresses = [address for _, address in owned]
                await asyncio.to_thread(self._replace, list(self._entries.values()), addresses, passing)
            except OSError as error:
                trouble = error.strerror or str(error)
                if trouble != self._trouble:
                    self._report(StateLost(file=str(self._file), reason=trouble))
            self._trouble = trouble

    def _replace(
        self, entries: list[bytes], addresses: list[DirectorAddress], shared: list[DirectorAddress]
    ) -> None:
        """Write in a thread. One that nobody waits for any more, since lvsd stops, comes to its end first."""
        with self._writing:
            state_file.write(self._file, entries, addresses, shared)

    async def _render(self) -> None:
        while self._stale:
            for key in list(islice(self._stale, AT_ONCE)):
                self._stale.discard(key)
                owned = self._owned.get(key)
                if owned is None:
                    self._entries.pop(key, None)
                else:
                    self._entries[key] = state_file.entry(key, owned)
            await asyncio.sleep(0)
