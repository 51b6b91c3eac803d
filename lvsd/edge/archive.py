"""Which files are a log, in which order: rotated and compressed ones together, by when each begins."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Self, TypeAlias

from lvsd.edge.excerpt import NoLogError
from lvsd.edge.forwards import DamagedError, lines_forwards, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Place: TypeAlias = tuple[str, int]
NOWHERE: Final[Place] = ("", 0)

STANDARD_INPUT: Final = "-"
HEAD: Final = 1000
"""Lines of a file in a directory in which there must be one of lvsd's, if it is a log."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a log: the place of its first line of lvsd's, NOWHERE where it has none.

    `begun` is what was read so far of one that cannot be read twice.
    """

    name: str
    begins: Place
    begun: Iterator[bytes] | None = None


class Archive:
    """The files that are one log, the oldest first; of a directory those in which lvsd wrote.

    `place_of` says when a line was written, and which it is of those of that moment; None where it is not
    lvsd's. Raise NoLogError where a file cannot be read.
    """

    def __init__(self, names: Sequence[str], place_of: Callable[[bytes], Place | None]) -> None:
        self._damaged: dict[str, str] = {}
        self._place_of = place_of
        self._stack = ExitStack()
        parts = [part for name in dict.fromkeys(names) for part in self._parts(name)]
        self.parts = sorted(parts, key=lambda part: part.begins)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all files."""
        for part in self.parts:
            if part.begun is not None:
                yield from part.begun
                continue
            with _errors_of(part.name), open(part.name, "rb") as file:  # noqa: PTH123
                yield from self._whole(part.name, lines_forwards(unpacked(file, part.name)))

    def notes(self) -> list[str]:
        """Return which files could not be read to their end, and why, once all lines are read."""
        return [f"{name} could not be read to its end: {why}" for name, why in self._damaged.items()]

    def _parts(self, name: str) -> Iterator[Part]:
        if name == STANDARD_INPUT:
            yield self._once(name, sys.stdin.buffer)
        elif Path(name).is_dir():
            yield from self._logs(sorted(str(each) for each in Path(name).iterdir()))
        else:
            yield self._file(name)

    def _logs(self, names: Iterable[str]) -> Iterator[Part]:
        """Return those of a directory's files that are logs."""
        for name in names:
            try:
                part = self._file(name, HEAD) if Path(name).is_file() else None
            except (NoLogError, OSError) as error:  # it may be no log at all
                self._damaged[name] = str(error)
                continue
            if part is not None and part.begins != NOWHERE:
                yield part

    def _file(self, name: str, head: int | None = None) -> Part:
        """Return a file as a part of the log, as far as its first `head` lines say, all of them for None."""
        with _errors_of(name):
            file = open(name, "rb")  # noqa: PTH123, SIM115 - one that is read once stays open
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return self._once(name, self._stack.enter_context(file))
            with file:
                lines = self._whole(name, lines_forwards(unpacked(file, name)))
                return Part(name, next(filter(None, map(self._place_of, islice(lines, head))), NOWHERE))

    def _once(self, name: str, file: IO[bytes]) -> Part:
        """Return what can be read once as a part of the log, with the lines up to its first one of lvsd's."""
        lines = self._whole(name, lines_forwards(unpacked(file, name)))
        head: deque[bytes] = deque(maxlen=HEAD)
        for line in lines:
            head.append(line)
            if begins := self._place_of(line):
                return Part(name, begins, chain(head, lines))
        return Part(name, NOWHERE, iter(head))

    def _whole(self, name: str, lines: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from lines
        except DamagedError as error:
            self._damaged[name] = str(error)


def siblings(file: str) -> list[str]:
    """Return a log file and what logrotate made of it, itself alone where there is nothing."""
    path = Path(file)
    try:
        beside = [str(each) for each in path.parent.iterdir() if _is_sibling(each.name, path.name)]
    except OSError:
        beside = []
    return [*([file] if path.exists() or not beside else []), *beside]


def _is_sibling(name: str, of: str) -> bool:
    return name.startswith((f"{of}.", f"{of}-"))


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Raise NoLogError where the file of that name cannot be opened."""
    try:
        yield
    except OSError as error:
        message = f"{name}: {error.strerror}"
        raise NoLogError(message) from None
