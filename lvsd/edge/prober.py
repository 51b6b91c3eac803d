"""When probes run: each target waits for its time, or for its turn, or has a probe under way."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final

from lvsd.health.outcome import Outcome
from lvsd.health.punctuality import Punctuality

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.edge.probes import Probes
    from lvsd.events import Event
    from lvsd.health.roster import Target
    from lvsd.model import Seconds

A_TURN: Final = 8
"""How many probes begin in one turn of the event loop.

Where more are due than the director can make, they wait here, first come first served, and those under way
go on each turn: intervals grow longer, and no probe runs out of time because of the others.
"""


class Prober:
    """Runs each target's probe when it is due, and tells `finished` how it ended."""

    def __init__(
        self,
        probes: Probes,
        finished: Callable[[Target, Outcome], None],
        report: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._probes = probes
        self._finished = finished
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._punctuality = Punctuality()
        self._timers: dict[Target, asyncio.TimerHandle] = {}
        self._due: dict[Target, Seconds] = {}
        self._turn: asyncio.Handle | None = None
        self._running: dict[Target, asyncio.Task[None]] = {}

    def at(self, target: Target, moment: Seconds) -> None:
        """Probe `target` at `moment` (monotonic), or as soon after it as there is time to."""
        self._timers[target] = self._loop.call_at(moment, self._queue, target, moment)

    def forget(self, target: Target) -> None:
        """Probe `target` no more, and drop a probe that is under way."""
        self._due.pop(target, None)
        timer = self._timers.pop(target, None)
        if timer is not None:
            timer.cancel()
        task = self._running.pop(target, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """Break off everything."""
        tasks = list(self._running.values())
        for target in [*self._timers, *self._due, *self._running]:
            self.forget(target)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _queue(self, target: Target, moment: Seconds) -> None:
        del self._timers[target]
        self._due[target] = moment
        if self._turn is None:
            self._begin_some()

    def _begin_some(self) -> None:
        """Begin what has waited longest, and look again in the next turn."""
        if not self._due:
            self._turn = None
            return
        self._turn = self._loop.call_soon(self._begin_some)
        now = self._loop.time()
        for target in list(islice(self._due, A_TURN)):
            for event in self._punctuality.begin(target, self._due.pop(target), now):
                self._report(event)
            self._running[target] = self._loop.create_task(self._probe(target))

    async def _probe(self, target: Target) -> None:
        try:
            outcome = await self._probes.probe(target.check, target.address, target.port)
        except Exception as error:  # noqa: BLE001 - an error in lvsd is the director's own fault, and is told
            outcome = Outcome.local(f"error in lvsd: {error!r}")
        del self._running[target]
        self._finished(target, outcome)
