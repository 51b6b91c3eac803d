"""A director among fakes: a kernel that refuses, loses answers and is changed behind its back, and a log.

Whatever the director asks for is carried out here, one step at a time, and held against the promises of
design.md. What is checked after each step stands in `World.check`, what is checked of each change that the
director makes in `World._judge` and `Kernel.work`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lvsd.config.model import Host, HttpCheck, Initial, Level, OnFailure, RealServer, TcpCheck, VirtualService
from lvsd.director import Director
from lvsd.effects import Forget, Probe, Program, ReadTable, Remember, Report
from lvsd.events import DirectorStarted, SnapshotBegin, from_json
from lvsd.health.outcome import Ended, Outcome
from lvsd.health.roster import Member, Target
from lvsd.health.verdict import Verdict
from lvsd.ipvs.change import AddServer, EditServer, RemoveServer, RemoveService, apply, image
from lvsd.ipvs.desired import desired
from lvsd.ipvs.ledger import Owned, row_of
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Instant,
    Protocol,
    Rows,
    ServerKey,
    Service,
    VirtualAddress,
)
from lvsd.state import State
from lvsd.telling import hosts_of, row_text, settings, snapshot_end, timestamp, where

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.config.model import Check
    from lvsd.effects import Effect
    from lvsd.events import Event, Record
    from lvsd.ipvs.change import Change, Image
    from lvsd.ipvs.refusals import RowKey
    from lvsd.model import ServiceKey

LONGEST_LINE = 16 * 1024

KEYS: list[ServiceKey] = [
    VirtualAddress(Protocol.TCP, Address.parse("192.168.0.101"), 80),
    VirtualAddress(Protocol.UDP, Address.parse("192.168.0.101"), 80),
    VirtualAddress(Protocol.TCP, Address.parse("2001:db8::1"), 80),
    FirewallMark(7, 4),
]
SERVERS = [ServerKey(Address.parse(f"192.168.0.{last}"), 80) for last in range(3, 7)]
SORRY = ServerKey(Address.parse("192.168.0.9"), 80)
CHECKS: list[Check | None] = [
    TcpCheck(interval=2, fast_interval=0.5, timeout=1, rise=2, fall=2),
    TcpCheck(interval=3, fast_interval=0.5, timeout=1, rise=1, fall=1, port=8080),
    HttpCheck(
        interval=1, fast_interval=1, timeout=1, rise=3, fall=1, path="/", method="GET", host="",
        headers=(), status=((200, 200),), expect="", follow_redirects=False, body_limit=1,
    ),
    None,
]  # fmt: skip


def service_of(  # noqa: PLR0913 - a service has as many
    name: str,
    key: ServiceKey,
    servers: dict[ServerKey, int],
    check: Check | None = CHECKS[0],
    *,
    scheduler: str = "rr",
    forwarding: Forwarding = Forwarding.DR,
    initial: Initial = Initial.PROBE,
    on_failure: OnFailure = OnFailure.REMOVE,
    sorry: bool = False,
    prefix: str = "rs",
) -> VirtualService:
    """Return a virtual service with real servers of these weights."""

    def real_server(server: ServerKey, weight: int) -> RealServer:
        return RealServer(Host(f"{prefix}-{server.address}", server.address), server.port, weight)

    return VirtualService(
        name=name,
        key=key,
        vip=None,
        service=Service(scheduler),
        forwarding=forwarding,
        check=check,
        initial=initial,
        on_failure=on_failure,
        sorry_server=real_server(SORRY, 1) if sorry else None,
        real_servers=tuple(real_server(server, weight) for server, weight in servers.items()),
    )


class Kernel:
    """The kernel's table. It may refuse what concerns the rows in `refusing`."""

    def __init__(self, table: Image) -> None:
        self.table = table
        self.refusing: set[RowKey] = set()

    def work(self, changes: Iterable[Change]) -> dict[int, str]:
        """Make `changes`, and return the refusals by index."""
        refusals = {}
        for i, change in enumerate(changes):
            if row_of(change) in self.refusing:
                refusals[i] = "refused by the test"
                continue
            try:
                apply(self.table, change)
            except KeyError:
                refusals[i] = "not possible"
        return refusals

    def rows(self) -> set[RowKey]:
        """Return all rows there are."""
        found: set[RowKey] = {(key, None) for key in self.table}
        return found | {(key, server) for key, rows in self.table.items() for server in rows.servers}

    def live(self, key: ServiceKey) -> int:
        """Return how many rows under `key` take new connections."""
        rows = self.table.get(key)
        return 0 if rows is None else sum(server.weight > 0 for server in rows.servers.values())


