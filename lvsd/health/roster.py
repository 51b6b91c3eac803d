"""Which real servers are probed how, for which virtual services, and what is known of each.

The same probe of the same real server, asked for by many services, is one target with one verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lvsd.health.verdict import Health, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

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


class Member(NamedTuple):
    """A real server in one virtual service."""

    service: str
    key: ServerKey


@dataclass(frozen=True, slots=True)
class Carried:
    """What a new target inherits from the one it replaces: the finding, when it was due (monotonic)."""

    finding: Finding
    due_at: Seconds


@dataclass(slots=True)
class Watched:
    """A target's finding, when its next probe is due (monotonic), and who uses it, in order of arrival."""

    finding: Finding
    due_at: Seconds
    users: dict[Member, None] = field(default_factory=dict)


class Roster:
    """All targets and their users; what a call costs follows the service at hand, not the roster's size.

    A target that nobody uses any more is probed on until `sweep`, so that a real server may change hands.
    Of `members`, the real servers counted in every service, so many are `up`; of so many targets nothing is
    known yet, they are `unknown`.
    """

    def __init__(self) -> None:
        self.watched: dict[Target, Watched] = {}
        self.members = 0
        self.up = 0
        self.unknown = 0
        self._sources: dict[str, dict[ServerKey, Target | Finding]] = {}
        self._unused: dict[Target, None] = {}
        self._arrivals = 0

    def finding(self, member: Member) -> Finding | None:
        """Return what is known of `member`, None where it is no member. One never probed is always up."""
        source = self._sources.get(member.service, {}).get(member.key)
        return None if source is None else self._found(source)

    def findings(self, name: str) -> dict[ServerKey, Finding]:
        """Return what is known of the real servers of the service `name`, in their order there."""
        return {key: self._found(source) for key, source in self._sources.get(name, {}).items()}

    def carried(self, name: str) -> dict[ServerKey, Carried | None]:
        """Return what new targets for the service `name` would inherit, None where there was no probe."""
        return {
            key: Carried(self.watched[source].finding, self.watched[source].due_at)
            if isinstance(source, Target)
            else None
            for key, source in self._sources.get(name, {}).items()
        }

    def enter(
        self, service: VirtualService, carried: Mapping[ServerKey, Carried | None], now: Instant
    ) -> list[Target]:
        """Take in `service`, new or edited; return the targets to begin with.

        `carried` holds what was known of its servers under other settings: a dead server does not come back
        because its probe is another. A target that others use already keeps its own finding.
        """
        self._count(service.name, -1)
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
            if target not in self.watched:
                watched = self.watched[target] = self._watch(target, carried.get(server.key), now)
                self.unknown += _is_unknown(watched.finding)
                begun.append(target)
            self.watched[target].users[Member(service.name, server.key)] = None
        self._sources[service.name] = after
        self._count(service.name, 1)
        self._disuse(
            service.name, {key: source for key, source in before.items() if after.get(key) != source}
        )
        return begun

    def presume(self, members: AbstractSet[Member], finding: Finding) -> None:
        """Set what an earlier run had found out about `members`, unless a probe has said otherwise since.

        Where others that are not among them share the target, nothing is presumed.
        """
        sources = {self._sources.get(member.service, {}).get(member.key) for member in members}
        for watched in [self.watched[source] for source in sources if isinstance(source, Target)]:
            if watched.finding.verdict is Verdict.UNKNOWN and watched.users.keys() <= members:
                self.learn(watched, finding)

    def learn(self, watched: Watched, finding: Finding) -> None:
        """Set what is known of a target from now on."""
        self.up += len(watched.users) * (_is_up(finding) - _is_up(watched.finding))
        self.unknown += _is_unknown(finding) - _is_unknown(watched.finding)
        watched.finding = finding

    def leave(self, name: str) -> None:
        """Forget the service `name`."""
        self._count(name, -1)
        self._disuse(name, self._sources.pop(name, {}))

    def sweep(self) -> list[Target]:
        """Forget the targets that nobody uses any more; return them."""
        unused = [target for target in self._unused if not self.watched[target].users]
        for target in unused:
            self.unknown -= _is_unknown(self.watched.pop(target).finding)
        self._unused.clear()
        return unused

    def _watch(self, target: Target, carried: Carried | None, now: Instant) -> Watched:
        self._arrivals += 1
        spread = (self._arrivals * GOLDEN % 1.0) * target.check.interval
        due_at = now.monotonic + spread
        if carried is None:
            return Watched(Finding(Health(), NO_VERDICT_YET, now.wall), due_at)
        # A reload does not put a probe off, however often it comes.
        return Watched(carried.finding, max(now.monotonic, min(due_at, carried.due_at)))

    def _found(self, source: Target | Finding) -> Finding:
        return self.watched[source].finding if isinstance(source, Target) else source

    def _count(self, name: str, sign: int) -> None:
        findings = self.findings(name).values()
        self.members += sign * len(findings)
        self.up += sign * sum(map(_is_up, findings))

    def _disuse(self, name: str, left: Mapping[ServerKey, Target | Finding]) -> None:
        for key, source in left.items():
            if isinstance(source, Target):
                self.watched[source].users.pop(Member(name, key), None)
                self._unused[source] = None


def _is_up(finding: Finding) -> bool:
    return finding.verdict is Verdict.UP


def _is_unknown(finding: Finding) -> bool:
    return finding.verdict is Verdict.UNKNOWN


def _never_probed(now: Instant) -> Finding:
    return Finding(Health(Verdict.UP), NEVER_PROBED, now.wall)


def _target(service: VirtualService, server: RealServer) -> Target | None:
    if service.check is None:
        return None
    return Target(service.check, server.host.address, service.check.port or server.port)
