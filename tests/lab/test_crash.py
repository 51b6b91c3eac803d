"""Kills, restarts, a lost state file, a lost VIP: forwarding goes on, and nothing dead comes back."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from waiting import until

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess, command
from lvsd.lab.misbehaving import Echo, Page
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine
    from lvsd.lab.table import RowKey, Table

RS1, RS2 = "192.168.0.3", "192.168.0.4"
WEB, TALK = ("TCP", VIP, 80), ("TCP", VIP, 7)
BOTH: dict[RowKey, int] = {(RS1, 80): 1, (RS2, 80): 1}
FOREIGN = ("TCP", "192.168.0.1", 99)
CHANGES = [f"{row}.{change}" for row in ("service", "server") for change in ("added", "edited", "removed")]
IP = "/sbin/ip"
MOMENTS = random.Random(2209)  # noqa: S311


def config(*, servers: Sequence[str] = ("rs1", "rs2"), interface: str = "eth0", further: str = "") -> str:
    """Return a web service with a VIP on `interface`; `further` are more lines of it."""
    return f"""\
director:
  addresses: [{{address: {VIP}/24, interface: {interface}}}]
ipvs:
  reconcile: 1s
  on_stop: keep
virtual_services:
  web:
    address: {VIP}:80
    scheduler: rr
    check: {{type: http, interval: 500ms, fast_interval: 100ms}}
    real_servers: [{", ".join(servers)}]
{further}"""


TALKING = f"""\
  talk:
    address: {VIP}:7
    scheduler: rr
    check: none
    real_servers: [rs1, rs2]
"""


async def serve(lab: Lab) -> None:
    """Let all real servers answer on port 80."""
    for host in "rs1", "rs2":
        await lab.hosts[host].misbehave(80, Page(f"{host}\n"))


async def rows(machine: Machine) -> dict[RowKey, int]:
    """Return the weights of the web service's rows."""
    return weights(await machine.read_table())[WEB]


async def shows(machine: Machine, wanted: dict[RowKey, int]) -> None:
    """Wait until the web service has these rows."""

    async def has() -> bool:
        return weights(await machine.read_table()).get(WEB) == wanted

    await until(has)


async def has_vip(machine: Machine) -> bool:
    return await machine.has_address(VIP)


def settings(table: Table) -> dict[object, object]:
    """Return all of a table but its connection counters."""
    return {
        key: (
            row["scheduler"],
            {at: (server["forward"], server["weight"]) for at, server in row["servers"].items()},
        )
        for key, row in table.items()
    }


async def test_kill_9_changes_no_row_brings_no_dead_server_back_and_loses_no_request(lab: Lab) -> None:
    vs1, dead = lab.hosts["vs1"], f"{RS2}:80"
    await lab.hosts["rs2"].stop("nginx")
    director = await DirectorProcess.start(vs1, "log: {level: debug}\n" + config())
    await director.saw("health.changed", server=dead, new="down")
    await shows(vs1, {(RS1, 80): 1})
    client = await lab.hosts["client"].request_every(0.05, VIP)
    for _ in range(2):
        await asyncio.sleep(MOMENTS.uniform(0.0, 1.0))
        before = settings(await vs1.read_table())
        await director.kill()
        assert settings(await vs1.read_table()) == before
        await director.restart()
        probed = await director.saw("probe.failed", server=dead)
        await director.saw("probe.failed", server=dead, after=probed["seq"])
        await director.saw("health.changed", server=f"{RS1}:80", new="up")
        assert settings(await vs1.read_table()) == before
        assert [name for name in CHANGES if director.found(name)] == []
        assert await has_vip(vs1)
    await client.stop()
    assert client.failures == (), client.summary()
    assert client.bodies().keys() == {"I am real server #1"}


