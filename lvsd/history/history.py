"""What `lvsd history` tells: the courses asked for, over which time, and what of the log was not used."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lvsd.telling import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.history.course import Course, Period
    from lvsd.model import Seconds


@dataclass(slots=True)
class Skipped:
    """How many lines were passed over: other programs', torn or damaged ones, those in the console format.

    `late` were there before, or came after one that follows them; `newer` are events that this version does
    not know.
    """

    others: int = 0
    damaged: int = 0
    console: int = 0
    late: int = 0
    newer: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """The `courses` of targets, and the director's own, from `since` to `until`.

    `lines` were used, up to the one written at `last_at`; `gaps` is how often what came next was missing, and
    `notes` say what else there is to know.
    """

    director: str
    since: Seconds
    until: Seconds
    last_at: Seconds
    log: Course
    courses: Sequence[Course]
    lines: int
    gaps: int
    skipped: Skipped
    notes: Sequence[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it in the shape that `history --json` has. Availability is in per cent of the known time."""
        return {
            "director": self.director,
            "since": timestamp(self.since),
            "until": timestamp(self.until),
            "last_line": timestamp(self.last_at),
            "lines": self.lines,
            "skipped": asdict(self.skipped),
            "gaps": self.gaps,
            "notes": list(self.notes),
            "log": {
                "known_seconds": _seconds(self.log.known),
                "unknown_seconds": _seconds(self.log.not_known),
                "periods": [_period(period) for period in self.log.periods],
            },
            "targets": [{"target": label, **_course(course)} for label, course in self.labelled()],
        }

    def labelled(self) -> list[tuple[str, Course]]:
        """Return the courses, each with the shortest name that no other of them has."""
        plain = [_label(course) for course in self.courses]
        count = Counter(plain)
        exact = [
            _exact(course) if count[label] > 1 else label
            for label, course in zip(plain, self.courses, strict=True)
        ]
        return sorted(zip(exact, self.courses, strict=True), key=lambda each: (_ORDER[each[1].kind], each[0]))


def share(course: Course) -> float | None:
    """Return in per cent how much of the known time it was up, cut to three places; None where none is known.

    What is not quite 100 is never told as 100.
    """
    if course.known <= 0:
        return None
    return int(min(1, course.up / course.known) * 100_000) / 1000


_ORDER = {"instance": 0, "service": 1, "server": 2}


def _label(course: Course) -> str:
    return f"{course.path[0]}/{course.host}" if course.kind == "server" else str(course.path[0])


def _exact(course: Course) -> str:
    return (
        f"{course.path[0]}/{course.path[1]}" if course.kind == "server" else f"{course.kind} {course.path[0]}"
    )


def _course(course: Course) -> dict[str, Any]:
    return {
        **_identity(course),
        "master" if course.kind == "instance" else "availability": share(course),
        "known_seconds": _seconds(course.known),
        "unknown_seconds": _seconds(course.not_known),
        "seconds": {state: _seconds(seconds) for state, seconds in course.seconds.items() if seconds},
        "changes": course.changes,
        "longest_outage_seconds": _seconds(course.longest_outage),
        "earlier_periods": course.earlier,
        "periods": [_period(period, with_weight=course.kind == "server") for period in course.periods],
    }


def _identity(course: Course) -> dict[str, str]:
    match course.kind:
        case "server":
            return {
                "kind": "server",
                "service": course.path[0],
                "server": course.path[1],
                "name": course.host,
            }
        case kind:
            return {"kind": kind, kind: course.path[0]}


def _period(period: Period, *, with_weight: bool = False) -> dict[str, Any]:
    return {
        "since": timestamp(period.since),
        "until": timestamp(period.until),
        "seconds": _seconds(period.until - period.since),
        "unknown_seconds": _seconds(period.unknown),
        "state": period.status.state,
        "reason": period.status.reason,
        **({"weight": period.status.weight} if with_weight else {}),
    }


def _seconds(seconds: Seconds) -> float:
    return round(seconds, 6)
