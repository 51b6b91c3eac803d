"""A clock in an event loop, that notes how late it strikes.

`python -m bench.clock FILE` has it strike in a loop that does nothing else: what is late then is the machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lvsd.model import Seconds

STRIKES_EVERY: Seconds = 0.01
LEAST: Seconds = 0.001
"""What is less late than this is not noted."""


class _Clock:
    """Writes a line, moment and lateness in seconds, for each strike that came late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._due_at = loop.time()
        loop.call_soon(self._strike)

    def _strike(self) -> None:
        now = self._loop.time()
        if now - self._due_at >= LEAST:
            os.write(self._descriptor, f"{now:.6f} {now - self._due_at:.6f}\n".encode())
        self._due_at = now + STRIKES_EVERY
        self._loop.call_at(self._due_at, self._strike)


class Policy(asyncio.DefaultEventLoopPolicy):
    """Puts the clock into each event loop that is made."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a loop in which the clock strikes."""
        loop = super().new_event_loop()
        _Clock(loop, self._descriptor)
        return loop


def longest(file: Path, begin: Seconds, end: Seconds) -> Seconds:
    """Return how late the clock that writes to `file` struck at most between two moments (monotonic)."""
    noted = [tuple(map(float, line.split())) for line in file.read_text().splitlines()]
    return max((late for moment, late in noted if begin <= moment <= end), default=0.0)


def main() -> None:
    """Strike until ended."""
    asyncio.set_event_loop_policy(Policy(sys.argv[1]))
    asyncio.new_event_loop().run_forever()


if __name__ == "__main__":
    main()
