"""The difference between two sets of rows, as changes in an order that is safe at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from lvsd.ipvs.change import AddServer, AddService, EditServer, EditService, RemoveServer, RemoveService
from lvsd.model import in_table_order

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from lvsd.ipvs.change import Change
    from lvsd.model import Rows, Server, ServerKey, ServiceKey, Table


def plan(actual: Table, wanted: Table) -> Iterator[Change]:
    """Yield the changes that make `actual` into `wanted`.

    Services that are new or stay come first, so that an address is never without its service for longer than
    it must; services that go come last.
    """
    for key in [*wanted, *(actual.keys() - wanted.keys())]:
        yield from plan_service(key, actual.get(key), wanted.get(key))


def plan_service(key: ServiceKey, actual: Rows | None, wanted: Rows | None) -> Iterator[Change]:
    """Yield the changes that turn one service's rows from `actual` into `wanted`; None means no row."""
    if wanted is None:
        if actual is not None:
            yield RemoveService(key)
        return
    if actual is None:
        yield AddService(key, wanted.service)
    elif actual.service != wanted.service:
        yield EditService(key, wanted.service)
    yield from _plan_servers(key, {} if actual is None else actual.servers, wanted.servers)


def first_steps(changes: list[Change], actual: Rows | None, dead: Collection[ServerKey]) -> list[Change]:
    """Return those of one service's planned changes that may go at once, though the kernel may refuse any.

    What would take the last live server waits until the server that is to replace it is known to be in the
    table. Rows of servers that are `dead` wait for nothing.
    """
    present = {} if actual is None else actual.servers
    serving = {key for key, server in present.items() if server.weight > 0}
    taken = {change.key for change in changes if _takes(change)}
    if not serving <= taken or not any(_brings(change, present) for change in changes):
        return changes
    return [change for change in changes if not _takes(change) or change.key not in serving - set(dead)]


def _plan_servers(
    service: ServiceKey, actual: Mapping[ServerKey, Server], wanted: Mapping[ServerKey, Server]
) -> Iterator[Change]:
    # Whatever brings capacity comes before whatever takes it, so that no step leaves the service without a
    # live server that had one.
    for key in sorted(wanted.keys() - actual.keys(), key=in_table_order):
        yield AddServer(service, key, wanted[key])
    edited = [key for key in wanted if key in actual and actual[key] != wanted[key]]
    for key in sorted(edited, key=lambda key: (wanted[key].weight == 0, in_table_order(key))):
        yield EditServer(service, key, wanted[key])
    for key in sorted(actual.keys() - wanted.keys(), key=in_table_order):
        yield RemoveServer(service, key)


def _brings(change: Change, present: Mapping[ServerKey, Server]) -> bool:
    """Return whether `change` brings a live server that is not in the table yet."""
    match change:
        case AddServer(server=server):
            return server.weight > 0
        case EditServer(key=key, server=server):
            return server.weight > 0 and present[key].weight == 0
        case _:
            return False


def _takes(change: Change) -> TypeGuard[EditServer | RemoveServer]:
    return isinstance(change, RemoveServer) or (isinstance(change, EditServer) and change.server.weight == 0)
