"""What lvsd does where something is short: descriptors, probes a server can bear, a reader of its log.

Real servers are many addresses of rs1, whose misbehaving servers answer on all of them.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import START_WITHIN, DirectorProcess, command
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse, SlowPage
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESSES = [f"192.168.0.{number}" for number in range(120, 170)]
DESCRIPTORS = 64


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        script = "; ".join(f"/sbin/ip address add {address}/24 dev eth0" for address in ADDRESSES)
        await built.hosts["rs1"].run(["/bin/sh", "-ec", script])
        yield built


async def test_two_hundred_servers_stay_with_sixty_four_descriptors(lab: Lab) -> None:
    """Each probe takes long enough that more are due at a time than there are descriptors."""
    vs1, ports = lab.hosts["vs1"], range(8001, 8005)
    servers = [await lab.hosts["rs1"].misbehave(port, SlowPage("ok\n", pause=0.5)) for port in ports]
    check = "{type: http, expect: ok, interval: 2s, timeout: 10s}"
    config = _config(
        check, {port: [f"{address}:{port}" for address in ADDRESSES] for port in ports}, initial="up"
    )
    wrapper = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
    director = await DirectorProcess.start(vs1, config, wrapper=wrapper)
    whole = {("TCP", VIP, port): {(address, port): 1 for address in ADDRESSES} for port in ports}
    assert weights(await vs1.read_table()) == whole
    rounds = 3
    await until(lambda: _accepted(servers, rounds * len(ADDRESSES)), timeout=180.0)
    assert director.found("probes.impeded"), "there was no want of descriptors"
    assert director.found("server.removed") == []
    assert director.found("health.changed", new="down") == []
    assert weights(await vs1.read_table()) == whole
    await director.stop()
    await _close(servers)


async def test_a_probe_shared_by_fifty_services_runs_once_an_interval(lab: Lab) -> None:
    vs1, shared = lab.hosts["vs1"], 8010
    server = await lab.hosts["rs1"].misbehave(shared, Page())
    services = {port: [f"{ADDRESSES[0]}:{shared}"] for port in range(9000, 9050)}
    config = _config("{type: http, expect: ok, interval: 500ms}", services, forward="nat")
    director = await DirectorProcess.start(vs1, config)
    await until(lambda: _all_in(vs1, 50, 1))
    (count,), elapsed = await _count([server], 5.0)
    assert abs(count - elapsed / 0.5) <= 1.5
    await director.stop()
    await _close([server])


async def test_probes_of_twenty_servers_are_spread_over_the_interval_and_do_not_drift(lab: Lab) -> None:
    """Each server has a port of its own, so that each is counted; a probe takes a third of the interval."""
    vs1, interval, ports = lab.hosts["vs1"], 1.0, range(8101, 8121)
    servers = [await lab.hosts["rs1"].misbehave(port, SlowPage("ok\n", pause=0.1)) for port in ports]
    services = {port: [f"{ADDRESSES[0]}:{port}"] for port in ports}
    director = await DirectorProcess.start(vs1, _config("{type: http, expect: ok, interval: 1s}", services))
    await until(lambda: _all_in(vs1, len(ports), 1))
    counts, elapsed = await _count(servers, 10 * interval)
    # A probe that began a third of the interval later each time would be two short and more.
    assert [count for count in counts if abs(count - elapsed / interval) > 1.5] == []
    busiest = await _busiest(servers, interval / 4, 4 * 4)
    # Of four quarters, even ones have 5 probes; all at once would be 20 in one.
    assert busiest <= len(ports) // 2
    await director.stop()
    await _close(servers)


async def test_where_more_probes_are_asked_for_than_can_be_made_only_a_dead_server_goes(lab: Lab) -> None:
    """Two thousand probes a second, of which the lab's CPU makes some hundred; the servers share it, too."""
    vs1, ports = lab.hosts["vs1"], range(8301, 8341)
    servers = [await lab.hosts["rs1"].misbehave(port, Page()) for port in ports]
    check = "{type: http, expect: ok, interval: 1s, timeout: 1s}"
    services = {port: [f"{address}:{port}" for address in ADDRESSES] for port in ports}
    director = await DirectorProcess.start(vs1, _config(check, services))
    await until(lambda: _all_in(vs1, len(ports), len(ADDRESSES)), timeout=120.0)
    rounds = 2
    before = sum(server.accepted for server in servers)
    await until(lambda: _accepted_more(servers, before + rounds * len(ADDRESSES) * len(ports)), timeout=120.0)
    assert director.found("health.changed", new="down") == []
    assert director.found("server.removed") == []
    assert director.found("probes.impeded") == [], "probes were given up, not put off"
    assert director.found("probes.late"), "the probes were all in time"
    await servers[0].behave(Refuse())
    await until(lambda: _is_empty(vs1, ports[0]), timeout=120.0)
    assert {event["service"] for event in director.found("health.changed", new="down")} == {f"s{ports[0]}"}
    await director.stop()
    await _close(servers)


