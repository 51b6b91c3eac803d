"""Which lines of a log tell a director's state: those since its last whole snapshot, found from the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lvsd.errors import LvsdError
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lvsd.events import Record

MOST: Final = 100_000
"""Lines that are kept: ten times what stands between two snapshots. Of more, the oldest are missing."""


class NoLogError(LvsdError):
    """There is no log to read, or nothing of lvsd's in it, or too much to tell whose state is asked for."""


@dataclass(slots=True)
class _Run:
    """One run's lines, the last one first.

    It wrote from `since` to `until`, its lines among those of all runs, counted from the last one, are
    `last` to `first`. `director` is empty until a line says it; `ended` is the place in `records` of the line
    that ends a snapshot whose beginning is still to come.
    """

    until: str
    last: int
    since: str = ""
    first: int = 0
    director: str = ""
    records: list[Record] = field(default_factory=list)
    ended: int | None = None
    is_whole: bool = False

    def take(self, record: Record) -> None:
        self.records.append(record)
        if record["event"] in {"snapshot.begin", "director.started"} and not self.director:
            self.director = str(record.get("director", ""))
        if record["event"] == "snapshot.end" and record.get("part", 0) + 1 == record.get("parts", 1):
            self.ended = len(self.records) - 1
        elif record["event"] == "snapshot.begin" and self.ended is not None:
            self.is_whole = folded(reversed(self.records[self.ended :])).complete
            self.ended = None

    def overlaps(self, other: _Run) -> bool:
        """Whether both wrote at the same time: their lines are mixed, and by their times they are too."""
        mixed = self.last < other.first and other.last < self.first
        return mixed and self.until > other.since and other.until > self.since


class Excerpt:
    """Takes the lines of a log, the last one first, until they tell the state of `director`.

    Where that is empty, it is the director that wrote the last line. Runs of one name are taken to follow one
    another: a restart is another run.
    """

    def __init__(self, director: str = "") -> None:
        self._wanted = director
        self._runs: dict[str, _Run] = {}
        self._taken = 0

    @property
    def is_empty(self) -> bool:
        """Whether there was no line."""
        return not self._runs

    def take(self, record: Record) -> bool:
        """Take the line before those taken so far; return whether that is enough."""
        self._taken += 1
        run = self._runs.setdefault(record["run"], _Run(record["ts"], self._taken))
        run.since, run.first = record["ts"], self._taken
        if not run.is_whole and self._may_be_wanted(run):
            run.take(record)
        return (run.is_whole and run.director == self._director) or self._is_full

    def state(self) -> State:
        """Return the state that the lines tell; raise NoLogError where it is not clear whose is asked for."""
        runs = [run for run in self._runs.values() if self._is_meant(run)]
        if not runs:
            message = f"there is no line of a director called {self._wanted} in this log: {self._directors()}"
            raise NoLogError(message)
        others = [run for run in self._runs.values() if not self._is_meant(run) and run.overlaps(runs[0])]
        if others and not self._wanted:
            message = f"several directors write to this log; name one with --director: {self._directors()}"
            raise NoLogError(message)
        return folded(record for run in reversed(runs) for record in reversed(run.records))

    @property
    def _director(self) -> str:
        return self._wanted or next(iter(self._runs.values())).director

    @property
    def _is_full(self) -> bool:
        return self._taken % MOST == 0 and sum(len(run.records) for run in self._runs.values()) >= MOST

    def _may_be_wanted(self, run: _Run) -> bool:
        return not self._director or run.director in {"", self._director}

    def _is_meant(self, run: _Run) -> bool:
        if self._director:
            return run.director == self._director
        return run is next(iter(self._runs.values()))

    def _directors(self) -> str:
        names = {
            run.director or f"one whose name was not found (run {id_})" for id_, run in self._runs.items()
        }
        return ", ".join(sorted(names))


def folded(records: Iterable[Record]) -> State:
    """Return the state that `records` tell; one that lacks what it should have is a gap."""
    state = State()
    for record in records:
        try:
            state.fold(record)
        except (KeyError, TypeError, ValueError, AttributeError):
            state.lose()  # damaged, or of a newer version
    return state
