"""Runs tracked commands when they are due, and tells what is known of each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lvsd.edge import commands
from lvsd.health.verdict import Health, Verdict, next_slot
from lvsd.vrrp.tracking import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lvsd.config.model import TrackedCommand
    from lvsd.model import Seconds

STAGGER: Final[Seconds] = 0.05
"""How far apart commands begin that are new together."""


@dataclass(slots=True)
class _Followed:
    task: asyncio.Task[None]
    health: Health
    reason: str


class Tracker:
    """Runs commands, never one twice at once, and tells `told` of each first verdict and each change.

    A run that lvsd itself was too short of something to make counts for nothing.
    """

    def __init__(self, told: Callable[[TrackedCommand, bool, str], None]) -> None:
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._followed: dict[TrackedCommand, _Followed] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, tracked: Iterable[TrackedCommand]) -> None:
        """Follow these commands and no others.

        One that is followed already goes on undisturbed. One whose settings alone are others keeps its
        verdict, which is told again: a command does not pass because it was asked for anew.
        """
        wanted = dict.fromkeys(tracked)
        known = {each.name: followed for each, followed in self._followed.items()}
        for each in [each for each in self._followed if each not in wanted]:
            self._forget(each)
        new = [each for each in wanted if each not in self._followed]
        for place, each in enumerate(new):
            self._begin(each, known.get(each.name), place * STAGGER)

    async def close(self) -> None:
        """Break off everything."""
        for each in list(self._followed):
            self._forget(each)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, tracked: TrackedCommand, before: _Followed | None, delay: Seconds) -> None:
        task = self._loop.create_task(self._follow(tracked, self._loop.time() + delay))
        health, reason = (Health(), "") if before is None else (before.health, before.reason)
        self._followed[tracked] = _Followed(task, health, reason)
        if health.verdict is not Verdict.UNKNOWN:
            self._told(tracked, health.verdict is Verdict.UP, reason)

    def _forget(self, tracked: TrackedCommand) -> None:
        task = self._followed.pop(tracked).task
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _follow(self, tracked: TrackedCommand, due_at: Seconds) -> None:
        while True:
            await asyncio.sleep(due_at - self._loop.time())
            self._take(tracked, await commands.run(tracked.command, timeout=tracked.timeout))
            due_at = next_slot(tracked.interval, due_at, self._loop.time())

    def _take(self, tracked: TrackedCommand, ended: commands.Ended) -> None:
        if ended.local:
            return
        followed = self._followed[tracked]
        was, followed.health = followed.health, judge(followed.health, tracked, passed=ended.passed)
        if followed.health.verdict is not was.verdict:
            followed.reason = ended.reason
            self._told(tracked, ended.passed, ended.reason)
