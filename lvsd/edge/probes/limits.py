"""Time limits that stand still while the director does: what it could not see must not count."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lvsd.model import Seconds

BEAT: Final[Seconds] = 0.05
"""How often it is looked whether the event loop stands still, while there are limits."""

STALL: Final[Seconds] = 0.01
"""A beat that is so late was kept by something."""


class Limits:
    """The limits of all probes under way; each is put off by as long as the event loop stood still."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits: set[asyncio.Timeout] = set()
        self._beat: asyncio.TimerHandle | None = None

    def add(self, limit: asyncio.Timeout) -> None:
        """Watch over a limit that has begun, until it is discarded."""
        self._limits.add(limit)
        if self._beat is None:
            self._beat = self._loop.call_later(BEAT, self._look)

    def discard(self, limit: asyncio.Timeout) -> None:
        """Let go of a limit, before it ends."""
        self._limits.discard(limit)

    def close(self) -> None:
        """Look no more."""
        if self._beat is not None:
            self._beat.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        late = 0.0 if self._beat is None else now - self._beat.when()
        if late > STALL:
            for limit in self._limits:
                at = limit.when()
                if at is not None and not limit.expired():
                    limit.reschedule(at + late)
        self._beat = self._loop.call_at(now + BEAT, self._look) if self._limits else None
