"""A log that nobody reads until lvsd's whole queue is full; nothing else may notice.

lvsd writes to a pipe. What is read from it in the end must say how much is missing, and then be right again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import kernel, told
from waiting import until

from lvsd.edge.history import records
from lvsd.lab import quick
from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import START_WITHIN
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse
from lvsd.lab.table import weights
from lvsd.state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tables import Rows

    from lvsd.events import Record
    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer
    from lvsd.lab.process import Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2 = ("192.168.0.3", 80), ("192.168.0.4", 80)
WEB = ("TCP", VIP, 80)
LIMIT = 1 << 19
"""Bytes that may wait here, instead of 32 MiB, which take minutes to fill on this kernel."""

PROGRAM = f"""
from lvsd import cli
from lvsd.edge import outlet

outlet.QUEUE_LIMIT = {LIMIT}
raise SystemExit(cli.main())
"""
ROUNDS = 6
"""How often all rows go and come back until the queue is full for sure, at a line a row."""

MANY = [f"10.0.{high}.{low}" for high in range(4) for low in range(1, 251)]
"""Real servers of a service that is never probed: their rows are what fills the log."""


@dataclass
class Piped:
    """lvsd whose standard output is a pipe that is read when asked, and then only."""

    machine: Machine
    config: Path
    process: Process
    reader: int
    received: bytearray = field(default_factory=bytearray)

    @classmethod
    async def start(cls, machine: Machine, text: str) -> Piped:
        config, fifo = machine.directory / "piped.yaml", machine.directory / "fifo"
        config.write_text(text)
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        argv = ["/bin/sh", "-c", 'exec "$@" >"$0"', str(fifo), sys.executable, "-c", PROGRAM]
        argv += ["run", "-c", str(config)]
        return cls(machine, config, await machine.start(argv, name="piped", env=quick.ENVIRONMENT), reader)

    def read(self) -> None:
        """Take what is in the pipe now."""
        try:
            while chunk := os.read(self.reader, 1 << 16):
                self.received += chunk
        except BlockingIOError:
            pass

    async def drain(self) -> None:
        """Read until nothing more comes."""
        before = -1
        while len(self.received) > before:
            before = len(self.received)
            self.read()
            await asyncio.sleep(0.3)

    def lines(self) -> list[Record]:
        """Return the whole lines read so far."""
        whole = self.received[: self.received.rfind(b"\n") + 1]
        return list(records(bytes(whole).splitlines(keepends=True)))

    async def saw(self, event: str, *, within: float = START_WITHIN, **fields: object) -> Record:
        """Read until there is such a line, and return the first."""
        async with asyncio.timeout(within):
            while True:
                self.read()
                for record in self.lines():
                    if record["event"] == event and fields.items() <= record.items():
                        return record
                await asyncio.sleep(0.1)

    async def rows(self) -> Rows:
        return kernel(await self.machine.read_table())


def config(weight: int = 1, log: str = "{}") -> str:
    """Return the web service, that is probed, and the large one."""
    servers = "\n".join(f"      - {{address: {address}, weight: {weight}}}" for address in MANY)
    return f"""\
log: {log}
ipvs: {{reconcile: 500ms}}
virtual_services:
  web:
    address: {VIP}:80
    check: {{type: http, interval: 500ms, fast_interval: 100ms}}
    real_servers: [rs1, rs2]
  many:
    address: {VIP}:1000
    check: none
    real_servers:
{servers}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def servers(lab: Lab) -> AsyncIterator[list[MisbehavingServer]]:
    servers = [await lab.hosts[host].misbehave(80, Page()) for host in ("rs1", "rs2")]
    yield servers
    for server in servers:
        await server.close()


@pytest_asyncio.fixture(loop_scope="module")
async def piped(lab: Lab, servers: list[MisbehavingServer]) -> AsyncIterator[Piped]:
    """Yield lvsd with all rows in the table and its log stuck from now on."""
    assert servers
    vs1 = lab.hosts["vs1"]
    piped = await Piped.start(vs1, config())
    await piped.saw("director.ready")
    await until(lambda: _has(piped, {RS1: 1, RS2: 1}))
    yield piped
    os.close(piped.reader)
    piped.process.kill()
    await piped.process.wait()
    await vs1.run(["ipvsadm", "-C"])


async def test_with_its_log_full_it_goes_on_and_tells_afterwards_how_much_is_missing(
    piped: Piped, servers: list[MisbehavingServer]
) -> None:
    for _ in range(ROUNDS):
        await _more_events(piped)
        accepted = servers[0].accepted
        await until(lambda before=accepted: _probed(servers[0], before + 1))
    # It is full, and probes go on; who dies goes, who is well comes back.
    began, before = asyncio.get_running_loop().time(), servers[1].accepted
    await servers[0].behave(Refuse())
    await until(lambda: _has(piped, {RS2: 1}))
    await servers[0].behave(Page())
    await until(lambda: _has(piped, {RS1: 1, RS2: 1}))
    elapsed = asyncio.get_running_loop().time() - began
    assert servers[1].accepted - before >= elapsed / 0.5 - 2
    dropped = await piped.saw("log.dropped")
    assert dropped["level"] == "warning"
    await piped.saw("snapshot.begin", reason="lines lost")
    await until(lambda: _tells(piped))
    numbers = [record["seq"] for record in piped.lines()]
    gaps = sum(b - a - 1 for a, b in pairwise(numbers))
    counts = [record["count"] for record in piped.lines() if record["event"] == "log.dropped"]
    assert 0 < gaps == sum(counts) < ROUNDS * len(MANY)


async def test_lines_lost_are_told_though_nothing_more_happens(piped: Piped) -> None:
    for _ in range(ROUNDS):
        await _more_events(piped)
    await piped.saw("log.dropped")


@pytest.mark.parametrize("filled", [False, True], ids=["stuck", "full"])
async def test_a_reload_takes_the_log_away_from_a_pipe_that_nobody_reads(
    piped: Piped, *, filled: bool
) -> None:
    file = piped.machine.directory / "log" / "lvsd.log"
    file.unlink(missing_ok=True)
    for _ in range(ROUNDS if filled else 1):
        await _more_events(piped)
    piped.config.write_text(config(weight=2, log="{file: /var/log/lvsd.log}"))
    piped.process.signal(signal.SIGHUP)
    await until(lambda: _is_whole(piped, weight=2), timeout=START_WITHIN)

    async def told_there() -> bool:
        state = _fold(list(records(file.read_bytes().splitlines(keepends=True))) if file.exists() else [])
        return state.complete and told(state) == await piped.rows()

    await until(told_there)


async def _more_events(piped: Piped) -> None:
    """Clear the table, and wait until all rows are back: each is told."""
    await piped.machine.run(["ipvsadm", "-C"])
    await until(lambda: _is_whole(piped))


async def _has(piped: Piped, servers: dict[tuple[str, int], int]) -> bool:
    return weights(await piped.machine.read_table()).get(WEB) == servers


async def _is_whole(piped: Piped, weight: int = 1) -> bool:
    rows = weights(await piped.machine.read_table()).get(("TCP", VIP, 1000), {})
    return len(rows) == len(MANY) and set(rows.values()) == {weight}


async def _probed(server: MisbehavingServer, least: int) -> bool:
    return server.accepted >= least


async def _tells(piped: Piped) -> bool:
    """Tell whether the log, read so far, says what the kernel has."""
    piped.read()
    state = _fold(piped.lines())
    return state.complete and told(state) == await piped.rows()


def _fold(lines: list[Record]) -> State:
    state = State()
    for record in lines:
        state.fold(record)
    return state
