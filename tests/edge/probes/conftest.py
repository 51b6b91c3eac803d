from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from misbehaving import http, ip

from lvsd.edge.probes import Probes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CLONE_NEWNET = 0x40000000


@pytest_asyncio.fixture
async def probes() -> AsyncIterator[Probes]:
    probes = Probes()
    await probes.prepare([http()])
    yield probes
    await probes.close()


@pytest.fixture
def own_network() -> Iterator[None]:
    """Give the test a network of its own, with nothing in it but loopback."""
    if os.geteuid() != 0:
        pytest.skip("a network namespace needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as outside:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace here: {os.strerror(ctypes.get_errno())}")
        try:
            ip("link set lo up")
            yield
        finally:
            assert libc.setns(outside.fileno(), CLONE_NEWNET) == 0
