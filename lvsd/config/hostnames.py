"""Host names of a configuration in use: which there are, and services with other addresses for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from lvsd.model import VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.model import Host, RealServer, VirtualService
    from lvsd.model import Address

Name: TypeAlias = "tuple[str, int]"
"""A host's name, and the IP version of the address that is wanted of it."""


def names_of(services: Iterable[VirtualService]) -> dict[Name, Address]:
    """Return the host names that `services` use, with the addresses in use for them."""
    return {
        (host.name, host.address.version): host.address
        for service in services
        for host in _hosts(service)
        if host.name != str(host.address)
    }


def with_addresses(service: VirtualService, addresses: Mapping[Name, Address]) -> VirtualService:
    """Return `service` with the addresses that its hosts have now; a name that is missing keeps its own."""

    def now(host: Host) -> Host:
        return replace(host, address=addresses.get((host.name, host.address.version), host.address))

    def moved(server: RealServer) -> RealServer:
        return replace(server, host=now(server.host))

    sorry = None if service.sorry_server is None else moved(service.sorry_server)
    servers = {server.key: server for server in map(moved, service.real_servers)}
    vip = None if service.vip is None else now(service.vip)
    key = service.key
    if vip is not None and isinstance(key, VirtualAddress):
        key = key._replace(address=vip.address)
    return replace(service, key=key, vip=vip, sorry_server=sorry, real_servers=tuple(servers.values()))


def _hosts(service: VirtualService) -> Iterator[Host]:
    if service.vip is not None:
        yield service.vip
    if service.sorry_server is not None:
        yield service.sorry_server.host
    for server in service.real_servers:
        yield server.host
