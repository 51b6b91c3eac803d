"""The TCP probe: it connects and, where asked to, sends something and looks for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.edge.probes import expectation
from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from lvsd.config.model import TcpCheck
    from lvsd.edge.probes.connection import Connection
    from lvsd.edge.probes.expectation import Searches


async def probe(check: TcpCheck, connection: Connection, searches: Searches) -> Outcome:
    """Return how the server takes a connection; raise as `Connection` does."""
    await connection.connect()
    if check.send:
        connection.doing = "sending"
        await connection.send(check.send)
    if not check.expect:
        return Outcome.passed("connected")
    return await expectation.read(check.expect, "answer", connection, searches)
