"""Runs `lvsd` as it is, with a clock in its event loop that notes how late it strikes, or with a profiler.

`python -m bench.launcher [--lateness FILE] [--profile FILE] run -c CONFIG`
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.sampler import Sampler
from lvsd import cli

if TYPE_CHECKING:
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


class _Policy(asyncio.DefaultEventLoopPolicy):
    """Puts the clock into each event loop that is made."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        _Clock(loop, self._descriptor)
        return loop


def main() -> int:
    """Do what the arguments say; return lvsd's exit status."""
    parser = argparse.ArgumentParser(prog="bench.launcher")
    parser.add_argument("--lateness", metavar="FILE")
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("argv", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.lateness:
        asyncio.set_event_loop_policy(_Policy(arguments.lateness))
    if not arguments.profile:
        return cli.main(arguments.argv)
    sampler = Sampler()
    sampler.start()
    try:
        return cli.main(arguments.argv)
    finally:
        sampler.stop()
        Path(arguments.profile).write_text(sampler.report())


if __name__ == "__main__":
    raise SystemExit(main())
