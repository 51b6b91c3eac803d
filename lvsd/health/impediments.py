"""The probes that the director itself cannot make, and what is to be told of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lvsd.events import ProbesImpeded, ProbesRecovered
from lvsd.model import join_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.events import Event
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Target

MOST_FAULTS: Final = 20
"""Faults told one by one at a time; what comes on top is told as one."""

MORE_FAULTS: Final = "further faults of the director's own, of other kinds"


class Impediments:
    """Which targets cannot be probed now, and for which fault: equal faults have equal reasons.

    Of each fault it is told once that it began, and once that it ended. A target counts for those that its
    last two probes met: two faults that it meets by turns are not told anew each time.
    """

    def __init__(self) -> None:
        self._met: dict[Target, tuple[str, str]] = {}
        self._targets: dict[str, set[Target]] = {}
        self._lost_probes: dict[str, int] = {}

    def begin(self, target: Target, outcome: Outcome) -> list[Event]:
        """Note that a probe could not be made; return what is to be told."""
        fault = self._fault(outcome.reason)
        first = fault not in self._targets
        self._targets.setdefault(fault, set()).add(target)
        self._lost_probes[fault] = self._lost_probes.get(fault, 0) + 1
        older, newer = self._met.get(target, (fault, fault))
        self._met[target] = (newer, fault)
        begun = [ProbesImpeded(server=join_port(target.address, target.port), reason=fault)] if first else []
        return [*begun, *self._leave(target, {older} - {newer, fault})]

    def end(self, targets: Iterable[Target]) -> list[Event]:
        """Note that these can be probed, or are probed no more; return what is to be told."""
        if not self._met:
            return []
        return [told for target in targets for told in self._leave(target, set(self._met.pop(target, ())))]

    def _fault(self, reason: str) -> str:
        is_told = reason in self._targets or len(self._targets) < MOST_FAULTS
        return reason if is_told else MORE_FAULTS

    def _leave(self, target: Target, faults: set[str]) -> Iterator[Event]:
        """Count `target` for these faults no more; yield which of them that ends."""
        for fault in sorted(faults):
            self._targets[fault].remove(target)
            if not self._targets[fault]:
                del self._targets[fault]
                yield ProbesRecovered(reason=fault, probes=self._lost_probes.pop(fault))
