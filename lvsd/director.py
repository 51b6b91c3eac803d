"""The director: takes in what happens, returns what is to be done. It awaits nothing and reads no clock.

A probe's outcome goes `finish` -> verdict (health.roster) -> rows wanted (ipvs.desired) -> changes
(ipvs.ledger) -> `Program`; the kernel's answer comes back by `programmed` and is what the log tells. The
state is changed in place, since one verdict must not cost a copy of the table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lvsd import adoption, telling
from lvsd.config.model import Initial, Level
from lvsd.effects import Effect, Forget, Probe, Program, ReadTable, Remember, Report
from lvsd.health.impediments import Impediments
from lvsd.health.outcome import Ended
from lvsd.health.roster import Finding, Member, Roster
from lvsd.health.verdict import Verdict, next_probe_at, observe
from lvsd.ipvs.desired import Standing, desired
from lvsd.ipvs.ledger import Ledger, Owned, Wanted, row_of
from lvsd.ipvs.plan import plan_service
from lvsd.telling import hosts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.model import VirtualService
    from lvsd.events import Event
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Carried, Target
    from lvsd.ipvs.ledger import Difference
    from lvsd.model import Instant, Seconds, ServerKey, ServiceKey, Table


ADOPTED = 100
"""Services adopted at a time: a millisecond or two."""


class Director:
    """One director's world: services wanted, verdicts, own rows.

    `owned` is what an earlier run had written down. Nothing is programmed before the first `read`, nor for a
    service while it is held. `turned` gathers the services in which verdicts changed, for whoever empties it.
    """

    def __init__(self, owned: dict[ServiceKey, Owned], level: Level = Level.INFO) -> None:
        self.services: dict[str, VirtualService] = {}
        self.roster = Roster()
        self.ledger = Ledger(owned)
        self.level = level
        self._recorded = {key: frozenset(entry.hosts) for key, entry in owned.items()}
        self._by_key: dict[ServiceKey, str] = {}
        self._former: dict[ServiceKey, dict[ServerKey, Carried | None]] = {}
        self._admitted: dict[str, set[ServerKey]] = {}
        self._held: set[ServiceKey] = set()
        self.adopted = False
        self.turned: set[str] = set()
        self._impediments = Impediments()

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
        return [*self._sweep(), *self._program(now)]

    def enter(self, service: VirtualService, now: Instant) -> list[Effect]:
        """Take in a service that is new or edited."""
        before = self.services.get(service.name)
        known = {} if before is None else self.roster.findings(before.name)
        carried = self._carried(service)
        self.ledger.mark(service.key, "config")  # ahead of the rows that it leaves, if it moves
        if before is not None and before.key != service.key:
            self._unclaim(before)
        begun = self.roster.enter(service, carried, now)
        self.services[service.name] = service
        self._by_key[service.key] = service.name
        self._admit(service, carried)
        self.ledger.claim(service.key, service.name, hosts_of(service))
        change = "added" if before is None else "edited"
        reports = self._tell_entered(service, change, known) if self.adopted else []
        probes = [Probe(target, self.roster.watched[target].due_at) for target in begun]
        reading = [ReadTable()] if self.ledger.needs_reading else []
        return [*map(Report, reports), *self._sweep(), *probes, *self._remember(), *reading]

    def leave(self, name: str) -> list[Effect]:
        """Drop a service that is no longer configured."""
        service = self.services[name]
        self._unclaim(service)
        self.roster.leave(name)
        del self.services[name]
        self._admitted.pop(name, None)
        reports = telling.config_changed(service, "removed")
        return [*map(Report, reports), *self._sweep(), *self._remember()]

    def finish(self, target: Target, outcome: Outcome, now: Instant) -> list[Effect]:
        """Take in how a probe ended."""
        watched = self.roster.watched.get(target)
        if watched is None:
            return []
        before = watched.finding
        reports = telling.probed(target, before.health, outcome) if self.level is Level.DEBUG else []
        local = outcome.ended is Ended.LOCAL
        if local:
            reports += self._impediments.begin(target, outcome)
        else:
            reports += self._impediments.end([target])
            health = observe(before.health, target.check, passed=outcome.ended is Ended.PASSED)
            if health.verdict is before.verdict:
                self.roster.learn(watched, replace(before, health=health))
            else:
                self.roster.learn(watched, Finding(health, outcome.reason, now.wall))
                reports += self._turn(watched.users, before, watched.finding)
        watched.due_at = next_probe_at(
            target.check, watched.finding.health, watched.due_at, now.monotonic, local=local
        )
        effects: list[Effect] = [*map(Report, reports), Probe(target, watched.due_at)]
        return effects if watched.finding.verdict is before.verdict else effects + self._program(now)

    def begin_reading(self) -> None:
        """Note that the kernel's table is being read now, for `read` to come."""
        self.ledger.begin_reading()

    def read(self, table: Table, now: Instant) -> Iterator[list[Effect]]:
        """Take in the kernel's table, of some services at a time, and yield what is to be done of each.

        The first time it is adopted, later what differs is told and mended.
        """
        adopting = not self.adopted
        if adopting:
            yield from self._adopt(table, now)
        for found in self.ledger.compare(table):
            reports = [] if adopting else list(self._tell_differences(found.differences))
            reports += telling.foreign(found.appeared, found.gone)
            yield [*map(Report, reports), *self._program(now)]
        if adopting:
            self.adopted = True
            for key in self.ledger.owned:
                self.ledger.mark(key, "config")
        reading = [ReadTable()] if self.ledger.needs_reading else []
        yield [*self._program(now), *reading]

    def programmed(self, refusals: Mapping[int, str] | None, now: Instant) -> list[Effect]:
        """Take in the kernel's answer to `Program`: why it refused which change; None where it is unknown."""
        if refusals is None:
            self.ledger.abandon()
            return [ReadTable(), *self._program(now)]
        reports: list[Event] = []
        keys: dict[ServiceKey, None] = {}
        for change, refused in self.ledger.settle(refusals, now):
            key = row_of(change)[0]
            keys[key] = None
            entry = self.ledger.owned[key]
            if refused is None:
                reports.append(telling.changed(change, entry, self.ledger.cause(key)))
            else:
                reports.append(telling.refused(change, entry, refused))
        for key in keys:
            holder = self.service_at(key)
            self.ledger.disown(key, None if holder is None else hosts_of(holder))
        reading = [ReadTable()] if refusals else []
        return [*map(Report, reports), *reading, *self._program(now)]

    def tick(self, now: Instant) -> list[Effect]:
        """Do what `next_timer` waited for."""
        self.ledger.retry(now)
        return self._program(now)

    def withdraw(self, now: Instant) -> list[Effect]:
        """Remove all own rows, since lvsd stops for good."""
        self._held.clear()
        self._by_key.clear()
        for key in self.ledger.owned:
            self.ledger.mark(key, "stop")
        return self._program(now)

    def snapshot(self) -> Iterator[list[Event]]:
        """Yield the lines that tell the whole state, those of one service at a time, each as it is then."""
        told = set()
        for name in list(self.services):
            service = self.services.get(name)
            if service is not None:
                told.add(service.key)
                yield self._snapshot_of(service)
        # What is left are rows of services that are no longer configured, or changed hands meanwhile.
        for key in [key for key in self.ledger.actual if key not in told]:
            rows, holder = self.ledger.actual.get(key), self.service_at(key)
            if holder is not None:
                yield self._snapshot_of(holder)
            elif rows is not None:
                yield telling.snapshot_of_leaving(key, self.ledger.owned[key].hosts, rows)

    def service_at(self, key: ServiceKey) -> VirtualService | None:
        """Return the service that is configured under `key`."""
        name = self._by_key.get(key)
        return None if name is None else self.services[name]

    def wanted(self, key: ServiceKey) -> Wanted | None:
        """Return what the rows under `key` should be as things stand, None where no service is wanted."""
        service = self.service_at(key)
        if service is None:
            return None
        present = self.ledger.actual.get(key)
        standings = self.standings(service.name)
        rows = desired(service, standings, {} if present is None else present.servers)
        dead = [server for server, standing in standings.items() if standing.verdict is Verdict.DOWN]
        return Wanted(rows, hosts_of(service), dead)

    @property
    def longest_verdict(self) -> Seconds:
        """How long the first verdict on a real server may take to come (seconds)."""
        checks = {target.check for target in self.roster.watched}
        return max(
            (each.interval + each.fall * (each.fast_interval + each.timeout) for each in checks), default=0.0
        )

    def lost(self, name: str) -> str:
        """Return in words that the service `name` has no real server left, nothing where it has."""
        standings = self.standings(name).values()
        if any(standing.verdict is not Verdict.DOWN for standing in standings):
            return ""
        return f"all its {len(standings)} real servers are down" if standings else "it has no real server"

    def standings(self, name: str) -> dict[ServerKey, Standing]:
        """Return what decides the rows of a service's real servers."""
        admitted = self._admitted.get(name, ())
        return {
            key: Standing(finding.verdict, key in admitted)
            for key, finding in self.roster.findings(name).items()
        }

    def _snapshot_of(self, service: VirtualService) -> list[Event]:
        owned, rows = self.ledger.owned.get(service.key), self.ledger.actual.get(service.key)
        return telling.snapshot(
            service, self.roster.findings(service.name), owned.hosts if owned else {}, rows
        )

    def _program(self, now: Instant) -> list[Effect]:
        batch = self.ledger.next_batch(self.wanted, self._held, now) if self.adopted else None
        return [*self._remember(), *([] if batch is None else [Program(batch)])]

    def _remember(self) -> list[Effect]:
        changed, self.ledger.owned_changed = self.ledger.owned_changed, set()
        return [Remember(frozenset(changed))] if changed else []

    def _sweep(self) -> list[Effect]:
        """Forget the targets that nobody uses any more, but not in the midst of a reload."""
        if self._held:
            return []
        self._former.clear()
        unused = self.roster.sweep()
        return [*map(Report, self._impediments.end(unused)), *map(Forget, unused)]

    def _carried(self, service: VirtualService) -> dict[ServerKey, Carried | None]:
        """Return what is known of the service's servers: of those rows before, else under its name."""
        holder = self._by_key.get(service.key)
        of_rows = self._former.get(service.key, {}) if holder is None else self.roster.carried(holder)
        return {**self.roster.carried(service.name), **of_rows}

    def _admit(self, service: VirtualService, carried: Mapping[ServerKey, Carried | None]) -> None:
        """Let new servers in from the start where the service says so, until their first verdict."""
        before = self._admitted.get(service.name, set())
        down = {key for key, each in carried.items() if each and each.finding.verdict is Verdict.DOWN}
        waiting = {
            key
            for key, finding in self.roster.findings(service.name).items()
            if finding.verdict is Verdict.UNKNOWN and key not in down and service.initial is Initial.UP
        }
        rows = self.ledger.actual.get(service.key)
        known = carried.keys() | (rows.servers.keys() if rows else set())
        self._admitted[service.name] = (waiting - known) | (waiting & before)

    def _unclaim(self, service: VirtualService) -> None:
        if self._by_key.get(service.key) == service.name:
            self._former[service.key] = self.roster.carried(service.name)
            del self._by_key[service.key]
            self.ledger.mark(service.key, "config")

    def _adopt(self, table: Table, now: Instant) -> Iterator[list[Effect]]:
        """Take over what an earlier run knew; nothing is to be done for it."""
        out: set[Member] = set()
        for i, service in enumerate(list(self.services.values()), 1):
            found = adoption.adopt(service, table.get(service.key), self._recorded.get(service.key))
            out |= {Member(service.name, key) for key in found.out}
            self._admitted[service.name] -= found.known
            if i % ADOPTED == 0:
                yield []
        self.roster.presume(out, adoption.finding(now))
        self._recorded = {}

    def _tell_differences(self, differences: Iterable[Difference]) -> Iterator[Event]:
        for found in differences:
            for change in plan_service(found.key, found.thought, found.read):
                yield telling.changed(change, self.ledger.owned[found.key], found.cause)

    def _tell_entered(
        self, service: VirtualService, change: str, known: Mapping[ServerKey, Finding]
    ) -> Iterator[Event]:
        yield from telling.config_changed(service, change)
        for key, finding in self.roster.findings(service.name).items():
            yield from telling.verdict(service, key, known.get(key), finding)

    def _turn(self, members: Iterable[Member], before: Finding, after: Finding) -> Iterator[Event]:
        """Mark the services of `members` to be planned anew; yield what is to be told of each."""
        for member in members:
            service = self.services[member.service]
            self._admitted[member.service].discard(member.key)
            self.turned.add(member.service)
            self.ledger.mark(service.key, "health")
            yield from telling.verdict(service, member.key, before, after)