@dataclass
class Flight:
    """A batch on its way: `refusals` is None before the kernel has worked on it."""

    changes: tuple[Change, ...]
    safe: set[Change]
    refusals: dict[int, str] | None = None


@dataclass
class Reading:
    """A reading of the table that is under way: services that may not be judged by it, and what was read."""

    dirty: set[ServiceKey]
    drifted: set[ServiceKey] = field(default_factory=set)
    table: Image | None = None


class World:
    """All of it. Each public method is one step."""

    def __init__(self, table: Image, recorded: dict[ServiceKey, Owned]) -> None:
        self.kernel = Kernel(table)
        self.recorded = recorded
        self.config: dict[str, VirtualService] = {}
        self.now = 1000.0
        self.run = 0
        self.state = State()
        self.folds: list[State] = []
        self.records: list[Record] = []
        self.last_read: Image = {}
        self.lines = 0
        self.foreign: set[RowKey] = set()
        self.made = self.kernel.rows() & _claims(recorded)
        self.unread: set[ServiceKey] = set()
        self.start({}, 0)

    # Steps

    def start(self, config: dict[str, VirtualService], made: int) -> None:
        """Crash, after `made` changes of the batch in flight, and start again with `config`."""
        if self.run and self.flight is not None and self.flight.refusals is None:
            self._work(self.flight.changes[:made])
        self.run += 1
        self.seq = 0
        self.config = config
        self.earlier = self.recorded
        self.director = Director(_copy(self.recorded), Level.DEBUG)
        self.adopted = False
        self.flight: Flight | None = None
        self.reading: Reading | None = None
        self.wants_reading = False
        self.due: dict[Target, float] = {}
        self.snapshot: Iterator[list[Event]] | None = None
        self.reload: list[tuple[str, Any]] = []
        self._before = _Before(self.director, {})
        self.unread = set(KEYS)
        assert self.made <= _claims(self.recorded), "a crash would orphan rows"
        self.foreign = self.kernel.rows() - _claims(self.recorded) - _rows_of(config.values())
        self.new: set[Member] = set()
        self._log(DirectorStarted(director="vs1", version="1", pid=1, config="x"))
        for service in config.values():
            self._do(self.director.enter(service, self._instant()))
        self._do(self.director.release(self._instant()))

    def begin_reload(self, config: dict[str, VirtualService]) -> None:
        """Begin to take in `config`; the steps of it follow one by one."""
        changed = [service for name, service in config.items() if self.config.get(name) != service]
        gone = [service for name, service in self.config.items() if name not in config]
        self.director.hold([*changed, *gone])
        self.reload = [("enter", service) for service in changed]
        self.reload += [("leave", service) for service in gone]
        self.reload.append(("release", None))
        self._before = _Before(self.director, dict(self.config))
        self.config = config

    def go_on_with_reload(self) -> None:
        """Take the next step of a reload."""
        step, service = self.reload.pop(0)
        if step == "release":
            self._check_carried()
            self._do(self.director.release(self._instant()))
            return
        if step == "leave":
            self._do(self.director.leave(service.name))
            self.new -= {member for member in self.new if member.service == service.name}
            return
        rows = self.director.ledger.actual.get(service.key)
        present = rows.servers if rows else {}
        effects = self.director.enter(service, self._instant())
        keys = {server.key for server in service.real_servers}
        self.new = {member for member in self.new if member.service != service.name or member.key in keys}
        if service.initial is Initial.UP:
            known = self._before.known(service)
            self.new |= {Member(service.name, key) for key in keys - known - present.keys()}
            self.new -= {
                member
                for member in self.new
                if self._verdict(member) is not Verdict.UNKNOWN
                or (member.service == service.name and self._before.was_down(service, member.key))
            }
        else:
            self.new = {member for member in self.new if member.service != service.name}
        if self.foreign & _rows_of([service]):
            self.unread.add(service.key)
            if self.reading is not None:
                self.reading.dirty.add(service.key)
        self.foreign -= _rows_of([service])
        self._do(effects)

    def probe(self, target: Target, outcome: Outcome) -> None:
        """Let a probe end."""
        self.now = max(self.now, self.due.pop(target))
        users = list(self.director.roster.watched[target].users)
        before = self.director.roster.watched[target].finding.verdict
        self._before.targets.add(target)
        effects = self.director.finish(target, outcome, self._instant())
        after = self.director.roster.watched[target].finding.verdict
        if outcome.ended is Ended.LOCAL:
            assert before is after
            assert not any(isinstance(effect, Program | Remember | ReadTable | Forget) for effect in effects)
        if before is not after:
            assert after is (Verdict.UP if outcome.ended is Ended.PASSED else Verdict.DOWN)
            self.new -= set(users)
            self._before.down -= set(users)
        self._do(effects)

    def begin_reading(self) -> None:
        """Begin to read the table."""
        self.wants_reading = False
        flying = {row_of(change)[0] for change in self.flight.changes} if self.flight else set()
        self.reading = Reading(flying)
        self.director.begin_reading()

    def hear_table(self, *, hasty: bool = False) -> None:
        """Take in what was read; where all is `hasty`, the kernel answers and a reload goes on meanwhile."""
        assert self.reading is not None
        reading, table = self.reading, self.reading.table
        assert table is not None
        if not self.adopted:
            self.new = set(self._new_at_start(table))
        first, self.adopted = not self.adopted, True
        for effects in self.director.read(table, self._instant()):
            self._do(effects)
            if hasty and self.reload and not first:
                self.go_on_with_reload()
            if hasty and self.flight is not None:
                if self.flight.refusals is None:
                    self.work()
                self.answer()
        self.unread &= reading.dirty | reading.drifted
        self.reading = None

    def read(self) -> None:
        """Have the kernel's table read, as it is now; one that is as it was last is the same object again."""
        assert self.reading is not None
        if self.last_read != self.kernel.table:
            self.last_read = image(self.kernel.table)
        self.reading.table = self.last_read

    def work(self) -> None:
        """Let the kernel work on the batch in flight."""
        assert self.flight is not None
        self.flight.refusals = self._work(self.flight.changes)

    def answer(self) -> None:
        """Let the kernel's answer come in."""
        assert self.flight is not None
        flight, self.flight = self.flight, None
        self._do(self.director.programmed(flight.refusals, self._instant()))

    def lose_answer(self, made: int) -> None:
        """Let the kernel's answer be lost after `made` changes."""
        assert self.flight is not None
        flight, self.flight = self.flight, None
        if flight.refusals is None:
            self._work(flight.changes[:made])
        self.unread |= {row_of(change)[0] for change in flight.changes}
        self._do(self.director.programmed(None, self._instant()))
        assert self.wants_reading

    def tick(self) -> None:
        """Let the director's timer fire."""
        assert self.director.next_timer is not None
        self.now = max(self.now, self.director.next_timer)
        self._do(self.director.tick(self._instant()))
        assert self.director.next_timer is None or self.director.next_timer > self.now

    def meddle(self, change: Change) -> None:
        """Let somebody else make a change, if it is possible."""
        before = self.kernel.rows()
        self.kernel.work([change])
        self._note_meddling(before)
        self._drift(row_of(change)[0])

    def clear(self) -> None:
        """Let somebody else run `ipvsadm -C`."""
        before = self.kernel.rows()
        self.kernel.table.clear()
        self._note_meddling(before)
        for key in KEYS:
            self._drift(key)

    def begin_snapshot(self) -> None:
        """Begin a snapshot; one that is being written begins anew."""
        self._log(SnapshotBegin(director="vs1", reason="test", services=len(self.director.services)))
        self.snapshot = self.director.snapshot()

    def go_on_with_snapshot(self) -> None:
        """Write the next piece of a snapshot."""
        assert self.snapshot is not None
        lines = next(self.snapshot, None)
        if lines is None:
            self.snapshot = None
            lines = snapshot_end([], self.director.ledger.foreign)
        for line in lines:
            self._log(line)

    def settle(self) -> None:
        """Let everything come to rest that does not need a probe, and check that all is as it should be."""
        self.kernel.refusing.clear()
        for _ in range(1000):
            if self.reload:
                self.go_on_with_reload()
            elif self.flight is not None:
                if self.flight.refusals is None:
                    self.work()
                else:
                    self.answer()
            elif self.reading is not None:
                self.read()
                self.hear_table()
            elif self.snapshot is not None:
                self.go_on_with_snapshot()
            elif self.unread or self.wants_reading:
                self.begin_reading()
            elif self.director.next_timer is not None:
                self.tick()
            else:
                break
            self.check()
        else:
            message = "it never comes to rest"
            raise AssertionError(message)
        self._check_settled()
        self.begin_snapshot()
        while self.snapshot is not None:
            self.go_on_with_snapshot()
        assert self.state.complete
        self._check_settled()

    # Promises

    def check(self) -> None:
        """Check what holds after every step."""
        owned = _claims(self.director.ledger.owned)
        assert self.made <= owned
        # Others may have made a row anew where lvsd just gave one up.
        self.foreign |= self.kernel.rows() - owned
        assert self.director.next_timer is None or self.adopted
        roster = self.director.roster
        verdicts = [
            each.verdict for name in self.director.services for each in roster.findings(name).values()
        ]
        assert (roster.up, roster.members) == (verdicts.count(Verdict.UP), len(verdicts))
        if self.adopted and self.state.complete:
            for service in self.director.services.values():
                self._check_health(service)
            if self.flight is None:
                for key in KEYS:
                    if key not in self.unread:
                        assert _told_rows(self.state, key) == _as_told(self._own_rows(key)), key
                if not self.unread:
                    assert set(self.state.foreign) == {row_text(row) for row in self.foreign}
        if self.snapshot is None:
            for fold in self.folds:
                _assert_same(fold, self.state)

    def _check_settled(self) -> None:
        assert self.director.ledger.idle
        assert self.recorded == self.director.ledger.owned
        for service in self.config.values():
            rows = self._own_rows(service.key)
            standings = self.director.standings(service.name)
            assert rows == desired(service, standings, rows.servers if rows else {})
            assert self.director.ledger.owned[service.key].name == service.name
            hosts, left = self.director.ledger.owned[service.key].hosts, set(rows.servers if rows else ())
            assert hosts.items() >= hosts_of(service).items()
            assert hosts.keys() == hosts_of(service).keys() | left
        shared = {key for key, server in self.foreign if server is not None}
        for key in KEYS:
            if key not in {service.key for service in self.config.values()}:
                rows = self._own_rows(key)
                assert rows is None or (key in shared and not rows.servers)
                assert rows is not None or key not in self.director.ledger.owned
                assert not any(row[0] == key and row[1] for row in self.made)
        if self.state.complete:
            assert set(self.state.foreign) == {row_text(row) for row in self.foreign}
        assert set(self.director.services) == set(self.config)
        users = {user for watched in self.director.roster.watched.values() for user in watched.users}
        assert all(watched.users for watched in self.director.roster.watched.values())
        assert users == {
            Member(service.name, server.key)
            for service in self.config.values()
            for server in service.real_servers
            if service.check is not None
        }
        assert set(self.due) == set(self.director.roster.watched)

    def _check_health(self, service: VirtualService) -> None:
        told = self.state.to_json()["virtual_services"][service.name]["real_servers"]
        for server in service.real_servers:
            finding = self.director.roster.finding(Member(service.name, server.key))
            assert finding is not None
            shown = told[str(server.key)]
            assert shown["health"] == finding.verdict
            assert shown["name"] == server.host.name
            if finding.verdict is not Verdict.UNKNOWN:
                assert (shown["reason"], shown["since"]) == (finding.reason, timestamp(finding.since))

    def _check_carried(self) -> None:
        """No reload brings a dead server back: only a probe that was there before can have found it up."""
        for service in self.director.services.values():
            for server in service.real_servers:
                member = Member(service.name, server.key)
                finding = self.director.roster.finding(member)
                if finding is None or finding.verdict is Verdict.DOWN or service.check is None:
                    continue
                source = Target(service.check, server.host.address, service.check.port or server.port)
                if self._before.was_down(service, server.key):
                    assert source in self._before.targets or finding.verdict is Verdict.UNKNOWN
                    assert member not in self.new

    def _judge(self, change: Change) -> None:
        """Check what design.md promises of each change when the director decides on it."""
        if not isinstance(change, AddServer | EditServer | RemoveServer):
            return
        service = self.director.service_at(change.service)
        present = self.director.ledger.actual.get(change.service)
        row = present.servers.get(change.key) if present else None
        if service is None:
            assert isinstance(change, RemoveServer)
            return
        if change.key not in {server.key for server in service.real_servers}:
            return
        finding = self.director.roster.finding(Member(service.name, change.key))
        assert finding is not None
        if finding.verdict is Verdict.UNKNOWN:
            assert isinstance(change, AddServer)
            assert Member(service.name, change.key) in self.new
            assert service.initial is Initial.UP
            assert row is None
        elif finding.verdict is Verdict.DOWN:
            if service.on_failure is OnFailure.REMOVE:
                assert isinstance(change, RemoveServer)
            else:
                assert not isinstance(change, RemoveServer)
                assert change.server.weight == 0
        elif service.check is not None:
            assert finding.reason == "passed"

    def _work(self, changes: Iterable[Change]) -> dict[int, str]:
        refusals: dict[int, str] = {}
        safe: set[Change] = self.flight.safe if self.flight else set()
        for i, change in enumerate(changes):
            key = row_of(change)[0]
            live, foreign = self.kernel.live(key), self.foreign & self.kernel.rows()
            before = self.kernel.rows()
            refused = self.kernel.work([change])
            if refused:
                refusals[i] = refused[0]
            self.made = (self.made & self.kernel.rows()) | (self.kernel.rows() - before)
            if key not in self.unread:
                assert self.foreign & self.kernel.rows() == foreign, f"{change} touched foreign rows"
                assert not (live and not self.kernel.live(key) and change in safe), f"{change} left none"
        self.foreign &= self.kernel.rows()
        return refusals

    # The director's wishes

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Report(event):
                    self._log(event)
                case Probe(target, at):
                    assert target not in self.due
                    self.due[target] = at
                case Forget(target):
                    self.due.pop(target, None)
                case Program(changes):
                    self._fly(changes)
                case ReadTable():
                    self.wants_reading = True
                case Remember(keys):
                    owned = self.director.ledger.owned
                    self.recorded = {key: entry for key, entry in self.recorded.items() if key not in keys}
                    self.recorded |= _copy({key: owned[key] for key in keys if key in owned})

    def _fly(self, changes: tuple[Change, ...]) -> None:
        assert self.flight is None
        assert self.adopted
        safe = set()
        for change in changes:
            self._judge(change)
            wanted = self.director.wanted(row_of(change)[0])
            if wanted and (_serves(wanted.rows) or self._awaits_verdicts(row_of(change)[0])):
                safe |= {change} if row_of(change)[1] not in wanted.dead else set()
            if isinstance(change, RemoveService):
                assert wanted is None
        self.flight = Flight(changes, safe)
        if self.reading is not None:
            self.reading.dirty |= {row_of(change)[0] for change in changes}

    def _awaits_verdicts(self, key: ServiceKey) -> bool:
        """Tell whether a real server under `key` may yet come to serve."""
        service = self.director.service_at(key)
        standings = {} if service is None else self.director.standings(service.name)
        return any(standing.verdict is Verdict.UNKNOWN for standing in standings.values())

    def _log(self, event: Event) -> None:
        self.seq += 1
        fields = event.to_json()
        line = json.dumps(
            {
                "ts": timestamp(self.now),
                "seq": self.seq,
                "run": f"run{self.run}",
                "level": str(event.level),
                "event": event.name,
                **fields,
            }
        )
        assert len(line) < LONGEST_LINE
        record: Record = json.loads(line)
        assert from_json(record) == event
        self.records.append(record)
        for fold in [self.state, *self.folds]:
            fold.fold(record)
        if event.name == "snapshot.begin":
            self.beginning = State()
            self.beginning.fold(record)
        elif self.snapshot is not None or event.name == "snapshot.end":
            self.beginning.fold(record)
            if event.name == "snapshot.end" and self.beginning.complete:
                _assert_same(self.beginning, self.state)
                self.folds = [*self.folds[-1:], self.beginning]

    # What is there

    def _instant(self) -> Instant:
        self.now += 0.001
        return Instant(self.now, self.now)

    def _own_rows(self, key: ServiceKey) -> Rows | None:
        rows = self.kernel.table.get(key)
        if rows is None or (key, None) in self.foreign:
            return None
        own = {server: row for server, row in rows.servers.items() if (key, server) not in self.foreign}
        return Rows(rows.service, own)

    def _verdict(self, member: Member) -> Verdict | None:
        finding = self.director.roster.finding(member)
        return None if finding is None else finding.verdict

    def _note_meddling(self, before: set[RowKey]) -> None:
        after = self.kernel.rows()
        self.made &= after
        self.foreign &= after
        self.foreign |= after - before - _claims(self.director.ledger.owned)

    def _drift(self, key: ServiceKey) -> None:
        self.unread.add(key)
        if self.reading is not None:
            self.reading.drifted.add(key)

    def _new_at_start(self, table: Image) -> Iterator[Member]:
        """Yield the real servers that neither the table nor the earlier run knew."""
        for service in self.config.values():
            known = set(self.earlier[service.key].hosts) if service.key in self.earlier else set()
            for server in service.real_servers:
                member = Member(service.name, server.key)
                finding = self.director.roster.finding(member)
                is_known = service.key in table if service.key not in self.earlier else server.key in known
                if service.initial is Initial.UP and not is_known:
                    assert finding is not None
                    if finding.verdict is Verdict.UNKNOWN:
                        yield member


