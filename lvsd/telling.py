"""How what happened to services and servers is put into events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, assert_never

import orjson

from lvsd.events import (
    ChangeRefused,
    ConfigChanged,
    Event,
    ForeignAppeared,
    ForeignDisappeared,
    HealthChanged,
    ProbeFailed,
    ProbePassed,
    ServerAdded,
    ServerEdited,
    ServerRemoved,
    ServiceAdded,
    ServiceEdited,
    ServiceRemoved,
    SnapshotEnd,
    SnapshotService,
)
from lvsd.health.outcome import Ended
from lvsd.health.roster import NO_VERDICT_YET
from lvsd.health.verdict import Verdict
from lvsd.ipvs.change import AddServer, AddService, EditServer, EditService, RemoveServer, RemoveService
from lvsd.ipvs.ledger import row_of
from lvsd.model import FirewallMark, join_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.model import DirectorAddress, RealServer, VirtualService
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Finding, Target
    from lvsd.health.verdict import Health
    from lvsd.ipvs.change import Change
    from lvsd.ipvs.ledger import Owned
    from lvsd.ipvs.refusals import Refused, RowKey
    from lvsd.model import Rows, Seconds, Server, ServerKey, Service, ServiceKey

T = TypeVar("T")

LINE_BUDGET = 12 * 1024
"""Bytes that a list may take of the 16 KiB that a line may have."""


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


def hosts_of(service: VirtualService) -> dict[ServerKey, str]:
    """Return the names of all real servers of `service`, the sorry server's too."""
    return {server.key: server.host.name for server in _all_servers(service)}


def changed(change: Change, owned: Owned, cause: str) -> Event:
    """Return what to tell of a change that was made to a row."""
    place = {"service": owned.name, **where(row_of(change)[0])}
    match change:
        case AddService(service=service):
            return ServiceAdded(**place, **settings(service), cause=cause)
        case EditService(service=service):
            return ServiceEdited(**place, **settings(service), cause=cause)
        case RemoveService():
            return ServiceRemoved(**place, cause=cause)
        case AddServer(key=key, server=server):
            return ServerAdded(**place, **_row(key, server, owned), cause=cause)
        case EditServer(key=key, server=server):
            return ServerEdited(**place, **_row(key, server, owned), cause=cause)
        case RemoveServer(key=key):
            return ServerRemoved(**place, server=str(key), host=owned.hosts.get(key, ""), cause=cause)
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


def probed(target: Target, before: Health, outcome: Outcome) -> list[Event]:
    """Return what to tell of one probe; one that the director could not make is told otherwise."""
    server = join_port(target.address, target.port)
    match outcome.ended:
        case Ended.PASSED:
            return [ProbePassed(server=server, reason=outcome.reason)]
        case Ended.FAILED:
            count = 0 if before.verdict is Verdict.DOWN else before.dissent + 1
            fall = target.check.fall
            return [ProbeFailed(server=server, reason=outcome.reason, count=count, fall=fall)]
        case Ended.LOCAL:
            return []
        case _:
            assert_never(outcome.ended)


def verdict(
    service: VirtualService, key: ServerKey, before: Finding | None, after: Finding
) -> Iterator[Event]:
    """Yield what to tell where another finding on one real server replaces `before`, None for a new one."""
    known, found = _known(before), _known(after)
    if found != known:
        host = next(server.host.name for server in service.real_servers if server.key == key)
        yield HealthChanged(
            service=service.name,
            server=str(key),
            host=host,
            old=known["health"],
            new=found["health"],
            reason=found["reason"],
            since=found["since"],
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
        ConfigChanged(**_wanted(service), change=change, part=part, real_servers=dict(chunk))
        for part, chunk in enumerate(_parts(servers.items()))
    ]


def snapshot(
    service: VirtualService,
    findings: Mapping[ServerKey, Finding],
    hosts: Mapping[ServerKey, str],
    rows: Rows | None,
) -> list[Event]:
    """Return the lines of a snapshot that tell all about one virtual service.

    `hosts` are the names of real servers whose rows are in the table, though they may not be configured.
    """
    servers = {
        key: {**known, "configured": True, "weight": None, "forward": None}
        for key, known in _configured(service).items()
    }
    for key, finding in findings.items():
        servers[str(key)] |= _known(finding)
    return _snapshot_lines(_wanted(service), servers, hosts, rows)


def snapshot_of_leaving(key: ServiceKey, hosts: Mapping[ServerKey, str], rows: Rows) -> list[Event]:
    """Return the lines of a snapshot for rows that are still in the table, but no longer configured."""
    fields = {"service": "", **where(key), "scheduler": rows.service.scheduler, "forward": ""}
    return _snapshot_lines(fields, {}, hosts, rows)


def snapshot_end(addresses: Iterable[DirectorAddress], foreign: Iterable[RowKey]) -> list[Event]:
    """Return the lines that end a snapshot: the VIPs held, and the rows that are not lvsd's."""
    held = [
        {"address": str(address), "interface": address.interface, "label": address.label}
        for address in addresses
    ]
    told: list[tuple[str, Any]] = [("addresses", each) for each in held]
    told += [("foreign", row_text(row)) for row in foreign]
    parts = list(_parts(told))
    return [
        SnapshotEnd(
            part=part,
            parts=len(parts),
            addresses=[each for what, each in chunk if what == "addresses"],
            foreign=[each for what, each in chunk if what == "foreign"],
        )
        for part, chunk in enumerate(parts)
    ]


def _snapshot_lines(
    fields: dict[str, Any],
    servers: dict[str, dict[str, Any]],
    hosts: Mapping[ServerKey, str],
    rows: Rows | None,
) -> list[Event]:
    for key, server in {} if rows is None else rows.servers.items():
        told = servers.setdefault(str(key), {"name": hosts.get(key, ""), "configured": False})
        told |= {"weight": server.weight, "forward": str(server.forwarding)}
    row = None if rows is None else settings(rows.service)
    return [
        SnapshotService(**fields, part=part, row=row, real_servers=dict(chunk))
        for part, chunk in enumerate(_parts(servers.items()))
    ]


def _known(finding: Finding | None) -> dict[str, Any]:
    """Return what is told of a finding; where nothing is known it does not matter since when."""
    if finding is None or finding.verdict is Verdict.UNKNOWN:
        return {"health": str(Verdict.UNKNOWN), "reason": NO_VERDICT_YET, "since": None}
    return {"health": str(finding.verdict), "reason": finding.reason, "since": timestamp(finding.since)}


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
    servers: dict[str, dict[str, Any]] = {
        str(server.key): {"name": server.host.name} for server in _all_servers(service)
    }
    if service.sorry_server is not None:
        servers[str(service.sorry_server.key)]["sorry"] = True
    return servers


def _all_servers(service: VirtualService) -> Iterator[RealServer]:
    if service.sorry_server is not None:
        yield service.sorry_server
    yield from service.real_servers


def _parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield `items` in lists that fit in a line each; one that is empty where there are none."""
    part: list[T] = []
    room = LINE_BUDGET
    for item in items:
        size = len(orjson.dumps(item)) + 1
        if size > room:
            yield part
            part, room = [], LINE_BUDGET
        part.append(item)
        room -= size
    yield part
