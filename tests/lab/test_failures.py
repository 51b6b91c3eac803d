"""Each way in which a real server can fail, and come back; and the director's own faults, not theirs.

One network and one lvsd serve all tests of this file: each failure has a virtual service of its own.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import Watch
from waiting import until

from lvsd.lab.classic import VIP, VIP6, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Close, Echo, EndlessPage, Greeting, Hang, Page, Refuse, Reset, SlowPage
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.misbehaving import Behaviour, MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, RS3 = "192.168.0.3", "192.168.0.4", "192.168.0.5"
RS1_6, RS2_6 = "fd00:0:0:1::3", "fd00:0:0:1::4"
PAGE = "I am a real server\n"
GOOD: dict[str, Behaviour] = {"web": Page(PAGE), "talk": Echo(), "port": Echo(), "login": Greeting()}
OUTAGE = 4.0
"""Seconds: enough for every server to be probed until its verdict would fall."""

CONFIG = f"""\
checks:
  web: {{type: http, expect: {PAGE.strip()}, body_limit: 8KiB, interval: 500ms, fast_interval: 100ms}}
  talk: {{type: tcp, send: "ping", expect: ping, interval: 500ms, fast_interval: 100ms}}
  port: {{type: tcp, interval: 500ms, fast_interval: 100ms}}
  login: {{type: telnet, expect: "login:", timeout: 1s, interval: 500ms, fast_interval: 100ms}}
virtual_services:
"""


@dataclass(frozen=True)
class Failure:
    """What happens to a real server on `port`, and what the verdict's reason is to say."""

    port: int
    check: str
    behaviour: Behaviour
    reason: str


FAILURES = {
    "web refused": Failure(81, "web", Refuse(), "connection refused"),
    "web hanging": Failure(82, "web", Hang(), "timed out after 1s while waiting for the answer"),
    "web reset": Failure(83, "web", Reset(), "connection reset"),
    "web closed": Failure(84, "web", Close(), "closed without an answer"),
    "HTTP 500": Failure(85, "web", Page(PAGE, status=500), "HTTP 500"),
    "wrong body": Failure(86, "web", Page("I am lost\n"), "body does not match 'I am a real server'"),
    "slow body": Failure(87, "web", SlowPage(PAGE, pause=0.3), "timed out after 1s while reading the body"),
    "endless body": Failure(
        88, "web", EndlessPage(), "no match for 'I am a real server' in the first 8192 bytes"
    ),
    "no HTTP": Failure(89, "web", Greeting("220 mail\r\n\r\n"), "malformed HTTP answer: .*"),
    "port refused": Failure(91, "port", Refuse(), "connection refused"),
    "talk hanging": Failure(92, "talk", Hang(), "timed out after 1s while waiting for the answer"),
    "talk reset": Failure(93, "talk", Reset(), "connection reset"),
    "wrong talk": Failure(
        94, "talk", Greeting("what?"), "timed out after 1s while waiting for 'ping' in the answer"
    ),
    "telnet refused": Failure(101, "login", Refuse(), "connection refused"),
    "telnet closed": Failure(102, "login", Close(), "closed without a banner"),
    "telnet silent": Failure(103, "login", Hang(), "timed out after 1s while waiting for the banner"),
    "telnet reset": Failure(104, "login", Reset(), "connection reset"),
}
FLAPPING, QUIESCED, SORRY, BARE, SIX = 111, 112, 113, 114, 115
CHECKS = {each.port: each.check for each in FAILURES.values()} | dict.fromkeys(
    (FLAPPING, QUIESCED, SORRY, BARE, SIX), "web"
)
FURTHER = {QUIESCED: "on_failure: quiesce", SORRY: f"sorry_server: {RS3}:{SORRY}"}


def config() -> str:
    """Return a service a port: rs1 has weight 3, rs2 weight 1."""
    services = [
        f"  s{port}:\n"
        f"    address: '{f'[{VIP6}]' if port == SIX else VIP}:{port}'\n"
        f"    scheduler: wrr\n"
        f"    check: {check}\n"
        f"    {FURTHER.get(port, 'on_failure: remove')}\n"
        f"    real_servers: [{{address: rs1, weight: 3}}, rs2]\n"
        for port, check in CHECKS.items()
    ]
    return CONFIG + "".join(services)


@dataclass(frozen=True)
class Cluster:
    """All that is running; `servers` are rs1's and rs2's, by host and port."""

    lab: Lab
    director: DirectorProcess
    servers: dict[tuple[str, int], MisbehavingServer]

    async def rows(self, port: int) -> dict[tuple[str, int], int] | None:
        """Return the weights of the service on a port, by server; None where it is not in the table."""
        return weights(await self.lab.hosts["vs1"].read_table()).get(key(port))

    async def behave(self, host: str, port: int, behaviour: Behaviour | None = None) -> None:
        """Let a real server fail, or be good again."""
        await self.servers[host, port].behave(behaviour or GOOD[CHECKS[port]])

    async def shows(self, port: int, rows: dict[tuple[str, int], int] | None) -> None:
        """Wait until the table has these rows for the service on a port."""
        await until(lambda: self._has(port, rows))

    async def _has(self, port: int, rows: dict[tuple[str, int], int] | None) -> bool:
        return await self.rows(port) == rows


