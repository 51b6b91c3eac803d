"""Reloads: all or nothing, touching what differs, never bringing a dead server back, losing no request.

One lvsd serves all tests of this file.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import Watch, told
from tables import kernel as rows_of
from waiting import until

from lvsd.lab.classic import REAL_SERVERS, VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.misbehaving import MisbehavingServer
    from lvsd.lab.table import Table

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, RS3 = ("192.168.0.3", 80), ("192.168.0.4", 80), ("192.168.0.5", 80)
WEB = ("TCP", VIP, 80)
CHECK = "{type: http, interval: 500ms, fast_interval: 100ms}"
EXPIRE = Path("/proc/sys/net/ipv4/vs/expire_nodest_conn")
GOOD = f"""\
director:
  addresses: [{{address: {VIP}/24, interface: eth0, label: "eth0:101"}}]
checks:
  web: {CHECK}
virtual_services:
  www:
    address: {VIP}:80
    scheduler: rr
    forward: dr
    check: web
    real_servers: [rs1, rs2]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        # A client's port may have been used in an earlier test, for a row that is gone.
        await built.hosts["vs1"].do(EXPIRE.write_text, "1")
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(lab: Lab) -> dict[str, MisbehavingServer]:
    return {host: await lab.hosts[host].misbehave(80, Page(f"I am {host}\n")) for host in REAL_SERVERS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started(lab: Lab, servers: dict[str, MisbehavingServer]) -> DirectorProcess:
    assert servers
    return await DirectorProcess.start(lab.hosts["vs1"], GOOD)


@pytest_asyncio.fixture(loop_scope="module")
async def director(lab: Lab, started: DirectorProcess, dead: MisbehavingServer) -> DirectorProcess:
    """Return lvsd with the good file in force, and rs1 and rs2 in its table."""
    await dead.behave(Page("I am rs1\n"))
    assert (await started.reload(GOOD))["event"] == "config.loaded"
    await settles(lab, started, WEB, {RS1: 1, RS2: 1})
    return started


@pytest.fixture
def dead(servers: dict[str, MisbehavingServer]) -> MisbehavingServer:
    """Return the web server that tests let die: rs1's."""
    return servers["rs1"]


async def table(lab: Lab) -> Table:
    return await lab.hosts["vs1"].read_table()


async def settles(lab: Lab, director: DirectorProcess, key: tuple[str, str, int], rows: object) -> None:
    """Wait until the kernel has `rows` under `key`, and the log, folded, says what the kernel has."""

    async def as_wanted() -> bool:
        return weights(await table(lab)).get(key) == rows

    async def as_told() -> bool:
        return rows_of(await table(lab)) == told(director.state())

    await until(as_wanted)
    await until(as_told)


async def test_a_reload_adds_edits_and_removes_and_loses_no_request(
    lab: Lab, director: DirectorProcess
) -> None:
    client = await lab.hosts["client"].request_every(0.05, VIP)
    two = {RS1: 1, RS2: 1}
    await settles(lab, director, WEB, two)

    await director.reload(GOOD.replace("[rs1, rs2]", "[rs1, rs2, rs3]"))
    await settles(lab, director, WEB, {**two, RS3: 1})

    await director.reload(GOOD.replace("[rs1, rs2]", "[{address: rs1, weight: 7}, rs2, rs3]"))
    await settles(lab, director, WEB, {RS1: 7, RS2: 1, RS3: 1})

    # Who is removed takes the requests that it still has along, so it is drained first.
    await director.reload(GOOD.replace("[rs1, rs2]", "[rs1, rs2, {address: rs3, weight: 0}]"))
    await settles(lab, director, WEB, {**two, RS3: 0})
    await client.stop()
    assert client.failures == ()
    client = await lab.hosts["client"].request_every(0.05, VIP)

    await director.reload(GOOD.replace("scheduler: rr", "scheduler: wlc"))
    await settles(lab, director, WEB, two)
    assert (await table(lab))[WEB]["scheduler"] == "wlc"

    second = GOOD + f"  more: {{address: '{VIP}:81', check: none, real_servers: [rs3]}}\n"
    await director.reload(second)
    await settles(lab, director, ("TCP", VIP, 81), {("192.168.0.5", 81): 1})
    await director.reload(GOOD)
    await settles(lab, director, ("TCP", VIP, 81), None)

    await client.stop()
    assert client.failures == ()
    assert director.state().complete


async def test_a_vip_comes_and_goes_with_its_label_by_a_reload(lab: Lab, director: DirectorProcess) -> None:
    vs1 = lab.hosts["vs1"]
    more = GOOD.replace(
        '"eth0:101"}]', '"eth0:101"}, {address: 192.168.0.102/32, interface: eth0, label: "eth0:2"}]'
    )
    await director.reload(more)
    await until(lambda: vs1.has_address("192.168.0.102"))
    labels = {each.address: each.label for each in await vs1.addresses()}
    assert (labels["192.168.0.102/32"], labels[f"{VIP}/24"]) == ("eth0:2", "eth0:101")
    await director.reload(GOOD)
    await director.saw("address.removed", address="192.168.0.102/32", cause="config")
    assert not await vs1.has_address("192.168.0.102")
    assert await vs1.has_address(VIP)


MISTAKES = {
    "unknown key": ("scheduler: rr", "sheduler: rr", "scheduler"),
    "wrong word": ("forward: dr", "forward: direct", "forward"),
    "wrong number": ("[rs1, rs2]", "[{address: rs1, weight: -1}]", "weight"),
    "unknown host": ("[rs1, rs2]", "[rs1, rs9]", "rs9"),
    "unknown check": ("check: web", "check: wed", "web"),
    "twice the same": ("[rs1, rs2]", "[rs1, rs1]", "given twice"),
    "no yaml": ("virtual_services:", "virtual_services: [", ""),
    "empty": (GOOD, "", ""),
}


async def test_a_broken_file_changes_nothing_and_its_line_is_named(
    lab: Lab, director: DirectorProcess
) -> None:
    before = weights(await table(lab))
    async with Watch(lab.hosts["vs1"]) as watch:
        for name, (good, bad, word) in MISTAKES.items():
            answer = await director.reload(GOOD.replace(good, bad))
            assert answer["event"] == "config.rejected", name
            assert answer["mistakes"][0].startswith(f"{director.config}:"), name
            assert word in answer["mistakes"][0], name
    assert watch.seen == [before]
    assert (await director.reload(GOOD))["event"] == "config.loaded"


@pytest.mark.parametrize(
    ("good", "changed"),
    [
        (CHECK, "{type: http, interval: 500ms, fast_interval: 100ms, timeout: 900ms}"),
        (CHECK, "{type: tcp, interval: 500ms, fast_interval: 100ms}"),
        ("forward: dr", "forward: tun"),
        ("  www:", "  web:"),
    ],
    ids=["time-out", "another check", "forwarding", "another name"],
)
async def test_a_dead_server_does_not_come_back_by_a_reload(
    lab: Lab, director: DirectorProcess, dead: MisbehavingServer, good: str, changed: str
) -> None:
    after = director.seq
    await dead.behave(Refuse())
    await director.saw("server.removed", after=after, host="rs1")
    async with Watch(lab.hosts["vs1"]) as watch:
        await director.reload(GOOD.replace(good, changed))
        # Several rounds of probes under the new settings, all failing.
        after = director.seq
        await asyncio.sleep(3)
    assert all(RS1 not in (rows or {}) for rows in watch.of(WEB)), watch.of(WEB)
    assert not director.found("server.added", host="rs1", after=after)
    await dead.behave(Page("I am rs1\n"))
    await settles(lab, director, WEB, {RS1: 1, RS2: 1})


async def test_a_dying_server_is_found_under_a_reload_every_900_ms(
    director: DirectorProcess, dead: MisbehavingServer
) -> None:
    async def reload_on() -> None:
        for number in range(40):
            weight = 2 + number % 2
            await director.reload(GOOD.replace("[rs1, rs2]", f"[rs1, {{address: rs2, weight: {weight}}}]"))
            await asyncio.sleep(0.9)

    after = director.seq
    reloading = asyncio.create_task(reload_on())
    try:
        await director.saw("config.loaded", after=after, edited=1)
        began = director.seq
        await dead.behave(Refuse())
        await director.saw("server.removed", host="rs1", after=began, timeout=30)
    finally:
        reloading.cancel()
        await asyncio.wait({reloading})


async def test_a_plan_says_what_the_reload_then_does(lab: Lab, director: DirectorProcess) -> None:
    file = lab.hosts["vs1"].directory / "next.yaml"
    new = GOOD.replace("[rs1, rs2]", "[{address: rs1, weight: 4}]").replace("rr", "wrr")
    file.write_text(new)
    for _ in range(4):
        await lab.hosts["client"].request(VIP)
    planned = await director.ask("plan", "-c", str(file), "--detailed-exitcode", check=False)
    assert planned.status == 2
    changes = [line for line in planned.output.splitlines() if line.startswith("ipvsadm")]
    assert changes[:2] == [
        f"ipvsadm -E -t {VIP}:80 -s wrr",
        f"ipvsadm -e -t {VIP}:80 -r 192.168.0.3:80 -g -w 4",
    ]
    removal, _, touched = changes[2].partition("    # ")
    assert removal == f"ipvsadm -d -t {VIP}:80 -r 192.168.0.4:80"
    assert touched.endswith("inactive connections")
    assert touched != "0 active and 0 inactive connections"
    await director.reload(new)
    await settles(lab, director, WEB, {RS1: 4})
    again = await director.ask("plan", "-c", str(file), "--detailed-exitcode", check=False)
    assert (again.status, again.output) == (0, "# 0 changes\n")


async def test_an_operators_snapshot_tells_the_whole_state(director: DirectorProcess) -> None:
    director.process.signal(signal.SIGUSR1)
    begin = await director.saw("snapshot.begin", reason="SIGUSR1")
    await director.saw("snapshot.end", after=begin["seq"])
    shown = director.found("snapshot.service", after=begin["seq"])[-1]
    assert {at: server["weight"] for at, server in shown["real_servers"].items()} == {
        "192.168.0.3:80": 1,
        "192.168.0.4:80": 1,
    }
