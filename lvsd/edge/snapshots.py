"""Snapshots of the whole state in the log, written in steps so that the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lvsd.events import SnapshotBegin
from lvsd.telling import snapshot_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.director import Director
    from lvsd.edge.log import Log
    from lvsd.events import Event
    from lvsd.failover import Failover
    from lvsd.model import Seconds
    from lvsd.vips import Vips

EVENTS_BETWEEN: Final = 10_000
AT_ONCE: Final = 10
"""Services told before the loop gets its turn: about a millisecond."""

CROWDED_WAIT: Final[Seconds] = 0.05


class Snapshots:
    """Writes a snapshot when asked, and after every `EVENTS_BETWEEN` events."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a snapshot tells of
        self,
        name: str,
        director: Director,
        failover: Failover,
        vips: Vips,
        log: Log,
        report: Callable[[Event], None],
    ) -> None:
        self.name = name
        self._director = director
        self._failover = failover
        self._vips = vips
        self._log = log
        self._report = report
        self._reason = ""
        self._wanted = asyncio.Event()

    def want(self, reason: str) -> None:
        """Ask for a snapshot, to follow the one that is being written, if any."""
        self._reason = reason
        self._wanted.set()

    def count(self) -> None:
        """Note that events were written."""
        if self._log.since_snapshot >= EVENTS_BETWEEN and not self._wanted.is_set():
            self.want(f"{EVENTS_BETWEEN} events")

    async def run(self) -> None:
        """Write snapshots for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._log.since_snapshot = 0
            await self._write()

    async def _write(self) -> None:
        services = len(self._director.services)
        self._report(SnapshotBegin(director=self.name, reason=self._reason, services=services))
        for i, lines in enumerate(self._director.snapshot()):
            for line in lines:
                self._report(line)
            if i % AT_ONCE == 0:
                await asyncio.sleep(CROWDED_WAIT if self._log.is_crowded else 0)
        for line in self._failover.snapshot():
            self._report(line)
        for line in snapshot_end(self._vips.held.values(), self._director.ledger.foreign):
            self._report(line)
        self._log.since_snapshot = 0
