"""What lvsd does unasked while it runs: it tells systemd, writes snapshots, and looks its names up again.

One network serves all tests of this file; each starts lvsd on an empty table.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import Watch, kernel, told
from waiting import until

from lvsd.lab.classic import REAL_SERVERS, VIP, classic
from lvsd.lab.director import START_WITHIN, DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page
from lvsd.lab.namespaces import MS_BIND, mount
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from lvsd.events import Record
    from lvsd.lab.machine import Machine

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, RS3 = ("192.168.0.3", 80), ("192.168.0.4", 80), ("192.168.0.5", 80)
WEB = ("TCP", VIP, 80)
CONFIG = f"""\
ipvs: {{reconcile: 500ms}}
virtual_services:
  web:
    address: {VIP}:80
    scheduler: rr
    check: {{type: http, interval: 500ms, fast_interval: 100ms}}
    real_servers: [192.168.0.4, shop]
"""
BY_NUMBER = CONFIG.replace("shop", "192.168.0.3")

PROGRAM = """\
import sys
from lvsd import cli
from lvsd.edge import reload, snapshots

{setting}
del sys.argv[1:4]  # the usual command, whose place this program takes: python -m lvsd
raise SystemExit(cli.main())
"""
EVENTS_BETWEEN = 25
"""Events from one snapshot to the next, instead of 10,000."""

RESOLVE_EVERY = 0.2
"""Seconds from one look-up of all names to the next, instead of 60."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        for host in REAL_SERVERS:
            await built.hosts[host].misbehave(80, Page())
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def vs1(lab: Lab) -> AsyncIterator[Machine]:
    """Yield the director's host, without rows or memory of an earlier lvsd."""
    vs1 = lab.hosts["vs1"]
    yield vs1
    for process in vs1.processes:
        process.kill()
        await process.wait()
    await vs1.run(["ipvsadm", "-C"])
    (vs1.directory / "run" / "state.json").unlink(missing_ok=True)


def changed(setting: str) -> list[str]:
    """Return the command line of an lvsd with one of its modules' settings changed."""
    return [sys.executable, "-c", PROGRAM.format(setting=setting)]


async def has(vs1: Machine, *servers: tuple[str, int]) -> bool:
    return weights(await vs1.read_table()).get(WEB) == dict.fromkeys(servers, 1)


class Systemd:
    """The end of the notification socket where systemd would listen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._socket.bind(str(path))

    def close(self) -> None:
        self._socket.close()

    async def hears(self, **fields: str) -> dict[str, str]:
        """Wait for a message whose fields match these patterns in full, and return it; earlier ones go."""
        async with asyncio.timeout(START_WITHIN):
            while True:
                message = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
                found = dict(line.split("=", 1) for line in message.decode().splitlines())
                self.told.append(found)
                if all(re.fullmatch(pattern, found.get(name, "")) for name, pattern in fields.items()):
                    return found


async def test_systemd_hears_of_start_reload_and_stop(vs1: Machine) -> None:
    with closing(Systemd(vs1.directory / "notify")) as systemd:
        director = await DirectorProcess.start(
            vs1, BY_NUMBER, wrapper=["env", f"NOTIFY_SOCKET={systemd.path}"]
        )
        ready = await systemd.hears(READY="1")
        assert systemd.told == [ready]
        assert re.fullmatch("[01] of 1 virtual services and [0-2] of 2 real servers up", ready["STATUS"])
        await systemd.hears(STATUS="1 of 1 virtual services and 2 of 2 real servers up")

        for text, event, rest in (
            (BY_NUMBER, "config.loaded", ""),
            ("virtual_services: 1\n", "config.rejected", "; the last reload was rejected"),
        ):
            systemd.told.clear()
            before = time.monotonic_ns() // 1000
            assert (await director.reload(text))["event"] == event
            answered = await systemd.hears(READY="1")
            (begun,) = [each for each in systemd.told if "RELOADING" in each]
            assert begun.keys() == {"RELOADING", "MONOTONIC_USEC"}
            assert begun["RELOADING"] == "1"
            assert before <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert answered["STATUS"].endswith(f"2 of 2 real servers up{rest}")

        systemd.told.clear()
        director.process.signal(signal.SIGTERM)
        await systemd.hears(STOPPING="1")
        assert await director.process.wait(START_WITHIN) == 0
        assert not any("READY" in each for each in systemd.told)


async def test_a_snapshot_follows_after_so_many_events(vs1: Machine) -> None:
    director = await DirectorProcess.start(
        vs1, BY_NUMBER, wrapper=changed(f"snapshots.EVENTS_BETWEEN = {EVENTS_BETWEEN}")
    )
    await until(lambda: has(vs1, RS1, RS2))
    await director.saw("snapshot.end")

    async def thrice() -> bool:
        """Clear the table, whose rows come back, each with its line; tell whether that was enough."""
        after = director.seq
        await vs1.run(["ipvsadm", "-C"])
        await director.saw("service.added", after=after, cause="mended")
        await until(lambda: has(vs1, RS1, RS2))
        return len(director.found("snapshot.begin", reason=f"{EVENTS_BETWEEN} events")) >= 3

    await until(thrice, timeout=120.0)
    between = events_between_snapshots(director.lines())
    assert len(between) >= 3
    # What is decided at once is told before anybody counts.
    assert all(EVENTS_BETWEEN <= count < EVENTS_BETWEEN + 10 for count in between), between

    async def as_told() -> bool:
        return kernel(await vs1.read_table()) == told(director.state())

    await until(as_told)


def events_between_snapshots(lines: list[Record]) -> list[int]:
    """Return how many lines there were before each snapshot that came of their number."""
    counts, end = [], 0
    for line in lines:
        if line["event"] == "snapshot.begin" and line["reason"] == f"{EVENTS_BETWEEN} events":
            counts.append(line["seq"] - end - 1)
        elif line["event"] == "snapshot.end":
            end = line["seq"]
    return counts


async def test_a_name_is_followed_to_its_new_address_and_kept_where_it_was_when_it_is_gone(
    vs1: Machine,
) -> None:
    await name_is(vs1, "shop", RS1[0])
    director = await DirectorProcess.start(
        vs1, CONFIG, wrapper=changed(f"reload.RESOLVE_EVERY = {RESOLVE_EVERY}")
    )
    await until(lambda: has(vs1, RS1, RS2))

    await name_is(vs1, "shop", RS3[0])
    await director.saw("name.changed", host="shop", old=RS1[0], new=RS3[0])
    await until(lambda: has(vs1, RS2, RS3))
    await director.saw("server.removed", server="192.168.0.3:80", cause="config")

    async with Watch(vs1) as watch:
        await name_is(vs1, "nothing", RS3[0])
        failed = await director.saw("name.failed", hosts=["shop"], level="warning")
        await asyncio.sleep(10 * RESOLVE_EVERY)
    assert watch.of(WEB) == [{RS2: 1, RS3: 1}]
    assert director.found("name.failed") == [failed], "it is told once"
    assert len(director.found("name.changed")) == 1

    await name_is(vs1, "shop", RS1[0])
    await director.saw("name.changed", host="shop", old=RS3[0], new=RS1[0])
    await until(lambda: has(vs1, RS1, RS2))


async def name_is(machine: Machine, name: str, address: str) -> None:
    """Put another /etc/hosts, where just this name is, over that of a host, at one stroke."""
    file = machine.directory / f"hosts.{name}.{address}"
    file.write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    await machine.do(mount, str(file), "/etc/hosts", flags=MS_BIND)
