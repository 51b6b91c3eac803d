"""A history as a person reads it: a line for each period, the oldest first, then what they come to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lvsd.errors import printable
from lvsd.history.course import GONE, NOT_KNOWN, OUTAGES, UP
from lvsd.history.history import share

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lvsd.history.course import Course, Period
    from lvsd.history.history import History
    from lvsd.model import Seconds

UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
NONE: Final = "-"

SKIPPED: Final = {
    "others": "of other programs",
    "damaged": "torn or damaged",
    "console": "in the console format, which only people can read",
    "late": "there before, or out of order",
    "newer": "of events that this version does not know",
}

BOLD: Final = "\x1b[1m"
PLAIN: Final = "\x1b[0m"
COLOURS: Final = ((UP, "\x1b[32m"), (OUTAGES, "\x1b[31m"), (NOT_KNOWN | {GONE}, "\x1b[33m"))


def history_text(history: History, *, colours: bool = False) -> str:
    """Return what `lvsd history` prints; `colours` are for a terminal."""
    periods = Table(("SINCE", "FOR", "TARGET", "STATE", "WEIGHT", "WHY"), list(_periods(history)))
    sums = Table(
        ("TARGET", "UP", "KNOWN FOR", "UNKNOWN FOR", "CHANGES", "LONGEST OUTAGE"), list(_sums(history))
    )
    remarks = [printable(line) for line in _remarks(history)]
    return "\n".join([*remarks, "", *periods.lines(colours=colours), "", *sums.lines(colours=colours)])


def when(at: Seconds) -> str:
    """Return a moment in UTC with milliseconds, as --since takes it too."""
    return f"{datetime.fromtimestamp(int(at * 1000) / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def duration(seconds: Seconds) -> str:
    """Return a length of time in its two largest units: `3d 4h`, `2m 7s`, `7.1s`, `250ms`."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    if seconds < UNITS["m"]:
        return f"{int(seconds * 10) / 10:.1f}s"
    parts = []
    rest = int(seconds)
    for unit, length in UNITS.items():
        count, rest = divmod(rest, length)
        parts.append((count, unit))
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their titles, in columns that are as wide as what is in them; the last one is not filled."""

    titles: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def lines(self, *, colours: bool) -> list[str]:
        """Return the table's lines; with `colours` a state stands out."""
        rows = [self.titles, *(tuple(map(printable, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self._line(row, widths, colours=colours) for row in rows]
        return [f"{BOLD}{lines[0]}{PLAIN}", *lines[1:]] if colours else lines

    def _line(self, row: tuple[str, ...], widths: list[int], *, colours: bool) -> str:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1]
        if colours:
            cells = [_coloured(cell) for cell in cells]
        return "  ".join(cells)


def _coloured(cell: str) -> str:
    word = cell.rstrip()
    colour = next((colour for states, colour in COLOURS if word in states), "")
    return f"{colour}{cell}{PLAIN}" if colour else cell


def _remarks(history: History) -> Iterator[str]:
    name = history.director or "a director whose name is not told"
    length = duration(history.until - history.since)
    last = "" if history.until == history.last_at else f", the last one of {when(history.last_at)}"
    time = f"{when(history.since)} to {when(history.until)} ({length})"
    yield f"{name}: {time}, from {history.lines:,} lines{last}"
    if history.gaps or history.log.not_known:
        gaps = f"{history.gaps or 'no'} gap{'' if history.gaps == 1 else 's'}"
        unknown = duration(history.log.not_known)
        yield f"Unknown: {unknown}, since lvsd did not run or its log does not tell ({gaps})."
    if any(skipped := asdict(history.skipped).values()):
        kinds = ", ".join(
            f"{count:,} {SKIPPED[kind]}" for kind, count in asdict(history.skipped).items() if count
        )
        yield f"Lines that are not told: {sum(skipped):,} ({kinds})."
    if earlier := sum(course.earlier for course in [history.log, *history.courses]):
        yield f"{earlier:,} periods before those below have no room here: ask with a TARGET or with --until."
    yield from history.notes


def _periods(history: History) -> Iterator[tuple[str, ...]]:
    """Yield a row for each period; of the director only when it did not run, or its log has a gap."""
    told = [(period, label) for label, course in history.labelled() for period in course.periods]
    told += [(each, history.director) for each in history.log.periods if each.status.state in NOT_KNOWN]
    for period, label in sorted(told, key=lambda each: each[0].since):
        yield _row(period, label)


def _row(period: Period, label: str) -> tuple[str, ...]:
    state, reason, weight = period.status
    length = period.until - period.since
    if period.unknown and state not in NOT_KNOWN:
        reason = f"{reason} ({duration(period.unknown)} of it unknown)".lstrip()
    shown = NONE if weight is None else str(weight)
    return when(period.since), duration(length), label, str(state), shown, str(reason)


def _sums(history: History) -> Iterator[tuple[str, ...]]:
    for label, course in history.labelled():
        yield (
            label,
            _share(course),
            duration(course.known),
            duration(course.not_known),
            f"{course.changes:,}",
            duration(course.longest_outage) if course.longest_outage else NONE,
        )


def _share(course: Course) -> str:
    up = share(course)
    if up is None:
        return NONE
    return f"{up:.3f} %{' master' if course.kind == 'instance' else ''}"
