"""What is told of one target over time: its periods, and what they come to."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from lvsd.model import Seconds

SETTLING: Final[Seconds] = 1
"""A row follows its verdict within so long: both are one change, not two."""

MOST: Final = 20_000
"""Periods that are kept of all targets together; of more, a target's oldest are not."""

LEAST: Final = 10
"""Periods that are kept of a target, however many targets there are."""

UP: Final = frozenset({"up", "master"})
OUTAGES: Final = frozenset({"down", "fault"})
NOT_KNOWN: Final = frozenset({"unknown", "stopped"})
GONE: Final = "gone"


class Status(NamedTuple):
    """How a target is: its `state`, why, and a real server's weight, None where it has no row."""

    state: str
    reason: str
    weight: int | None = None


class Period(NamedTuple):
    """A target was so from `since` to `until`; `unknown` of these seconds the log does not tell."""

    since: Seconds
    until: Seconds
    status: Status
    unknown: Seconds


@dataclass(slots=True)
class Room:
    """How much is kept: nothing of before `since`, and of each of so many `courses` so many `periods`."""

    since: Seconds
    courses: int = 0
    periods: int = MOST

    def add(self) -> None:
        """Share it with one course more."""
        self.courses += 1
        self.periods = max(LEAST, MOST // self.courses)


@dataclass(slots=True)
class Course:
    """One target's periods, each of which begins where the one before it ended, and their sums.

    `kind` is `director`, `service`, `server` or `instance`, `path` what identifies it among these, `host` a
    real server's name. `earlier` periods were given up for lack of room, and where it is not wanted none is
    kept. `seconds` are by state, `changes` those of the state, and `longest_outage` is told without what is
    unknown.
    """

    kind: str
    path: tuple[str, ...]
    room: Room
    status: Status
    begun_at: Seconds
    counted_at: Seconds
    is_wanted: bool = False
    host: str = ""
    names: set[str] = field(default_factory=set)
    periods: deque[Period] = field(default_factory=deque)
    earlier: int = 0
    seconds: defaultdict[str, Seconds] = field(default_factory=lambda: defaultdict(float))
    changes: int = 0
    longest_outage: Seconds = 0
    outage: Seconds = 0
    unknown: Seconds = 0
    known_state: str = ""

    def __post_init__(self) -> None:
        if self.status.state not in NOT_KNOWN:
            self.known_state = self.status.state

    def turn(self, at: Seconds, status: Status) -> None:
        """Take in how the target is from the moment `at` on, which is none before the last one.

        Raise TypeError where the state cannot be one, and change nothing.
        """
        before = self.status
        if status == before:
            return
        state, old = status.state, before.state
        is_unknown = state in NOT_KNOWN
        if state == old:
            if is_unknown:  # it began for the first reason
                self.status = status._replace(reason=before.reason)
                return
            if at - self.begun_at < SETTLING:
                self.status = status
                return
        self.end(at)
        self.status = status
        if is_unknown:
            return
        if state != self.known_state:
            self._change(at, state)
        if old in NOT_KNOWN and self.kind != "director":
            self._bridge()

    def end(self, at: Seconds) -> None:
        """Close the period that goes on at the moment `at`; one like it goes on."""
        since = self.room.since
        if at > since:
            state = self.status.state
            passed = at - max(self.counted_at, since)
            self.seconds[state] += passed
            if state in OUTAGES:
                self.outage += passed
                self.longest_outage = max(self.longest_outage, self.outage)
            if self.is_wanted:
                unknown = passed if state in NOT_KNOWN else self.unknown
                self.periods.append(Period(max(self.begun_at, since), at, self.status, unknown))
                while len(self.periods) > self.room.periods:
                    self.periods.popleft()
                    self.earlier += 1
        self.begun_at = self.counted_at = at
        self.unknown = 0

    @property
    def up(self) -> Seconds:
        """Return for how long it was up, an instance master."""
        return sum(self.seconds[state] for state in UP)

    @property
    def known(self) -> Seconds:
        """Return for how long it was there, and known to be in some state."""
        return sum(self.seconds.values()) - self.not_known - self.seconds[GONE]

    @property
    def not_known(self) -> Seconds:
        """Return for how long the log does not tell how it was."""
        return sum(self.seconds[state] for state in NOT_KNOWN)

    def _change(self, at: Seconds, state: str) -> None:
        if state not in OUTAGES:
            self.outage = 0
        if GONE not in {state, self.known_state} and self.known_state and at >= self.room.since:
            self.changes += 1
        self.known_state = state

    def _bridge(self) -> None:
        """Go on with the period of before the unknown, if it was as it is now."""
        if len(self.periods) > 1 and self.periods[-2].status == self.status:
            between, last = self.periods.pop(), self.periods.pop()
            self.begun_at, self.unknown = last.since, last.unknown + between.unknown
