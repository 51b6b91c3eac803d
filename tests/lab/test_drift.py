"""What others do to the table: own rows are mended, foreign ones left alone, and the log tells it all.

One network and one lvsd serve all tests of this file; each leaves the table as it found it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from modules import no_more_modules
from tables import kernel, told
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Echo, Page
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tables import Rows

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import Behaviour

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = {"rs1": "192.168.0.3", "rs2": "192.168.0.4", "rs3": "192.168.0.5"}
GOOD: dict[int, Behaviour] = {80: Page(), 7: Echo()}
NAMES = {80: "web", 7: "talk"}
WEB, TALK, ODD = f"{VIP}:80", f"{VIP}:7", f"{VIP}:81"
FIRST = f"{SERVERS['rs1']}:80"
STRANGE = 9
"""A weight that no configuration here has."""


@dataclass
class World:
    """What is running, and what is wanted of it: the real servers' weights, and more lines of services."""

    director: DirectorProcess
    weights: dict[str, int] = field(default_factory=lambda: {"rs1": 3, "rs2": 1, "rs3": 2})
    further: str = ""

    @property
    def vs1(self) -> Machine:
        return self.director.machine

    def config(self) -> str:
        servers = ", ".join(f"{{address: {host}, weight: {weight}}}" for host, weight in self.weights.items())
        services = [
            f"  {NAMES[port]}:\n"
            f"    address: {VIP}:{port}\n"
            f"    scheduler: wrr\n"
            f"    check: {{type: {'http' if port == 80 else 'tcp'}, interval: 500ms, fast_interval: 100ms}}\n"
            f"    real_servers: [{servers}]\n"
            for port in GOOD
        ]
        return "ipvs: {reconcile: 1s}\nvirtual_services:\n" + "".join(services) + self.further

    def wanted(self) -> Rows:
        """Return what the kernel is to have, once every server's verdict is known."""
        return {
            ("TCP", VIP, port): (
                "wrr",
                {(SERVERS[host], port): ("dr", weight) for host, weight in self.weights.items()},
            )
            for port in GOOD
        }

    async def ipvsadm(self, *arguments: str) -> None:
        await self.vs1.run(["ipvsadm", *arguments])

    async def settles(self) -> None:
        """Wait until the kernel has what is wanted, and the log, folded, says that it has."""

        async def settled() -> bool:
            table = kernel(await self.vs1.read_table())
            return table == self.wanted() == told(self.director.state())

        try:
            await until(settled)
        except TimeoutError:
            table = kernel(await self.vs1.read_table())
            folded = told(self.director.state())
            pytest.fail(f"\nkernel: {table}\nfolded: {folded}\nwanted: {self.wanted()}")

    async def reload(self) -> None:
        loaded = await self.director.reload(self.config())
        assert loaded["event"] == "config.loaded", loaded


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(lab: Lab) -> World:
    for host in SERVERS:
        for port, good in GOOD.items():
            await lab.hosts[host].misbehave(port, good)
    director = DirectorProcess(lab.hosts["vs1"], lab.hosts["vs1"].directory / "lvsd.yaml")
    world = World(director)
    director.config.write_text(world.config())
    await director.restart()
    await world.settles()
    return world


async def test_an_emptied_table_is_told_and_filled_again(world: World) -> None:
    director, after = world.director, world.director.seq
    await world.ipvsadm("-C")
    for name in NAMES.values():
        removed = await director.saw("service.removed", after=after, service=name, cause="drift")
        assert removed["level"] == "warning"
        await director.saw("service.added", after=removed["seq"], service=name, cause="mended")
    await director.saw("server.added", after=after, service="web", server=FIRST, weight=3, cause="mended")
    await world.settles()


async def test_a_deleted_row_is_told_and_put_back(world: World) -> None:
    director, after = world.director, world.director.seq
    await world.ipvsadm("-d", "-t", WEB, "-r", FIRST)
    removed = await director.saw("server.removed", after=after, server=FIRST, cause="drift")
    assert removed["level"] == "warning"
    await director.saw("server.added", after=removed["seq"], server=FIRST, weight=3, cause="mended")
    await world.settles()
    assert director.found("service.removed", after=after) == []


