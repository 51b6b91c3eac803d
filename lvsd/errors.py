"""The exceptions: each one means that somebody must act, and says where and what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class LvsdError(Exception):
    """The root of all that lvsd raises on purpose. As text it is fit for a terminal."""

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


def printable(text: str) -> str:
    r"""Return `text` with all that could move a cursor, colour or turn round a line written as in `\x1b`.

    What is printed may come from a file, a log or a server, and a terminal does what such characters say.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the configuration something stands; line and column count from 1, 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a configuration: where, at which path, and what to write instead."""

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.place}: {self.path}" if self.path else str(self.place)
        return printable(f"{where}: {self.message}")


class ConfigError(LvsdError):
    """A configuration that cannot be used, with every mistake that was found in it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


class PacketError(LvsdError):
    """A peer's packet cannot be used; the text says why, in words that follow its name."""


class KernelError(LvsdError):
    """The host's kernel or the rights on it do not allow what lvsd needs."""