async def test_a_dead_server_goes_while_nobody_reads_the_log(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    ports = range(8201, 8205)
    servers = [await lab.hosts["rs1"].misbehave(port, Page()) for port in ports]
    services = {port: [f"{address}:{port}" for address in ADDRESSES[:5]] for port in ports}
    check = "{type: http, expect: ok, interval: 200ms}"
    file, fifo = vs1.directory / "unread.yaml", vs1.directory / "unread"
    file.write_text("log: {level: debug}\n" + _config(check, services))
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        argv = ["/bin/sh", "-c", 'exec "$@" >"$0"', str(fifo), *command("run", "-c", str(file))]
        process = await vs1.start(argv, name="unread")
        await until(lambda: _all_in(vs1, len(ports), 5), timeout=START_WITHIN)
        # A pipe takes 64 KiB, which are some hundred lines a second.
        await until(lambda: _is_full(fifo), timeout=60.0)
        await servers[0].behave(Refuse())
        await until(lambda: _is_empty(vs1, ports[0]))
        await servers[0].behave(Page())
        await until(lambda: _all_in(vs1, len(ports), 5))
        process.terminate()
        assert await process.wait(START_WITHIN) == 0
    finally:
        os.close(reader)


def _config(
    check: str, services: dict[int, list[str]], *, forward: str = "dr", initial: str = "probe"
) -> str:
    """Return a virtual service for each port, with its real servers."""
    blocks = "".join(
        f"  s{port}:\n"
        f"    address: {VIP}:{port}\n"
        f"    check: page\n"
        f"    forward: {forward}\n"
        f"    initial: {initial}\n"
        f"    real_servers: {servers}\n"
        for port, servers in services.items()
    )
    return f"checks:\n  page: {check}\nvirtual_services:\n{blocks}"


async def _accepted(servers: Iterable[MisbehavingServer], least: int) -> bool:
    """Tell whether each server has taken so many connections."""
    return all(server.accepted >= least for server in servers)


async def _accepted_more(servers: Iterable[MisbehavingServer], least: int) -> bool:
    """Tell whether all servers together have taken so many connections."""
    return sum(server.accepted for server in servers) >= least


async def _all_in(machine: Machine, services: int, servers: int) -> bool:
    rows = weights(await machine.read_table())
    return len(rows) == services and all(len(each) == servers for each in rows.values())


async def _is_empty(machine: Machine, port: int) -> bool:
    return weights(await machine.read_table())["TCP", VIP, port] == {}


async def _is_full(fifo: Path) -> bool:
    """Tell whether a pipe takes nothing more."""
    descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [descriptor], [], 0)[1]
    finally:
        os.close(descriptor)


async def _count(servers: list[MisbehavingServer], duration: float) -> tuple[list[int], float]:
    """Return how many connections each server took for some time, and how long that was."""
    loop = asyncio.get_running_loop()
    began_at, before = loop.time(), [server.accepted for server in servers]
    await asyncio.sleep(duration)
    elapsed = loop.time() - began_at
    return [server.accepted - old for server, old in zip(servers, before, strict=True)], elapsed


async def _busiest(servers: list[MisbehavingServer], span: float, times: int) -> int:
    """Return the median of how many connections the busiest of any four spans in turn took."""
    counts = [sum((await _count(servers, span))[0]) for _ in range(times)]
    peaks = sorted(max(counts[first : first + 4]) for first in range(0, times, 4))
    return peaks[len(peaks) // 2]


async def _close(servers: Iterable[MisbehavingServer]) -> None:
    for server in servers:
        await server.close()
