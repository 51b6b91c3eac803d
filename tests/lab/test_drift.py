"""What others do to the table: own rows are mended, foreign ones left alone, and the log tells it all.

One network and one lvsd serve all tests of this file; each leaves the table as it found it.
"""

from __future__ import annotations

import contextlib
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import pytest_asyncio
from tables import kernel, status, told
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import DirectorProcess
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Echo, Page, Refuse
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tables import Rows

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import Behaviour, MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = {"rs1": "192.168.0.3", "rs2": "192.168.0.4", "rs3": "192.168.0.5"}
GOOD: dict[int, Behaviour] = {80: Page(), 7: Echo()}
NAMES = {80: "web", 7: "talk"}
WEB, TALK, ODD = f"{VIP}:80", f"{VIP}:7", f"{VIP}:81"
FIRST = f"{SERVERS['rs1']}:80"
STRANGE = 9
"""A weight that no configuration here has."""
OPERATIONS = 25
MODPROBE = Path("/proc/sys/kernel/modprobe")


@dataclass
class World:
    """What is running and what is wanted of it: each service's scheduler and weights, and who is dead."""

    director: DirectorProcess
    servers: dict[tuple[str, int], MisbehavingServer]
    schedulers: dict[int, str] = field(default_factory=lambda: dict.fromkeys(GOOD, "wrr"))
    weights: dict[str, int] = field(default_factory=lambda: {"rs1": 3, "rs2": 1, "rs3": 2})
    dead: set[tuple[str, int]] = field(default_factory=set)
    further: str = ""

    @property
    def vs1(self) -> Machine:
        return self.director.machine

    def config(self) -> str:
        servers = ", ".join(f"{{address: {host}, weight: {weight}}}" for host, weight in self.weights.items())
        services = [
            f"  {NAMES[port]}:\n"
            f"    address: {VIP}:{port}\n"
            f"    scheduler: {scheduler}\n"
            f"    check: {{type: {'http' if port == 80 else 'tcp'}, interval: 500ms, fast_interval: 100ms}}\n"
            f"    real_servers: [{servers}]\n"
            for port, scheduler in self.schedulers.items()
        ]
        return "ipvs: {reconcile: 1s}\nvirtual_services:\n" + "".join(services) + self.further

    def wanted(self) -> Rows:
        """Return what the kernel is to have, once every server's verdict is known."""
        return {
            ("TCP", VIP, port): (
                scheduler,
                {
                    (SERVERS[host], port): ("dr", weight)
                    for host, weight in self.weights.items()
                    if (host, port) not in self.dead
                },
            )
            for port, scheduler in self.schedulers.items()
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
    servers = {
        (host, port): await lab.hosts[host].misbehave(port, good)
        for host in SERVERS
        for port, good in GOOD.items()
    }
    director = DirectorProcess(lab.hosts["vs1"], lab.hosts["vs1"].directory / "lvsd.yaml")
    world = World(director, servers)
    director.config.write_text(world.config())
    await director.restart()
    await world.settles()
    return world


@contextlib.contextmanager
def no_more_modules() -> Iterator[str]:
    """Keep the kernel from loading modules; yield the name of a scheduler that it has not loaded yet."""
    if "User Mode Linux" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this would keep the machine's own kernel from loading modules")
    loaded = Path("/proc/modules").read_text()
    usual = MODPROBE.read_text()
    MODPROBE.write_text("/bin/false")
    try:
        yield next(name for name in ("ovf", "nq", "sed", "fo") if f"ip_vs_{name} " not in loaded)
    finally:
        MODPROBE.write_text(usual)


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


async def test_whatever_happens_the_log_folded_is_the_kernels_table(world: World) -> None:
    chance = random.Random(41)  # noqa: S311
    for _ in range(OPERATIONS):
        await _something(world, chance)
        await world.settles()
    table = weights(await world.vs1.read_table())
    shown = await world.director.ask("status", "--json", "--log", str(world.director.process.log))
    assert status(orjson.loads(shown.output)) == table


async def _something(world: World, chance: random.Random) -> None:
    operation = chance.choice([_kill_or_revive, _kill_or_revive, _drift, _drift, _reload, _snapshot])
    await operation(world, chance)


async def _kill_or_revive(world: World, chance: random.Random) -> None:
    at = chance.choice(list(world.servers))
    await world.servers[at].behave(GOOD[at[1]] if at in world.dead else Refuse())
    world.dead ^= {at}


async def _drift(world: World, chance: random.Random) -> None:
    rows = [(WEB if port == 80 else TALK, f"{SERVERS[host]}:{port}") for host, port in world.servers]
    present = {
        f"{address}:{port}"
        for servers in weights(await world.vs1.read_table()).values()
        for address, port in servers
    }
    service, server = chance.choice([row for row in rows if row[1] in present] or [(WEB, "")])
    removal = ["-d", "-t", service, "-r", server]
    edit = ["-e", "-t", service, "-r", server, "-g", "-w", str(STRANGE)]
    whole = [["-C"], ["-D", "-t", service], ["-E", "-t", service, "-s", "dh"]]
    await world.ipvsadm(*chance.choice([*whole, *([removal, edit] if server else [])]))


async def _reload(world: World, chance: random.Random) -> None:
    world.weights = {host: chance.randint(0, 5) for host in SERVERS}
    world.schedulers = {port: chance.choice(["rr", "wrr", "wlc"]) for port in GOOD}
    await world.reload()


async def _snapshot(world: World, _: random.Random) -> None:
    after = world.director.seq
    world.director.process.signal(signal.SIGUSR1)
    await world.director.saw("snapshot.end", after=after)
