"""A reload touches what differs; names are looked up again, and one that fails changes nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from lvsd.config.frames import Loaded, pack
from lvsd.config.model import (
    Host,
    Initial,
    IpvsSettings,
    Level,
    LogFormat,
    LogSettings,
    OnFailure,
    OnStop,
    RealServer,
    Settings,
    VirtualService,
)
from lvsd.director import Director
from lvsd.edge.reload import Reloader
from lvsd.effects import Program, Report
from lvsd.events import ConfigLoaded, NameChanged, NameFailed
from lvsd.ipvs.ledger import row_of
from lvsd.model import Address, Forwarding, Instant, Protocol, Service, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.effects import Effect
    from lvsd.events import Event
    from lvsd.model import ServiceKey

SETTINGS = Settings("vs1", (), LogSettings(LogFormat.JSON, "", Level.INFO), IpvsSettings(10.0, OnStop.KEEP))
LITERAL = Host("192.0.2.3", Address.parse("192.0.2.3"))


def service(name: str, *hosts: Host, weight: int = 1) -> VirtualService:
    vip = Address.parse(f"192.0.2.{100 + len(name)}")
    return VirtualService(
        name=name,
        key=VirtualAddress(Protocol.TCP, vip, 80),
        vip=Host(str(vip), vip),
        service=Service("rr"),
        forwarding=Forwarding.NAT,
        check=None,
        initial=Initial.PROBE,
        on_failure=OnFailure.REMOVE,
        sorry_server=None,
        real_servers=tuple(RealServer(host, 80, weight) for host in hosts),
    )


def loaded(*services: VirtualService) -> Loaded:
    return Loaded("lvsd", ("lvsd.yaml",), SETTINGS, (), {each.name: pack(each) for each in services})


class Rehearsal:
    """A director that programs nothing, what it was asked to take in, and what was told."""

    def __init__(self) -> None:
        self.director = Director({})
        self.told: list[Event] = []
        list(self.director.read({}, Instant(0.0, 0.0)))
        self.reloader = Reloader(self.director, self._feed, self.told.append, self._write_down)
        self.written: set[ServiceKey] = set()
        self.programmed: set[ServiceKey] = set()

    def _feed(self, step: Callable[[Instant], list[Effect]]) -> None:
        for effect in step(Instant(1.0, 1.0)):
            if isinstance(effect, Report):
                self.told.append(effect.event)
            if isinstance(effect, Program):
                self.programmed |= {row_of(change)[0] for change in effect.changes}
                assert self.programmed <= self.written

    async def _write_down(self) -> None:
        self.written |= self.director.ledger.owned.keys()

    def loads(self) -> list[tuple[int, int, int]]:
        return [
            (event.added, event.edited, event.removed)
            for event in self.told
            if isinstance(event, ConfigLoaded)
        ]


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal()


async def test_what_is_programmed_was_written_down_before(rehearsal: Rehearsal) -> None:
    a = service("a", LITERAL)
    await rehearsal.reloader.apply("lvsd.yaml", loaded(a))
    assert rehearsal.programmed == {a.key}


async def test_a_reload_takes_in_what_differs_and_nothing_else(rehearsal: Rehearsal) -> None:
    a, bb, ccc = service("a", LITERAL), service("bb", LITERAL), service("ccc", LITERAL)
    await rehearsal.reloader.apply("lvsd.yaml", loaded(a, bb))
    kept = rehearsal.director.services["a"]
    await rehearsal.reloader.apply("lvsd.yaml", loaded(a, service("bb", LITERAL, weight=2), ccc))
    await rehearsal.reloader.apply("lvsd.yaml", loaded(a, ccc))
    await rehearsal.reloader.apply("lvsd.yaml", loaded(a, ccc))
    assert rehearsal.loads() == [(2, 0, 0), (1, 1, 0), (0, 0, 1), (0, 0, 0)]
    assert rehearsal.director.services["a"] is kept
    assert set(rehearsal.director.services) == {"a", "ccc"}


async def test_a_name_with_another_address_moves_its_server(rehearsal: Rehearsal) -> None:
    moving = Host("localhost", Address.parse("127.0.0.9"))
    await rehearsal.reloader.apply("lvsd.yaml", loaded(service("a", moving, LITERAL)))
    await rehearsal.reloader.resolve()
    servers = rehearsal.director.services["a"].real_servers
    assert [str(server.host.address) for server in servers] == ["127.0.0.1", "192.0.2.3"]
    assert NameChanged(host="localhost", old="127.0.0.9", new="127.0.0.1") in rehearsal.told


async def test_a_reload_after_a_move_sees_the_file_as_changed(rehearsal: Rehearsal) -> None:
    before = service("a", Host("localhost", Address.parse("127.0.0.9")))
    await rehearsal.reloader.apply("lvsd.yaml", loaded(before))
    await rehearsal.reloader.resolve()
    await rehearsal.reloader.apply("lvsd.yaml", loaded(before))
    assert rehearsal.director.services["a"] == before


async def test_a_name_that_no_longer_resolves_changes_nothing_and_is_told_once(rehearsal: Rehearsal) -> None:
    lost = service("a", Host("gone.invalid", Address.parse("192.0.2.4")), LITERAL)
    await rehearsal.reloader.apply("lvsd.yaml", loaded(lost))
    await rehearsal.reloader.resolve()
    await rehearsal.reloader.resolve()
    assert rehearsal.director.services["a"] == lost
    assert [event for event in rehearsal.told if isinstance(event, NameFailed)] == [
        NameFailed(hosts=["gone.invalid"])
    ]


async def test_literal_addresses_are_never_looked_up(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("lvsd.edge.names.resolve", lambda names: asked.extend(names) or {})
    await rehearsal.reloader.apply("lvsd.yaml", loaded(service("a", LITERAL)))
    await rehearsal.reloader.resolve()
    assert asked == []


async def test_a_reload_does_not_wait_for_a_look_up_that_hangs(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(_: object) -> dict[object, object]:
        asked.set()
        answered.wait(60)
        return {}

    monkeypatch.setattr("lvsd.edge.names.resolve", hang)
    await rehearsal.reloader.apply("lvsd.yaml", loaded(service("a", LITERAL)))
    looking = asyncio.create_task(rehearsal.reloader.resolve())
    await asyncio.to_thread(asked.wait, 20)
    await rehearsal.reloader.apply("lvsd.yaml", loaded(service("bb", LITERAL)))
    assert set(rehearsal.director.services) == {"bb"}
    answered.set()
    await looking


HANGING = """
import asyncio, socket, time
from lvsd.edge import names
from lvsd.edge.aside import aside
socket.getaddrinfo = lambda *_, **__: time.sleep(600)
async def main():
    look = lambda: names.resolve([("rs1", 4), ("rs2", 4)])
    try:
        async with asyncio.timeout(0.1):
            await aside(look, "names")
    except TimeoutError:
        print("stopped")
asyncio.run(main())
"""


def test_a_stop_does_not_wait_for_a_look_up_that_hangs() -> None:
    command = [sys.executable, "-c", HANGING]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    assert ended.stdout == "stopped\n"
