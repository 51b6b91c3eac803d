"""Runs the parts that are named, or all, and prints the table."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from bench import detection, failover, probes, profile, start
from bench.report import Figure, machine, say, table
from lvsd.lab import kernel

PARTS = {
    "start": start.measure,
    "detection": detection.measure,
    "probes": probes.measure,
    "failover": failover.measure,
}
HOW = "this is no lab; run it with: python -m lvsd.lab run --timeout 900 -- python -m bench"


def main() -> int:
    """Do what the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures lvsd beside keepalived and ipvsadm.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all), profile"
    )
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - {*PARTS, "profile"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not kernel.inside():
        sys.stderr.write(f"bench: {HOW}\n")
        return 1
    asyncio.run(_measure(wanted))
    return 0


async def _measure(wanted: list[str]) -> None:
    began_at = time.monotonic()
    where = machine()
    say(where)
    if "profile" in wanted:
        await profile.show()
    figures: list[Figure] = []
    try:
        for name, measure in PARTS.items():
            if name in wanted:
                figures += await measure()
    finally:  # what was taken is told, whatever became of the rest
        if figures:
            sys.stdout.write(f"\n{where}\n\n{table(figures)}\n\n")
    say(f"done in {time.monotonic() - began_at:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