async def test_a_restart_loses_no_request_no_row_no_vip_and_no_open_connection(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    for host in "rs1", "rs2":
        await lab.hosts[host].misbehave(7, Echo())
    director = await DirectorProcess.start(vs1, config(further=TALKING))
    await shows(vs1, BOTH)
    before = settings(await vs1.read_table())
    client = await lab.hosts["client"].request_every(0.05, VIP)
    async with await lab.hosts["client"].connect(VIP, 7) as session:
        assert await session.exchange("before\n") == "before\n"
        await director.stop()
        assert director.found("director.stopped", rows="kept")
        assert settings(await vs1.read_table()) == before
        assert await has_vip(vs1)
        assert await session.exchange("without\n") == "without\n"
        await director.restart()
        for server in RS1, RS2:
            await director.saw("health.changed", server=f"{server}:80", new="up")
        assert settings(await vs1.read_table()) == before
        assert await session.exchange("after\n") == "after\n"
    await client.stop()
    assert client.failures == (), client.summary()
    assert [name for name in CHANGES if director.found(name)] == []


async def test_on_stop_remove_takes_own_rows_and_vips_and_leaves_a_foreign_service(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    await vs1.run(["ipvsadm", "-A", "-t", "192.168.0.1:99", "-s", "rr"])
    await vs1.run(["ipvsadm", "-a", "-t", "192.168.0.1:99", "-r", "192.168.0.9:99", "-g", "-w", "3"])
    director = await DirectorProcess.start(vs1, config().replace("on_stop: keep", "on_stop: remove"))
    await shows(vs1, BOTH)
    assert await has_vip(vs1)
    await director.stop()
    assert weights(await vs1.read_table()) == {FOREIGN: {("192.168.0.9", 99): 3}}
    assert not await has_vip(vs1)
    assert director.found("service.removed", service="web", cause="stop")
    assert director.found("address.removed", cause="stop")
    assert director.found("director.stopped", rows="removed")


async def test_a_damaged_state_file_is_told_and_costs_no_row(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    director = await DirectorProcess.start(vs1, config())
    await shows(vs1, BOTH)
    await director.kill()
    (vs1.directory / "run" / "state.json").write_bytes(b"\x00\xff{garbage")
    before = settings(await vs1.read_table())
    await director.restart()
    lost = await director.saw("state.lost", file="/run/lvsd/state.json")
    assert "damaged" in lost["reason"]
    for server in RS1, RS2:
        await director.saw("health.changed", server=f"{server}:80", new="up")
    assert settings(await vs1.read_table()) == before
    assert director.found("server.removed") == []
    assert director.found("foreign.appeared") == []


async def test_a_server_taken_from_the_file_while_lvsd_is_dead_goes_at_the_start(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    director = await DirectorProcess.start(vs1, config())
    await shows(vs1, BOTH)
    await until(lambda: _is_remembered(vs1, RS2))
    await director.kill()
    director.config.write_text(config(servers=["rs1"]))
    await director.restart()
    await director.saw("server.removed", server=f"{RS2}:80", cause="config")
    assert await rows(vs1) == {(RS1, 80): 1}
    assert director.found("foreign.appeared") == []


async def test_a_vip_that_somebody_removes_is_put_back(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    director = await DirectorProcess.start(vs1, config())
    assert await has_vip(vs1)
    after = director.seq
    await vs1.run([IP, "address", "del", f"{VIP}/24", "dev", "eth0"])
    removed = await director.saw("address.removed", after=after, cause="drift", interface="eth0")
    assert removed["level"] == "warning"
    await director.saw("address.added", after=removed["seq"], cause="mended", interface="eth0")
    assert await has_vip(vs1)


async def test_a_second_lvsd_is_refused_and_harms_nothing(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    director = await DirectorProcess.start(vs1, config())
    await shows(vs1, BOTH)
    other = vs1.directory / "other.yaml"
    other.write_text(config(servers=["rs3"]))
    second = await vs1.run(command("run", "-c", str(other)), check=False)
    assert second.status == 1
    assert f"process {director.process.pid}," in second.output
    assert "Traceback" not in second.output
    assert director.process.status is None
    assert await rows(vs1) == BOTH


async def test_a_vip_whose_interface_is_missing_comes_with_the_interface(bare_lab: Lab) -> None:
    vs1 = bare_lab.hosts["vs1"]
    await serve(bare_lab)
    director = await DirectorProcess.start(vs1, config(interface="dummy9"))
    refused = await director.saw("address.refused", interface="dummy9")
    assert refused["level"] == "error"
    await shows(vs1, BOTH)
    # Whenever an address comes, the VIPs are looked after: it is not refused aloud again.
    for number in 1, 2, 3:
        await vs1.run([IP, "address", "add", f"192.0.2.{number}/32", "dev", "eth0"])
        await asyncio.sleep(0.5)
    assert director.found("address.refused") == [refused]
    await vs1.run([IP, "link", "add", "dummy9", "type", "dummy"])
    await vs1.run([IP, "link", "set", "dummy9", "up"])
    await director.saw("address.added", after=refused["seq"], interface="dummy9")
    assert await has_vip(vs1)


async def _is_remembered(machine: Machine, server: str) -> bool:
    file = machine.directory / "run" / "state.json"
    return file.exists() and server in file.read_text()
