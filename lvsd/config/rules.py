"""What must go together in a virtual service: IPVS's own rules, and what would not work as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from lvsd.config.hosts import IPV4
from lvsd.config.schema import PersistenceShape
from lvsd.model import Forwarding, Persistence, Protocol, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lvsd.config.document import Path
    from lvsd.config.model import Host, RealServer, VirtualService
    from lvsd.config.schema import ServiceShape
    from lvsd.errors import Place
    from lvsd.model import ServerKey

    Remark: TypeAlias = tuple[Path, str]

IGNORES_WEIGHTS = frozenset({"rr", "lc", "dh"})
LONGEST = {4: 32, 6: 128}


def persistence(shape: ServiceShape, version: int) -> Persistence | None:
    """Return the persistence that `shape` asks for, for a service of that IP version."""
    wanted = shape.persistence
    if wanted is None:
        return None
    if not isinstance(wanted, PersistenceShape):
        return Persistence(int(wanted), LONGEST[version])
    given = [prefix for prefix in (wanted.netmask, wanted.prefix) if prefix is not None]
    return Persistence(int(wanted.timeout), given[0] if given else LONGEST[version], wanted.engine)


def service_mistakes(
    shape: ServiceShape,
    service: VirtualService,
    numbers: Mapping[ServerKey, int],
    sync: Place | None = None,
) -> Iterator[Remark]:
    """Yield what is wrong, each with its path in the service.

    `numbers` are the real servers' in the list, `sync` is where `ipvs.sync` stands, if it does.
    """
    yield from _identity(shape)
    yield from _scheduling(shape, service)
    yield from _persistence(shape, service)
    yield from _probing(shape, service, numbers)
    for server in service.real_servers:
        for message in _server(server, service, sync):
            yield ("real_servers", numbers[server.key]), message
    if service.sorry_server is not None:
        for message in _server(service.sorry_server, service, sync):
            yield ("sorry_server",), message
        if service.sorry_server.weight == 0:
            yield ("sorry_server",), "has weight 0: nobody would be sent there"
        if service.sorry_server.key in numbers:
            yield ("sorry_server",), f"is real_servers[{numbers[service.sorry_server.key]}] already"


def service_notes(shape: ServiceShape, service: VirtualService) -> Iterator[Remark]:
    """Yield remarks on a service that is usable as it is."""
    weights = {server.weight for server in service.real_servers} - {0}
    if shape.scheduler in IGNORES_WEIGHTS and len(weights) > 1:
        yield ("scheduler",), f"{shape.scheduler} does not look at weights (but 0): wrr, wlc and others do"
    if service.check is None and shape.check is None and service.real_servers:
        yield (), f"{_protocol(service)} servers are not probed unless a check is given: they count as up"


def _protocol(service: VirtualService) -> Protocol:
    return service.key.protocol if isinstance(service.key, VirtualAddress) else Protocol.TCP


def _identity(shape: ServiceShape) -> Iterator[Remark]:
    if shape.fwmark is None:
        if shape.family is not None:
            yield ("family",), "goes with fwmark only: an address says it itself"
        return
    if shape.address is not None:
        yield ("fwmark",), "cannot stand beside an address: a service has one of the two"
    if "protocol" in shape.model_fields_set:
        yield ("protocol",), "cannot stand beside fwmark: the mark says which packets are meant"


def _scheduling(shape: ServiceShape, service: VirtualService) -> Iterator[Remark]:
    for number, flag in enumerate(shape.scheduler_flags):
        scheduler = flag.partition("-")[0]
        if scheduler != shape.scheduler:
            yield (
                ("scheduler_flags", number),
                f"{flag} goes with the scheduler {scheduler}, not {shape.scheduler}",
            )
    if shape.ops and shape.fwmark is None and _protocol(service) is not Protocol.UDP:
        yield ("ops",), f"goes with protocol: udp only, not {_protocol(service)}"


def _persistence(shape: ServiceShape, service: VirtualService) -> Iterator[Remark]:
    wanted, kept, longest = shape.persistence, service.service.persistence, LONGEST[service.key.version]
    if wanted is None or kept is None:
        if isinstance(service.key, VirtualAddress) and service.key.port == 0:
            yield ("address",), "port 0, which is every port, needs `persistence`"
        return
    timeout = wanted.timeout if isinstance(wanted, PersistenceShape) else wanted
    if timeout != kept.timeout:
        yield ("persistence",), "must be whole seconds"
    if not isinstance(wanted, PersistenceShape):
        return
    if wanted.netmask is not None and (wanted.prefix is not None or longest != LONGEST[IPV4]):
        yield ("persistence", "netmask"), "goes with IPv4 only, and not beside `prefix`: leave it out"
    if not 1 <= kept.prefix <= longest:
        at = "prefix" if wanted.netmask is None else "netmask"
        yield (
            ("persistence", at),
            f"must cover 1 to {longest} bits of the client's address, not {kept.prefix}",
        )
    if kept.engine and shape.fwmark is None and _protocol(service) is not Protocol.UDP:
        yield (
            ("persistence", "engine"),
            f"{kept.engine} goes with protocol: udp only, not {_protocol(service)}",
        )


def _probing(
    shape: ServiceShape,
    service: VirtualService,
    numbers: Mapping[ServerKey, int],
) -> Iterator[Remark]:
    """Yield what keeps a probe from knowing where to go."""
    if shape.check is None and "check" in shape.model_fields_set:
        yield ("check",), "is empty: write a check's name, a check, or none"
    check = service.check
    if check is None:
        return
    at: Path = ("check",) if shape.check is not None else ()
    if check.port is None and any(server.port == 0 for server in service.real_servers):
        what = "a firewall mark" if shape.fwmark is not None else "every port"
        yield at, f"a service by {what} has no port to probe: give its check a `port`, or write `check: none`"
    version = check.bind.version if check.bind else None
    other = [
        server.key for server in service.real_servers if version not in (None, server.key.address.version)
    ]
    if other:
        yield (
            at,
            f"its `bind` {check.bind} cannot reach real_servers[{numbers[other[0]]}], {other[0].address}",
        )


def _server(server: RealServer, service: VirtualService, sync: Place | None) -> Iterator[str]:
    key, forwarding = service.key, service.forwarding
    if server.host.address.version != key.version:
        yield from _crossing(server.host, service, sync)
    if isinstance(key, VirtualAddress) and forwarding is not Forwarding.NAT and server.port != key.port:
        ports = f"has port {server.port}, the service {key.port}"
        yield f"{ports}: `forward: {forwarding}` cannot change ports, `forward: nat` can"


def _crossing(host: Host, service: VirtualService, sync: Place | None) -> Iterator[str]:
    """Yield what is wrong with a real server that is of another IP version than its service."""
    address = host.address
    who = host.name if host.name == str(address) else f"{host.name} ({address})"
    crossing = f"{who} is IPv{address.version}, the service IPv{service.key.version}"
    if service.forwarding is not Forwarding.TUN:
        yield f"{crossing}: only `forward: tun` can cross them"
    elif sync is not None:
        yield (
            f"{crossing}: the kernel does not synchronise connections (ipvs.sync, at {sync}) where a tunnel "
            f"crosses them; leave `sync` out, or give a real server's IPv{service.key.version} address"
        )
