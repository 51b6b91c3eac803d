"""What an operator tells the process by signals, from its first moment on."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

STOPPING = (signal.SIGTERM, signal.SIGINT)


def hold_back() -> None:
    """Let a reload or a snapshot that is asked for before lvsd can listen pass by, and not end it.

    What a supervisor has made of SIGCHLD is undone: where that is ignored, no process can be waited for.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Signals:
    """The signals as events of the loop; `reason` is the name of the one that stops."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.snapshot = asyncio.Event()
        self.reason = ""
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._stop_for, number.name)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        loop.add_signal_handler(signal.SIGUSR1, self.snapshot.set)

    async def unless_stopped(self, work: Coroutine[Any, Any, T], *failures: asyncio.Future[None]) -> T | None:
        """Do `work`; break it off and return None once a stop is asked for.

        Raise what `work` raises, or one of `failures`, whichever is first.
        """
        working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait((working, stopped, *failures), return_when=asyncio.FIRST_COMPLETED)
            for failure in failures:
                if failure.done():
                    failure.result()
            return working.result() if working.done() else None
        finally:
            stopped.cancel()
            working.cancel()
            await asyncio.wait((working,))

    def _stop_for(self, reason: str) -> None:
        self.reason = reason
        self.stop.set()
