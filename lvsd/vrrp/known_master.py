"""Who is master, as far as it was heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.vrrp.machine import DOWN_AFTER

if TYPE_CHECKING:
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.packet import Advertisement


@dataclass(slots=True)
class KnownMaster:
    """The master that was heard last; `address` is None where it is this director, or nobody was heard."""

    address: Address | None = None
    _priority: int = 0
    _until: Seconds = 0.0

    def hear(self, said: Advertisement, now: Seconds) -> bool:
        """Take in an advertisement of a master; return whether it is another one than before.

        Whoever is weaker than one that was heard just now is not: it will give way.
        """
        if said.source != self.address and now < self._until and said.priority < self._priority:
            return False
        before, self.address = self.address, said.source
        self._priority = said.priority
        self._until = now + DOWN_AFTER * said.interval
        return self.address != before

    def resigns(self, source: Address, now: Seconds) -> None:
        """Take in that somebody resigned: whoever comes next is master, however weak."""
        if source == self.address:
            self._until = now