def key(port: int) -> tuple[str, str, int]:
    return "TCP", VIP6 if port == SIX else VIP, port


def both(port: int) -> dict[tuple[str, int], int]:
    """Return the rows of a service in order."""
    return {(RS1, port): 3, (RS2, port): 1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(lab: Lab) -> Cluster:
    servers = {
        (host, port): await lab.hosts[host].misbehave(port, GOOD[check])
        for host in ("rs1", "rs2")
        for port, check in CHECKS.items()
    }
    director = await DirectorProcess.start(lab.hosts["vs1"], config())
    cluster = Cluster(lab, director, servers)
    for port in CHECKS.keys() - {SIX}:
        await cluster.shows(port, both(port))
    return cluster


@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
async def test_a_failing_server_goes_and_a_recovered_one_comes_back_with_its_weight(
    cluster: Cluster, failure: Failure
) -> None:
    port, director = failure.port, cluster.director
    names = {"service": f"s{port}", "server": f"{RS1}:{port}", "host": "rs1"}
    after = director.seq
    async with Watch(cluster.lab.hosts["vs1"]) as watch:
        await cluster.behave("rs1", port, failure.behaviour)
        down = await director.saw("health.changed", after=after, **names, old="up", new="down")
        await director.saw("server.removed", after=after, **names, cause="health")
        await cluster.shows(port, {(RS2, port): 1})
        after = director.seq
        await cluster.behave("rs1", port)
        await director.saw("health.changed", after=after, **names, old="down", new="up")
        await director.saw("server.added", after=after, **names, weight=3, forward="dr", cause="health")
        await cluster.shows(port, both(port))
    assert re.fullmatch(failure.reason, down["reason"]), down["reason"]
    assert watch.of(key(port)) == [both(port), {(RS2, port): 1}, both(port)]


@pytest.mark.parametrize("how", ["cut", "silence", "deafen"])
async def test_a_black_holed_server_goes_from_all_services_and_comes_back(cluster: Cluster, how: str) -> None:
    ports = [port for port in CHECKS if port not in (SIX, QUIESCED)]
    after = cluster.director.seq
    await getattr(cluster.lab, how)("rs1")
    for port in ports:
        names = {"service": f"s{port}", "server": f"{RS1}:{port}"}
        down = await cluster.director.saw("health.changed", after=after, **names)
        assert down["new"] == "down"
        assert down["reason"] in {"timed out after 1s while connecting", "no route to host"}
        await cluster.shows(port, {(RS2, port): 1})
    await cluster.lab.mend("rs1")
    for port in ports:
        await cluster.shows(port, both(port))


async def test_a_flapping_server_is_followed_and_harms_no_other(cluster: Cluster) -> None:
    after = cluster.director.seq
    names = {"service": f"s{FLAPPING}", "server": f"{RS1}:{FLAPPING}"}
    async with Watch(cluster.lab.hosts["vs1"]) as watch:
        server = cluster.servers["rs1", FLAPPING]
        await server.flap(Refuse(), GOOD["web"], 1.0)
        await until(lambda: _count(cluster, after, names, 6))
        await cluster.behave("rs1", FLAPPING)
        await cluster.shows(FLAPPING, both(FLAPPING))
    changes = cluster.director.found("health.changed", after=after, **names)
    assert changes[0]["new"] == "down"
    assert all(old["new"] == new["old"] != new["new"] for old, new in pairwise(changes))
    assert cluster.director.found("health.changed", after=after, server=f"{RS2}:{FLAPPING}") == []
    assert all(rows is not None and (RS2, FLAPPING) in rows for rows in watch.of(key(FLAPPING)))


async def test_a_quiesced_server_keeps_its_row_with_weight_0(cluster: Cluster) -> None:
    async with Watch(cluster.lab.hosts["vs1"]) as watch:
        after = cluster.director.seq
        await cluster.behave("rs1", QUIESCED, Refuse())
        names = {"service": f"s{QUIESCED}", "server": f"{RS1}:{QUIESCED}", "cause": "health"}
        await cluster.director.saw("server.edited", after=after, **names, weight=0)
        await cluster.shows(QUIESCED, {(RS1, QUIESCED): 0, (RS2, QUIESCED): 1})
        await cluster.behave("rs1", QUIESCED)
        await cluster.director.saw("server.edited", after=after, **names, weight=3)
        await cluster.shows(QUIESCED, both(QUIESCED))
    assert watch.of(key(QUIESCED)) == [
        both(QUIESCED),
        {(RS1, QUIESCED): 0, (RS2, QUIESCED): 1},
        both(QUIESCED),
    ]


async def test_the_sorry_server_comes_when_all_are_down_and_goes_when_one_is_back(cluster: Cluster) -> None:
    after = cluster.director.seq
    sorry = {(RS3, SORRY): 1}
    async with Watch(cluster.lab.hosts["vs1"]) as watch:
        for host in "rs1", "rs2":
            await cluster.behave(host, SORRY, Refuse())
        await cluster.shows(SORRY, sorry)
        await cluster.behave("rs2", SORRY)
        await cluster.shows(SORRY, {(RS2, SORRY): 1})
        await cluster.behave("rs1", SORRY)
        await cluster.shows(SORRY, both(SORRY))
    seen = watch.of(key(SORRY))
    assert all(seen), f"a step without a live server: {seen}"
    steps = [
        (record["event"], record["server"])
        for record in cluster.director.lines()
        if record["seq"] > after and record["event"] in {"server.added", "server.removed"}
    ]
    comes, goes = (
        steps.index(("server.added", f"{RS3}:{SORRY}")),
        steps.index(("server.removed", f"{RS3}:{SORRY}")),
    )
    # The last one goes after the sorry server has come, the first one comes before it goes.
    assert {event for event, _ in steps[comes + 1 : goes]} == {"server.removed", "server.added"}
    assert steps[goes - 1] == ("server.added", f"{RS2}:{SORRY}")


async def test_a_service_whose_servers_are_all_down_keeps_its_row(cluster: Cluster) -> None:
    async with Watch(cluster.lab.hosts["vs1"]) as watch:
        for host in "rs1", "rs2":
            await cluster.behave(host, BARE, Refuse())
        await cluster.shows(BARE, {})
        for host in "rs1", "rs2":
            await cluster.behave(host, BARE)
        await cluster.shows(BARE, both(BARE))
    assert None not in watch.of(key(BARE))


async def test_an_ipv6_server_goes_and_comes_back(cluster: Cluster) -> None:
    six = {(RS1_6, SIX): 3, (RS2_6, SIX): 1}
    after = cluster.director.seq
    await cluster.shows(SIX, six)
    await cluster.behave("rs1", SIX, Page(PAGE, status=503))
    down = await cluster.director.saw("health.changed", after=after, server=f"[{RS1_6}]:{SIX}", new="down")
    assert down["reason"] == "HTTP 503"
    await cluster.shows(SIX, {(RS2_6, SIX): 1})
    await cluster.behave("rs1", SIX)
    await cluster.shows(SIX, six)
    assert all(cluster.director.found("server.added", service=f"s{SIX}", address=f"[{VIP6}]:{SIX}"))


@pytest.mark.parametrize("how", ["its cable cut", "its interface down"])
async def test_the_directors_own_fault_takes_no_server_down(cluster: Cluster, how: str) -> None:
    vs1, director = cluster.lab.hosts["vs1"], cluster.director
    await until(lambda: _all_up(cluster))
    after = director.seq
    async with Watch(vs1) as watch:
        if how == "its cable cut":
            await cluster.lab.cut("vs1")
        else:
            await vs1.run(["/sbin/ip", "link", "set", "eth0", "down"])
        impeded = await director.saw("probes.impeded", after=after)
        await asyncio.sleep(OUTAGE)
        if how == "its cable cut":
            await cluster.lab.mend("vs1")
        else:
            await vs1.run(["/sbin/ip", "link", "set", "eth0", "up"])
            # An interface that goes down loses its IPv6 addresses for good.
            await vs1.run(["/sbin/ip", "address", "add", "fd00:0:0:1::1/64", "dev", "eth0", "nodad"])
        await director.saw("probes.recovered", after=after)
        await until(lambda: _all_recovered(cluster, after))
    recovered = director.found("probes.recovered", after=after)
    assert impeded["level"] == "error"
    assert "eth0" in impeded["reason"] or "route" in impeded["reason"]
    assert sum(each["probes"] for each in recovered) >= 2 * len(CHECKS)
    assert director.found("health.changed", after=after) == []
    assert len(watch.seen) == 1


async def _count(cluster: Cluster, after: int, names: dict[str, str], least: int) -> bool:
    return len(cluster.director.found("health.changed", after=after, **names)) >= least


async def _all_up(cluster: Cluster) -> bool:
    return all([await cluster.rows(port) == both(port) for port in CHECKS.keys() - {SIX}])


async def _all_recovered(cluster: Cluster, after: int) -> bool:
    begun, ended = (
        {each["reason"] for each in cluster.director.found(name, after=after)}
        for name in ("probes.impeded", "probes.recovered")
    )
    return begun == ended