class _Before:
    """What was known when a reload began."""

    def __init__(self, director: Director, config: dict[str, VirtualService]) -> None:
        self._config = config
        self._by_key = {service.key: service for service in config.values()}
        self.targets = set(director.roster.watched)
        self.down = {
            Member(service.name, server.key)
            for service in config.values()
            for server in service.real_servers
            if (finding := director.roster.finding(Member(service.name, server.key)))
            and finding.verdict is Verdict.DOWN
        }

    def known(self, service: VirtualService) -> set[ServerKey]:
        """Return the real servers that are not new to `service`, by its name or by their rows."""
        before = [self._config.get(service.name), self._by_key.get(service.key)]
        return {server.key for each in before if each is not None for server in each.real_servers}

    def was_down(self, service: VirtualService, server: ServerKey) -> bool:
        """Return whether `server` was down as what it was: by its row, else by the service's name."""
        for before in (self._by_key.get(service.key), self._config.get(service.name)):
            if before is not None and server in {each.key for each in before.real_servers}:
                return Member(before.name, server) in self.down
        return False


def _serves(rows: Rows) -> bool:
    return any(server.weight > 0 for server in rows.servers.values())


def _copy(owned: dict[ServiceKey, Owned]) -> dict[ServiceKey, Owned]:
    return {key: Owned(each.name, dict(each.hosts)) for key, each in owned.items()}


def _claims(owned: dict[ServiceKey, Owned]) -> set[RowKey]:
    return {(key, server) for key, each in owned.items() for server in [None, *each.hosts]}


def _rows_of(services: Iterable[VirtualService]) -> set[RowKey]:
    return {(service.key, server) for service in services for server in [None, *hosts_of(service)]}


def _told_rows(state: State, key: ServiceKey) -> object:
    place = where(key)
    rows = state.rows.get((place["protocol"], place["address"]))
    if rows is None:
        return None
    servers = {server: (row["forward"], row["weight"]) for server, row in rows.servers.items()}
    return rows.settings, servers


def _as_told(rows: Rows | None) -> object:
    if rows is None:
        return None
    servers = {str(key): (str(row.forwarding), row.weight) for key, row in rows.servers.items()}
    return settings(rows.service), servers


def _assert_same(one: State, other: State) -> None:
    assert one.to_json() == other.to_json()
    assert one.rows == other.rows
