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

SORRY_WEIGHT = 1


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
    """Return the rows that `service` should have; `present` are its real servers' rows as they are now."""
    wanted = {}
    for real_server in service.real_servers:
        key = real_server.key
        full = Server(service.forwarding, real_server.weight)
        row = _row(service, standings[key], full, present.get(key))
        if row is not None:
            wanted[key] = row
    sorry = service.sorry_server
    if sorry is not None and all(standing.verdict is Verdict.DOWN for standing in standings.values()):
        wanted.setdefault(sorry.key, Server(service.forwarding, SORRY_WEIGHT))
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
