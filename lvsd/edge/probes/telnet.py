"""The telnet probe: it refuses every option and looks for the banner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.edge.probes import expectation
from lvsd.health.telnet import Telnet

if TYPE_CHECKING:
    from lvsd.config.model import TelnetCheck
    from lvsd.edge.probes.connection import Connection
    from lvsd.edge.probes.expectation import Searches
    from lvsd.health.outcome import Outcome


async def probe(check: TelnetCheck, connection: Connection, searches: Searches) -> Outcome:
    """Return whether the server shows the banner that is expected; raise as `Connection` does."""
    await connection.connect()
    return await expectation.read(check.expect, "banner", connection, searches, Telnet())
