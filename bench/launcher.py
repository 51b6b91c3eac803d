"""Runs `lvsd` as it is, with a clock in its event loop that notes how late it strikes, or with a profiler.

`python -m bench.launcher [--lateness FILE] [--profile FILE] run -c CONFIG`
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from bench.clock import Policy
from bench.sampler import Sampler
from lvsd import cli


def main() -> int:
    """Do what the arguments say; return lvsd's exit status."""
    parser = argparse.ArgumentParser(prog="bench.launcher")
    parser.add_argument("--lateness", metavar="FILE")
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("argv", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.lateness:
        asyncio.set_event_loop_policy(Policy(arguments.lateness))
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
