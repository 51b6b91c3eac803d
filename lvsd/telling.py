"""How what happened to services and servers is put into events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

from lvsd.events import (
    ChangeRefused,
    ConfigChanged,
    Event,
    ForeignAppeared,
    ForeignDisappeared,
    HealthChanged,
    ServerAdded,
    ServerEdited,
    ServerRemoved,
    ServiceAdded,
    ServiceEdited,
    ServiceRemoved,
    SnapshotService,
)
from lvsd.health.verdict import Verdict
from lvsd.ipvs.change import AddServer, AddService, EditServer, EditService, RemoveServer, RemoveService
from lvsd.ipvs.ledger import row_of
from lvsd.model import FirewallMark, join_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.model import VirtualService
    from lvsd.health.roster import Finding
    from lvsd.ipvs.change import Change
    from lvsd.ipvs.ledger import Owned, Refused, RowKey
    from lvsd.model import Rows, Seconds, Server, ServerKey, Service, ServiceKey

SERVERS_A_LINE = 40
"""Real servers told in one line: at some 200 bytes each, it stays under the 16 KiB that a line may have."""


def timestamp(wall: Seconds) -> str:
    """Return RFC 3339 in UTC with microseconds, as every log line has it."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def where(key: ServiceKey) -> dict[str, Any]:
    """Return the fields that identify a virtual service's row."""
    if isinstance(key, FirewallMark):
        return {"address": str(key), "protocol": "fwm"}
    return {"address": join_port(key.address, key.port), "protocol": str(key.protocol)}


def settings(service: Service) -> dict[str, Any]:
    """Return what is set on a virtual service's row."""
    persistence = service.persistence
    return {
        "scheduler": service.scheduler,
        "flags": sorted(service.flags),
        "persistence": None if persistence is None else persistence.timeout,
        "netmask": None if persistence is None else persistence.prefix,
        "engine": "" if persistence is None else persistence.engine,
    }


def changed(change: Change, owned: Owned, cause: str) -> list[Event]:
    """Return what to tell of a change that was made to a row."""
    place = {"service": owned.name, **where(row_of(change)[0])}
    match change:
        case AddService(service=service):
            return [ServiceAdded(**place, **settings(service), cause=cause)]
        case EditService(service=service):
            return [ServiceEdited(**place, **settings(service), cause=cause)]
        case RemoveService():
            return [ServiceRemoved(**place, cause=cause)]
        case AddServer(key=key, server=server):
            return [ServerAdded(**place, **_row(key, server, owned), cause=cause)]
        case EditServer(key=key, server=server):
            return [ServerEdited(**place, **_row(key, server, owned), cause=cause)]
        case RemoveServer(key=key):
            return [ServerRemoved(**place, server=str(key), host=owned.hosts.get(key, ""), cause=cause)]
        case _:
            assert_never(change)


def refused(change: Change, owned: Owned, refusal: Refused) -> Event:
    """Return what to tell of a change that the kernel refused."""
    return ChangeRefused(
        service=owned.name,
        change=f"ipvsadm {change}",
        reason=refusal.reason,
        retry_in=refusal.wait,
    )


def verdict(owned: Owned, key: ServerKey, before: Verdict, after: Finding) -> Event:
    """Return what to tell of a new verdict on one real server."""
    return HealthChanged(
        service=owned.name,
        server=str(key),
        host=owned.hosts.get(key, ""),
        old=str(before),
        new=str(after.verdict),
        reason=after.reason,
        since=timestamp(after.since),
    )


def foreign(appeared: Iterable[RowKey], gone: Iterable[RowKey]) -> list[Event]:
    """Return what to tell of rows that are not lvsd's."""
    came: list[Event] = [ForeignAppeared(row=row_text(row)) for row in appeared]
    return came + [ForeignDisappeared(row=row_text(row)) for row in gone]


def row_text(row: RowKey) -> str:
    """Return `tcp 192.168.0.101:80` for a virtual service, with ` -> 192.168.0.3:80` for a real server."""
    key, server = row
    return str(key) if server is None else f"{key} -> {server}"


def config_changed(service: VirtualService, change: str) -> list[Event]:
    """Return what to tell of a virtual service that is wanted otherwise now."""
    servers = {} if change == "removed" else _configured(service)
    return [
        ConfigChanged(**_wanted(service), change=change, part=part, real_servers=chunk)
        for part, chunk in _parts(servers)
    ]


def snapshot(
    service: VirtualService, findings: Mapping[ServerKey, Finding], owned: Owned, rows: Rows | None
) -> list[Event]:
    """Return the lines of a snapshot that tell all about one virtual service."""
    servers = {
        key: {**known, "configured": True, "weight": None, "forward": None}
        for key, known in _configured(service).items()
    }
    for key, finding in findings.items():
        servers[str(key)] |= {
            "health": str(finding.verdict),
            "reason": finding.reason,
            "since": _since(finding),
        }
    return _snapshot_lines(_wanted(service), servers, owned, rows)


def snapshot_of_leaving(key: ServiceKey, owned: Owned, rows: Rows) -> list[Event]:
    """Return the lines of a snapshot for rows that are still in the table, but no longer configured."""
    fields = {"service": "", **where(key), "scheduler": rows.service.scheduler, "forward": ""}
    return _snapshot_lines(fields, {}, owned, rows)


def _snapshot_lines(
    fields: dict[str, Any], servers: dict[str, dict[str, Any]], owned: Owned, rows: Rows | None
) -> list[Event]:
    for key, server in {} if rows is None else rows.servers.items():
        told = servers.setdefault(str(key), {"name": owned.hosts.get(key, ""), "configured": False})
        told |= {"weight": server.weight, "forward": str(server.forwarding)}
    row = None if rows is None else settings(rows.service)
    return [
        SnapshotService(**fields, part=part, row=row, real_servers=chunk) for part, chunk in _parts(servers)
    ]


def _since(finding: Finding) -> str | None:
    return None if finding.verdict is Verdict.UNKNOWN else timestamp(finding.since)


def _row(key: ServerKey, server: Server, owned: Owned) -> dict[str, Any]:
    return {
        "server": str(key),
        "host": owned.hosts.get(key, ""),
        "forward": str(server.forwarding),
        "weight": server.weight,
    }


def _wanted(service: VirtualService) -> dict[str, Any]:
    return {
        "service": service.name,
        **where(service.key),
        "scheduler": service.service.scheduler,
        "forward": str(service.forwarding),
    }


def _configured(service: VirtualService) -> dict[str, dict[str, Any]]:
    servers: dict[str, dict[str, Any]] = {}
    sorry = service.sorry_server
    if sorry is not None:
        servers[str(sorry.key)] = {"name": sorry.host.name, "sorry": True}
    for server in service.real_servers:
        servers[str(server.key)] = {"name": server.host.name}
    return servers


def _parts(servers: dict[str, dict[str, Any]]) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
    items = list(servers.items())
    for part, start in enumerate(range(0, max(len(items), 1), SERVERS_A_LINE)):
        yield part, dict(items[start : start + SERVERS_A_LINE])
