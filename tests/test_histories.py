"""Whatever happens, in whatever order, the promises of design.md hold: see world.py for what is checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import CHECKS, KEYS, SERVERS, SORRY, World, service_of

from lvsd.config.model import Initial, OnFailure, VirtualService
from lvsd.health.outcome import Outcome
from lvsd.ipvs import ledger
from lvsd.ipvs.change import (
    AddServer,
    AddService,
    Change,
    EditServer,
    EditService,
    RemoveServer,
    RemoveService,
)
from lvsd.ipvs.ledger import Owned
from lvsd.model import Forwarding, Rows, Server, ServerKey, Service, ServiceKey

OUTCOMES = {"+": Outcome.passed("passed"), "-": Outcome.failed("failed"), "l": Outcome.local("local")}
NAMES = ["mail", "telnet", "www"]

keys = st.sampled_from(KEYS)
servers = st.sampled_from(SERVERS)
weights = st.sampled_from([1, 1, 1, 0, 5])
rows = st.builds(Server, st.sampled_from(Forwarding), st.sampled_from([1, 1, 0, 5]))
any_server = st.sampled_from([*SERVERS, SORRY])
service_rows = st.builds(
    Rows, st.builds(Service, st.sampled_from(["rr", "wlc"])), st.dictionaries(any_server, rows, max_size=3)
)
tables = st.dictionaries(keys, service_rows, max_size=3)
records = st.dictionaries(
    keys, st.builds(Owned, st.sampled_from(NAMES), st.dictionaries(any_server, st.just("rs"))), max_size=3
)

new_service = st.builds(Service, st.sampled_from(["rr", "sh"]))
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(AddService, keys, new_service),
    st.builds(EditService, keys, new_service),
    st.builds(RemoveService, keys),
    st.builds(AddServer, keys, any_server, rows),
    st.builds(AddServer, keys, any_server, rows),
    st.builds(EditServer, keys, any_server, rows),
    st.builds(RemoveServer, keys, any_server),
)


@st.composite
def services(draw: st.DrawFn, name: str) -> VirtualService:
    return service_of(
        name,
        draw(keys),
        draw(st.dictionaries(servers, weights, max_size=4)),
        draw(st.sampled_from(CHECKS)),
        scheduler=draw(st.sampled_from(["rr", "wlc"])),
        forwarding=draw(st.sampled_from([Forwarding.DR, Forwarding.NAT])),
        initial=draw(st.sampled_from(Initial)),
        on_failure=draw(st.sampled_from(OnFailure)),
        sorry=draw(st.booleans()),
        prefix=draw(st.sampled_from(["rs", "web"])),
    )


def valid(config: dict[str, VirtualService]) -> dict[str, VirtualService]:
    """Leave out services whose key another has already."""
    by_key = {service.key: name for name, service in reversed(config.items())}
    return {name: service for name, service in config.items() if by_key[service.key] == name}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, VirtualService]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    return valid({name: draw(services(name)) for name in names})


@st.composite
def edits(draw: st.DrawFn, config: dict[str, VirtualService]) -> dict[str, VirtualService]:
    """Change a configuration as operators do."""
    if not config:
        return draw(configs())
    name, other = draw(st.sampled_from(sorted(config))), draw(st.sampled_from(NAMES))
    service, fresh = config[name], draw(services(name))
    other_settings: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"check": fresh.check},
                {"check": fresh.check, "initial": Initial.UP},
                {"forwarding": fresh.forwarding, "service": fresh.service},
                {"real_servers": fresh.real_servers},
                {"on_failure": fresh.on_failure, "sorry_server": fresh.sorry_server},
                {"key": fresh.key},
                {},
            ]
        )
    )
    edited = replace(service, **other_settings)
    rest = {each: config[each] for each in config if each != name}
    match draw(st.sampled_from(["edit", "edit", "replace", "remove", "trade"])):
        case "edit":
            return valid({name: edited, **rest})
        case "replace":
            return valid({name: fresh, **rest})
        case "remove":
            return rest
        case _ if other in rest:
            return {
                **rest,
                name: replace(edited, key=rest[other].key),
                other: replace(rest[other], key=service.key),
            }
        case _:
            return valid({other: replace(edited, name=other), **rest})


class Histories(RuleBasedStateMachine):
    world: World

    @initialize(table=tables, recorded=records, config=configs())
    def start(
        self,
        table: dict[ServiceKey, Rows],
        recorded: dict[ServiceKey, Owned],
        config: dict[str, VirtualService],
    ) -> None:
        self.patch = mock.patch.object(ledger, "BATCH", 3)
        self.patch.start()
        self.world = World(table, recorded)
        self.world.start(config, 0)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.patch.stop()

    @invariant()
    def promises_hold(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    @rule(data=st.data(), keep=st.booleans(), made=st.integers(0, 3))
    def crash(self, data: st.DataObject, *, keep: bool, made: int) -> None:
        config = self.world.config if keep else data.draw(edits(self.world.config))
        self.world.start(config, made)

    @precondition(lambda self: self.world.adopted and not self.world.reload)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        self.world.begin_reload(data.draw(edits(self.world.config)))

    @precondition(lambda self: self.world.adopted and not self.world.reload)
    @rule(config=configs())
    def replace(self, config: dict[str, VirtualService]) -> None:
        self.world.begin_reload(config)

    @precondition(lambda self: self.world.reload)
    @rule()
    def go_on_with_reload(self) -> None:
        self.world.go_on_with_reload()

    @precondition(lambda self: self.world.reload)
    @rule()
    def end_reload(self) -> None:
        while self.world.reload:
            self.world.go_on_with_reload()

    @precondition(lambda self: self.world.due)
    @rule(data=st.data(), outcome=st.sampled_from("+--+-+l"), times=st.integers(1, 3))
    def probe(self, data: st.DataObject, outcome: str, times: int) -> None:
        target = data.draw(st.sampled_from(list(self.world.due)))
        for _ in range(times):
            self.world.probe(target, OUTCOMES[outcome])

    @precondition(lambda self: self.world.due)
    @rule(outcome=st.sampled_from("+-"))
    def probe_all(self, outcome: str) -> None:
        for target in list(self.world.due):
            for _ in range(3):
                self.world.probe(target, OUTCOMES[outcome])

    @precondition(lambda self: self.world.reading is None)
    @rule()
    def begin_reading(self) -> None:
        self.world.begin_reading()

    @precondition(lambda self: self.world.reading is not None and self.world.reading.table is None)
    @rule()
    def read(self) -> None:
        self.world.read()

    @precondition(lambda self: self.world.reading is not None and self.world.reading.table is not None)
    @rule(hasty=st.booleans())
    def hear_table(self, *, hasty: bool) -> None:
        self.world.hear_table(hasty=hasty)

    @precondition(lambda self: self.world.flight is not None and self.world.flight.refusals is None)
    @rule()
    def work(self) -> None:
        self.world.work()

    @precondition(lambda self: self.world.flight is not None and self.world.flight.refusals is not None)
    @rule()
    def answer(self) -> None:
        self.world.answer()

    @precondition(lambda self: self.world.flight is not None)
    @rule(made=st.integers(0, 3))
    def lose_answer(self, made: int) -> None:
        self.world.lose_answer(made)

    @precondition(lambda self: self.world.director.next_timer is not None)
    @rule()
    def tick(self) -> None:
        self.world.tick()

    @rule(refused=st.sets(st.none() | any_server, min_size=1))
    def refuse(self, refused: set[ServerKey | None]) -> None:
        self.world.kernel.refusing = {(key, server) for key in KEYS for server in refused}

    @precondition(lambda self: self.world.kernel.refusing)
    @rule()
    def accept(self) -> None:
        self.world.kernel.refusing.clear()

    @rule(change=changes)
    def meddle(self, change: Change) -> None:
        self.world.meddle(change)

    @rule()
    def clear(self) -> None:
        self.world.clear()

    @precondition(lambda self: self.world.adopted)
    @rule()
    def begin_snapshot(self) -> None:
        self.world.begin_snapshot()

    @precondition(lambda self: self.world.snapshot is not None)
    @rule()
    def go_on_with_snapshot(self) -> None:
        self.world.go_on_with_snapshot()

    @precondition(lambda self: self.world.snapshot is not None)
    @rule()
    def end_snapshot(self) -> None:
        while self.world.snapshot is not None:
            self.world.go_on_with_snapshot()

    @rule()
    def settle(self) -> None:
        self.world.settle()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
