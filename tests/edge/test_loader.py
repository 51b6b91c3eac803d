"""Files read in this process, and this host's names."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from lvsd.config.source import Unreadable
from lvsd.edge.loader import Files
from lvsd.edge.names import SystemNames, resolve
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Run as a user who may read little."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("as_nobody")
def test_file_that_may_not_be_read_is_said_so() -> None:
    with pytest.raises(Unreadable, match=r"^may not be read by this user \(id \d+\)$"):
        Files().read("/proc/1/mem" if os.geteuid() else "/etc/shadow")


def look_up(answers: dict[tuple[str, int], list[str]]) -> Callable[..., list[object]]:
    """Return a getaddrinfo that knows `answers`."""

    def getaddrinfo(name: str, port: None, *, family: int, type: int) -> list[object]:  # noqa: A002
        found = answers.get((name, 4 if family == socket.AF_INET else 6))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, type, 6, "", (address, port)) for address in found]

    return getaddrinfo


def test_name_with_many_addresses_always_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for order in (["192.0.2.9", "192.0.2.7", "127.0.1.1"], ["127.0.1.1", "192.0.2.7", "192.0.2.9"]):
        monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): order}))
        assert resolve({("rs1", 4)}) == {("rs1", 4): Address.parse("192.0.2.7")}


def test_name_that_does_not_resolve_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): ["192.0.2.1"]}))
    assert resolve({("rs1", 4), ("rs1", 6), ("rs9", 4)}) == {("rs1", 4): Address.parse("192.0.2.1")}
    assert resolve(set()) == {}


def test_names_prefer_the_ip_version_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {("both", 4): ["192.0.2.1"], ("both", 6): ["2001:db8::1"], ("four", 4): ["192.0.2.4"]}
    monkeypatch.setattr(socket, "getaddrinfo", look_up(answers))
    names = SystemNames()
    assert str(names.address("both", 6)) == "2001:db8::1"
    assert str(names.address("both", 4)) == "192.0.2.1"
    assert str(names.address("four", 6)) == "192.0.2.4"
    assert names.address("nobody", 4) is None


def test_each_name_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SystemNames()
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): ["192.0.2.1"]}))
    names.prefetch([("rs1", 4), ("rs9", 4)])
    monkeypatch.setattr(socket, "getaddrinfo", look_up({}))
    assert str(names.address("rs1", 4)) == "192.0.2.1"
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs9", 4): ["192.0.2.9"]}))
    assert names.address("rs9", 4) is None


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "\u00fc" * 80, ""])
def test_impossible_names_do_not_resolve(name: str) -> None:
    assert SystemNames().address(name, 4) is None or name == ""


@pytest.mark.parametrize(("name", "port"), [("www", 80), ("http", 80), ("telnet", 23), ("nonesuch", None)])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_well_known_ports_have_names_even_without_etc_services(
    monkeypatch: pytest.MonkeyPatch, name: str, port: int | None, protocol: str
) -> None:
    assert SystemNames().port(name, protocol) == port

    def knows_none(name: str, protocol: str) -> int:
        raise OSError(name, protocol)

    monkeypatch.setattr(socket, "getservbyname", knows_none)
    assert SystemNames().port(name, protocol) == port


def test_hosts_file_is_heeded() -> None:
    assert SystemNames().address("localhost", 4) == Address.parse("127.0.0.1")
