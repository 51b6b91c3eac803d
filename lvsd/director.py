"""The director: takes in what happens, returns what is to be done. It awaits nothing and reads no clock.

A probe's outcome goes `finish` -> verdict (health.roster) -> rows wanted (ipvs.desired) -> changes
(ipvs.ledger) -> `Program`; the kernel's answer comes back by `programmed` and is what the log tells. The
state is changed in place, since one verdict must not cost a copy of the table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lvsd import telling
from lvsd.config.model import Initial, Level, OnFailure
from lvsd.effects import Effect, Forget, Probe, Program, ReadTable, Remember, Report
from lvsd.events import ProbeFailed, ProbePassed, ProbesImpeded, ProbesRecovered
from lvsd.health.outcome import Ended
from lvsd.health.roster import Carried, Finding, Member, Roster
from lvsd.health.verdict import Health, Verdict, next_probe_at, observe
from lvsd.ipvs.desired import Standing, desired
from lvsd.ipvs.ledger import Ledger, Owned, row_of
from lvsd.ipvs.plan import plan_service
from lvsd.model import Rows, join_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.model import VirtualService
    from lvsd.events import Event
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Target
    from lvsd.model import Instant, Seconds, ServerKey, ServiceKey, Table

OUT_WHEN_STARTED = "out of the table when lvsd started"


class Director:
    """One director's world: services wanted, verdicts, own rows.

    `owned` is what an earlier run had written down. Nothing is programmed before the first `read`, nor for a
    service while it is held.
    """

    def __init__(self, owned: dict[ServiceKey, Owned], level: Level = Level.INFO) -> None:
        self.services: dict[str, VirtualService] = {}
        self.roster = Roster()
        self.ledger = Ledger(owned)
        self.level = level
        self._recorded = {key: set(entry.hosts) for key, entry in owned.items()}
        self._by_key: dict[ServiceKey, str] = {}
        self._admitted: set[Member] = set()
        self._held: set[ServiceKey] = set()
        self._adopted = False
        self._impeded: set[Target] = set()
        self._lost_probes = 0

    @property
    def next_timer(self) -> Seconds | None:
        """When `tick` is due (monotonic), None where nothing waits."""
        return self.ledger.retry_at

    def hold(self, services: Iterable[VirtualService]) -> None:
        """Program nothing for these services, as they are now and as they will be, until `release`.

        A reload thus is one change of the table's plan, though it is taken in service by service.
        """
        for service in services:
            self._held.add(service.key)
            if service.name in self.services:
                self._held.add(self.services[service.name].key)

    def release(self, now: Instant) -> list[Effect]:
        """End what `hold` began."""
        self._held.clear()
        return self._program(now)

    def enter(self, service: VirtualService, now: Instant) -> list[Effect]:
        """Take in a service that is new or edited."""
        before = self.services.get(service.name)
        known = {} if before is None else self._findings(before)
        begun, left = self.roster.enter(service, self._carried(service), now)
        self._admit(service, before)
        self.services[service.name] = service
        if before is not None and before.key != service.key:
            self._unclaim(before)
        self._by_key[service.key] = service.name
        entry = self.ledger.owned.setdefault(service.key, Owned(service.name))
        entry.name = service.name
        entry.hosts |= _hosts(service)
        self.ledger.disown(service.key, _hosts(service))
        self.ledger.mark(service.key, "config")
        change = "added" if before is None else "edited"
        reports = self._tell_entered(service, change, known) if self._adopted else []
        probes = [Probe(target, self.roster.watched[target].due_at) for target in begun]
        return [*map(Report, reports), *self._forget(left), *probes, Remember()]

    def leave(self, name: str) -> list[Effect]:
        """Drop a service that is no longer configured."""
        service = self.services.pop(name)
        left = self.roster.leave(name)
        self._admitted -= {Member(name, server.key) for server in service.real_servers}
        self._unclaim(service)
        self.ledger.disown(service.key, self._wanted_hosts(service.key))
        reports = telling.config_changed(service, "removed")
        return [*map(Report, reports), *self._forget(left), Remember()]

    def finish(self, target: Target, outcome: Outcome, now: Instant) -> list[Effect]:
        """Take in how a probe ended."""
        watched = self.roster.watched.get(target)
        if watched is None:
            return []
        reports = self._tell_probe(target, watched.finding.health, outcome)
        if outcome.ended is Ended.LOCAL:
            reports += self._impede(target, outcome)
            changed = False
        else:
            reports += self._unimpede(target)
            before = watched.finding
            health = observe(before.health, target.check, passed=outcome.ended is Ended.PASSED)
            changed = health.verdict is not before.verdict
            if changed:
                watched.finding = Finding(health, outcome.reason, now.wall)
                reports += self._turn(watched.users, before, watched.finding)
            else:
                watched.finding = replace(before, health=health)
        watched.due_at = next_probe_at(target.check, watched.finding.health, watched.due_at, now.monotonic)
        effects: list[Effect] = [*map(Report, reports), Probe(target, watched.due_at)]
        return effects + self._program(now) if changed else effects

    def begin_reading(self) -> None:
        """Note that the kernel's table is being read now, for `read` to come."""
        self.ledger.begin_reading()

    def read(self, table: Table, now: Instant) -> list[Effect]:
        """Take in the kernel's table. The first time it is adopted, later what differs is told and mended."""
        if not self._adopted:
            self._adopt(table, now)
            reports: list[Event] = []
        else:
            reports = [
                event
                for key, thought, found in self.ledger.compare(table)
                for change in plan_service(key, thought, found)
                for event in telling.changed(change, self.ledger.owned[key], "drift")
            ]
        appeared, gone = self.ledger.compare_foreign(table)
        reports += telling.foreign(appeared, gone)
        return [*map(Report, reports), *self._program(now)]

    def programmed(self, refusals: Mapping[int, str] | None, now: Instant) -> list[Effect]:
        """Take in the kernel's answer to `Program`: why it refused which change; None where it is unknown."""
        if refusals is None:
            self.ledger.abandon()
            return [ReadTable()]
        reports: list[Event] = []
        keys: dict[ServiceKey, None] = {}
        for change, refused in self.ledger.settle(refusals, now):
            key = row_of(change)[0]
            keys[key] = None
            entry = self.ledger.owned[key]
            if refused is None:
                reports += telling.changed(change, entry, self.ledger.cause(key))
            else:
                reports.append(telling.refused(change, entry, refused))
        forgotten = [key for key in keys if self.ledger.disown(key, self._wanted_hosts(key))]
        effects: list[Effect] = [*map(Report, reports)]
        effects += [Remember()] if forgotten else []
        effects += [ReadTable()] if refusals else []
        return effects + self._program(now)

    def tick(self, now: Instant) -> list[Effect]:
        """Do what `next_timer` waited for."""
        self.ledger.retry(now)
        return self._program(now)

    def withdraw(self, now: Instant) -> list[Effect]:
        """Remove all own rows, since lvsd stops for good."""
        for service in list(self.services.values()):
            self._unclaim(service)
        for key in self.ledger.actual:
            self.ledger.mark(key, "stop")
        return self._program(now)

    def snapshot(self) -> Iterator[list[Event]]:
        """Yield the lines that tell the whole state, those of one service at a time, each as it is then."""
        for name in list(self.services):
            service = self.services.get(name)
            if service is not None:
                owned, rows = self.ledger.owned[service.key], self.ledger.actual.get(service.key)
                yield telling.snapshot(service, self._findings(service), owned, rows)
        for key in [key for key in self.ledger.actual if key not in self._by_key]:
            if key in self.ledger.actual and key not in self._by_key:
                yield telling.snapshot_of_leaving(key, self.ledger.owned[key], self.ledger.actual[key])

    def _wanted(self, key: ServiceKey) -> Rows | None:
        name = self._by_key.get(key)
        if name is None:
            return None
        service = self.services[name]
        present = self.ledger.actual.get(key)
        standings = {server.key: self._standing(Member(name, server.key)) for server in service.real_servers}
        return desired(service, standings, {} if present is None else present.servers)

    def _standing(self, member: Member) -> Standing:
        finding = self.roster.finding(member)
        verdict = Verdict.UNKNOWN if finding is None else finding.verdict
        return Standing(verdict, member in self._admitted)

    def _program(self, now: Instant) -> list[Effect]:
        if not self._adopted:
            return []
        batch = self.ledger.next_batch(self._wanted, self._held, now)
        return [Program(batch)] if batch else []

    def _findings(self, service: VirtualService) -> dict[ServerKey, Finding]:
        found = {}
        for server in service.real_servers:
            finding = self.roster.finding(Member(service.name, server.key))
            if finding is not None:
                found[server.key] = finding
        return found

    def _carried(self, service: VirtualService) -> dict[ServerKey, Carried]:
        """Return what is known of the service's servers, under its name or, renamed, under its key."""
        name = service.name if service.name in self.services else self._by_key.get(service.key)
        if name is None:
            return {}
        carried = {
            server.key: self.roster.carried(Member(name, server.key)) for server in service.real_servers
        }
        return {key: known for key, known in carried.items() if known is not None}

    def _admit(self, service: VirtualService, before: VirtualService | None) -> None:
        """Let new servers in from the start where the service says so."""
        if service.initial is not Initial.UP:
            return
        present = self.ledger.actual.get(service.key)
        old = set() if before is None else {server.key for server in before.real_servers}
        old |= set() if present is None else set(present.servers)
        self._admitted |= {
            Member(service.name, server.key) for server in service.real_servers if server.key not in old
        }

    def _unclaim(self, service: VirtualService) -> None:
        if self._by_key.get(service.key) == service.name:
            del self._by_key[service.key]
            self.ledger.mark(service.key, "config")

    def _forget(self, targets: list[Target]) -> list[Effect]:
        self._impeded -= set(targets)
        return [Forget(target) for target in targets]

    def _wanted_hosts(self, key: ServiceKey) -> dict[ServerKey, str] | None:
        name = self._by_key.get(key)
        return None if name is None else _hosts(self.services[name])

    def _adopt(self, table: Table, now: Instant) -> None:
        for key, rows in table.items():
            name = self._by_key.get(key)
            if name is not None:
                self._adopt_service(self.services[name], rows, now)
        for _ in self.ledger.compare(table):
            pass
        for key in list(self.ledger.owned):
            self.ledger.mark(key, "config")
            self.ledger.disown(key, self._wanted_hosts(key))
        self._recorded = {}
        self._adopted = True

    def _adopt_service(self, service: VirtualService, rows: Rows, now: Instant) -> None:
        """Carry verdicts over from an earlier run: what was taken out stays out until it is well again."""
        recorded = self._recorded.get(service.key)
        for server in service.real_servers:
            member = Member(service.name, server.key)
            row = rows.servers.get(server.key)
            if row is None and (recorded is None or server.key in recorded):
                self._admitted.discard(member)
            quiesced = row is not None and row.weight == 0 and service.on_failure is OnFailure.QUIESCE
            out = quiesced or row is None
            if recorded is not None and server.key in recorded and out and server.weight > 0:
                finding = Finding(Health(Verdict.DOWN), OUT_WHEN_STARTED, now.wall)
                self.roster.presume(member, finding)

    def _impede(self, target: Target, outcome: Outcome) -> list[Event]:
        begins = not self._impeded
        self._impeded.add(target)
        self._lost_probes += 1
        if not begins:
            return []
        return [ProbesImpeded(server=join_port(target.address, target.port), reason=outcome.reason)]

    def _unimpede(self, target: Target) -> list[Event]:
        if target not in self._impeded:
            return []
        self._impeded.discard(target)
        if self._impeded:
            return []
        lost, self._lost_probes = self._lost_probes, 0
        return [ProbesRecovered(probes=lost)]

    def _tell_entered(
        self, service: VirtualService, change: str, known: Mapping[ServerKey, Finding]
    ) -> Iterator[Event]:
        yield from telling.config_changed(service, change)
        for key, finding in self._findings(service).items():
            before = known[key].verdict if key in known else Verdict.UNKNOWN
            if finding.verdict is not before:
                yield telling.verdict(self.ledger.owned[service.key], key, before, finding)

    def _turn(self, members: Iterable[Member], before: Finding, after: Finding) -> list[Event]:
        """Mark the services of `members` to be planned anew; return what is to be told of each."""
        reports = []
        for member in members:
            service = self.services[member.service]
            self.ledger.mark(service.key, "health")
            reports.append(telling.verdict(self.ledger.owned[service.key], member.key, before.verdict, after))
        return reports

    def _tell_probe(self, target: Target, health: Health, outcome: Outcome) -> list[Event]:
        if self.level is not Level.DEBUG or outcome.ended is Ended.LOCAL:
            return []
        server = join_port(target.address, target.port)
        if outcome.ended is Ended.PASSED:
            return [ProbePassed(server=server, reason=outcome.reason)]
        count = 0 if health.verdict is Verdict.DOWN else health.dissent + 1
        return [ProbeFailed(server=server, reason=outcome.reason, count=count, fall=target.check.fall)]


def _hosts(service: VirtualService) -> dict[ServerKey, str]:
    servers = [*service.real_servers, *([service.sorry_server] if service.sorry_server else [])]
    return {server.key: server.host.name for server in servers}