async def test_another_weight_is_told_and_set_back(world: World) -> None:
    director, after = world.director, world.director.seq
    await world.ipvsadm("-e", "-t", WEB, "-r", FIRST, "-g", "-w", str(STRANGE))
    edited = await director.saw("server.edited", after=after, server=FIRST, weight=STRANGE, cause="drift")
    await director.saw("server.edited", after=edited["seq"], server=FIRST, weight=3, cause="mended")
    await world.settles()


async def test_another_scheduler_is_told_and_set_back(world: World) -> None:
    director, after = world.director, world.director.seq
    await world.ipvsadm("-E", "-t", WEB, "-s", "rr")
    edited = await director.saw("service.edited", after=after, service="web", scheduler="rr", cause="drift")
    await director.saw("service.edited", after=edited["seq"], service="web", scheduler="wrr", cause="mended")
    await world.settles()


async def test_a_foreign_service_is_told_and_left_alone(world: World) -> None:
    director, after = world.director, world.director.seq
    key = ("TCP", "192.168.0.1", 99)
    await world.ipvsadm("-A", "-t", "192.168.0.1:99", "-s", "rr")
    appeared = await director.saw("foreign.appeared", after=after, row="tcp 192.168.0.1:99")
    assert appeared["level"] == "warning"
    await world.reload()  # leaves it alone too
    await world.ipvsadm("-d", "-t", TALK, "-r", f"{SERVERS['rs1']}:7")
    await director.saw("server.added", after=after, service="talk", cause="mended")
    assert weights(await world.vs1.read_table())[key] == {}
    await world.ipvsadm("-D", "-t", "192.168.0.1:99")
    await director.saw("foreign.disappeared", after=after, row="tcp 192.168.0.1:99")
    await world.settles()


async def test_a_foreign_server_of_an_own_service_is_told_and_left_alone(world: World) -> None:
    director, after = world.director, world.director.seq
    row = f"tcp {WEB} -> 192.168.0.9:80"
    await world.ipvsadm("-a", "-t", WEB, "-r", "192.168.0.9:80", "-g", "-w", "5")
    await director.saw("foreign.appeared", after=after, row=row)
    await world.ipvsadm("-e", "-t", WEB, "-r", FIRST, "-g", "-w", str(STRANGE))
    await director.saw("server.edited", after=after, server=FIRST, cause="mended")
    assert weights(await world.vs1.read_table())["TCP", VIP, 80]["192.168.0.9", 80] == 5
    await world.ipvsadm("-d", "-t", WEB, "-r", "192.168.0.9:80")
    await director.saw("foreign.disappeared", after=after, row=row)
    await world.settles()


async def test_a_refused_change_is_told_holds_up_no_other_and_is_tried_again(world: World) -> None:
    director, after = world.director, world.director.seq
    world.weights["rs1"] = 4
    with no_more_modules() as scheduler:
        world.further = (
            f"  odd: {{address: '{ODD}', scheduler: {scheduler}, check: none, real_servers: [rs1]}}\n"
        )
        await world.reload()
        await director.saw("server.edited", after=after, server=FIRST, weight=4, cause="config")
        refused = await director.saw("change.refused", after=after, service="odd")
        again = await director.saw("change.refused", after=refused["seq"], service="odd")
    assert refused["level"] == "error"
    assert refused["reason"].startswith(f'scheduler "{scheduler}" is not available in this kernel')
    assert refused["change"] == f"ipvsadm -A -t {ODD} -s {scheduler}"
    assert again["retry_in"] == 2 * refused["retry_in"]
    await director.saw("service.added", after=again["seq"], service="odd", cause="retried")
    await director.saw("server.added", after=again["seq"], service="odd")
    world.further, world.weights["rs1"] = "", 3
    await world.reload()
    await world.settles()
