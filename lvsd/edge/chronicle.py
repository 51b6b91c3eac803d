"""Reads a whole log into the timeline of what happened: from files, standard input or the journal."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lvsd.edge import runtime
from lvsd.edge.archive import Archive, siblings
from lvsd.edge.excerpt import NoLogError
from lvsd.edge.history import console_moment, no_reading, record_of
from lvsd.edge.journal import UNIT, Journal
from lvsd.edge.succession import Succession
from lvsd.history.history import History, Skipped
from lvsd.history.timeline import Timeline, moment
from lvsd.telling import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lvsd.edge.archive import Place
    from lvsd.model import Seconds

_TORN: Final = b'"ts":'
"""What a line of lvsd's has, whatever else of it was lost."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which log is meant: `files` that are named, else the one that is `configured`, else the journal."""

    files: Sequence[str] = ()
    configured: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the lvsd of this host writes to it."""
        return not self.files

    def __str__(self) -> str:
        return ", ".join(self.files) or self.configured or f"the journal of the unit {UNIT}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: of which target, since when, until when, of which director; empty is whatever."""

    target: str = ""
    since: Seconds | None = None
    until: Seconds | None = None
    director: str = ""


def read_history(source: Source, asked: Asked) -> History:
    """Return what happened, up to now where it is the log of an lvsd that runs, else up to its last line.

    Raise NoLogError where there is nothing to tell it from, UnknownTargetError where there is no such target.
    """
    reading = _Reading(asked)
    if source.files or source.configured:
        with Archive(source.files or siblings(source.configured), place_of) as archive:
            reading.take(archive.lines())
            reading.notes += archive.notes()
    else:
        with Journal(newest_first=False) as journal:
            reading.take(journal.lines())
            if reading.timeline.at is None and (complaint := journal.complaint()):
                raise NoLogError(complaint)
    return reading.end(source)


def place_of(line: bytes) -> Place | None:
    """Return when a line was written and its `seq`, None where it is not lvsd's."""
    if (record := record_of(line)) is not None:
        return record["ts"], record["seq"]
    at = console_moment(line)
    return None if at is None else (at, 0)


class _Reading:
    """Takes a log's lines, and counts what is none of lvsd's among them."""

    def __init__(self, asked: Asked) -> None:
        self.timeline = Timeline(asked.since or 0, asked.target)
        self.notes: list[str] = []
        self._asked = asked
        self._skipped = Skipped()
        self._succession = Succession(asked.director)
        self._console_at = ""
        self._torn = False
        self._after: str | None = None

    def take(self, lines: Iterable[bytes]) -> None:
        """Take the lines, the oldest first, up to one that is later: it says whether there is a gap."""
        until = float("inf") if self._asked.until is None else self._asked.until
        admits, fold = self._succession.admits, self.timeline.fold
        for line in lines:
            record = record_of(line)
            at = None if record is None else moment(record["ts"])
            if record is None or at is None:
                self._pass_over(line)
                continue
            self._torn = False
            if not admits(record, at):
                continue
            if at > until:
                self._after = "" if self.timeline.at is None else self.timeline.gap_before(record)
                return
            fold(record, at)

    def end(self, source: Source) -> History:
        """Return what they tell."""
        timeline, asked = self.timeline, self._asked
        if timeline.at is None:
            raise NoLogError(self._nothing(source))
        until, doubt = self._until(timeline.at, source)
        since = timeline.room.since
        if since >= until and asked.since is not None:
            message = f"{source}: nothing is known since then: the last line is of {timestamp(timeline.at)}"
            raise NoLogError(message)
        timeline.end(until, doubt)
        skipped = replace(self._skipped, newer=timeline.newer, late=self._succession.late)
        skipped.damaged += timeline.damaged
        return History(
            director=timeline.state.director,
            since=since,
            until=until,
            last_at=timeline.at,
            log=timeline.log,
            courses=timeline.told(),
            lines=timeline.lines,
            gaps=timeline.gaps,
            skipped=skipped,
            notes=self.notes,
        )

    def _pass_over(self, line: bytes) -> None:
        if not line:
            return
        if at := console_moment(line):
            self._console_at = at
            self._skipped.console += 1
        elif _TORN in line:
            self._torn = True
            self._skipped.damaged += 1
        else:
            self._skipped.others += 1

    def _until(self, last_at: Seconds, source: Source) -> tuple[Seconds, str]:
        """Return where the history ends, and why what was since the last line is unknown, if it is."""
        until = self._asked.until
        if until is not None and self._after is not None:
            return until, self._after
        if self._torn:
            self.notes.append("The log's last line is torn.")
        elif source.is_live and self.timeline.state.running and runtime.is_in_use():
            now = time.time()
            return max(last_at, now if until is None else min(now, until)), ""
        if until is None or until <= last_at:
            return last_at, ""
        return until, "the last line is torn" if self._torn else "the log ends"

    def _nothing(self, source: Source) -> str:
        """Return why there is nothing to tell."""
        if self._console_at:
            return f"{source}: {no_reading(self._console_at)}"
        if self._asked.director and self._succession.directors:
            names = ", ".join(self._succession.directors)
            return f"there is no line of a director called {self._asked.director} in this log: {names}"
        before = " up to then" if self._after is not None else ""
        return f"{source}: no line of lvsd's found{before}: is this the right log? --log names another"
