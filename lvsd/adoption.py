"""What the table found at start, and what an earlier run wrote down, say of the real servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.model import OnFailure
from lvsd.health.roster import Finding
from lvsd.health.verdict import Health, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection

    from lvsd.config.model import RealServer, VirtualService
    from lvsd.model import Instant, Rows, ServerKey

OUT_WHEN_STARTED = "out of the table when lvsd started"


@dataclass(frozen=True, slots=True)
class Adopted:
    """The real servers of a service that were `out` of service, and those that are not new."""

    out: frozenset[ServerKey]
    known: frozenset[ServerKey]


def adopt(service: VirtualService, rows: Rows | None, recorded: Collection[ServerKey] | None) -> Adopted:
    """Return what is to be carried over from an earlier run for `service`.

    `rows` are its rows as found, None where there is none; `recorded` are the real servers that the earlier
    run had written down for it, None where nothing is known of that run. What was taken out stays out until
    it is well again. Where the service itself is missing, its rows say nothing of its real servers.
    """
    keys = frozenset(server.key for server in service.real_servers)
    if recorded is None:
        return Adopted(frozenset(), frozenset() if rows is None else keys)
    known = keys & frozenset(recorded)
    if rows is None:
        return Adopted(frozenset(), known)
    out = (
        server.key
        for server in service.real_servers
        if server.key in known and _is_out(service, server, rows)
    )
    return Adopted(frozenset(out), known)


def finding(now: Instant) -> Finding:
    """Return what is known of a real server that was out of service."""
    return Finding(Health(Verdict.DOWN), OUT_WHEN_STARTED, now.wall)


def _is_out(service: VirtualService, server: RealServer, rows: Rows) -> bool:
    row = rows.servers.get(server.key)
    quiesced = row is not None and row.weight == 0 and service.on_failure is OnFailure.QUIESCE
    return server.weight > 0 and (row is None or quiesced)
