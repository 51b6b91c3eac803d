"""Probes that are broken off, as a reload does it, at any moment."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from lvsd.edge.probes.connection import Connection
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCALHOST = "127.0.0.1"


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server((LOCALHOST, 0), backlog=8) as listening:
        yield listening.getsockname()[1]


async def test_a_probe_given_up_in_the_moment_it_connects_is_no_error(port: int) -> None:
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    connection = Connection(Address.parse(LOCALHOST), port, None)
    connecting = asyncio.create_task(connection.connect())
    await asyncio.sleep(0)
    # The turn of the loop that cancels is the one that finds the socket connected.
    loop.call_soon(connecting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await connecting
    connection.close()
    await asyncio.sleep(0)
    assert faults == []
