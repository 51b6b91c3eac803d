"""For how long a router keeps its VIPs in place, and when it tells and asks the neighbours about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lvsd.model import Seconds

LINGER: Final[Seconds] = 0.05
"""So long the VIPs stay when another master was heard: what is on its way to this director still arrives."""

LINGER_VIRTUAL: Final[Seconds] = 0.3
"""The same with a virtual MAC: the other master has yet to make the interface that it is on."""

MARGIN: Final[Seconds] = 0.2
"""A master that resigns keeps the VIPs for one skew of the slowest backup, and this."""

BURST: Final = (0.05, 0.15, 0.5, 1.0, 5.0, 5.5, 6.0)
"""Seconds after a takeover at which the neighbours are told once more: frames get lost."""

HAND_OVER: Final = (0.015, 0.03, 0.2)
"""Seconds after another was heard at which it is told of connections again, beside when the VIPs go.

Some are made meanwhile, and one that has been master all the time has yet to begin to listen.
"""

SOON: Final[Seconds] = 1.0
INQUIRE_AFTER: Final[Seconds] = 2.0
INQUIRE_EVERY: Final[Seconds] = 60.0
"""When a master asks the neighbours who else has its VIPs: the one before may take a moment to let go."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: hand connections over, drop the VIPs, tell the neighbours, ask who has them."""

    hand_over: bool
    drop: bool
    announce: bool
    inquire: bool


@dataclass(slots=True)
class Tenure:
    """The VIPs of one router, from the moment that it is master until they are gone."""

    _claimed_at: Seconds | None = None
    _leave_at: Seconds | None = None
    _announce_at: list[Seconds] = field(default_factory=list)
    _inquire_at: Seconds | None = None
    _hand_over_at: list[Seconds] = field(default_factory=list)

    @property
    def lingers(self) -> bool:
        """Whether the VIPs are still in place, though the router is master no more."""
        return self._leave_at is not None

    @property
    def next_timer(self) -> Seconds | None:
        """When `fire` is due (monotonic), None while nothing is."""
        moments = (self._leave_at, self._inquire_at, *self._announce_at[:1], *self._hand_over_at[:1])
        return min((moment for moment in moments if moment is not None), default=None)

    def fire(self, now: Seconds) -> Due:
        """Return what `next_timer` waited for."""
        drop = self._leave_at is not None and now >= self._leave_at
        announce = bool(self._announce_at) and now >= self._announce_at[0]
        inquire = self._inquire_at is not None and now >= self._inquire_at
        hand_over = drop or (bool(self._hand_over_at) and now >= self._hand_over_at[0])
        self._hand_over_at = [moment for moment in self._hand_over_at if moment > now]
        if drop:
            self._leave_at = None
        self._announce_at = [moment for moment in self._announce_at if moment > now]
        if inquire:
            self._inquire_at = now + INQUIRE_EVERY
        # Who has the VIPs is told whenever it is asked, since a router may remember for hours what is wrong.
        return Due(hand_over, drop, announce or inquire, inquire)

    def claim(self, now: Seconds) -> None:
        """Begin."""
        self._claimed_at, self._leave_at, self._hand_over_at = now, None, []
        self._announce_at = [now, *(now + delay for delay in BURST)]
        self._inquire_at = now + INQUIRE_AFTER

    def remind(self, now: Seconds) -> None:
        """Tell the neighbours again soon, since somebody else has told them otherwise."""
        if not self._announce_at or self._announce_at[0] > now + SOON:
            self._announce_at = [now + delay for delay in BURST]

    def regain(self, now: Seconds) -> None:
        """Tell the neighbours at once, since another that may have had the VIPs has let go of them."""
        first = min([now + BURST[0], *self._announce_at[:1]])  # whoever asks often does not put it off
        self._announce_at = [first, *(now + delay for delay in BURST[1:])]

    def release(self, now: Seconds, stay: Seconds, *, heard: bool) -> None:
        """End, with the VIPs in place for `stay` seconds more; `heard` says that another has them."""
        self._claimed_at, self._inquire_at, self._announce_at = None, None, []
        self._leave_at = now + stay if stay else None
        self._hand_over_at = [now + delay for delay in HAND_OVER] if heard else []

    def extend(self, until: Seconds) -> None:
        """Keep VIPs that are to go in place at least until then, where nobody is heard to have them."""
        if self._leave_at is not None:
            self._leave_at = max(self._leave_at, until)

    def relieve(self, now: Seconds, stay: Seconds = LINGER) -> bool:
        """Take in that another has the VIPs, or is about to; they stay for `stay` seconds more at most.

        Return whether that was not known yet.
        """
        if self._leave_at is None or self._leave_at <= now + stay:
            return False
        self._leave_at = now + stay
        self._hand_over_at = [now + delay for delay in HAND_OVER]
        return True

    def is_settled(self, now: Seconds) -> bool:
        """Tell whether the router has had the VIPs for so long that nobody else should claim them."""
        return self._claimed_at is not None and now >= self._claimed_at + LINGER + MARGIN
