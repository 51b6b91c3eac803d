"""A little world of names and files to load configurations in."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Protocol

import pytest

from lvsd.config.load import load
from lvsd.config.source import Entry, Program, Unreadable
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from lvsd.config.model import Config, Note

HOSTS = {f"rs{number}": Address.parse(f"192.168.0.{number + 2}") for number in range(1, 6)}
HOSTS6 = {
    "rs3": Address.parse("2001:db8::5"),
    "six": Address.parse("2001:db8::6"),
    "far": Address.parse("fe80::3"),
}
NOTIFY = "/etc/lvsd/notify.sh"
PROGRAMS = {
    NOTIFY: Program(
        NOTIFY,
        {
            "/": Entry(0o40755),
            "/etc": Entry(0o40755),
            "/etc/lvsd": Entry(0o40755),
            NOTIFY: Entry(0o100755),
        },
    )
}
USERS = {"": 65534, "root": 0, "lvsd": 990}
PORTS = {"www": 80, "http": 80, "telnet": 23, "domain": 53, "ssh": 22, "smtp": 25, "sip": 5060}


@dataclass
class FakeNames:
    """rs1 to rs5, some of them with IPv6; remembers what it was asked."""

    asked: list[tuple[str, int]] = field(default_factory=list)
    prefetched: list[tuple[str, int]] = field(default_factory=list)

    def prefetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        self.prefetched += wanted

    def address(self, name: str, version: int) -> Address | None:
        self.asked.append((name, version))
        first, second = (HOSTS, HOSTS6) if version == 4 else (HOSTS6, HOSTS)
        return first.get(name) or second.get(name)

    def port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002 - as the real one
        return PORTS.get(name)

    def hostname(self) -> str:
        return "vs1"


@dataclass
class Texts:
    """Files that are given as texts."""

    texts: dict[str, str | bytes]
    programs: dict[str, Program] = field(default_factory=PROGRAMS.copy)

    def read(self, path: str) -> bytes:
        if path not in self.texts:
            message = "does not exist"
            raise Unreadable(message)
        text = self.texts[path]
        return text if isinstance(text, bytes) else text.encode()

    def glob(self, pattern: str) -> Sequence[str]:
        return sorted(path for path in self.texts if fnmatch(path, pattern))

    def program(self, path: str) -> Program:
        if path not in self.programs:
            message = "does not exist on this host"
            raise Unreadable(message)
        return self.programs[path]

    def trusted(self, user: str) -> Collection[int]:
        return {0, USERS.get(user, 0)}


class Loads(Protocol):
    """Loads `text` as lvsd.yaml, with further files beside it."""

    def __call__(self, text: str | bytes, **files: str) -> tuple[Config, tuple[Note, ...]]: ...


@pytest.fixture
def names() -> FakeNames:
    return FakeNames()


@pytest.fixture
def loads(names: FakeNames) -> Loads:
    def loads(text: str | bytes, **files: str) -> tuple[Config, tuple[Note, ...]]:
        others = {f"{name}.yaml": other for name, other in files.items()}
        return load("lvsd.yaml", Texts({"lvsd.yaml": text, **others}), names)

    return loads
