"""The changes of the kernel's table, one command each, what they do to an image of it, why one is refused.

`str()` of a change is what an operator would type after `ipvsadm` for the same.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, TypeAlias, assert_never, cast

from lvsd.model import FirewallMark, Forwarding, Protocol, Rows

if TYPE_CHECKING:
    from lvsd.model import Persistence, Server, ServerKey, Service, ServiceKey, Table


@dataclass(frozen=True, slots=True)
class AddService:
    """A new virtual service, without real servers."""

    key: ServiceKey
    service: Service

    def __str__(self) -> str:
        return f"-A {_service_option(self.key)} {_service_settings(self.key, self.service)}"


@dataclass(frozen=True, slots=True)
class EditService:
    """Other settings for a virtual service; its real servers stay."""

    key: ServiceKey
    service: Service

    def __str__(self) -> str:
        return f"-E {_service_option(self.key)} {_service_settings(self.key, self.service)}"


@dataclass(frozen=True, slots=True)
class RemoveService:
    """The end of a virtual service and of its real servers' rows."""

    key: ServiceKey

    def __str__(self) -> str:
        return f"-D {_service_option(self.key)}"


@dataclass(frozen=True, slots=True)
class AddServer:
    """A new real server of the virtual service `service`."""

    service: ServiceKey
    key: ServerKey
    server: Server

    def __str__(self) -> str:
        return f"-a {_service_option(self.service)} -r {self.key} {_server_settings(self.server)}"


@dataclass(frozen=True, slots=True)
class EditServer:
    """Another weight or forwarding method for a real server; its connections go on."""

    service: ServiceKey
    key: ServerKey
    server: Server

    def __str__(self) -> str:
        return f"-e {_service_option(self.service)} -r {self.key} {_server_settings(self.server)}"


@dataclass(frozen=True, slots=True)
class RemoveServer:
    """The end of a real server's row in the virtual service `service`."""

    service: ServiceKey
    key: ServerKey

    def __str__(self) -> str:
        return f"-d {_service_option(self.service)} -r {self.key}"


Change: TypeAlias = AddService | EditService | RemoveService | AddServer | EditServer | RemoveServer

Image: TypeAlias = "dict[ServiceKey, Rows]"
"""A table that `apply` may change in place: made by `image`, the servers' dicts are its own."""


def image(table: Table) -> Image:
    """Return a copy of `table` for `apply` to change."""
    return {key: Rows(rows.service, dict(rows.servers)) for key, rows in table.items()}


def apply(table: Image, change: Change) -> None:
    """Do to `table` what the kernel does when it accepts `change`, at the same cost for any size of table.

    Raise KeyError, and change nothing, where the kernel would refuse: the row is missing, or already there.
    """
    match change:
        case AddService(key, service):
            _must(key not in table, change)
            table[key] = Rows(service, {})
        case EditService(key, service):
            table[key] = Rows(service, table[key].servers)
        case RemoveService(key):
            del table[key]
        case AddServer(service=parent, key=server_key, server=server):
            servers = _servers(table, parent)
            _must(server_key not in servers, change)
            servers[server_key] = server
        case EditServer(service=parent, key=server_key, server=server):
            servers = _servers(table, parent)
            _must(server_key in servers, change)
            servers[server_key] = server
        case RemoveServer(service=parent, key=server_key):
            del _servers(table, parent)[server_key]
        case _:
            assert_never(change)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel did not accept a change: its errno, and what that means for this change."""

    code: int
    reason: str

    @property
    def unknown(self) -> bool:
        """Whether the kernel's answer was lost: only reading the table tells what became of the change."""
        return self.code == errno.ENOBUFS

    def __str__(self) -> str:
        return self.reason


def refusal(change: Change, code: int) -> Refusal:
    """Return what it means that the kernel answered `change` with the errno `code`."""
    return Refusal(code, _meaning(change, code) or f"the kernel answered {errno.errorcode.get(code, code)}")


def _meaning(change: Change, code: int) -> str:
    match code, change:
        case errno.ENOENT, AddService(service=service) | EditService(service=service):
            return _unavailable(service)
        case errno.ENOENT, _:
            return "no such real server"
        case errno.EINVAL, AddServer() | EditServer() if change.key.address.version != change.service.version:
            return "a real server of the other IP version can only be reached by tunnel (forward: tun)"
        case errno.EINVAL, _:
            return "the kernel holds an address or a setting for invalid (EINVAL)"
        case _:
            return _MEANINGS.get(code, "")


_MEANINGS = {
    errno.ESRCH: "no such virtual service",
    errno.EEXIST: "already there",
    errno.EPERM: "permission denied: needs CAP_NET_ADMIN",
    errno.ENOMEM: "the kernel is out of memory",
    errno.EAFNOSUPPORT: "this kernel's IPVS has no IPv6",
    errno.EPROTONOSUPPORT: "this kernel's IPVS does not know the protocol",
    errno.ENOBUFS: "the kernel's answer was lost",
}


def _unavailable(service: Service) -> str:
    scheduler = f'scheduler "{service.scheduler}" is not available in this kernel'
    advice = f"modprobe ip_vs_{service.scheduler}"
    if service.persistence is None or not service.persistence.engine:
        return f"{scheduler} ({advice})"
    engine = service.persistence.engine
    return f'{scheduler}, or persistence engine "{engine}" is not ({advice} ip_vs_pe_{engine})'


def _must(possible: bool, change: Change) -> None:  # noqa: FBT001
    if not possible:
        raise KeyError(str(change))


def _servers(table: Image, key: ServiceKey) -> dict[ServerKey, Server]:
    return cast("dict[ServerKey, Server]", table[key].servers)


_PROTOCOL_OPTIONS = {Protocol.TCP: "-t", Protocol.UDP: "-u", Protocol.SCTP: "--sctp-service"}
_FORWARDING_OPTIONS = {Forwarding.DR: "-g", Forwarding.TUN: "-i", Forwarding.NAT: "-m"}
_FULL_PREFIX = {4: 32, 6: 128}


def _service_option(key: ServiceKey) -> str:
    if isinstance(key, FirewallMark):
        return f"-f {key.mark}" if key.version == 4 else f"-f {key.mark} -6"  # noqa: PLR2004
    _protocol, _, where = str(key).partition(" ")
    return f"{_PROTOCOL_OPTIONS[key.protocol]} {where}"


def _service_settings(key: ServiceKey, service: Service) -> str:
    words = [f"-s {service.scheduler}"]
    if service.persistence is not None:
        words.append(_persistence_settings(service.persistence, key.version))
    if "ops" in service.flags:
        words.append("-o")
    if of_scheduler := sorted(service.flags - {"ops"}):
        words.append(f"-b {','.join(of_scheduler)}")
    return " ".join(words)


def _persistence_settings(persistence: Persistence, version: int) -> str:
    words = [f"-p {persistence.timeout}"]
    if persistence.prefix != _FULL_PREFIX[version]:
        words.append(f"-M {persistence_mask(persistence, version)}")
    if persistence.engine:
        words.append(f"--pe {persistence.engine}")
    return " ".join(words)


def persistence_mask(persistence: Persistence, version: int) -> str:
    """Return how much of a client's address counts, as ipvsadm writes it: `255.255.255.0`, for IPv6 `64`."""
    if version == 4:  # noqa: PLR2004
        return str(ip_network(f"0.0.0.0/{persistence.prefix}").netmask)
    return str(persistence.prefix)


def _server_settings(server: Server) -> str:
    return f"{_FORWARDING_OPTIONS[server.forwarding]} -w {server.weight}"
