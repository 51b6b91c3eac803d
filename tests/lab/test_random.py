"""Two hundred things happen in a random order; after each, all that lvsd has a part in comes to agree.

That is: the kernel's table is the one wanted, the log, folded, tells it, and the state file has whose it is.
What failed is repeated with the seed that is told: LVSD_SEED=N in the environment.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson
import pytest
from tables import kernel, remembered, status, told
from waiting import until

from lvsd.lab.classic import VIP
from lvsd.lab.director import DirectorProcess
from lvsd.lab.misbehaving import Echo, Page, Refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tables import Rows

    from lvsd.lab.lab import Lab
    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import Behaviour, MisbehavingServer
    from lvsd.lab.table import TableKey

SEED = int(os.environ.get("LVSD_SEED") or random.randrange(1_000_000))  # noqa: S311
SERVERS = {"rs1": "192.168.0.3", "rs2": "192.168.0.4", "rs3": "192.168.0.5"}
STRANGER, STRANGE = "192.168.0.9", 9
"""A real server and a weight that no configuration here has."""
ELSEWHERE = ("TCP", "192.168.0.1", 99)
GOOD: dict[int, Behaviour] = {80: Page(), 7: Echo(), 81: Page()}
SETTINGS = {80: "check: web", 7: "check: talk, on_failure: quiesce", 81: "check: web"}
CONFIG = """\
ipvs: {reconcile: 200ms}
checks:
  web: {type: http, interval: 200ms, fast_interval: 100ms}
  talk: {type: tcp, interval: 200ms, fast_interval: 100ms}
virtual_services:
"""


@dataclass
class Service:
    """What the configuration says of a virtual service; a weight for each of its real servers."""

    scheduler: str = "wrr"
    weights: dict[str, int] = field(default_factory=lambda: {"rs1": 3, "rs2": 1})


@dataclass
class World:
    """What is running, what is configured, who is dead, what others have put into the table.

    `left` are the services, with their schedulers, that left the configuration while a stranger was in them.
    """

    chance: random.Random
    director: DirectorProcess
    servers: dict[tuple[str, int], MisbehavingServer]
    services: dict[int, Service] = field(default_factory=lambda: {port: Service() for port in GOOD})
    dead: set[tuple[str, int]] = field(default_factory=set)
    strangers: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)
    elsewhere: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def vs1(self) -> Machine:
        return self.director.machine

    def config(self) -> str:
        services = [
            f"  s{port}: {{address: '{VIP}:{port}', scheduler: {service.scheduler}, {SETTINGS[port]}, "
            f"real_servers: [{', '.join(_server(*each) for each in service.weights.items())}]}}\n"
            for port, service in self.services.items()
        ]
        return CONFIG + "".join(services)

    def wanted(self) -> Rows:
        """Return lvsd's own part of the table, once every server's verdict is known."""
        rows: Rows = {_key(port): (scheduler, {}) for port, scheduler in self.left.items()}
        for port, service in self.services.items():
            weights = {
                host: 0 if (host, port) in self.dead else weight
                for host, weight in service.weights.items()
                if (host, port) not in self.dead or "quiesce" in SETTINGS[port]
            }
            at = {(SERVERS[host], port): ("dr", weight) for host, weight in weights.items()}
            rows[_key(port)] = service.scheduler, at
        return rows

    def whole(self) -> Rows:
        """Return the table with what others have put into it."""
        rows = self.wanted()
        for port in self.strangers:
            rows[_key(port)][1][STRANGER, port] = "dr", STRANGE
        return rows | ({ELSEWHERE: ("wlc", {})} if self.elsewhere else {})

    def foreign(self) -> set[str]:
        """Return the rows that are not lvsd's, as the log has them."""
        rows = {f"tcp {VIP}:{port} -> {STRANGER}:{port}" for port in self.strangers}
        return rows | ({f"tcp {ELSEWHERE[1]}:{ELSEWHERE[2]}"} if self.elsewhere else set())

    def owned(self) -> dict[TableKey, set[tuple[str, int]]]:
        """Return what the state file is to have for lvsd's own."""
        of = {port: {(SERVERS[host], port) for host in each.weights} for port, each in self.services.items()}
        return {_key(port): of.get(port, set()) for port in {*self.left, *self.services}}

    async def ipvsadm(self, *words: str) -> None:
        await self.vs1.run(["ipvsadm", *words])

    async def settles(self) -> None:
        """Wait until all is as it is to be."""
        try:
            await until(self._agrees)
        except TimeoutError:
            table, state = kernel(await self.vs1.read_table()), self.director.state()
            pytest.fail(
                f"LVSD_SEED={SEED}, after {len(self.done)}: {'; '.join(self.done[-5:])}\n"
                f"kernel: {table}\nwanted: {self.whole()}\nfolded: {told(state)}\n"
                f"own:    {self.wanted()}\nfolded foreign: {set(state.foreign)}\nforeign: {self.foreign()}\n"
                f"state file: {remembered(self.vs1)}\nowned: {self.owned()}"
            )

    async def _agrees(self) -> bool:
        state = self.director.state()
        return (
            kernel(await self.vs1.read_table()) == self.whole()
            and told(state) == self.wanted()
            and set(state.foreign) == self.foreign()
            and remembered(self.vs1) == self.owned()
        )


