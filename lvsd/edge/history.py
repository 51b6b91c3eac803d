"""Reads a log back: from a file, from standard input or from the journal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import orjson

from lvsd.errors import LvsdError
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.events import Record

UNIT = "lvsd"
NEEDED = {"ts": str, "seq": int, "run": str, "event": str}


class NoLogError(LvsdError):
    """There is no log to read, or nothing of lvsd's in it."""


def fold(lines: Iterable[bytes], until: str) -> State:
    """Return the state that the lines up to the moment `until` tell, up to the last one where it is empty.

    Lines that are not lvsd's are passed over, and so is a torn one; one that lacks what it should have is a
    gap. Raise NoLogError where no line is lvsd's.
    """
    state = State()
    for record in records(lines):
        if until and record["ts"] > until:
            break
        try:
            state.fold(record)
        except (KeyError, TypeError, ValueError, AttributeError):
            state.lose()  # a line of lvsd's that lacks what it should have: damaged, or of a newer version
    if not state.run:
        before = f" up to {until}" if until else ""
        message = f"no line of lvsd's found{before}: is log.format `json`, and is this the right log?"
        raise NoLogError(message)
    return state


def records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the lines that are lvsd's."""
    for line in lines:
        start = line.find(b"{")
        if start < 0:
            continue
        try:
            record = orjson.loads(line[start:])
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and all(
            isinstance(record.get(field), kind) for field, kind in NEEDED.items()
        ):
            yield record


@contextmanager
def open_log(file: str) -> Iterator[IO[bytes]]:
    """Open the log in `file`, standard input for `-`, the journal of the unit where it is empty."""
    if file == "-":
        yield sys.stdin.buffer
    elif file:
        try:
            with open(file, "rb") as log:  # noqa: PTH123
                yield log
        except OSError as error:
            message = f"{file}: {error.strerror}"
            raise NoLogError(message) from None
    else:
        with _journal() as log:
            yield log


@contextmanager
def _journal() -> Iterator[IO[bytes]]:
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        message = "no log.file is configured, and there is no journalctl here: name a file with --log"
        raise NoLogError(message)
    argv = [journalctl, "--unit", UNIT, "--output", "cat", "--no-pager", "--quiet"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as reader:  # noqa: S603
        if reader.stdout is not None:
            yield reader.stdout
        reader.terminate()
