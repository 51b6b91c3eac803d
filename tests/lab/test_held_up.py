"""What must hold up neither a start nor a stop, and who serves until a successor can."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from modules import no_more_modules
from tables import kernel
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.events import Record
    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2 = ("192.168.0.3", 80), ("192.168.0.4", 80)
WEB = ("TCP", VIP, 80)
MANY = "".join(
    f"  many{i}: {{address: '10.1.{i >> 8}.{i & 255}:80', check: none, real_servers: [10.2.0.1]}}\n"
    for i in range(800)
)
ALL = f"ipvs: {{on_stop: remove}}\nvirtual_services:\n{MANY}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        yield built


@pytest_asyncio.fixture(loop_scope="module")
async def vs1(lab: Lab) -> AsyncIterator[Machine]:
    """Yield the director's host, whose table is empty before and after."""
    yield lab.hosts["vs1"]
    await lab.hosts["vs1"].run(["ipvsadm", "-C"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(lab: Lab) -> dict[str, MisbehavingServer]:
    return {host: await lab.hosts[host].misbehave(80, Page()) for host in ("rs1", "rs2")}


def web(server: str) -> str:
    """Return a service whose only server is probed so rarely that a new one waits for its first verdict."""
    return f"""\
virtual_services:
  www:
    address: {VIP}:80
    check: {{type: http, interval: 4s, fast_interval: 200ms}}
    real_servers: [{server}]
"""


@pytest.mark.parametrize("successor", ["well", "dead"])
async def test_who_is_replaced_serves_until_the_successor_has_a_verdict(
    vs1: Machine, servers: dict[str, MisbehavingServer], successor: str
) -> None:
    await servers["rs2"].behave(Page() if successor == "well" else Refuse())
    director = await DirectorProcess.start(vs1, web("rs1"))
    await director.saw("server.added", server="192.168.0.3:80")
    after = (await director.reload(web("rs2")))["seq"]
    left = await director.saw("server.removed", server="192.168.0.3:80", after=after)
    verdict = await director.saw("health.changed", server="192.168.0.4:80", after=after)
    assert verdict["seq"] < left["seq"]
    if successor == "well":
        assert (await director.saw("server.added", after=after))["seq"] < left["seq"]
    await until(lambda: _has(vs1, {RS2: 1} if successor == "well" else {}))
    await director.kill()


async def test_a_stop_during_the_start_leaves_the_rows_and_says_so(vs1: Machine) -> None:
    director = await DirectorProcess.start(vs1, ALL)
    await director.kill()
    before = kernel(await vs1.read_table())
    await director.begin()
    await director.saw("config.loaded")
    director.process.signal(signal.SIGTERM)
    stopped = await director.saw("director.stopped", timeout=8.0)
    assert stopped["rows"] == "kept: the table had not been read yet"
    assert kernel(await vs1.read_table()) == before


async def test_a_service_that_the_kernel_refuses_does_not_hold_up_the_start(vs1: Machine) -> None:
    with no_more_modules() as scheduler:
        odd = f"  odd: {{address: '{VIP}:81', scheduler: {scheduler}, check: none, real_servers: [rs1]}}\n"
        director = await DirectorProcess.start(vs1, f"virtual_services:\n{odd}{MANY}")
        assert director.found("change.refused", service="odd")
        last, ready = director.found("server.added")[-1], director.found("director.ready")[0]
        assert _moment(ready) - _moment(last) < timedelta(seconds=10)
    await director.kill()


def _moment(record: Record) -> datetime:
    return datetime.fromisoformat(record["ts"])


async def _has(vs1: Machine, servers: dict[tuple[str, int], int]) -> bool:
    return weights(await vs1.read_table()).get(WEB) == servers