async def test_whatever_happens_table_log_and_state_file_come_to_agree(bare_lab: Lab) -> None:
    chance = random.Random(SEED)  # noqa: S311
    servers = {
        (host, port): await bare_lab.hosts[host].misbehave(port, good)
        for host in SERVERS
        for port, good in GOOD.items()
    }
    vs1 = bare_lab.hosts["vs1"]
    world = World(chance, DirectorProcess(vs1, vs1.directory / "lvsd.yaml"), servers)
    world.director.config.write_text(world.config())
    await world.director.restart()
    await world.settles()
    operations = [operation for operation, times in OPERATIONS.items() for _ in range(times)]
    chance.shuffle(operations)
    for operation in operations:
        world.done.append(f"{operation.__name__} {await operation(world)}")
        await world.settles()
    assert world.director.state().complete
    shown = await world.director.ask("status", "--json", "--log", str(world.director.process.log))
    own = {key: {at: weight for at, (_, weight) in rows.items()} for key, (_, rows) in world.wanted().items()}
    assert status(orjson.loads(shown.output)) == {key: own[key] for key in own if key[2] not in world.left}


async def dies_or_comes_back(world: World) -> str:
    host, port = at = world.chance.choice(list(world.servers))
    await world.servers[at].behave(GOOD[port] if at in world.dead else Refuse())
    world.dead ^= {at}
    return f"{host}:{port}"


async def edit_behind_its_back(world: World) -> str:
    port = world.chance.choice(list(world.services))
    service, rows = ["-t", f"{VIP}:{port}"], world.wanted()[_key(port)][1]
    words = [["-E", *service, "-s", "dh"], ["-D", *service], ["-C"]]
    for host in world.services[port].weights:
        server = ["-r", f"{SERVERS[host]}:{port}"]
        if (SERVERS[host], port) in rows:
            words += [["-d", *service, *server], ["-e", *service, *server, "-g", "-w", str(STRANGE)]]
        else:
            words += [["-a", *service, *server, "-g"]]
    chosen = world.chance.choice(words)
    await world.ipvsadm(*chosen)
    if chosen == ["-C"]:
        world.strangers, world.left, world.elsewhere = set(), {}, False
    elif chosen[0] == "-D":
        world.strangers.discard(port)
    return " ".join(chosen)


async def stranger_comes_or_goes(world: World) -> str:
    port = world.chance.choice([*{*world.services, *world.left}, None])
    if port is None:
        await world.ipvsadm("-D" if world.elsewhere else "-A", "-t", "192.168.0.1:99")
        world.elsewhere ^= True
    else:
        goes = port in world.strangers
        words = ["-d"] if goes else ["-a", "-g", "-w", str(STRANGE)]
        await world.ipvsadm(*words, "-t", f"{VIP}:{port}", "-r", f"{STRANGER}:{port}")
        world.strangers ^= {port}
        if goes:
            world.left.pop(port, None)
    return str(port)


async def reload(world: World) -> str:
    edited = _edit(world)
    loaded = await world.director.reload(world.config())
    assert loaded["event"] == "config.loaded", loaded
    return edited


async def snapshot(world: World) -> str:
    after = world.director.seq
    world.director.process.signal(signal.SIGUSR1)
    await world.director.saw("snapshot.end", after=after)
    return ""


async def restart(world: World) -> str:
    await world.director.stop()
    await world.director.restart()
    return ""


async def crash(world: World) -> str:
    await world.director.kill()
    await world.director.restart()
    return ""


async def crash_while_more_happens(world: World) -> str:
    """Somebody edits the table, something dies, and the configuration changes before it comes back."""
    await world.director.kill()
    what = [await edit_behind_its_back(world), await dies_or_comes_back(world), _edit(world)]
    world.director.config.write_text(world.config())
    await world.director.restart()
    return ", ".join(what)


OPERATIONS: dict[Callable[[World], Awaitable[str]], int] = {
    dies_or_comes_back: 78,
    edit_behind_its_back: 64,
    stranger_comes_or_goes: 32,
    reload: 18,
    snapshot: 3,
    restart: 1,
    crash: 2,
    crash_while_more_happens: 2,
}


def _edit(world: World) -> str:
    """Change the configuration: a weight, a real server, a scheduler or a whole service."""
    chance, port = world.chance, world.chance.choice(list(GOOD))
    service = world.services.get(port)
    if service is None:
        world.services[port] = Service()
        world.left.pop(port, None)
        return f"service {port} added"
    if port == 81 and chance.random() < 0.5:
        del world.services[port]
        if port in world.strangers:
            world.left[port] = service.scheduler
        return f"service {port} removed"
    host = chance.choice(list(SERVERS))
    if host in service.weights and len(service.weights) > 1 and chance.random() < 0.3:
        del service.weights[host]
        return f"server {host}:{port} removed"
    if chance.random() < 0.3:
        service.scheduler = chance.choice(["rr", "wrr", "wlc"])
        return f"service {port} {service.scheduler}"
    service.weights[host] = chance.randint(0, 5)
    return f"server {host}:{port} weight {service.weights[host]}"


def _server(host: str, weight: int) -> str:
    return f"{{address: {host}, weight: {weight}}}"


def _key(port: int) -> TableKey:
    return "TCP", VIP, port
