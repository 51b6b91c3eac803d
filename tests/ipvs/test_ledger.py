from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from lvsd.ipvs import ledger as module
from lvsd.ipvs.change import AddServer, Change, apply, image
from lvsd.ipvs.ledger import Comparison, Ledger, Owned, Wanted, row_of
from lvsd.model import (
    Address,
    Forwarding,
    Instant,
    Protocol,
    Rows,
    Server,
    ServerKey,
    Service,
    ServiceKey,
    Table,
    VirtualAddress,
)

WWW, MAIL = (VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), port) for port in (80, 25))
RS1, RS2, RS3 = (ServerKey(Address.parse(f"192.168.0.{last}"), 80) for last in (3, 4, 5))
ROW = Server(Forwarding.DR, 1)
RR = Service("rr")


def rows(*servers: ServerKey) -> Rows:
    return Rows(RR, dict.fromkeys(servers, ROW))


def at(moment: float) -> Instant:
    return Instant(moment, 0)


@dataclass
class Stage:
    """A ledger, what is wanted of it, and the kernel."""

    ledger: Ledger = field(default_factory=lambda: Ledger({}))
    wanted: dict[ServiceKey, Wanted] = field(default_factory=dict)
    kernel: dict[ServiceKey, Rows] = field(default_factory=dict)
    asked: list[ServiceKey] = field(default_factory=list)

    def want(self, key: ServiceKey, wanted: Rows) -> None:
        hosts = {server: f"rs{server.address[-1]}" for server in wanted.servers}
        self.wanted[key] = Wanted(wanted, hosts, ())
        self.ledger.claim(key, "www", hosts)
        self.ledger.mark(key, "config")

    def drop(self, key: ServiceKey) -> None:
        del self.wanted[key]
        self.ledger.mark(key, "config")

    def want_of(self, key: ServiceKey) -> Wanted | None:
        self.asked.append(key)
        return self.wanted.get(key)

    def batch(self, moment: float = 0, held: tuple[ServiceKey, ...] = ()) -> list[Change]:
        return list(self.ledger.next_batch(self.want_of, held, at(moment)) or ())

    def settle(self, refused: dict[int, str] | None = None, moment: float = 0) -> list[str]:
        refused = refused or {}
        told = []
        for change, refusal in self.ledger.settle(refused, at(moment)):
            told.append(f"{change}{' refused' if refusal else ''}")
            if refusal is None:
                apply(self.kernel, change)
        return told

    def program(self) -> int:
        """Program all that is due; return in how many batches."""
        batches = 0
        while self.batch():
            self.settle()
            batches += 1
        return batches

    def compare(self, table: Table) -> Comparison:
        """Return all that a reading brought."""
        found = Comparison([], [], [])
        for part in self.ledger.compare(table):
            found.differences.extend(part.differences)
            found.appeared.extend(part.appeared)
            found.gone.extend(part.gone)
        return found

    def read(self, table: Table | None = None) -> tuple[list[str], list[str], list[str]]:
        """Return the services that differ with the causes, and the foreign rows that came and went."""
        self.ledger.begin_reading()
        found = self.compare(image(self.kernel) if table is None else table)
        return (
            [f"{each.key.port} {each.cause}" for each in found.differences if hasattr(each.key, "port")],
            [str(server) for _, server in found.appeared],
            [str(server) for _, server in found.gone],
        )


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_one_batch_is_in_flight_at_a_time(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    assert len(stage.batch()) == 2
    stage.want(MAIL, rows(RS1))
    assert stage.batch() == []
    stage.settle()
    assert [row_of(change)[0] for change in stage.batch()] == [MAIL, MAIL]


def test_held_services_wait_and_others_do_not(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.want(MAIL, rows(RS1))
    assert {row_of(change)[0] for change in stage.batch(held=(WWW,))} == {MAIL}
    stage.settle()
    assert not stage.ledger.idle
    assert {row_of(change)[0] for change in stage.batch()} == {WWW}


def test_only_what_is_marked_is_looked_at(stage: Stage) -> None:
    for port in range(1000, 2000):
        stage.want(WWW._replace(port=port), rows(RS1))
    stage.program()
    stage.asked.clear()
    stage.ledger.mark(WWW._replace(port=1500), "health")
    assert stage.batch() == []
    assert stage.asked == [WWW._replace(port=1500)]


@pytest.mark.parametrize(("size", "batches"), [(1, 11), (3, 4), (4, 3), (100, 1)])
def test_changes_go_in_batches_also_within_one_service(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, size: int, batches: int
) -> None:
    monkeypatch.setattr(module, "BATCH", size)
    servers = [ServerKey(Address(bytes([10, 0, 0, last])), 80) for last in range(10)]
    stage.want(WWW, rows(*servers))
    assert stage.program() == batches
    assert stage.kernel == stage.ledger.actual == {WWW: rows(*servers)}


def test_the_last_server_goes_when_its_replacement_is_known_to_be_there(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.want(WWW, rows(RS2))
    assert [type(change) for change in stage.batch()] == [AddServer]
    stage.settle()
    assert [str(change) for change in stage.batch()] == ["-d -t 192.168.0.101:80 -r 192.168.0.3:80"]


def test_the_last_server_stays_while_its_replacement_is_refused(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.want(WWW, rows(RS2))
    stage.batch()
    stage.settle({0: "no"})
    assert stage.batch() == []
    assert stage.ledger.retry_at == 1.0
    stage.ledger.retry(at(1))
    assert [type(change) for change in stage.batch(1)] == [AddServer]
    stage.settle()
    assert stage.program() == 1
    assert stage.kernel == {WWW: rows(RS2)}


def test_a_dead_server_goes_though_its_replacement_is_refused(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.want(WWW, rows(RS2))
    stage.wanted[WWW] = replace(stage.wanted[WWW], dead=[RS1])
    assert len(stage.batch()) == 2


def test_a_refused_row_is_tried_again_and_the_rest_goes_on(stage: Stage) -> None:
    stage.want(WWW, rows(RS1, RS2))
    assert len(stage.batch()) == 3
    assert stage.settle({1: "no"}) == [
        "-A -t 192.168.0.101:80 -s rr",
        "-a -t 192.168.0.101:80 -r 192.168.0.3:80 -g -w 1 refused",
        "-a -t 192.168.0.101:80 -r 192.168.0.4:80 -g -w 1",
    ]
    stage.ledger.mark(WWW, "health")
    assert stage.batch(0.5) == []
    stage.ledger.retry(at(1))
    assert len(stage.batch(1)) == 1
    assert stage.ledger.retry_at is None


def test_the_servers_of_a_refused_service_are_not_told_of(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.batch()
    assert stage.settle({0: "no such scheduler", 1: "no such virtual service"}) == [
        "-A -t 192.168.0.101:80 -s rr refused"
    ]
    assert stage.read() == ([], [], [])
    assert stage.batch(0.5) == []


def test_a_service_that_somebody_had_added_meanwhile_is_adopted(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.batch()
    stage.kernel[WWW] = rows(RS1)
    stage.settle({0: "already there"})
    assert stage.batch() == []
    assert stage.read() == (["80 adopted"], [], [])
    assert stage.program() == 0
    assert stage.ledger.actual == stage.kernel


def test_after_a_lost_answer_nothing_is_changed_before_the_table_is_read(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.kernel = image({WWW: rows()})
    stage.batch()
    stage.ledger.abandon()
    assert stage.ledger.needs_reading
    assert stage.batch() == []
    assert stage.read() == (["80 config"], [], [])
    assert not stage.ledger.needs_reading
    assert [type(change) for change in stage.batch()] == [AddServer]


def test_a_reading_that_began_before_the_answer_was_lost_does_not_count(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.batch()
    stage.ledger.begin_reading()
    stage.ledger.abandon()
    stage.compare({})
    assert stage.ledger.needs_reading


def test_rows_changed_while_the_table_is_read_are_not_judged_by_it(stage: Stage) -> None:
    stage.ledger.begin_reading()
    stage.want(WWW, rows(RS1))
    stage.program()
    assert stage.compare({}).differences == []
    assert stage.read({})[0] == ["80 drift"]


def test_drift_is_told_and_mended(stage: Stage) -> None:
    stage.want(WWW, rows(RS1, RS2))
    stage.program()
    del stage.kernel[WWW].servers[RS1]  # type: ignore[attr-defined]
    assert stage.read() == (["80 drift"], [], [])
    assert stage.program() == 1
    assert stage.kernel == {WWW: rows(RS1, RS2)}
    assert stage.ledger.cause(WWW) == ""


def test_a_table_that_is_as_it_was_is_not_gone_through_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port in range(100):
        stage.want(WWW._replace(port=port), rows(RS1))
    stage.program()
    table = image(stage.kernel)
    stage.read(table)
    looked_at: list[ServiceKey] = []
    own_part = Ledger._own_part  # noqa: SLF001 - what is counted is who is looked at

    def count(ledger: Ledger, key: ServiceKey, found: Rows | None) -> Rows | None:
        looked_at.append(key)
        return own_part(ledger, key, found)

    monkeypatch.setattr(Ledger, "_own_part", count)
    stage.read(table)
    assert looked_at == []
    table = {**table, WWW: rows(RS2)}
    assert stage.read(table) == (["80 drift"], ["192.168.0.4:80"], [])
    assert looked_at == [WWW]


def test_a_table_back_to_what_it_was_is_drift_where_lvsd_had_changed_it(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    table = image(stage.kernel)
    stage.read(table)
    stage.want(WWW, rows(RS1, RS2))
    stage.program()
    assert stage.read(table)[0] == ["80 drift"]


def test_foreign_rows_are_told_when_they_come_and_go(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    others = {**stage.kernel, MAIL: rows(RS2), WWW: rows(RS1, RS3)}
    assert stage.read(others) == ([], ["192.168.0.5:80", "None", "192.168.0.4:80"], [])
    assert stage.ledger.foreign == [(WWW, RS3), (MAIL, None), (MAIL, RS2)]
    assert stage.read() == ([], [], ["192.168.0.5:80", "None", "192.168.0.4:80"])


def test_foreign_rows_are_never_removed(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.read({WWW: rows(RS1, RS3), MAIL: rows(RS2)})
    stage.drop(WWW)
    assert [str(change) for change in stage.batch()] == ["-d -t 192.168.0.101:80 -r 192.168.0.3:80"]
    stage.settle()
    assert stage.batch() == []
    assert WWW in stage.ledger.owned


def test_a_service_left_for_foreign_servers_goes_with_the_last_of_them(stage: Stage) -> None:
    stage.want(WWW, rows())
    stage.program()
    stage.read({WWW: rows(RS3)})
    stage.drop(WWW)
    assert stage.batch() == []
    stage.read({WWW: rows()})
    assert [str(change) for change in stage.batch()] == ["-D -t 192.168.0.101:80"]


def test_foreign_rows_that_are_configured_now_are_read_before_they_are_changed(stage: Stage) -> None:
    stage.kernel = image({WWW: rows(RS2)})
    stage.read()
    stage.want(WWW, rows(RS1))
    assert stage.ledger.needs_reading
    assert stage.batch() == []
    assert stage.read() == (["80 adopted"], [], ["None"])
    stage.want(WWW, rows(RS1, RS2))
    assert stage.read() == (["80 adopted"], [], ["192.168.0.4:80"])
    assert [type(change) for change in stage.batch()] == [AddServer]


def test_foreign_rows_that_are_configured_while_they_are_read_are_read_again(stage: Stage) -> None:
    stage.kernel = image({WWW: rows(RS2)})
    stage.ledger.begin_reading()
    table = image(stage.kernel)
    reading = stage.ledger.compare(table)
    assert next(reading).appeared == [(WWW, None), (WWW, RS2)]
    stage.want(WWW, rows(RS2))
    assert list(reading) == []
    assert stage.ledger.needs_reading
    assert stage.read(table) == (["80 adopted"], [], ["None", "192.168.0.4:80"])
    assert not stage.ledger.needs_reading


def test_what_waits_for_a_reading_keeps_nobody_waiting(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.batch()
    stage.settle({0: "already there", 1: "no such service"})
    stage.ledger.mark(WWW, "health")
    assert stage.batch() == []
    assert stage.ledger.idle
    stage.want(MAIL, rows(RS1))
    assert not stage.ledger.idle


def test_rows_stay_owned_until_they_are_known_to_be_gone(stage: Stage) -> None:
    stage.want(WWW, rows(RS1))
    stage.batch()
    stage.drop(WWW)
    stage.ledger.disown(WWW, None)
    assert WWW in stage.ledger.owned
    stage.settle()
    stage.ledger.disown(WWW, None)
    assert WWW in stage.ledger.owned
    stage.program()
    stage.ledger.disown(WWW, None)
    assert stage.ledger.owned == {}


@pytest.mark.parametrize("lost", [False, True])
def test_rows_that_somebody_else_removed_are_owned_no_more(stage: Stage, *, lost: bool) -> None:
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.drop(WWW)
    if lost:
        stage.batch()
        stage.ledger.abandon()
    stage.read({})
    assert stage.batch() == []
    assert stage.ledger.owned == {}


def test_a_server_given_up_is_owned_no_more(stage: Stage) -> None:
    stage.want(WWW, rows(RS1, RS2))
    stage.program()
    stage.want(WWW, rows(RS1))
    stage.program()
    stage.ledger.disown(WWW, stage.wanted[WWW].hosts)
    assert stage.ledger.owned[WWW] == Owned("www", {RS1: "rs3"})


def test_it_is_noted_when_what_is_owned_changes(stage: Stage) -> None:
    def changed() -> bool:
        was, stage.ledger.owned_changed = stage.ledger.owned_changed, set()
        return bool(was)

    stage.want(WWW, rows(RS1))
    assert changed()
    stage.want(WWW, rows(RS1))
    stage.program()
    assert not changed()
    stage.ledger.claim(WWW, "web", {RS1: "rs3"})
    assert changed()
    stage.drop(WWW)
    stage.program()
    stage.ledger.disown(WWW, None)
    assert changed()
