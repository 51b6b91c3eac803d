"""lvsd comes back, from whatever moment it was killed in: nothing that it knew is forgotten.

One network serves all tests of this file; each starts lvsd on an empty table.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import Watch, kernel, told
from waiting import until

import lvsd
from lvsd.lab.classic import CLIENT, REAL_SERVERS, VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, RS3 = "192.168.0.3", "192.168.0.4", "192.168.0.5"
WWW, OTHER, FOREIGN = ("TCP", VIP, 80), ("TCP", VIP, 81), ("TCP", VIP, 999)
CONFIG = f"""\
director:
  addresses:
    - {{address: {VIP}/24, interface: eth0, label: "eth0:101"}}
ipvs: {{reconcile: 1s, on_stop: keep}}
checks:
  web: {{type: http, interval: 500ms, fast_interval: 100ms}}
virtual_services:
  www:
    address: {VIP}:80
    scheduler: rr
    check: web
    real_servers: [rs1, rs2, {{address: rs3, weight: 3}}]
  other:
    address: {VIP}:81
    check: none
    on_failure: quiesce
    real_servers: [rs1, rs2]
"""
ALL = {WWW: {(RS1, 80): 1, (RS2, 80): 1, (RS3, 80): 3}, OTHER: {(RS1, 81): 1, (RS2, 81): 1}}
EXPIRE = Path("/proc/sys/net/ipv4/vs/expire_nodest_conn")
RS1_DEAD = {**ALL, WWW: {(RS2, 80): 1, (RS3, 80): 3}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        # A client's port may have been used in an earlier test, for a row that is gone.
        await built.hosts["vs1"].do(EXPIRE.write_text, "1")
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(lab: Lab) -> dict[str, MisbehavingServer]:
    return {host: await lab.hosts[host].misbehave(80, Page(f"{host}\n")) for host in REAL_SERVERS}


@pytest_asyncio.fixture(loop_scope="module")
async def vs1(lab: Lab, servers: dict[str, MisbehavingServer]) -> AsyncIterator[Machine]:
    """Yield the director's host without rows, VIPs or memory of an earlier lvsd, and all servers well."""
    for host, server in servers.items():
        await server.behave(Page(f"{host}\n"))
    vs1 = lab.hosts["vs1"]
    yield vs1
    for process in vs1.processes:
        process.kill()
        await process.wait()
    await vs1.run(["/usr/sbin/ipvsadm", "-C"])
    for address in await vs1.addresses():
        if address.label.startswith("eth0:"):
            await ip(vs1, "address", "del", address.address, "dev", "eth0")
    state_file(vs1).unlink(missing_ok=True)


def state_file(vs1: Machine) -> Path:
    return vs1.directory / "run" / "state.json"


async def ip(vs1: Machine, *words: str) -> None:
    await vs1.run(["/sbin/ip", *words])


async def ipvsadm(vs1: Machine, *words: str) -> None:
    await vs1.run(["/usr/sbin/ipvsadm", *words])


async def shows(vs1: Machine, rows: dict[tuple[str, str, int], dict[tuple[str, int], int]]) -> None:
    """Wait until the table has just these rows."""

    async def has() -> bool:
        return weights(await vs1.read_table()) == rows

    await until(has)


def moves(director: DirectorProcess) -> list[str]:
    """Return the events of the latest start that say that a row or an address came, changed or went."""
    named = ("service.", "server.", "address.removed")
    return [record["event"] for record in director.lines() if record["event"].startswith(named)]


async def test_kill_9_at_any_moment_loses_no_request_and_moves_no_row(
    lab: Lab, vs1: Machine, servers: dict[str, MisbehavingServer]
) -> None:
    await servers["rs1"].behave(Refuse())
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, RS1_DEAD)
    client = await lab.hosts[CLIENT].request_every(0.05, VIP)
    chance = random.Random(2)  # noqa: S311 - the same moments each time
    async with Watch(vs1) as watch:
        await director.kill()
        for _ in range(4):
            await director.begin()
            # Somewhere from the imports to the first probes; a start takes some seconds here.
            await asyncio.sleep(chance.uniform(0.0, 6.0))
            await director.kill()
        await director.restart()
        await director.saw("health.changed", server=f"{RS2}:80", new="up")
    await client.stop()
    assert client.failures == (), client.summary()
    assert client.bodies().keys() == {"rs2", "rs3"}
    assert watch.seen == [RS1_DEAD]
    assert moves(director) == []
    assert kernel(await vs1.read_table()) == told(director.state())


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_a_dead_server_stays_out_over_a(
    vs1: Machine, servers: dict[str, MisbehavingServer], how: str
) -> None:
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, ALL)
    await servers["rs1"].behave(Refuse())
    await shows(vs1, RS1_DEAD)
    await (director.stop() if how == "restart" else director.kill())
    async with Watch(vs1) as watch:
        await director.restart()
        await director.saw("health.changed", server=f"{RS3}:80", new="up")
        await director.saw("snapshot.end")
        state = director.state().to_json()["virtual_services"]["www"]["real_servers"]
        assert state[f"{RS1}:80"]["health"] == "down"
    assert watch.seen == [RS1_DEAD]
    await servers["rs1"].behave(Page("rs1\n"))
    await shows(vs1, ALL)


