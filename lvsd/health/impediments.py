"""The probes that the director itself cannot make, and what is to be told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.events import ProbesImpeded, ProbesRecovered
from lvsd.model import join_port

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lvsd.events import Event
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Target


class Impediments:
    """Which targets cannot be probed now. It is told once that it began, and once that it ended."""

    def __init__(self) -> None:
        self._targets: set[Target] = set()
        self._lost_probes = 0

    def begin(self, target: Target, outcome: Outcome) -> list[Event]:
        """Note that a probe could not be made; return what is to be told."""
        first = not self._targets
        self._targets.add(target)
        self._lost_probes += 1
        if not first:
            return []
        return [ProbesImpeded(server=join_port(target.address, target.port), reason=outcome.reason)]

    def end(self, targets: Iterable[Target]) -> list[Event]:
        """Note that these can be probed, or are probed no more; return what is to be told."""
        before = bool(self._targets)
        self._targets.difference_update(targets)
        if not before or self._targets:
            return []
        lost, self._lost_probes = self._lost_probes, 0
        return [ProbesRecovered(probes=lost)]
