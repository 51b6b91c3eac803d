"""When probes run: each target has one timer or one probe under way, never both, never two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.edge.probes import Probes
    from lvsd.health.roster import Target
    from lvsd.model import Seconds


class Prober:
    """Runs each target's probe when it is due, and tells `finished` how it ended."""

    def __init__(self, probes: Probes, finished: Callable[[Target, Outcome], None]) -> None:
        self._probes = probes
        self._finished = finished
        self._timers: dict[Target, asyncio.TimerHandle] = {}
        self._running: dict[Target, asyncio.Task[None]] = {}

    def at(self, target: Target, moment: Seconds) -> None:
        """Probe `target` at `moment` (monotonic)."""
        loop = asyncio.get_running_loop()
        self._timers[target] = loop.call_at(moment, self._begin, target)

    def forget(self, target: Target) -> None:
        """Probe `target` no more, and drop a probe that is under way."""
        timer = self._timers.pop(target, None)
        if timer is not None:
            timer.cancel()
        task = self._running.pop(target, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Break off everything."""
        tasks = list(self._running.values())
        for target in [*self._timers, *self._running]:
            self.forget(target)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, target: Target) -> None:
        del self._timers[target]
        self._running[target] = asyncio.get_running_loop().create_task(self._probe(target))

    async def _probe(self, target: Target) -> None:
        try:
            outcome = await self._probes.probe(target.check, target.address, target.port)
        except Exception as error:  # noqa: BLE001 - an error in lvsd is the director's own fault, and is told
            outcome = Outcome.local(f"error in lvsd: {error!r}")
        del self._running[target]
        self._finished(target, outcome)
