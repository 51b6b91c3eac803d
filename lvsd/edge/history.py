"""Reads a log back: from a file, from standard input or from the journal."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import orjson

from lvsd.edge.backwards import end_of, lines_backwards
from lvsd.edge.excerpt import Excerpt, NoLogError
from lvsd.edge.journal import UNIT, Journal
from lvsd.events import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.events import Record
    from lvsd.state import State

_CONSOLE_LINE: Final = re.compile(rb"(?:<\d>)?(\d{4}-\d\d-\d\dT[0-9:.]+Z) \[[a-z]+ *\] ([a-z_.]+)")


def read_state(file: str, until: str = "", director: str = "") -> State:
    """Return the state that a log tells up to the moment `until`, at its end where that is empty.

    `file` is `-` for standard input, empty for the journal of the unit. It is read from its end, back to the
    last whole snapshot before that moment. Where `director` is empty, it is the one that wrote the last line.
    Raise NoLogError where there is nothing to tell it from.
    """
    excerpt = Excerpt(director)
    if file:
        with _open(file) as log:
            _fill(excerpt, lines_backwards(log, end_of(log, until, moment_of)), until)
    else:
        with Journal(until) as journal:
            _fill(excerpt, journal.lines(), until)
            if excerpt.is_empty and (complaint := journal.complaint()):
                raise NoLogError(complaint)
    if excerpt.is_empty:
        where = file or f"the journal of the unit {UNIT}"
        before = f" up to {until}" if until else ""
        message = f"{where}: no line of lvsd's found{before}: is this the right log? --log names another"
        raise NoLogError(message)
    return excerpt.state()


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the lines that are lvsd's; what is another's or torn is passed over."""
    return (record for record in map(record_of, lines) if record is not None)


def record_of(line: bytes) -> Record | None:
    """Return what a line says, None where it is not lvsd's, or torn."""
    start = line.find(b"{")
    if start < 0:
        return None
    try:
        record = orjson.loads(line[start:])
    except orjson.JSONDecodeError:
        return None
    if (
        isinstance(record, dict)
        and isinstance(record.get("ts"), str)
        and isinstance(record.get("seq"), int)
        and isinstance(record.get("run"), str)
        and isinstance(record.get("event"), str)
    ):
        return record
    return None


def moment_of(line: bytes) -> str | None:
    """Return when a line was written, None where it is not lvsd's."""
    if (record := record_of(line)) is not None:
        return str(record["ts"])
    return console_moment(line)


def console_moment(line: bytes) -> str | None:
    """Return when a line in the console format was written, None where it is no such line of lvsd's."""
    console = _CONSOLE_LINE.match(line)
    return console[1].decode() if console and console[2].decode() in CATALOGUE else None


def no_reading(at: str) -> str:
    """Return what to say of a log that is in the console format at the moment `at`."""
    return f"at {at} the log is in the console format, which only people can read: set `log.format: json`"


def _fill(excerpt: Excerpt, lines: Iterable[bytes], until: str) -> None:
    """Give `excerpt` the lines up to `until`, the last one first, until it has enough."""
    for line in lines:
        record = record_of(line)
        if record is None:
            if excerpt.is_empty:
                _refuse_console(line, until)
        elif (not until or record["ts"] <= until) and excerpt.take(record):
            return


def _refuse_console(line: bytes, until: str) -> None:
    """Raise NoLogError where `line` is a newer one than all that can be read."""
    at = console_moment(line)
    if at is not None and (not until or at <= until):
        hint = "what was written as json before can be asked for with --at and an earlier time"
        message = f"{no_reading(at)}; {hint}"
        raise NoLogError(message)


@contextmanager
def _open(file: str) -> Iterator[IO[bytes]]:
    """Open a log for reading anywhere in it; what comes through a pipe is kept on the disc meanwhile."""
    try:
        with sys.stdin.buffer if file == "-" else open(file, "rb") as log:  # noqa: PTH123
            if log.seekable():
                yield log
                return
            with tempfile.TemporaryFile(dir="/var/tmp") as copy:  # /tmp may be memory
                shutil.copyfileobj(log, copy)
                yield copy
    except OSError as error:
        message = f"{file}: {error.strerror}"
        raise NoLogError(message) from None
