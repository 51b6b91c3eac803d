"""What one virtual service's rows should be, given the verdicts on its real servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.model import OnFailure
from lvsd.health.verdict import Verdict
from lvsd.model import Rows, Server, in_table_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lvsd.config.model import VirtualService
    from lvsd.model import ServerKey


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides a real server's row: the verdict, and whether it is in from the start (`initial: up`)."""

    verdict: Verdict
    admitted: bool = False


def desired(
    service: VirtualService,
    standings: Mapping[ServerKey, Standing],
    present: Mapping[ServerKey, Server],
) -> Rows:
    """Return the rows that `service` should have; `present` are its own rows as they are now."""
    wanted: dict[ServerKey, Server] = {}
    for real_server in service.real_servers:
        key = real_server.key
        full = Server(service.forwarding, real_server.weight)
        row = _row(service, standings[key], full, present.get(key))
        if row is not None:
            wanted[key] = row
    if not any(server.weight for server in wanted.values()):
        wanted |= _holding_out(service, standings, present)
    sorry = service.sorry_server
    if sorry is not None and sorry.key not in wanted:
        full = Server(service.forwarding, sorry.weight)
        row = _sorry_row(full, standings, wanted, present.get(sorry.key))
        if row is not None:
            wanted[sorry.key] = row
    return Rows(service.service, {key: wanted[key] for key in sorted(wanted, key=in_table_order)})


def _row(service: VirtualService, standing: Standing, full: Server, present: Server | None) -> Server | None:
    match standing.verdict:
        case Verdict.UP:
            return full
        case Verdict.DOWN:
            return Server(full.forwarding, 0) if service.on_failure is OnFailure.QUIESCE else None
        case Verdict.UNKNOWN:
            # Nothing is known that would justify a change; a new server may be in from the start.
            return full if present is None and standing.admitted else present


def _holding_out(
    service: VirtualService,
    standings: Mapping[ServerKey, Standing],
    present: Mapping[ServerKey, Server],
) -> dict[ServerKey, Server]:
    """Return live rows that are not configured any more, but serve until those to come have a verdict."""
    if all(standing.verdict is not Verdict.UNKNOWN for standing in standings.values()):
        return {}
    configured = {service.sorry_server.key, *standings} if service.sorry_server else set(standings)
    return {key: row for key, row in present.items() if row.weight > 0 and key not in configured}


def _sorry_row(
    full: Server,
    standings: Mapping[ServerKey, Standing],
    wanted: Mapping[ServerKey, Server],
    present: Server | None,
) -> Server | None:
    """Return the sorry server's row: it is in while all others are down, and leaves when one is to serve."""
    verdicts = {standing.verdict for standing in standings.values()}
    if verdicts <= {Verdict.DOWN}:
        return full
    if Verdict.UP in verdicts or any(server.weight > 0 for server in wanted.values()):
        return None
    return present
