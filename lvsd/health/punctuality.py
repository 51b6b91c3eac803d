"""Whether probes begin when they are due, and what is to be told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lvsd.events import ProbesLate, ProbesPunctual
from lvsd.model import join_port

if TYPE_CHECKING:
    from lvsd.events import Event
    from lvsd.health.roster import Target
    from lvsd.model import Seconds

LEAST: Final[Seconds] = 0.5
"""What is less than this is not called late, however short the interval."""

CALM: Final[Seconds] = 30.0
"""How long nothing must have been late until that is told."""


class Punctuality:
    """Says once that probes begin late, by half their interval or more, and once that none does any more."""

    def __init__(self) -> None:
        self._count = 0
        self._worst: Seconds = 0.0
        self._last_at: Seconds = 0.0

    def begin(self, target: Target, due_at: Seconds, now: Seconds) -> list[Event]:
        """Note that a probe begins now; return what is to be told."""
        late = now - due_at
        if late >= max(LEAST, target.check.interval / 2):
            return self._begin_late(target, late, now)
        if not self._count or now < self._last_at + CALM:
            return []
        told = ProbesPunctual(probes=self._count, seconds=round(self._worst, 3))
        self._count, self._worst = 0, 0.0
        return [told]

    def _begin_late(self, target: Target, late: Seconds, now: Seconds) -> list[Event]:
        self._count += 1
        self._worst = max(self._worst, late)
        self._last_at = now
        if self._count > 1:
            return []
        return [ProbesLate(server=join_port(target.address, target.port), seconds=round(late, 3))]
