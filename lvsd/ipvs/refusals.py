"""The changes that the kernel refused, and when each is worth trying again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from lvsd.ipvs.change import Change
    from lvsd.model import Instant, Seconds, ServerKey, ServiceKey

FIRST_RETRY: Seconds = 1.0
LAST_RETRY: Seconds = 60.0

RowKey: TypeAlias = "tuple[ServiceKey, ServerKey | None]"
"""A row of the table: a service's with None, a server's with its key."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that the kernel refused, why, and when it is worth trying again."""

    change: Change
    reason: str
    wait: Seconds
    retry_at: Seconds


class Refusals:
    """What was refused, by service and row. `next_at` (monotonic) is when `due` wants to be called."""

    def __init__(self) -> None:
        self.next_at: Seconds | None = None
        self._rows: dict[ServiceKey, dict[ServerKey | None, Refused]] = {}

    def add(self, row: RowKey, change: Change, reason: str, now: Instant) -> Refused:
        """Note that the change of a row was refused; the same change refused again waits twice as long."""
        key, server = row
        rows = self._rows.setdefault(key, {})
        before = rows.get(server)
        wait = min(before.wait * 2, LAST_RETRY) if before and before.change == change else FIRST_RETRY
        rows[server] = Refused(change, reason, wait, now.monotonic + wait)
        self._wake_at(rows[server].retry_at)
        return rows[server]

    def due(self, now: Instant) -> list[ServiceKey]:
        """Return the services with changes that are worth trying again, and set `next_at` for the others."""
        self.next_at = None
        keys = []
        for key, rows in self._rows.items():
            if any(refused.retry_at <= now.monotonic for refused in rows.values()):
                keys.append(key)
            for refused in rows.values():
                if refused.retry_at > now.monotonic:
                    self._wake_at(refused.retry_at)
        return keys

    def waiting(
        self, key: ServiceKey, planned: Mapping[ServerKey | None, Change], now: Instant
    ) -> Collection[ServerKey | None]:
        """Return the rows under `key` whose change has to wait; what is planned no more is forgotten."""
        rows = self._rows.get(key)
        if rows is None:
            return ()
        for server in rows.keys() - planned.keys():
            self.forget((key, server))
        return {
            server
            for server, refused in rows.items()
            if refused.change == planned[server] and refused.retry_at > now.monotonic
        }

    def forget(self, row: RowKey) -> None:
        """Note that nothing is refused for `row` any more."""
        key, server = row
        rows = self._rows.get(key, {})
        rows.pop(server, None)
        if not rows:
            self._rows.pop(key, None)

    def _wake_at(self, at: Seconds) -> None:
        self.next_at = at if self.next_at is None else min(self.next_at, at)
