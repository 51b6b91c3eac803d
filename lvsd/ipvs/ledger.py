"""lvsd's own rows: which they are, how the kernel has them, which are to be changed, which were refused.

Rows that are not lvsd's are only known as foreign, and never part of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from lvsd.ipvs.change import AddService, EditService, RemoveServer, RemoveService, apply
from lvsd.ipvs.plan import plan_service
from lvsd.model import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lvsd.ipvs.change import Change, Image
    from lvsd.model import Instant, Seconds, ServerKey, ServiceKey, Table

BATCH = 400
"""Changes programmed at a time: what the loop then does for their events stays in the milliseconds."""

FIRST_RETRY: Seconds = 1.0
LAST_RETRY: Seconds = 60.0

RowKey: TypeAlias = "tuple[ServiceKey, ServerKey | None]"
"""A row of the table: a service's with None, a server's with its key."""


@dataclass(slots=True)
class Owned:
    """What lvsd has put, or may have put, under one key: the service's name and its real servers' names."""

    name: str
    hosts: dict[ServerKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """A change that the kernel refused, why, and when it is worth trying again."""

    change: Change
    reason: str
    wait: Seconds
    retry_at: Seconds


class Ledger:
    """Own rows, by key. What a call costs follows the services it names, except for `compare`.

    `retry_at` (monotonic) is when `retry` wants to be called, None while nothing is refused.
    """

    def __init__(self, owned: dict[ServiceKey, Owned]) -> None:
        self.owned = owned
        self.actual: Image = {}
        self.foreign: dict[RowKey, None] = {}
        self._refused: dict[ServiceKey, dict[ServerKey | None, Refused]] = {}
        self.retry_at: Seconds | None = None
        self._due: dict[ServiceKey, str] = {}
        self._in_flight: tuple[Change, ...] = ()
        self._causes: dict[ServiceKey, str] = {}
        self._touched: set[ServiceKey] = set()

    @property
    def idle(self) -> bool:
        """Whether nothing is being programmed or waits for it, refused changes aside."""
        return not self._due and not self._in_flight

    def mark(self, key: ServiceKey, cause: str) -> None:
        """Note that the rows under `key` may have to change, and why."""
        self._due[key] = cause

    def cause(self, key: ServiceKey) -> str:
        """Return why the change in flight under `key` is made."""
        return self._causes.get(key, "")

    def next_batch(
        self, wanted: Callable[[ServiceKey], Rows | None], held: set[ServiceKey], now: Instant
    ) -> tuple[Change, ...]:
        """Return the changes to program now, none while others are in flight.

        Services in `held` wait. A service with more changes than fit goes on in the next batch.
        """
        if self._in_flight:
            return ()
        batch: list[Change] = []
        self._causes = {}
        for key in [key for key in self._due if key not in held]:
            self._causes[key] = self._due.pop(key)
            changes = self._changes(key, wanted(key), now)
            room = BATCH - len(batch)
            batch += changes[:room]
            if len(changes) > room:
                self._due[key] = self._causes[key]
            if len(batch) >= BATCH:
                break
        self._in_flight = tuple(batch)
        self._touched.update(row_of(change)[0] for change in batch)
        return self._in_flight

    def settle(self, refusals: Mapping[int, str], now: Instant) -> Iterator[tuple[Change, Refused | None]]:
        """Take the kernel's answer to the batch in flight; yield each change with its refusal, or None.

        A change that failed only because its service was refused is left out: the service's refusal says it.
        """
        batch, self._in_flight = self._in_flight, ()
        missing = {row_of(batch[i])[0] for i in refusals if isinstance(batch[i], AddService)}
        for i, change in enumerate(batch):
            row = row_of(change)
            if i not in refusals:
                self._refused.get(row[0], {}).pop(row[1], None)
                apply(self.actual, change)
                yield change, None
            elif row[0] not in missing or isinstance(change, AddService):
                yield change, self._refuse(change, refusals[i], now)

    def abandon(self) -> None:
        """Forget the batch in flight: what became of it is unknown, and a reading of the table will tell."""
        batch, self._in_flight = self._in_flight, ()
        for change in batch:
            key = row_of(change)[0]
            self._due.setdefault(key, self._causes.get(key, ""))

    def begin_reading(self) -> None:
        """Note that the table is being read: rows changed from now on are not judged by that reading."""
        self._touched = {row_of(change)[0] for change in self._in_flight}

    def compare(self, table: Table) -> Iterator[tuple[ServiceKey, Rows | None, Rows | None]]:
        """Yield each service whose own rows are not as thought: its key, the rows thought, the rows read.

        The image is corrected on the way, and the service marked to be mended.
        """
        for key in self.owned:
            if key in self._touched:
                continue
            read = self._own_part(key, table.get(key))
            thought = self.actual.get(key)
            if read == thought:
                continue
            if read is None:
                del self.actual[key]
            else:
                self.actual[key] = Rows(read.service, dict(read.servers))
            self.mark(key, "mended")
            yield key, thought, read

    def compare_foreign(self, table: Table) -> tuple[list[RowKey], list[RowKey]]:
        """Return the foreign rows that appeared and those that disappeared since the last reading."""
        now_foreign = dict.fromkeys(row for row in self.foreign if row[0] in self._touched)
        now_foreign |= dict.fromkeys(self._foreign_part(table))
        appeared = [row for row in now_foreign if row not in self.foreign]
        gone = [row for row in self.foreign if row not in now_foreign]
        self.foreign = now_foreign
        return appeared, gone

    def disown(self, key: ServiceKey, configured: Mapping[ServerKey, str] | None) -> bool:
        """Give up what is neither configured nor in the table any more; return whether that changed anything.

        `configured` are the real servers now wanted under `key`, None where the service is not wanted.
        """
        owned = self.owned.get(key)
        if owned is None:
            return False
        rows = self.actual.get(key)
        if configured is None and rows is None:
            del self.owned[key]
            return True
        kept = {**(configured or {}), **({} if rows is None else rows.servers)}
        gone = [server for server in owned.hosts if server not in kept]
        for server in gone:
            del owned.hosts[server]
        return bool(gone)

    def retry(self, now: Instant) -> None:
        """Mark the services whose refused changes are worth trying again, and set `retry_at` to the next."""
        self.retry_at = None
        for key, rows in self._refused.items():
            for refused in rows.values():
                if refused.retry_at <= now.monotonic:
                    self._due.setdefault(key, "retried")
                else:
                    self._wake_at(refused.retry_at)

    def _changes(self, key: ServiceKey, wanted: Rows | None, now: Instant) -> list[Change]:
        planned = list(self._removable(key, plan_service(key, self.actual.get(key), wanted)))
        refused = self._refused.get(key)
        if not refused:
            return planned
        rows = {row_of(change)[1] for change in planned}
        for row in refused.keys() - rows:
            del refused[row]
        waiting = [change for change in planned if _waits(refused.get(row_of(change)[1]), change, now)]
        if any(isinstance(change, AddService) for change in waiting):
            return []
        return [change for change in planned if change not in waiting]

    def _removable(self, key: ServiceKey, changes: Iterator[Change]) -> Iterator[Change]:
        """Turn the removal of a service that holds foreign real servers into that of its own ones."""
        for change in changes:
            if isinstance(change, RemoveService) and self._is_shared(key):
                yield from (RemoveServer(key, server) for server in self.actual[key].servers)
            else:
                yield change

    def _is_shared(self, key: ServiceKey) -> bool:
        return any(service == key and server is not None for service, server in self.foreign)

    def _refuse(self, change: Change, reason: str, now: Instant) -> Refused:
        row = row_of(change)
        refused = self._refused.setdefault(row[0], {})
        before = refused.get(row[1])
        wait = min(before.wait * 2, LAST_RETRY) if before and before.change == change else FIRST_RETRY
        refused[row[1]] = Refused(change, reason, wait, now.monotonic + wait)
        self._wake_at(refused[row[1]].retry_at)
        return refused[row[1]]

    def _wake_at(self, at: Seconds) -> None:
        self.retry_at = at if self.retry_at is None else min(self.retry_at, at)

    def _own_part(self, key: ServiceKey, rows: Rows | None) -> Rows | None:
        if rows is None:
            return None
        hosts = self.owned[key].hosts
        if all(server in hosts for server in rows.servers):
            return rows
        return Rows(rows.service, {server: row for server, row in rows.servers.items() if server in hosts})

    def _foreign_part(self, table: Table) -> Iterator[RowKey]:
        for key, rows in table.items():
            if key in self._touched:
                continue
            owned = self.owned.get(key)
            if owned is None:
                yield key, None
            for server in rows.servers:
                if owned is None or server not in owned.hosts:
                    yield key, server


def row_of(change: Change) -> RowKey:
    """Return the row that `change` is about."""
    if isinstance(change, AddService | EditService | RemoveService):
        return change.key, None
    return change.service, change.key


def _waits(refused: Refused | None, change: Change, now: Instant) -> bool:
    return refused is not None and refused.change == change and refused.retry_at > now.monotonic
