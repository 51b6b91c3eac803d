"""lvsd killed in the midst of thousands of changes: the next start ends what was begun, and harms nothing.

One network serves all tests of this file; each begins with an empty table.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import kernel, remembered, told
from waiting import until

from lvsd.lab.classic import CLIENT, VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page
from lvsd.lab.table import parse_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tables import Rows

    from lvsd.lab.machine import Machine
    from lvsd.lab.table import RowKey, TableKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, STRANGER = "192.168.0.3", "192.168.0.4", "192.168.0.9"
WEB = ("TCP", VIP, 80)
PORTS, OTHER_PORTS = range(1000, 1800), range(1400, 2200)
"""800 services before and after a reload, of which half stay."""
FOREIGN: Rows = {("TCP", VIP, 999): ("rr", {(STRANGER, 999): ("dr", 3)})}
TABLE = Path("/proc/thread-self/net/ip_vs")


def config(ports: range, weight: int = 1) -> str:
    """Return the web service, which clients use, and one on each port."""
    services = [
        f"  s{port}: {{address: '{VIP}:{port}', check: none, "
        f"real_servers: [{RS1}, {{address: {RS2}, weight: {weight}}}]}}\n"
        for port in ports
    ]
    web = f"  web: {{address: '{VIP}:80', check: none, scheduler: rr, real_servers: [{RS1}, {RS2}]}}\n"
    vip = f"director: {{addresses: [{{address: {VIP}/24, interface: eth0}}]}}\n"
    return f"{vip}virtual_services:\n{web}{''.join(services)}"


def wanted(ports: range, weight: int = 1) -> Rows:
    """Return the rows that `config` asks for."""
    web: Rows = {WEB: ("rr", {(RS1, 80): ("dr", 1), (RS2, 80): ("dr", 1)})}
    return web | {
        ("TCP", VIP, port): ("wlc", {(RS1, port): ("dr", 1), (RS2, port): ("dr", weight)}) for port in ports
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        for host in "rs1", "rs2":
            await built.hosts[host].misbehave(80, Page(f"{host}\n"))
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def vs1(lab: Lab) -> AsyncIterator[Machine]:
    """Yield the director's host, with a foreign service in its table."""
    vs1 = lab.hosts["vs1"]
    await vs1.run(["ipvsadm", "-A", "-t", f"{VIP}:999", "-s", "rr"])
    await vs1.run(["ipvsadm", "-a", "-t", f"{VIP}:999", "-r", f"{STRANGER}:999", "-g", "-w", "3"])
    yield vs1
    for process in vs1.processes:
        process.kill()
        await process.wait()
    await vs1.run(["ipvsadm", "-C"])
    _state(vs1).unlink(missing_ok=True)


async def test_a_start_killed_again_and_again_is_ended_by_the_next(lab: Lab, vs1: Machine) -> None:
    director = await DirectorProcess.start(vs1, config(range(0)))
    client = await lab.hosts[CLIENT].request_every(0.05, VIP)
    await director.kill()
    director.config.write_text(config(PORTS))
    for share in 0.01, 0.4, 0.8:
        await director.begin()
        await vs1.do(_kill_at, director.process.pid, round(share * 2 * len(PORTS)))
        # Nothing of a batch is torn: what there is is right, and what was there still is.
        found = kernel(await vs1.read_table())
        assert len(found) < len(PORTS), "it was killed when all was done"
        assert found[WEB] == wanted(PORTS)[WEB]
        assert all(rows.items() <= wanted(PORTS)[key][1].items() for key, (_, rows) in _own(found).items())
        assert {key: found[key] for key in FOREIGN} == FOREIGN
    await director.restart()
    await _has_settled(director, wanted(PORTS))
    await client.stop()
    assert client.failures == (), client.summary()
    moves = {record["event"] for record in director.lines(whole=True)}
    assert not moves & {"server.removed", "server.edited", "service.removed", "service.edited", "state.lost"}


@pytest.mark.parametrize("after", ["the new file", "the old file"])
async def test_a_reload_killed_midway_is_ended_or_undone_by_a_start_on(
    lab: Lab, vs1: Machine, after: str
) -> None:
    director = await DirectorProcess.start(vs1, config(PORTS))
    await _has_settled(director, wanted(PORTS))
    client = await lab.hosts[CLIENT].request_every(0.05, VIP)
    director.config.write_text(config(OTHER_PORTS, weight=2))
    before = await vs1.do(TABLE.read_text)
    director.process.signal(signal.SIGHUP)
    await vs1.do(_kill_at_first, director.process.pid, before)
    midway = _own(kernel(await vs1.read_table()))
    assert midway not in (wanted(PORTS), wanted(OTHER_PORTS, weight=2))
    assert midway[WEB] == wanted(PORTS)[WEB]
    if after == "the old file":
        director.config.write_text(config(PORTS))
    await director.restart()
    await _has_settled(director, wanted(PORTS) if after == "the old file" else wanted(OTHER_PORTS, weight=2))
    await client.stop()
    assert client.failures == (), client.summary()
    assert director.found("state.lost") == []


async def _has_settled(director: DirectorProcess, rows: Rows) -> None:
    """Wait until table, log and state file have all these rows, and the table the foreign ones too."""
    vs1 = director.machine

    async def settled() -> bool:
        return kernel(await vs1.read_table()) == rows | FOREIGN and remembered(vs1) == _keys(rows)

    try:
        await until(settled)
    except TimeoutError:
        table, found = kernel(await vs1.read_table()), remembered(vs1)
        differing = [key for key in table.keys() | rows.keys() if (rows | FOREIGN).get(key) != table.get(key)]
        strange = [key for key in {**found, **rows} if found.get(key) != _keys(rows).get(key)]
        pytest.fail(f"{len(differing)} services differ: {differing[:5]}; remembered otherwise: {strange[:5]}")
    assert told(director.state()) == rows


def _own(rows: Rows) -> Rows:
    return {key: row for key, row in rows.items() if key not in FOREIGN}


def _state(vs1: Machine) -> Path:
    return vs1.directory / "run" / "state.json"


def _keys(rows: Rows) -> dict[TableKey, set[RowKey]]:
    return {key: set(servers) for key, (_, servers) in rows.items()}


def _kill_at(pid: int, least: int) -> None:
    """Kill a process once the table has that many real servers on the services' ports."""
    give_up_at = time.monotonic() + 30.0
    while TABLE.read_text().count("->") - 4 < least:  # but for the heading, the web service, the stranger
        if time.monotonic() > give_up_at:
            message = f"there never were {least} real servers"
            raise TimeoutError(message)
        time.sleep(0.001)
    os.killpg(pid, signal.SIGKILL)


def _kill_at_first(pid: int, before: str) -> None:
    """Kill a process once it has added a service to the table."""
    give_up_at = time.monotonic() + 30.0
    known = parse_table(before)
    while parse_table(TABLE.read_text()).keys() <= known.keys():
        if time.monotonic() > give_up_at:
            message = "no service ever came"
            raise TimeoutError(message)
    os.killpg(pid, signal.SIGKILL)
