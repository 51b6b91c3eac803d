"""A file's lines from its end, and the end of what it says up to a moment: neither reads the whole of it."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK: Final = 256 * 1024
LONGEST: Final = 64 * 1024
"""Bytes of a line that is looked at: four times what lvsd writes."""

TOO_LONG: Final = b"\0"
"""What is left of a longer one, so that nobody takes it for what its beginning looks like."""


def lines_backwards(file: IO[bytes], end: int) -> Iterator[bytes]:
    """Yield the lines in the first `end` bytes of `file`, the last one first."""
    rest = b""
    while end > 0:
        begin = max(0, end - BLOCK)
        file.seek(begin)
        rest, *lines = (file.read(end - begin) + rest).split(b"\n")
        yield from reversed(lines)
        if len(rest) > LONGEST:
            rest = TOO_LONG
        end = begin
    yield rest


def end_of(file: IO[bytes], until: str, moment: Callable[[bytes], str | None]) -> int:
    """Return where the lines of `file` that are later than `until` begin; where it is empty, the end.

    `moment` says when a line was written, None where it has no such thing. Lines are in the order of time.
    """
    low, high = 0, file.seek(0, os.SEEK_END)
    while until and low < high:
        middle = (low + high) // 2
        at, end = _line_after(file, middle, high, moment)
        if at is not None and at <= until:
            low = end
        else:
            high = middle
    return low if until else high


def _line_after(
    file: IO[bytes], begin: int, end: int, moment: Callable[[bytes], str | None]
) -> tuple[str | None, int]:
    """Return the moment of the first line that has one and begins between `begin` and `end`; and its end."""
    file.seek(max(0, begin - 1))
    if begin:
        _to_the_next_line(file)
    while file.tell() < end and (line := file.readline(LONGEST)):
        if (at := moment(line)) is not None:
            return at, file.tell()
    return None, end


def _to_the_next_line(file: IO[bytes]) -> None:
    while (part := file.readline(LONGEST)) and not part.endswith(b"\n"):
        pass
