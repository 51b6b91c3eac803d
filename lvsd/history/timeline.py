"""The log folded into what was when: each target's periods, from the state as it changes line by line."""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from lvsd.errors import LvsdError
from lvsd.events import CATALOGUE
from lvsd.history.course import Course, Room, Status
from lvsd.history.targets import Targets
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from lvsd.events import Record
    from lvsd.model import Seconds

RUNNING: Final = Status("running", "")
BEGINS: Final = Status("unknown", "the log begins; its first snapshot is still to come")
GAP: Final = Status("unknown", "the log has a gap")
NOT_RUNNING: Final = Status("unknown", "lvsd did not run")

DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What a line that lacks what it should have, or has something else in its place, makes of folding it."""

LATEST: Final[Seconds] = 253_402_214_400
"""The last day that a date can tell, in seconds since the epoch."""

LISTED: Final = 10
"""So many targets are named to somebody who asked for one that there is not."""


class UnknownTargetError(LvsdError):
    """The log tells of nothing that is called so."""


def moment(ts: str) -> Seconds | None:
    """Return a line's `ts` as seconds since the epoch, None where it is no moment with a zone."""
    try:
        at = datetime.fromisoformat(ts)
        seconds = at.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if at.tzinfo is not None and 0 <= seconds < LATEST else None


class Timeline:
    """Takes the lines of one director's log, the oldest first, and keeps what was of each target when.

    What was before `since` is not told, and where there is a `target`, of others only that they are there.
    What the log tells is known from the end of a snapshot on. From the last line before a gap, or the stop of
    a run, up to the end of the next snapshot every target is unknown. `log` is the director's own: when it
    ran and its log has no gap. `damaged` lines lack what they should have, `newer` ones tell of events
    that this version does not know. It `is_known` how things are after the last line.
    """

    def __init__(self, since: Seconds = 0, target: str = "") -> None:
        self.state = State()
        self.room = Room(since)
        self.log = Course("director", (), self.room, BEGINS, 0, 0, is_wanted=True)
        self.at: Seconds | None = None
        self.lines = self.gaps = self.damaged = self.newer = 0
        self._target = target
        self._targets = Targets(self.state, self.room, target)
        self.is_known = False

    def fold(self, record: Record, at: Seconds) -> None:
        """Take in the next line, written at the moment `at`; a clock that was set back stands still."""
        before = self._begin(at) if self.at is None else self.at
        at = max(at, before)
        gap = self.gap_before(record)
        try:
            self._targets.finish_telling(record, before)
            self.state.fold(record)
            self._follow(record, before, at, gap)
        except DAMAGED:
            self.damaged += 1
            self.state.lose()
            self._lose(
                Status("unknown", gap or f"line {record['seq']} of run {record['run']} is damaged"), before
            )
        self.newer += record["event"] not in CATALOGUE
        self.lines += 1
        self.at = at

    def gap_before(self, record: Record) -> str:
        """Return what is missing between the last line and `record`, nothing where nothing is."""
        state, seq, run = self.state, record["seq"], record["run"]
        if run == state.run:
            if seq == state.seq + 1:
                return ""
            return f"lines {state.seq + 1} to {seq - 1} of run {run} are missing"
        return f"run {state.run} did not say that it stopped" if state.running else ""

    def end(self, at: Seconds, doubt: str = "") -> None:
        """Close all periods at the moment `at`; `doubt` says why what was since the last line is unknown."""
        if self.at is None:
            return
        if not self.settle():
            doubt = doubt or "its last line is damaged"
        if doubt:
            self._lose(Status("unknown", doubt), self.at)
        for course in [self.log, *self.courses]:
            course.end(max(at, self.at))

    def settle(self) -> bool:
        """Take in what the last line told, though it might go on in the next; return whether that can be."""
        try:
            self._targets.finish_telling(None, self.at or 0)
        except DAMAGED:
            return False
        return True

    @property
    def courses(self) -> Collection[Course]:
        """Return the courses of all targets."""
        return self._targets.courses.values()

    def told(self) -> list[Course]:
        """Return the courses asked for; raise UnknownTargetError, which says what is close, where none is."""
        courses = self.courses
        told = [course for course in courses if course.is_wanted]
        if self._target and not told:
            names = {name for course in courses for name in course.names if isinstance(name, str)}
            close = get_close_matches(self._target, names, n=1)
            known = f"; did you mean {close[0]!r}?" if close else f": it knows {_listed(courses)}"
            message = f"the log tells of nothing called {self._target!r}{known}"
            raise UnknownTargetError(message)
        return told

    def _begin(self, at: Seconds) -> Seconds:
        self.log.begun_at = self.log.counted_at = at
        self.room.since = max(self.room.since, at)
        return at

    def _follow(self, record: Record, before: Seconds, at: Seconds, gap: str) -> None:
        """Let the courses follow the state, which has just taken in `record`."""
        if self.state.complete and self.state.running:
            if self.is_known:
                self._targets.follow(record, at)
                return
            self._targets.survey(at)
            self.is_known = True
            self.log.turn(at, RUNNING)
        elif self.is_known and record["event"] == "director.stopped" and not gap:
            self._lose(Status("stopped", f"lvsd did not run: {record.get('reason', '')}"), at)
        elif self.is_known:
            dropped = f"{record.get('count')} lines were dropped: {record.get('reason')}"
            self._lose(Status("unknown", gap or dropped), before)

    def _lose(self, how: Status, at: Seconds) -> None:
        """Note that nothing is known from the moment `at` on, and why."""
        if not self.is_known:
            return
        self.is_known = False
        self.gaps += how.state != "stopped"
        self.log.turn(at, how)
        self._targets.lose(NOT_RUNNING if how.state == "stopped" else GAP, at)


def _listed(courses: Collection[Course]) -> str:
    names = sorted({str(course.path[0]) for course in courses})
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}" if names else "none"
