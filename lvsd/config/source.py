"""What parsing needs from the system, as protocols; the real ones live in `lvsd.edge`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lvsd.config.model import DirectorAddress
    from lvsd.model import Address

MAX_BYTES = 16 * 1024 * 1024
"""The largest file that is read: some ten times a configuration of 5,000 services with 5 servers each."""


class Unreadable(Exception):  # noqa: N818 - what happened to the file, in the operator's words
    """A file or pattern that cannot be read; its text continues `FILE: …`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or symbolic link: its mode (st_mode), its owner's number, and the owner's name."""

    mode: int
    owner: int = 0
    name: str = "root"


@dataclass(frozen=True, slots=True)
class Program:
    """A file that is to be run, by the path that leads to it without a symbolic link.

    `way` has what is passed on the way to it, from `/` on: each directory and link, and the file at last.
    """

    file: str
    way: Mapping[str, Entry]

    @property
    def mode(self) -> int:
        """The file's own mode."""
        return self.way[self.file].mode


class Source(Protocol):
    """Where configuration files come from, and what else is looked at on this host."""

    def read(self, path: str) -> bytes:
        """Return the bytes of the file at `path`; raise Unreadable where there are none to be had."""

    def glob(self, pattern: str) -> Sequence[str]:
        """Return the paths that match `pattern`, sorted; none is fine."""

    def program(self, path: str) -> Program:
        """Return what the file at `path` is; raise Unreadable where that cannot be told."""

    def trusted(self, user: str) -> Collection[int]:
        """Return the numbers of those who may own what runs as `user`; empty means lvsd's own choice."""


class Interfaces(Protocol):
    """The interfaces of this host, as far as they exist."""

    def missed(self, vips: Collection[DirectorAddress]) -> Mapping[DirectorAddress, Sequence[str]]:
        """Return those of the VIPs that should lie in a network of their interface and lie in none.

        With each are the interface's own addresses, which are all but `vips`.
        """


class Names(Protocol):
    """What /etc/hosts, the DNS, /etc/services and the host itself know."""

    def prefetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Look up the (name, IP version) pairs that will be asked for, all at once."""

    def address(self, name: str, version: int) -> Address | None:
        """Return an address of `name`, of that IP version if it has one; None where nothing knows it."""

    def port(self, name: str, protocol: str) -> int | None:
        """Return the port that /etc/services gives `name`, or None."""

    def hostname(self) -> str:
        """Return this host's name."""
