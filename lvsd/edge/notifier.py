"""Runs the commands that an operator wants to be run when a VRRP instance changes its state."""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from typing import TYPE_CHECKING, Final

from lvsd.edge import commands
from lvsd.edge.commands import Ended
from lvsd.events import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lvsd.config.model import Command, VrrpInstance
    from lvsd.events import Event
    from lvsd.model import Seconds

TIME_LIMIT: Final[Seconds] = 30.0
"""How long one command may take."""

MOST_WAITING: Final = 10
"""Changes of one instance that wait for the commands of earlier ones; the oldest of more is left out."""

BROKEN_OFF: Final = "broken off: lvsd has ended meanwhile"
OVERTAKEN: Final = f"left out: {MOST_WAITING} later changes of the instance were waiting"


class Notifier:
    """Runs the commands of a change one after the other, as keepalived does: the state's own, then `any`.

    Those of one instance run in the order of its changes, those of several beside each other. Nobody waits
    for them; `report` is told of those that fail.
    """

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._waiting: dict[str, deque[tuple[VrrpInstance, str]]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def notify(self, instance: VrrpInstance, state: str) -> None:
        """Run what `instance` notifies of `state`: master, backup, fault or stop."""
        state = state.lower()
        if not any(_commands(instance, state)):
            return
        waiting = self._waiting.get(instance.name)
        if waiting is None:
            waiting = self._waiting[instance.name] = deque()
            task = asyncio.get_running_loop().create_task(self._work_off(instance.name, waiting))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif len(waiting) == MOST_WAITING:
            oldest, its_state = waiting.popleft()
            self._leave_out(_commands(oldest, its_state), oldest, OVERTAKEN)
        waiting.append((instance, state))

    async def finish(self, limit: Seconds) -> None:
        """Wait until all commands have ended, for at most `limit` seconds; then break them off."""
        if self._running:
            await asyncio.wait(self._running, timeout=limit)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _work_off(self, name: str, waiting: deque[tuple[VrrpInstance, str]]) -> None:
        try:
            while waiting:
                instance, state = waiting.popleft()
                await self._run_all(instance, state)
        except asyncio.CancelledError:
            for instance, state in waiting:
                self._leave_out(_commands(instance, state), instance, BROKEN_OFF)
            raise
        finally:
            del self._waiting[name]

    async def _run_all(self, instance: VrrpInstance, state: str) -> None:
        left = deque(_commands(instance, state))
        try:
            while left:
                await self._run(instance, *left[0])
                left.popleft()
        except asyncio.CancelledError:
            self._leave_out(left, instance, BROKEN_OFF)
            raise

    async def _run(self, instance: VrrpInstance, command: Command, arguments: tuple[str, ...]) -> None:
        ended = await commands.run(command, arguments, timeout=TIME_LIMIT)
        if not ended.passed:
            self._tell(instance, command, arguments, ended)

    def _leave_out(
        self, left: Iterable[tuple[Command, tuple[str, ...]]], instance: VrrpInstance, why: str
    ) -> None:
        for command, arguments in left:
            self._tell(instance, command, arguments, Ended(None, "", why, command.user))

    def _tell(
        self, instance: VrrpInstance, command: Command, arguments: tuple[str, ...], ended: Ended
    ) -> None:
        event = CommandFailed(
            instance=instance.name,
            command=shlex.join((*command.argv, *arguments)),
            user=ended.user,
            reason=ended.reason,
            output=ended.output.strip(),
        )
        self._report(event)


def _commands(instance: VrrpInstance, state: str) -> Iterator[tuple[Command, tuple[str, ...]]]:
    """Yield the commands for a state in their order, with what is put after their own arguments."""
    notify = instance.notify
    own = {"master": notify.master, "backup": notify.backup, "fault": notify.fault, "stop": notify.stop}
    if (command := own.get(state)) is not None:
        yield command, ()
    if notify.any is not None:
        yield notify.any, ("INSTANCE", instance.name, state.upper(), str(instance.priority))
