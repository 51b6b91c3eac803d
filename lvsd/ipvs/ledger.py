"""lvsd's own rows: which they are, how the kernel has them, which are to be changed, which were refused.

Rows that are not lvsd's are only known as foreign, and never part of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from lvsd.ipvs.change import AddService, EditService, RemoveServer, RemoveService, apply
from lvsd.ipvs.plan import first_steps, plan_service
from lvsd.ipvs.refusals import Refusals
from lvsd.model import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lvsd.ipvs.change import Change, Image
    from lvsd.ipvs.refusals import Refused, RowKey
    from lvsd.model import Instant, Seconds, ServerKey, ServiceKey, Table

BATCH = 100
"""Changes programmed, and services looked at, at a time: what the loop does for them takes milliseconds."""


@dataclass(slots=True)
class Owned:
    """What lvsd has put, or may have put, under one key: the service's name and its real servers' names."""

    name: str
    hosts: dict[ServerKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is configured under one key: the rows it should have, all its real servers, which are dead."""

    rows: Rows
    hosts: Mapping[ServerKey, str]
    dead: Collection[ServerKey]


@dataclass(frozen=True, slots=True)
class Difference:
    """A service whose own rows are not as they were thought to be, and why."""

    key: ServiceKey
    thought: Rows | None
    read: Rows | None
    cause: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a reading of the table brought: own rows that differ, foreign rows that came and went."""

    differences: list[Difference]
    appeared: list[RowKey]
    gone: list[RowKey]


class Ledger:
    """Own rows, by key. What a call costs follows the services it names, except for `compare`.

    `owned_changed` has the keys whose entry in `owned` changed; who writes them down clears it.
    """

    def __init__(self, owned: dict[ServiceKey, Owned]) -> None:
        self.owned = owned
        self.owned_changed: set[ServiceKey] = set()
        self.actual: Image = {}
        self._foreign: dict[ServiceKey, list[ServerKey | None]] = {}
        self._refusals = Refusals()
        self._due: dict[ServiceKey, str] = {}
        self._in_flight: tuple[Change, ...] | None = None
        self._flying: set[ServiceKey] = set()
        self._causes: dict[ServiceKey, str] = {}
        self._postponed: set[ServiceKey] = set()
        self._touched: set[ServiceKey] = set()
        self._unread: dict[ServiceKey, str] = {}
        self._seen: dict[ServiceKey, Rows] = {}
        self._last: Table | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is being programmed or can be: what was refused, and what is to be read, aside."""
        return self._in_flight is None and self._due.keys() <= self._unread.keys()

    @property
    def needs_reading(self) -> bool:
        """Whether there are services that wait for the table to be read before anything is changed."""
        return bool(self._unread)

    @property
    def foreign(self) -> list[RowKey]:
        """The rows that are not lvsd's, as they were when the table was last read."""
        return [(key, server) for key, servers in self._foreign.items() for server in servers]

    @property
    def retry_at(self) -> Seconds | None:
        """When `retry` wants to be called (monotonic), None while nothing is refused."""
        return self._refusals.next_at

    def claim(self, key: ServiceKey, name: str, hosts: Mapping[ServerKey, str]) -> None:
        """Take rows under `key` for lvsd's own from now on. Foreign ones among them are read first."""
        owned = self.owned.get(key)
        rows: list[RowKey] = [] if owned else [(key, None)]
        if owned is None:
            owned = self.owned[key] = Owned(name)
        rows += [(key, server) for server in hosts if server not in owned.hosts]
        if rows:
            self._look_anew(key)
        if any(server in self._foreign.get(key, ()) for _, server in rows):
            self._unread.setdefault(key, "adopted")
        if rows or owned.name != name or not hosts.items() <= owned.hosts.items():
            self.owned_changed.add(key)
        owned.name = name
        owned.hosts |= hosts

    def mark(self, key: ServiceKey, cause: str) -> None:
        """Note that the rows under `key` may have to change, and why."""
        self._due[key] = cause

    def cause(self, key: ServiceKey) -> str:
        """Return why the change in flight under `key` is made."""
        return self._causes.get(key, "")

    def next_batch(
        self, wanted: Callable[[ServiceKey], Wanted | None], held: Collection[ServiceKey], now: Instant
    ) -> tuple[Change, ...] | None:
        """Return the changes to program now, None where there are none, or others are in flight.

        Services in `held` wait. A service with more changes than fit goes on in the next batch. An empty
        batch means that nothing was found to change so far, and that there is more to look at.
        """
        if self._in_flight is not None:
            return None
        batch: list[Change] = []
        self._causes = {}
        due = (key for key in self._due if key not in held and key not in self._unread)
        ready = list(islice(due, BATCH + 1))
        for key in ready[:BATCH]:
            cause = self._due.pop(key)
            changes = self._changes(key, wanted(key), now)
            room = BATCH - len(batch)
            batch += changes[:room]
            self._causes[key] = cause
            if len(changes) > room:
                self._due[key] = cause
            if len(batch) >= BATCH:
                break
        if not batch and len(ready) <= BATCH:
            return None
        self._in_flight = tuple(batch)
        self._flying = {row_of(change)[0] for change in batch}
        self._touched |= self._flying
        return self._in_flight

    def settle(self, refusals: Mapping[int, str], now: Instant) -> Iterator[tuple[Change, Refused | None]]:
        """Take the kernel's answer to the batch in flight; yield each change with its refusal, or None.

        Real servers of a service that was refused are left out: they failed with it, or the service was there
        already, which the table will tell when it is read.
        """
        batch = self._land()
        missing = {row_of(batch[i])[0] for i in refusals if isinstance(batch[i], AddService)}
        self._unread |= dict.fromkeys(missing, "adopted")
        for i, change in enumerate(batch):
            row = row_of(change)
            self._look_anew(row[0])
            if row[0] in self._postponed:
                self._postponed.discard(row[0])
                self._due.setdefault(row[0], self.cause(row[0]))
            if row[0] in missing and row[1] is not None:
                continue
            if i in refusals:
                yield change, self._refusals.add(row, change, refusals[i], now)
            else:
                self._refusals.forget(row)
                apply(self.actual, change)
                yield change, None

    def abandon(self) -> None:
        """Forget the batch in flight: what became of it is unknown, and a reading of the table will tell."""
        for change in self._land():
            key = row_of(change)[0]
            self._look_anew(key)
            self._unread.setdefault(key, self.cause(key))
            self._due.setdefault(key, self.cause(key))

    def begin_reading(self) -> None:
        """Note that the table is being read: rows changed from now on are not judged by that reading."""
        self._touched = set(self._flying)

    def compare(self, table: Table) -> Iterator[Comparison]:
        """Yield in what the kernel's table is not as it was thought to be, of some services at a time.

        The image is corrected on the way, and the services that differ are marked to be mended. `Rows` that
        are the same object as at the last reading are not looked at again.
        """
        if table is self._last and not self._touched:
            return
        self._last = table
        fresh = iter(self._fresh(table))
        while some := list(islice(fresh, BATCH)):
            found = Comparison([], [], [])
            for key in some:
                if key not in self._touched:
                    self._compare_one(key, table.get(key), found)
            yield found
        if self._touched:
            self._last = None

    def disown(self, key: ServiceKey, configured: Mapping[ServerKey, str] | None) -> None:
        """Give up what is neither configured nor in the table any more, as far as the table is known.

        `configured` are the real servers now wanted under `key`, None where the service is not wanted.
        """
        owned = self.owned.get(key)
        if owned is None or key in self._unread or key in self._flying:
            return
        rows = self.actual.get(key)
        kept = (configured or {}).keys() | (rows.servers.keys() if rows else set())
        given_up = owned.hosts.keys() - kept
        for server in given_up:
            del owned.hosts[server]
        if configured is None and rows is None:
            del self.owned[key]
        elif not given_up:
            return
        self.owned_changed.add(key)
        self._look_anew(key)

    def retry(self, now: Instant) -> None:
        """Mark the services whose refused changes are worth trying again, and set `retry_at` to the next."""
        for key in self._refusals.due(now):
            self._due.setdefault(key, "retried")

    def _land(self) -> tuple[Change, ...]:
        batch, self._in_flight, self._flying = self._in_flight, None, set()
        return batch or ()

    def _changes(self, key: ServiceKey, wanted: Wanted | None, now: Instant) -> list[Change]:
        """Return the changes to make now under `key`; where there is none to make, give up what is left."""
        present = self.actual.get(key)
        planned = list(self._removable(key, plan_service(key, present, wanted.rows if wanted else None)))
        if not planned:
            self.disown(key, wanted.hosts if wanted else None)
        steps = first_steps(planned, present, wanted.dead if wanted else ())
        if len(steps) < len(planned):
            self._postponed.add(key)
        waiting = self._refusals.waiting(key, {row_of(change)[1]: change for change in planned}, now)
        if None in waiting and isinstance(planned[0], AddService):
            return []
        return [change for change in steps if row_of(change)[1] not in waiting]

    def _removable(self, key: ServiceKey, changes: Iterator[Change]) -> Iterator[Change]:
        """Turn the removal of a service that holds foreign real servers into that of its own ones."""
        for change in changes:
            is_shared = any(server is not None for server in self._foreign.get(key, ()))
            if isinstance(change, RemoveService) and is_shared:
                yield from (RemoveServer(key, server) for server in self.actual[key].servers)
            else:
                yield change

    def _fresh(self, table: Table) -> list[ServiceKey]:
        """Return the services of which a reading may bring news."""
        changed = [key for key, rows in table.items() if rows is not self._seen.get(key)]
        gone = [key for key in {**self._foreign, **self.owned} if key not in table]
        return [*changed, *gone]

    def _compare_one(self, key: ServiceKey, rows: Rows | None, found: Comparison) -> None:
        found.differences.extend(self._differences(key, rows))
        self._compare_foreign(key, rows, found)
        if rows is None:
            self._seen.pop(key, None)
        else:
            self._seen[key] = rows

    def _look_anew(self, key: ServiceKey) -> None:
        """Note that the next reading is to be compared with the rows under `key`, changed in it or not."""
        self._seen.pop(key, None)
        self._last = None

    def _differences(self, key: ServiceKey, rows: Rows | None) -> Iterator[Difference]:
        cause = self._unread.pop(key, "drift")
        read, thought = self._own_part(key, rows), self.actual.get(key)
        if read == thought:
            return
        if read is None:
            del self.actual[key]
        else:
            self.actual[key] = Rows(read.service, dict(read.servers))
        self._due.setdefault(key, "mended")
        yield Difference(key, thought, read, cause)

    def _compare_foreign(self, key: ServiceKey, rows: Rows | None, found: Comparison) -> None:
        before = self._foreign.pop(key, [])
        after = [] if rows is None else list(self._foreign_part(key, rows))
        found.appeared.extend((key, server) for server in after if server not in before)
        found.gone.extend((key, server) for server in before if server not in after)
        if after:
            self._foreign[key] = after
        if key in self.owned and before != after:
            self._due.setdefault(key, "config")

    def _own_part(self, key: ServiceKey, rows: Rows | None) -> Rows | None:
        owned = self.owned.get(key)
        if rows is None or owned is None:
            return None
        if all(server in owned.hosts for server in rows.servers):
            return rows
        return Rows(
            rows.service, {server: row for server, row in rows.servers.items() if server in owned.hosts}
        )

    def _foreign_part(self, key: ServiceKey, rows: Rows) -> Iterator[ServerKey | None]:
        owned = self.owned.get(key)
        if owned is None:
            yield None
        for server in rows.servers:
            if owned is None or server not in owned.hosts:
                yield server


def row_of(change: Change) -> RowKey:
    """Return the row that `change` is about."""
    if isinstance(change, AddService | EditService | RemoveService):
        return change.key, None
    return change.service, change.key
