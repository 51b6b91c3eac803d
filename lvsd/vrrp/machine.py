"""The state machine of one virtual router (RFC 9568, 6.4; RFC 3768, 6.4), and what lvsd adds to it.

The RFCs' Active is master here. What is added: a new master waits `preempt_delay`; a backup that misses an
advertisement asks for one, since on a lossy link three in a row are lost every minute; a master that was held
up for so long that another took over yields to it; and a master that yields asks the other as well, which
learns by that whose neighbours it has to win back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from lvsd.vrrp.packet import OWNER, RESIGNED

if TYPE_CHECKING:
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.packet import Advertisement

DOWN_AFTER = 3
"""A master is taken for dead when it was not heard for so many of its intervals, and the skew."""

ASK_AFTER = 1.5
ASK_EVERY = 0.1
"""When a backup asks a master that it no longer hears, and how often then, in the master's intervals."""

VERSION_2 = 2
VERSION_2_SKEW: Seconds = 1.0
"""RFC 3768, 6.1: the skew is a part of one second, whatever the interval."""


@dataclass(frozen=True, slots=True)
class Router:
    """Our side of the election: the priority as it is now, and the address that advertisements come from.

    Without `breaks_ties` a master bears with another of the same priority, whatever its address.
    """

    priority: int
    interval: Seconds
    source: Address
    version: int = 3
    preempt: bool = True
    preempt_delay: Seconds = 0.0
    breaks_ties: bool = True


@dataclass(frozen=True, slots=True)
class Initialize:
    """Takes no part: it does not serve yet, or no more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Takes no part, since something that it needs is out."""


@dataclass(frozen=True, slots=True)
class Backup:
    """Silent while advertisements keep moving `master_down_at` ahead.

    `interval` is the master's; `master` is None until one is heard. A master of lower priority is borne with
    until `preempt_at`, which is None while there is none. One that is no longer heard is asked at `ask_at`.
    """

    master_down_at: Seconds
    interval: Seconds
    master: Address | None = None
    preempt_at: Seconds | None = None
    ask_at: Seconds | None = None


@dataclass(frozen=True, slots=True)
class Master:
    """Holds the addresses, and advertises at `advertise_at`."""

    advertise_at: Seconds


State: TypeAlias = Initialize | Fault | Backup | Master


@dataclass(frozen=True, slots=True)
class Advertise:
    """Send an advertisement of this priority to all peers."""

    priority: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Send an advertisement of priority 0 to `master` alone, which must answer with one (RFC 9568, 6.4.3)."""

    master: Address


@dataclass(frozen=True, slots=True)
class Claim:
    """Put the addresses in place and tell the neighbours."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give the addresses up; where `to` is told, that one holds them already, or is about to."""

    to: Address | None = None


