"""Which lines of a log are of the director asked for: each once, of one run after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lvsd.edge.excerpt import NoLogError

if TYPE_CHECKING:
    from lvsd.events import Record
    from lvsd.model import Seconds

MOST_RUNS: Final = 10_000
"""Runs that are remembered, so that a line of theirs which comes late is known for one."""


@dataclass(slots=True)
class _Run:
    """A run: when its first and last lines were written, and by which director, empty until a line says it.

    It `is_over` once another has begun.
    """

    first_at: Seconds
    last_at: Seconds
    seq: int = 0
    director: str = ""
    is_over: bool = False


class Succession:
    """Takes the lines of a log, the oldest first, and says which count.

    Where `wanted` is empty, there may be one director at a time. `late` lines were there before, or came
    after one that follows them.
    """

    def __init__(self, wanted: str) -> None:
        self.late = 0
        self._wanted = wanted
        self._runs: dict[str, _Run] = {}
        self._current: _Run | None = None
        self._latest: dict[str, _Run] = {}

    @property
    def directors(self) -> list[str]:
        """Return the names of the directors whose lines there are."""
        return sorted(self._latest)

    def admits(self, record: Record, at: Seconds) -> bool:
        """Return whether a line counts; raise NoLogError where it shows two directors writing at once."""
        run = self._runs.get(record["run"]) or self._remember(record["run"], at)
        if record["event"] in {"snapshot.begin", "director.started"} and not run.director:
            self._name(run, str(record.get("director", "")))
        if record["seq"] <= run.seq:
            self.late += 1
            return False
        run.seq, run.last_at = record["seq"], at
        if self._wanted and run.director != self._wanted:
            return False
        if run is not self._current and not self._succeeds(run):
            self.late += 1
            return False
        return True

    def _remember(self, name: str, at: Seconds) -> _Run:
        if len(self._runs) >= MOST_RUNS:
            del self._runs[next(iter(self._runs))]
        run = self._runs[name] = _Run(at, at)
        return run

    def _name(self, run: _Run, director: str) -> None:
        run.director = director
        self._latest[director] = run
        for other in self._latest.values():
            if other.last_at > run.first_at:
                self._refuse_two(run, other)

    def _succeeds(self, run: _Run) -> bool:
        """Let `run` be the current one, unless its turn is over."""
        if run.is_over:
            self._refuse_two(run, self._current)
            return False
        if self._current is not None:
            self._current.is_over = True
        self._current = run
        return True

    def _refuse_two(self, run: _Run, other: _Run | None) -> None:
        """Raise NoLogError where the two runs, which wrote at once, are of two directors."""
        if self._wanted or other is None or not run.director or not other.director:
            return
        if run.director != other.director:
            message = (
                f"several directors write to this log; name one with --director: {', '.join(self.directors)}"
            )
            raise NoLogError(message)
