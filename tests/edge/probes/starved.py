"""Makes 200 probes at once with 64 file descriptors, and says how they ended; `test_local_faults` runs it."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections import Counter

from misbehaving import LOOPBACK, http

from lvsd.edge.probes import Probes

LIMIT = 64
SERVERS = 200
OTHER_NEEDS = 8


async def at_once(port: int) -> None:
    """Say how many probes ended how, the rest of the daemon opening files meanwhile."""
    probes = Probes()
    await probes.prepare([http()])
    asked = [asyncio.create_task(probes.probe(http(expect="slow"), LOOPBACK, port)) for _ in range(SERVERS)]
    await asyncio.sleep(0)
    for descriptor in [os.dup(0) for _ in range(OTHER_NEEDS)]:
        os.close(descriptor)
    for outcome, count in sorted(Counter(map(str, await asyncio.gather(*asked))).items()):
        print(count, outcome)  # noqa: T201
    await probes.close()


async def with_none_left(port: int) -> None:
    """Say how a probe ends when the rest of the process has taken every descriptor."""
    probes = Probes()
    await probes.prepare([http()])
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        outcome = await probes.probe(http(), LOOPBACK, port)
    for descriptor in taken:
        os.close(descriptor)
    print(outcome)  # noqa: T201
    await probes.close()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    asyncio.run({"at-once": at_once, "none-left": with_none_left}[sys.argv[1]](int(sys.argv[2])))