async def test_an_upgrade_loses_no_request_and_moves_no_row(
    lab: Lab, vs1: Machine, servers: dict[str, MisbehavingServer]
) -> None:
    newer = vs1.directory / "newer"
    shutil.copytree(Path(lvsd.__file__).parent, newer / "lvsd")
    (newer / "lvsd" / "__init__.py").write_text('__version__ = "99.0"\n')
    await servers["rs1"].behave(Refuse())
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, RS1_DEAD)
    client = await lab.hosts[CLIENT].request_every(0.05, VIP)
    async with Watch(vs1) as watch:
        await director.stop()
        await director.begin(wrapper=["env", "-C", str(newer)])
        await director.saw("health.changed", server=f"{RS2}:80", new="up")
        await director.saw("health.changed", server=f"{RS3}:80", new="up")
    await client.stop()
    assert director.found("director.started", version="99.0")
    assert client.failures == (), client.summary()
    assert watch.seen == [RS1_DEAD]
    assert moves(director) == []


async def test_a_server_that_dies_or_comes_back_while_lvsd_is_gone_is_found(
    vs1: Machine, servers: dict[str, MisbehavingServer]
) -> None:
    await servers["rs1"].behave(Refuse())
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, RS1_DEAD)
    await director.kill()
    await servers["rs1"].behave(Page("rs1\n"))
    await servers["rs2"].behave(Refuse())
    await director.restart()
    await shows(vs1, {**ALL, WWW: {(RS1, 80): 1, (RS3, 80): 3}})


async def test_what_is_found_in_the_table_and_on_the_interface_is_adopted(vs1: Machine) -> None:
    await ip(vs1, "address", "add", f"{VIP}/24", "dev", "eth0", "label", "eth0:101")
    await ipvsadm(vs1, "-A", "-t", f"{VIP}:80", "-s", "rr")
    for server, weight in (RS1, "1"), (RS2, "1"), (RS3, "3"):
        await ipvsadm(vs1, "-a", "-t", f"{VIP}:80", "-r", f"{server}:80", "-g", "-w", weight)
    async with Watch(vs1) as watch:
        director = await DirectorProcess.start(vs1, CONFIG)
        await shows(vs1, ALL)
    assert watch.of(WWW) == [ALL[WWW]]
    assert await vs1.has_address(VIP)
    assert director.found("address.added", address=f"{VIP}/24", cause="adopted")
    assert director.found("service.removed") == director.found("address.removed") == []


@pytest.mark.parametrize("content", [b"", b'{"version": 99}', None], ids=["empty", "newer", "gone"])
async def test_a_lost_state_file_costs_no_forwarding(
    lab: Lab, vs1: Machine, servers: dict[str, MisbehavingServer], content: bytes | None
) -> None:
    await servers["rs1"].behave(Refuse())
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, RS1_DEAD)
    await director.kill()
    if content is None:
        state_file(vs1).unlink()
    else:
        state_file(vs1).write_bytes(content)
    client = await lab.hosts[CLIENT].request_every(0.1, VIP)
    async with Watch(vs1) as watch:
        await director.restart()
        await director.saw("health.changed", server=f"{RS1}:80", new="down")
    await client.stop()
    assert client.failures == (), client.summary()
    assert watch.seen == [RS1_DEAD]
    assert bool(director.found("state.lost", level="warning")) is (content is not None)
    # It is whole again by itself.
    await director.kill()
    await director.restart()
    assert director.found("state.lost") == []


async def test_what_left_the_configuration_while_lvsd_was_gone_is_removed_at_start(vs1: Machine) -> None:
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, ALL)
    await ipvsadm(vs1, "-A", "-t", f"{VIP}:999", "-s", "rr")
    await director.kill()
    director.config.write_text(CONFIG[: CONFIG.index("  other:")].replace("rs2, ", ""))
    await director.restart()
    await shows(vs1, {WWW: {(RS1, 80): 1, (RS3, 80): 3}, FOREIGN: {}})
    assert director.found("server.removed", server=f"{RS2}:80", cause="config")
    assert director.found("service.removed", address=f"{VIP}:81", cause="config")


async def test_a_vip_that_left_the_configuration_while_lvsd_was_gone_is_removed_at_start(
    vs1: Machine,
) -> None:
    director = await DirectorProcess.start(vs1, CONFIG)
    assert await vs1.has_address(VIP)
    await director.kill()
    director.config.write_text(CONFIG[CONFIG.index("ipvs:") :])
    await director.restart()

    async def gone() -> bool:
        return not await vs1.has_address(VIP)

    await until(gone)
    await director.saw("address.removed", address=f"{VIP}/24", cause="config")


async def test_a_dead_server_does_not_come_back_with_a_mended_table(
    vs1: Machine, servers: dict[str, MisbehavingServer]
) -> None:
    director = await DirectorProcess.start(vs1, CONFIG)
    await shows(vs1, ALL)
    await servers["rs1"].behave(Refuse())
    await shows(vs1, RS1_DEAD)
    after = director.seq
    await ipvsadm(vs1, "-C")
    await director.saw("service.added", after=after, service="www", cause="mended")
    await shows(vs1, RS1_DEAD)
    # A row that somebody puts in for a dead server goes again.
    await ipvsadm(vs1, "-a", "-t", f"{VIP}:80", "-r", f"{RS1}:80", "-g")
    await director.saw("server.added", after=after, server=f"{RS1}:80", cause="drift")
    await director.saw("server.removed", after=after, server=f"{RS1}:80", cause="mended")
    await shows(vs1, RS1_DEAD)
    assert kernel(await vs1.read_table()) == told(director.state())
