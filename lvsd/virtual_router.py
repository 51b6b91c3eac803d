"""One VRRP instance of this director: its part in the election, and how long its VIPs stay in place."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from lvsd.effects import (
    Announce,
    FailoverEffect,
    HandOver,
    Inquire,
    KeepAddresses,
    Meet,
    Notify,
    Report,
    Send,
    TakeIn,
)
from lvsd.events import AddressContested, SnapshotVrrp, VrrpChanged, VrrpContested, VrrpMaster, VrrpTracked
from lvsd.telling import timestamp
from lvsd.vrrp import machine
from lvsd.vrrp.admission import Limiter
from lvsd.vrrp.fitness import Fitness
from lvsd.vrrp.known_master import KnownMaster
from lvsd.vrrp.machine import Advertise, Ask, Backup, Claim, Fault, Initialize, Master, Release, Router
from lvsd.vrrp.packet import OWNER, RESIGNED, Advertisement
from lvsd.vrrp.tenure import LINGER, LINGER_VIRTUAL, MARGIN, Tenure
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from lvsd.config.model import DirectorAddress, VrrpInstance
    from lvsd.model import Address, Instant, Seconds
    from lvsd.vrrp.machine import State, Step

WAITING: Final = "it does not serve yet: the first verdicts are not in"


class VirtualRouter:
    """Follows one instance. `fitness` says what is wrong with this director.

    `resuming` tells that the VIPs are in place from an earlier run, which was master; `fresh_until` is when a
    peer may have taken over from that run.
    """

    def __init__(self, config: VrrpInstance, now: Instant) -> None:
        self.config = config
        self.state: State = Initialize()
        self.since = now.wall
        self.reason = WAITING
        self.source: Address | None = None
        self.fitness = Fitness()
        self.breaks_ties = True
        self.impaired = False
        self.resuming = False
        self.fresh_until: Seconds = 0.0
        self._listens_since = now.monotonic
        self._adopted = False
        self._tenure = Tenure()
        self._master = KnownMaster()
        self._why_silent = _NOBODY
        self._covers_addresses = True
        self._contested = Limiter()

    @property
    def holds(self) -> bool:
        """Whether its VIPs are to be in place."""
        return self.is_master or self._tenure.lingers or self.resuming

    @property
    def lingers(self) -> bool:
        """Whether its VIPs are in place still, though it is no longer master."""
        return self._tenure.lingers

    @property
    def is_master(self) -> bool:
        """Whether it is master."""
        return isinstance(self.state, Master)

    @property
    def priority(self) -> int:
        """The priority as it is now."""
        return self.fitness.priority(self.config.priority)

    @property
    def own_priority(self) -> int:
        """The priority that it would have alone, whatever is wrong with others of its sync group."""
        return self.fitness.own_priority(self.config.priority)

    @property
    def next_timer(self) -> Seconds | None:
        """When `tick` is due (monotonic), None while it waits for nothing."""
        resume_at = None
        if self.resuming and self._adopted and self.source is not None:
            resume_at = self._listens_since + self.config.interval
        moments = (machine.next_timer(self.state), self._tenure.next_timer, resume_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def tick(self, now: Instant) -> list[FailoverEffect]:
        """Do what `next_timer` waited for."""
        due = self._tenure.fire(now.monotonic)
        effects: list[FailoverEffect] = []
        if due.drop:
            effects.append(KeepAddresses())
        if due.hand_over:
            effects.append(HandOver(self.config))
        if due.announce:
            effects.append(Announce(self.config))
        if due.inquire:
            effects.append(Inquire(self.config))
        if self.source is None:
            return effects
        step = machine.fire(self._router(), self.state, now.monotonic)
        return effects + self._take(step, self._why_silent, now)

    def hear(self, said: Advertisement, now: Instant) -> list[FailoverEffect]:
        """Take in an advertisement that is to be heeded."""
        effects: list[FailoverEffect] = []
        if said.priority != RESIGNED:
            self._covers_addresses = said.covers_addresses
            effects += self._know_master(said, now)
            if self._tenure.relieve(now.monotonic, self._linger):
                effects.append(HandOver(self.config))
            if self.resuming:
                self.resuming = False
                effects.append(KeepAddresses())
        else:
            self._master.resigns(said.source, now.monotonic)
        self._why_silent = self._words_for(said)
        before = self.state
        step = machine.hear(self._router(), before, said, now.monotonic)
        reason = f"{said.source} advertises priority {said.priority}"
        if isinstance(before, Master) and not isinstance(step.state, Master):
            self._master.address = said.source
            reason = (
                f"{reason}, this director's is {self.priority}" if said.priority >= self.priority else _LATE
            )
        elif isinstance(before, Master) and said.priority != RESIGNED:
            effects += self._contest(said, now)
        elif isinstance(before, Master):  # who asks may have yielded just now
            self._tenure.regain(now.monotonic)
            effects.append(TakeIn(self.config))
        return effects + self._take(step, reason, now)

    def claimed(self, address: Address, mac: str, now: Instant) -> list[FailoverEffect]:
        """Take in that another host on the LAN says that it has one of the VIPs."""
        if self.resuming and now.monotonic >= self.fresh_until:
            self.resuming = False
            return [KeepAddresses()]
        if not self._tenure.is_settled(now.monotonic):
            return []
        self._tenure.remind(now.monotonic)
        if not self._contested.admits((address, mac), now.monotonic):
            return []
        vip = next(each for each in self.config.vips if each.address == address)
        return [Report(AddressContested(address=str(vip), interface=vip.interface, mac=mac))]

    def settle(self, now: Instant, *, adopted: bool, serving: bool) -> list[FailoverEffect]:
        """Take part where nothing is in the way, or no more.

        `serving` tells that this director can serve, `adopted` that it does as far as an earlier run did.
        """
        self._adopted = adopted
        if self.fitness.fault:
            return self._bear(self.fitness.fault, now)
        if isinstance(self.state, Backup | Master):
            return []
        if self.resuming and adopted and self._nobody_took_over(now):
            return self._take(machine.start(self._router(), now.monotonic, resuming=True), _RESUMED, now)
        if serving and not self.resuming:
            self._master.address, self._why_silent = None, _NOBODY
            return self._take(machine.start(self._router(), now.monotonic), "it can serve", now)
        if isinstance(self.state, Fault):
            return self._take(machine.resign(self.state, Initialize()), WAITING, now)
        return []

    def speak_from(self, source: Address | None, now: Instant) -> None:
        """Set where advertisements come from; without, nothing is heard either."""
        if self.source is None and source is not None:
            self._listens_since = now.monotonic
        self.source = source

    def limit(self, ceiling: int, now: Instant) -> None:
        """Set how high the priority may be."""
        was = self._router() if self.source is not None else None
        self.fitness.ceiling = ceiling
        if was is not None:
            self.state = machine.revise(was, self._router(), self.state, now.monotonic)

    def follows(self, now: Instant) -> bool:
        """Tell whether it hears a master that it is not to relieve."""
        return machine.follows(self.state, now.monotonic)

    def takes_over(self, now: Instant) -> bool:
        """Tell whether `tick` makes it master."""
        return machine.takes_over(self.state, now.monotonic)

    def wait(self, now: Instant) -> list[FailoverEffect]:
        """Do not take over yet, but wait for as long again."""
        return self._take(machine.wait(self._router(), now.monotonic), self.reason, now)

    def take_over(self, reason: str, now: Instant) -> list[FailoverEffect]:
        """Become master with the others of the group."""
        return self._take(machine.take_over(self._router(), now.monotonic), reason, now)

    def step_down(self, reason: str, now: Instant) -> list[FailoverEffect]:
        """Leave being master to the peers. Without any, this one is master again before the VIPs go."""
        step = machine.step_down(self._router(), self.state, now.monotonic)
        effects = self._take(step, reason, now)
        again_at = machine.next_timer(step.state)
        if again_at is not None:
            self._tenure.extend(again_at + MARGIN)
        return effects

    def stop(self, reason: str, now: Instant) -> list[FailoverEffect]:
        """Take part no more. The VIPs go when another director has them, or after a while."""
        step = machine.resign(self._as_heard(now), Initialize())
        self.resuming = False
        effects = self._take(step, reason, now)
        return [*effects, self._notify("stop"), KeepAddresses()]

    def change(self, config: VrrpInstance, now: Instant) -> list[FailoverEffect]:
        """Go on under other settings, without leaving the state. What is placed otherwise is tried anew."""
        before, was = self.config, self._router() if self.source is not None else None
        self.config = config
        if was is not None:
            self.state = machine.revise(was, self._router(), self.state, now.monotonic)
        effects: list[FailoverEffect] = []
        for vip in set(placed(before)) - set(placed(config)):
            effects += self.place(vip, "", now)
        if not self.is_master or _placing(before) == _placing(config):
            return effects
        self._tenure.remind(now.monotonic)
        return [*effects, KeepAddresses(), self._send(self.priority), Announce(config)]

    def weigh(self, tracked: str, penalty: int, fault: str, now: Instant) -> list[FailoverEffect]:
        """Take in how something tracked is: what it costs the priority, and why it keeps the instance out."""
        return self._judge(tracked, fault, partial(self.fitness.weigh, tracked, penalty, fault), now)

    def heed_only(self, tracked: AbstractSet[str], now: Instant) -> list[FailoverEffect]:
        """Forget what was wrong with anything that is not tracked any more."""
        effects: list[FailoverEffect] = []
        for gone in self.fitness.failing.keys() - tracked - self.fitness.refused:
            effects += self.weigh(gone, 0, "", now)
        return effects

    def place(
        self, vip: DirectorAddress, refusal: str, now: Instant, *, preempted: bool = True
    ) -> list[FailoverEffect]:
        """Take in that a VIP was put in place, or why the kernel refused it: a peer may do better.

        Where a master is not `preempted`, no peer would relieve it, so it resigns; and where it has no VIP.
        """
        what = _placing_of(vip)
        new = bool(refusal) and what not in self.fitness.refused
        why = f"{what}: {refusal}" if refusal else ""
        effects = self._judge(what, why, partial(self.fitness.refuse, what, why), now)
        has_none = self.fitness.refused >= set(map(_placing_of, self.config.vips))
        if new and self.is_master and (has_none or not preempted):
            effects += self.step_down(why, now)
        return effects

    def try_again(self, interface: str, versions: set[int], now: Instant) -> list[FailoverEffect]:
        """Forget which VIPs of these IP versions were refused on an interface that may have them now."""
        effects: list[FailoverEffect] = []
        for vip in self.config.vips:
            if vip.interface == interface and vip.address.version in versions:
                effects += self.place(vip, "", now)
        return effects

    def snapshot(self) -> SnapshotVrrp:
        """Return the line of a snapshot that tells how it is."""
        return SnapshotVrrp(
            instance=self.config.name,
            state=_name(self.state),
            reason=self.reason,
            priority=self.priority,
            master=self._master_text(),
            addresses=self._addresses(),
            since=timestamp(self.since),
            failing=dict(self.fitness.failing),
        )

    def _judge(
        self, what: str, fault: str, take_in: Callable[[], bool], now: Instant
    ) -> list[FailoverEffect]:
        """Take in what is wrong, or no more, with something; tell it where it was otherwise before."""
        was = self._router() if self.source is not None else None
        changed = take_in()
        if was is not None:
            self.state = machine.revise(was, self._router(), self.state, now.monotonic)
        if not changed:
            return []
        told = VrrpTracked(
            instance=self.config.name,
            tracked=what,
            well=not fault,
            reason=fault or "well",
            priority=self.priority,
        )
        return [Report(told)]

    def _bear(self, fault: str, now: Instant) -> list[FailoverEffect]:
        """Be in fault, or tell that it is another one by now."""
        if not isinstance(self.state, Fault):
            return self._fail(fault, now)
        return [] if fault == self.reason else self._tell(self.state, fault, now)[:1]

    def _fail(self, fault: str, now: Instant) -> list[FailoverEffect]:
        step = machine.resign(self._as_heard(now), Fault(), heard=self.source is not None)
        dropped: list[FailoverEffect] = [KeepAddresses()] if self.resuming else []
        self.resuming = False
        return [*self._take(step, fault, now), *dropped]

    def _as_heard(self, now: Instant) -> State:
        """Return the state as the peers know it: who holds what an earlier run held is master to them."""
        return Master(now.monotonic) if self.resuming and self.source is not None else self.state

    def _nobody_took_over(self, now: Instant) -> bool:
        listened = now.monotonic >= self._listens_since + self.config.interval
        return listened or now.monotonic < self.fresh_until

    def _know_master(self, said: Advertisement, now: Instant) -> list[FailoverEffect]:
        """Note who is master; a backup tells it where it is another one than before."""
        another = self._master.hear(said, now.monotonic)
        if self.is_master:
            self._master.address = None
        if not another or not isinstance(self.state, Backup):
            return []
        told = VrrpMaster(instance=self.config.name, master=self._master_text(), priority=said.priority)
        return [Report(told), Meet(self.config, said.source)]

    def _contest(self, said: Advertisement, now: Instant) -> list[FailoverEffect]:
        """Tell of a second master, and the neighbours who has the VIPs."""
        self._tenure.remind(now.monotonic)
        effects: list[FailoverEffect] = [TakeIn(self.config)]
        if self._contested.admits(said.source, now.monotonic):
            told = VrrpContested(
                instance=self.config.name, peer=str(said.source), priority=said.priority, yields="peer"
            )
            effects.append(Report(told))
        return effects

    def _take(self, step: Step, reason: str, now: Instant) -> list[FailoverEffect]:
        """Go to the state that a step leads to; return what is to be done."""
        before, self.state = self.state, step.state
        effects: list[FailoverEffect] = []
        for effect in step.effects:
            match effect:
                case Advertise(priority=priority):
                    effects.append(self._send(priority))
                case Ask(master=master):
                    effects.append(self._send(RESIGNED, master))
                case Claim():
                    self._tenure.claim(now.monotonic)
                    self.resuming, self._master.address = False, None
                    effects.append(KeepAddresses())
                case Release(to=to):
                    said = Advertise(RESIGNED) in step.effects
                    stay = self._linger if to is not None else self._longest_stay if said else 0.0
                    self._tenure.release(now.monotonic, stay, heard=to is not None)
                    effects += [HandOver(self.config)] if stay else [KeepAddresses()]
                case _:
                    assert_never(effect)
        if type(before) is not type(self.state):
            effects += self._tell(before, reason, now)
        return effects

    def _tell(self, before: State, reason: str, now: Instant) -> list[FailoverEffect]:
        self.since, self.reason = now.wall, reason
        changed = VrrpChanged(
            instance=self.config.name,
            old=_name(before),
            new=_name(self.state),
            reason=reason,
            priority=self.priority,
            master=self._master_text(),
            addresses=self._addresses(),
        )
        if isinstance(self.state, Initialize):
            return [Report(changed)]
        return [Report(changed), self._notify(_name(self.state))]

    def _notify(self, state: str) -> Notify:
        return Notify(replace(self.config, priority=self.priority), state)

    def _send(self, priority: int, to: Address | None = None) -> Send:
        config = self.config
        said = Advertisement(
            version=config.version,
            vrid=config.vrid,
            priority=priority,
            interval=config.interval,
            addresses=tuple(address.address for address in config.addresses),
            source=self._router().source,
            password=config.password.encode(),
            covers_addresses=self._covers_addresses,
        )
        return Send(config, said, to)

    def _router(self) -> Router:
        if self.source is None:
            message = f"{self.config.name} has no address to advertise from"
            raise ValueError(message)
        config = self.config
        return Router(
            priority=self.priority,
            interval=config.interval,
            source=self.source,
            version=config.version,
            preempt=(config.preempt or config.priority == OWNER) and not self.impaired,
            preempt_delay=config.preempt_delay,
            breaks_ties=self.breaks_ties,
        )

    @property
    def _linger(self) -> Seconds:
        return LINGER_VIRTUAL if self.config.virtual_mac else LINGER

    @property
    def _longest_stay(self) -> Seconds:
        """How long the VIPs of a router that has resigned stay where nobody is heard to take them."""
        version_2 = self.config.version == machine.VERSION_2
        return (machine.VERSION_2_SKEW if version_2 else self.config.interval) + MARGIN

    def _words_for(self, said: Advertisement) -> str:
        """Return why this director takes over when its timer runs out after that was heard."""
        if said.priority == RESIGNED:
            return f"{said.source} has resigned"
        if said.priority < self.priority and self.config.preempt:
            return f"{said.source} has priority {said.priority}, this director {self.priority}"
        return f"{said.source} was not heard any more"

    def _master_text(self) -> str:
        known = self.source if self.is_master else self._master.address
        return "" if known is None else str(known)

    def _addresses(self) -> list[str]:
        return [str(address) for address in self.config.vips]


_NOBODY = "no master was heard"
_RESUMED = "it was master when it stopped, and nobody has taken over"
_LATE = "this director was held up for so long that another took over"


def _placing_of(vip: DirectorAddress) -> str:
    return f"address {vip.address}"


def _placing(config: VrrpInstance) -> object:
    return config.addresses, config.excluded, config.virtual_mac


def _name(state: State) -> str:
    return type(state).__name__.lower()