Effect: TypeAlias = Advertise | Ask | Claim | Release


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a state, and what is to be done, in this order."""

    state: State
    effects: tuple[Effect, ...] = ()


def skew(router: Router, interval: Seconds) -> Seconds:
    """Return how much later than others a router takes over (RFC 9568 and 3768, 6.1)."""
    whole = VERSION_2_SKEW if router.version == VERSION_2 else interval
    return (256 - router.priority) * whole / 256


def master_down_interval(router: Router, interval: Seconds) -> Seconds:
    """Return how long a master of that interval may be silent (RFC 9568 and 3768, 6.1)."""
    return DOWN_AFTER * interval + skew(router, interval)


def next_timer(state: State) -> Seconds | None:
    """Return the moment that `fire` is due, or None while no timer runs."""
    match state:
        case Initialize() | Fault():
            return None
        case Master(advertise_at=at):
            return at
        case Backup(master_down_at=at, ask_at=ask_at):
            return at if ask_at is None else min(at, ask_at)
        case _:
            assert_never(state)


def start(router: Router, now: Seconds, *, resuming: bool = False) -> Step:
    """Take part (RFC 9568, 6.4.1: Startup).

    The owner of the addresses is master at once, and so is a router that still holds them from an earlier
    run, where nobody else was heard meanwhile.
    """
    if router.priority == OWNER or resuming:
        return take_over(router, now)
    return Step(_backup(router, router.interval, None, now))


def take_over(router: Router, now: Seconds) -> Step:
    """Become master (6.4.2, the Active_Down_Timer fires). Whoever is told finds the addresses in place."""
    return Step(Master(now + router.interval), (Claim(), Advertise(router.priority)))


def fire(router: Router, state: State, now: Seconds) -> Step:
    """Do what `next_timer` waited for; nothing where that moment has not come."""
    due_at = next_timer(state)
    if due_at is None or now < due_at:
        return Step(state)
    match state:
        case Master():
            # From the moment it was due, so that lateness does not add up (6.4.3, the Adver_Timer fires).
            at = due_at + router.interval
            later = at if at > now else now + router.interval
            return Step(Master(later), (Advertise(router.priority),))
        case Backup(master_down_at=at) if now >= at:
            return take_over(router, now)
        case Backup(master=master, interval=interval) if master is not None:
            return Step(replace(state, ask_at=now + ASK_EVERY * interval), (Ask(master),))
        case _:
            return Step(state)


def hear(router: Router, state: State, heard: Advertisement, now: Seconds) -> Step:
    """Take in an advertisement that was found to be for this router (6.4.2, 6.4.3)."""
    match state:
        case Initialize() | Fault():
            return Step(state)
        case Backup():
            return Step(_backup_hears(router, state, heard, now))
        case Master():
            return _master_hears(router, state, heard, now)
        case _:
            assert_never(state)


def resign(state: State, to: State, *, heard: bool = True) -> Step:
    """Go to another state (6.4.2, 6.4.3: Shutdown); a master says so, where it can be `heard`."""
    if not isinstance(state, Master):
        return Step(to)
    said = (Advertise(RESIGNED),) if heard else ()
    return Step(to, (*said, Release()))


def step_down(router: Router, state: State, now: Seconds) -> Step:
    """Leave being master to the peers, and go on as backup."""
    return resign(state, _backup(router, router.interval, None, now))


def follows(state: State, now: Seconds) -> bool:
    """Tell whether a backup hears a master that it is not to relieve."""
    return isinstance(state, Backup) and state.master is not None and now < state.master_down_at


def takes_over(state: State, now: Seconds) -> bool:
    """Tell whether `fire` makes a backup master now."""
    return isinstance(state, Backup) and now >= state.master_down_at


def wait(router: Router, now: Seconds) -> Step:
    """Wait for another master-down interval, as a backup that must not take over alone."""
    return Step(_backup(router, router.interval, None, now))


def revise(before: Router, after: Router, state: State, now: Seconds) -> State:
    """Return the state under other settings: the timers keep what has passed of them."""
    match state:
        case Backup(master_down_at=at, interval=interval, master=master, preempt_at=preempt_at):
            theirs = interval if after.version != VERSION_2 and master is not None else after.interval
            spent = master_down_interval(before, interval) - (at - now)
            down_at = now + master_down_interval(after, theirs) - spent
            if preempt_at is not None:
                preempt_at += after.preempt_delay - before.preempt_delay
            return replace(state, master_down_at=down_at, interval=theirs, preempt_at=preempt_at)
        case Master(advertise_at=at):
            return Master(min(at, now + after.interval))
        case Initialize() | Fault():
            return state
        case _:
            assert_never(state)


def outranks(router: Router, heard: Advertisement) -> bool:
    """Tell whether who was heard is to be master rather than this router: by priority, then by address."""
    if heard.priority == router.priority and not router.breaks_ties:
        return False
    return _rank(heard.priority, heard.source) > _rank(router.priority, router.source)


def overslept(router: Router, state: Master, now: Seconds) -> bool:
    """Tell whether a master was held up for so long that a backup has taken over meanwhile."""
    return now >= state.advertise_at + (DOWN_AFTER - 1) * router.interval


def _backup_hears(router: Router, state: Backup, heard: Advertisement, now: Seconds) -> Backup:
    if heard.priority == RESIGNED:
        if state.master not in {None, heard.source}:
            return state  # it was not the master, and another is
        return replace(state, master_down_at=now + skew(router, state.interval), ask_at=None)
    interval = router.interval if router.version == VERSION_2 else heard.interval
    if heard.priority >= router.priority or not router.preempt:
        return _backup(router, interval, heard.source, now)
    preempt_at = now + router.preempt_delay if state.preempt_at is None else state.preempt_at
    if now < preempt_at:
        return replace(_backup(router, interval, heard.source, now), preempt_at=preempt_at)
    return replace(state, preempt_at=preempt_at, ask_at=None)


def _master_hears(router: Router, state: Master, heard: Advertisement, now: Seconds) -> Step:
    late = overslept(router, state, now)
    if heard.priority == RESIGNED:
        if late:
            return Step(state)  # first it is to be heard whether another has taken over; the timer is due
        return Step(Master(now + router.interval), (Advertise(router.priority),))
    if late or outranks(router, heard):
        interval = router.interval if router.version == VERSION_2 else heard.interval
        backup = replace(_backup(router, interval, heard.source, now), ask_at=now + ASK_EVERY * interval)
        return Step(backup, (Release(heard.source), Ask(heard.source)))
    # RFC 9568 asks for an answer at once, so that the other yields and bridges learn; RFC 3768 does not.
    answer = () if router.version == VERSION_2 else (Advertise(router.priority),)
    return Step(state, answer)


def _backup(router: Router, interval: Seconds, master: Address | None, now: Seconds) -> Backup:
    ask_at = None if master is None else now + ASK_AFTER * interval
    return Backup(now + master_down_interval(router, interval), interval, master, ask_at=ask_at)


def _rank(priority: int, source: Address) -> tuple[int, bytes]:
    return priority, bytes(source)
