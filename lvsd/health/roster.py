"""Which real servers are probed how, for which virtual services, and what is known of each.

The same probe of the same real server, asked for by many services, is one target with one verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.health.verdict import Health, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lvsd.config.model import Check, RealServer, VirtualService
    from lvsd.model import Address, Instant, Seconds, ServerKey

GOLDEN = 0.6180339887498949
"""Its multiples, modulo 1, are spread evenly however many there come to be."""

NEVER_PROBED = "never probed"
NO_VERDICT_YET = "no verdict yet"


@dataclass(frozen=True, slots=True)
class Target:
    """One probe of one address and port: what runs once however many services ask for it."""

    check: Check
    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a real server: the health, the outcome that decided it, and when (wall clock)."""

    health: Health
    reason: str
    since: Seconds

    @property
    def verdict(self) -> Verdict:
        """Up, down or unknown."""
        return self.health.verdict


@dataclass(frozen=True, slots=True)
class Member:
    """A real server in one virtual service."""

    service: str
    key: ServerKey


@dataclass(frozen=True, slots=True)
class Carried:
    """What a new target inherits from the one it replaces; `due_at` (monotonic) None: no probe was due."""

    finding: Finding
    due_at: Seconds | None = None


@dataclass(slots=True)
class Watched:
    """A target's finding, when its next probe is due (monotonic), and who uses it, in order of arrival."""

    finding: Finding
    due_at: Seconds
    users: dict[Member, None] = field(default_factory=dict)


class Roster:
    """All targets and their users; what a call costs follows the service at hand, not the roster's size."""

    def __init__(self) -> None:
        self.watched: dict[Target, Watched] = {}
        self._sources: dict[str, dict[ServerKey, Target | Finding]] = {}
        self._arrivals = 0

    def finding(self, member: Member) -> Finding | None:
        """Return what is known of `member`, None where it is no member. One never probed is always up."""
        source = self._sources.get(member.service, {}).get(member.key)
        return self.watched[source].finding if isinstance(source, Target) else source

    def carried(self, member: Member) -> Carried | None:
        """Return what a new target for `member` would inherit, None where nothing was ever probed."""
        source = self._sources.get(member.service, {}).get(member.key)
        if not isinstance(source, Target):
            return None
        watched = self.watched[source]
        return Carried(watched.finding, watched.due_at)

    def enter(
        self, service: VirtualService, carried: Mapping[ServerKey, Carried], now: Instant
    ) -> tuple[list[Target], list[Target]]:
        """Take in `service`, new or edited; return the targets to begin with and those to leave.

        `carried` holds what was known of its servers under other settings: a dead server does not come back
        because its probe is another.
        """
        before = self._sources.get(service.name, {})
        after: dict[ServerKey, Target | Finding] = {}
        begun = []
        for server in service.real_servers:
            target = _target(service, server)
            if target is None:
                kept = before.get(server.key)
                after[server.key] = kept if isinstance(kept, Finding) else _never_probed(now)
                continue
            after[server.key] = target
            if self._use(Member(service.name, server.key), target, carried.get(server.key), now):
                begun.append(target)
        self._sources[service.name] = after
        left = {key: source for key, source in before.items() if after.get(key) != source}
        return begun, self._disuse(service.name, left)

    def presume(self, member: Member, finding: Finding) -> None:
        """Set what an earlier run had found out about `member`, unless a probe has said otherwise since."""
        source = self._sources.get(member.service, {}).get(member.key)
        if isinstance(source, Target) and _forbids(finding, self.watched[source].finding):
            self.watched[source].finding = finding

    def leave(self, name: str) -> list[Target]:
        """Forget the service `name`; return the targets that nobody uses any more."""
        return self._disuse(name, self._sources.pop(name, {}))

    def _use(self, member: Member, target: Target, carried: Carried | None, now: Instant) -> bool:
        """Note that `member` uses `target`; return whether the target is new."""
        watched = self.watched.get(target)
        if watched is None:
            self.watched[target] = self._watch(target, carried, now)
        elif carried is not None and _forbids(carried.finding, watched.finding):
            watched.finding = carried.finding
        self.watched[target].users[member] = None
        return watched is None

    def _watch(self, target: Target, carried: Carried | None, now: Instant) -> Watched:
        self._arrivals += 1
        spread = (self._arrivals * GOLDEN % 1.0) * target.check.interval
        due_at = now.monotonic + spread
        if carried is None:
            return Watched(Finding(Health(), NO_VERDICT_YET, now.wall), due_at)
        if carried.due_at is not None:
            # A reload does not put a probe off, however often it comes.
            due_at = max(now.monotonic, min(due_at, carried.due_at))
        return Watched(carried.finding, due_at)

    def _disuse(self, name: str, left: Mapping[ServerKey, Target | Finding]) -> list[Target]:
        unused = []
        for key, source in left.items():
            if isinstance(source, Finding):
                continue
            users = self.watched[source].users
            users.pop(Member(name, key), None)
            if not users:
                del self.watched[source]
                unused.append(source)
        return unused


def _never_probed(now: Instant) -> Finding:
    return Finding(Health(Verdict.UP), NEVER_PROBED, now.wall)


def _target(service: VirtualService, server: RealServer) -> Target | None:
    if service.check is None:
        return None
    return Target(service.check, server.host.address, service.check.port or server.port)


def _forbids(carried: Finding, present: Finding) -> bool:
    """Return whether a verdict carried over rules out what a target not yet probed would allow."""
    return carried.verdict is Verdict.DOWN and present.verdict is Verdict.UNKNOWN
