"""Whether this director is fit to be master of an instance: what keeps it out, and what costs it priority."""

from __future__ import annotations

from dataclasses import dataclass, field

from lvsd.vrrp.packet import OWNER

LEAST = 1
"""The lowest priority of one that takes part (RFC 9568, 5.2.4)."""


@dataclass(slots=True)
class Fitness:
    """What is wrong with this director, by what tells it. `faults` keep it out; what is `failing` says why.

    A penalty lowers the priority, which is no higher than the `ceiling`. VIPs that are `refused` lower it to
    the least there is.
    """

    faults: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    ceiling: int = OWNER
    refused: set[str] = field(default_factory=set)
    _penalties: dict[str, int] = field(default_factory=dict)

    @property
    def fault(self) -> str:
        """Why it is kept out, nothing where it is not."""
        return next(iter(self.faults.values()), "")

    def own_priority(self, configured: int) -> int:
        """Return the priority less the penalties; the owner keeps its own while it has the addresses."""
        if self.refused:
            return LEAST
        return OWNER if configured == OWNER else max(LEAST, configured - sum(self._penalties.values()))

    def priority(self, configured: int) -> int:
        """Return the priority as it is now."""
        return min(self.own_priority(configured), self.ceiling)

    def weigh(self, what: str, penalty: int, fault: str) -> bool:
        """Take in how something is that an instance needs; return whether it was otherwise before.

        A `fault` costs the `penalty`, or keeps the instance out where that is 0.
        """
        changed = (what in self.failing) != bool(fault)
        for told in self.failing, self.faults, self._penalties:
            told.pop(what, None)
        if fault:
            self.failing[what] = fault
        if fault and penalty:
            self._penalties[what] = penalty
        elif fault:
            self.faults[what] = fault
        return changed

    def refuse(self, what: str, refusal: str) -> bool:
        """Take in why a VIP is refused, nothing where it is not; return whether it was otherwise before."""
        changed = (what in self.refused) != bool(refusal)
        self.failing.pop(what, None)
        self.refused.discard(what)
        if refusal:
            self.failing[what] = refusal
            self.refused.add(what)
        return changed
