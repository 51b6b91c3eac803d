"""IPVS's generic netlink messages: changes and questions to bytes, the kernel's answers to rows.

The numbers are those of the kernel's include/uapi/linux/ip_vs.h and netlink.h. What the kernel reports of a
row compares equal to what was written, so that a difference is always somebody else's doing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, assert_never

from lvsd.ipvs.change import AddServer, AddService, EditServer, EditService, RemoveServer, RemoveService
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Persistence,
    Protocol,
    Server,
    ServerKey,
    Service,
    VirtualAddress,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.ipvs.change import Change
    from lvsd.model import ServiceKey

FAMILY: Final = "IPVS"
"""The name under which the kernel registers IPVS with generic netlink."""

REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300
"""Flags of netlink: all requests have the first; the kernel is to acknowledge it; to list everything."""

DAEMON: Final = 3
"""The attribute that holds a synchronisation daemon."""


class Answer(NamedTuple):
    """One message of the kernel: `error` is 0 or an errno, `body` what follows the netlink header."""

    kind: int
    sequence: int
    error: int
    body: bytes

    @property
    def last(self) -> bool:
        """Whether no more answers to this request follow."""
        return self.kind in {_ERROR, _DONE}


@dataclass(frozen=True, slots=True)
class Connections:
    """What the kernel counts on a real server's row; UDP has no active ones."""

    active: int
    inactive: int
    persistent: int = 0


class ServerRow(NamedTuple):
    """A real server as the kernel reports it."""

    key: ServerKey
    server: Server
    connections: Connections


def encode(change: Change, family: int, sequence: int, *, acknowledged: bool = False) -> bytes:
    """Return the message that asks the kernel for `change`.

    The kernel answers when it refuses; when it accepts, only where `acknowledged` is set.
    """
    to = Envelope(family, REQUEST | ACKNOWLEDGE if acknowledged else REQUEST, sequence)
    match change:
        case AddServer(service=parent, key=server_key, server=server):
            return message(to, _NEW_SERVER, _key(parent), _server(server_key, server))
        case EditServer(service=parent, key=server_key, server=server):
            return message(to, _SET_SERVER, _key(parent), _server(server_key, server))
        case RemoveServer(service=parent, key=server_key):
            return message(to, _DELETE_SERVER, _key(parent), _server_key(server_key))
        case AddService(key=key, service=service):
            return message(to, _NEW_SERVICE, _key(key) + _settings(key, service))
        case EditService(key=key, service=service):
            return message(to, _SET_SERVICE, _key(key) + _settings(key, service))
        case RemoveService(key=key):
            return message(to, _DELETE_SERVICE, _key(key))
        case _:
            assert_never(change)


def ask_services(family: int, sequence: int) -> bytes:
    """Return the request for all virtual services."""
    return message(Envelope(family, REQUEST | DUMP, sequence), _GET_SERVICE)


def ask_servers(key: ServiceKey, family: int, sequence: int) -> bytes:
    """Return the request for the real servers of one virtual service; a missing one has none."""
    return message(Envelope(family, REQUEST | DUMP, sequence), _GET_SERVER, _key(key))


def ask_version(family: int, sequence: int) -> bytes:
    """Return a request that anybody with the right to change the table may make, and that costs nothing."""
    return message(Envelope(family, REQUEST | ACKNOWLEDGE, sequence), _GET_INFO)


def answers(datagram: bytes) -> Iterator[Answer]:
    """Yield the messages of one datagram; stop where the rest is not whole."""
    start, size = 0, len(datagram)
    while start + _NETLINK.size <= size:
        length, kind, _flags, sequence, _port = _NETLINK.unpack_from(datagram, start)
        end = start + length
        if length < _NETLINK.size or end > size:
            return
        body = datagram[start + _NETLINK.size : end]
        yield Answer(kind, sequence, _error(kind, body), body)
        start += _aligned(length)


def decode_service(body: bytes) -> tuple[ServiceKey, Service] | None:
    """Return the virtual service in an answer, or None where this is none that lvsd knows."""
    try:
        row = nested(body, _SERVICE)
        version = _VERSIONS[_NUMBER16.unpack(row[_SERVICE_FAMILY])[0]]
        return _decode_key(row, version), _decode_settings(row, version)
    except (KeyError, ValueError, struct.error):
        return None


def decode_server(body: bytes, version: int) -> ServerRow | None:
    """Return the real server in an answer, or None where this is none that lvsd knows.

    `version` is the service's, and the server's too unless the answer has another.
    """
    try:
        row = nested(body, _SERVER)
        if (family := row.get(_SERVER_FAMILY)) is not None:
            version = _VERSIONS[_NUMBER16.unpack(family)[0]]
        return ServerRow(
            ServerKey(_decode_address(row[_SERVER_ADDRESS], version), _decode_port(row[_SERVER_PORT])),
            Server(
                _FORWARDINGS.get(_number(row[_SERVER_FORWARDING]) & _FORWARDING_MASK, Forwarding.DR),
                _number(row[_SERVER_WEIGHT]),
            ),
            Connections(
                _number(row[_SERVER_ACTIVE]), _number(row[_SERVER_INACTIVE]), _number(row[_SERVER_PERSISTENT])
            ),
        )
    except (KeyError, ValueError, struct.error):
        return None


class Envelope(NamedTuple):
    """What a message begins with: IPVS's number in generic netlink, flags, and what its answers carry."""

    family: int
    flags: int
    sequence: int


def message(
    to: Envelope, command: int, service: bytes = b"", server: bytes = b"", daemon: bytes = b""
) -> bytes:
    """Return a message with the attributes of a virtual service, a real server, a synchronisation daemon."""
    payload = b""
    if service:
        payload = _ATTRIBUTE.pack(len(service) + 4, _SERVICE | _NESTED) + service
    if server:
        payload += _ATTRIBUTE.pack(len(server) + 4, _SERVER | _NESTED) + server
    if daemon:
        payload = _ATTRIBUTE.pack(len(daemon) + 4, DAEMON | _NESTED) + daemon
    return _MESSAGE.pack(_MESSAGE.size + len(payload), *to, 0, command, 1, 0) + payload


def nested(body: bytes, kind: int) -> dict[int, bytes]:
    """Return the attributes within the attribute `kind` of an answer, by their numbers.

    Raises KeyError, ValueError or struct.error where the answer has no such thing.
    """
    return _attributes(_attributes(body[_GENERIC_HEADER_SIZE:])[kind])


# Netlink: message kinds and flags
_ERROR, _DONE = 2, 3
_NESTED, _KIND_MASK = 0x8000, 0x3FFF

# Commands
_NEW_SERVICE, _SET_SERVICE, _DELETE_SERVICE, _GET_SERVICE = 1, 2, 3, 4
_NEW_SERVER, _SET_SERVER, _DELETE_SERVER, _GET_SERVER = 5, 6, 7, 8
_GET_INFO = 15

# Attributes
_SERVICE, _SERVER = 1, 2
_SERVICE_FAMILY, _SERVICE_PROTOCOL, _SERVICE_ADDRESS, _SERVICE_PORT, _SERVICE_MARK = 1, 2, 3, 4, 5
_SERVICE_SCHEDULER, _SERVICE_FLAGS, _SERVICE_TIMEOUT, _SERVICE_NETMASK, _SERVICE_ENGINE = 6, 7, 8, 9, 11
_SERVER_ADDRESS, _SERVER_PORT, _SERVER_FORWARDING, _SERVER_WEIGHT = 1, 2, 3, 4
_SERVER_UPPER, _SERVER_LOWER = 5, 6
_SERVER_ACTIVE, _SERVER_INACTIVE, _SERVER_PERSISTENT, _SERVER_FAMILY = 7, 8, 9, 11

_FAMILIES = {4: 2, 6: 10}
_VERSIONS = {2: 4, 10: 6}
_PROTOCOL_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_PROTOCOLS = {number: protocol for protocol, number in _PROTOCOL_NUMBERS.items()}

# The kernel knows two more methods, which it uses itself for addresses of its own (local node, bypass); where
# it reports them the packet never leaves the host, and direct routing is what comes closest.
_FORWARDING_NUMBERS = {Forwarding.NAT: 0, Forwarding.TUN: 2, Forwarding.DR: 3}
_FORWARDINGS = {number: forwarding for forwarding, number in _FORWARDING_NUMBERS.items()}
_FORWARDING_MASK = 0x7

# Of a service's flags, "hashed" is the kernel's own. The scheduler's three have a name for each scheduler.
_PERSISTENT, _ONE_PACKET = 0x1, 0x4
_SCHEDULER_FLAGS = (0x8, "fallback", "flag-1"), (0x10, "port", "flag-2"), (0x20, "", "flag-3")
_NAMED_BY_SCHEDULER = frozenset({"sh", "mh"})
_FLAG_NUMBERS = {"ops": _ONE_PACKET} | {
    name: bit
    for bit, meaning, number in _SCHEDULER_FLAGS
    for name in (number, *(f"{scheduler}-{meaning}" for scheduler in _NAMED_BY_SCHEDULER if meaning))
}

_NETLINK = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=IHHIIBBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR_NUMBER = struct.Struct("=i")
_NUMBER16 = struct.Struct("=H")
_NUMBER32 = struct.Struct("=I")
_BY_ADDRESS = struct.Struct("=HHHxxHHHxxHH16sHH2sxx")
_BY_MARK = struct.Struct("=HHHxxHHI")
_SETTINGS = struct.Struct("=HHIIHHIHH4s")
_SERVER_KEY = struct.Struct("=HH16sHH2sxxHHHxx")
_SERVER_ROW = struct.Struct("=HH16sHH2sxxHHIHHIHHIHHIHHHxx")
_GENERIC_HEADER_SIZE = 4
_ALL_FLAGS = 0xFFFFFFFF


def _key(key: ServiceKey) -> bytes:
    if isinstance(key, FirewallMark):
        family = _FAMILIES[key.version]
        return _BY_MARK.pack(6, _SERVICE_FAMILY, family, 8, _SERVICE_MARK, key.mark)
    return _BY_ADDRESS.pack(
        6, _SERVICE_FAMILY, _FAMILIES[key.version],
        6, _SERVICE_PROTOCOL, _PROTOCOL_NUMBERS[key.protocol],
        20, _SERVICE_ADDRESS, key.address,
        6, _SERVICE_PORT, key.port.to_bytes(2, "big"),
    )  # fmt: skip


def _settings(key: ServiceKey, service: Service) -> bytes:
    flags = sum({_FLAG_NUMBERS[name] for name in service.flags})
    timeout, prefix, engine = 0, _whole_address(key.version), ""
    if (persistence := service.persistence) is not None:
        flags |= _PERSISTENT
        timeout, prefix, engine = persistence.timeout, persistence.prefix, persistence.engine
    settings = _text(_SERVICE_SCHEDULER, service.scheduler) + _SETTINGS.pack(
        12, _SERVICE_FLAGS, flags, _ALL_FLAGS,
        8, _SERVICE_TIMEOUT, timeout,
        8, _SERVICE_NETMASK, _netmask(prefix, key.version),
    )  # fmt: skip
    return settings + _text(_SERVICE_ENGINE, engine) if engine else settings


def _text(kind: int, text: str) -> bytes:
    value = text.encode("ascii") + b"\0"
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _whole_address(version: int) -> int:
    return 32 if version == 4 else 128  # noqa: PLR2004


def _netmask(prefix: int, version: int) -> bytes:
    """Return a mask for IPv4, but for IPv6 the length of the prefix: the kernel wants it so."""
    if version == 6:  # noqa: PLR2004
        return _NUMBER32.pack(prefix)
    return (0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big")


def _server_key(key: ServerKey) -> bytes:
    return _SERVER_KEY.pack(
        20, _SERVER_ADDRESS, key.address,
        6, _SERVER_PORT, key.port.to_bytes(2, "big"),
        6, _SERVER_FAMILY, _FAMILIES[key.address.version],
    )  # fmt: skip


def _server(key: ServerKey, server: Server) -> bytes:
    return _SERVER_ROW.pack(
        20, _SERVER_ADDRESS, key.address,
        6, _SERVER_PORT, key.port.to_bytes(2, "big"),
        8, _SERVER_FORWARDING, _FORWARDING_NUMBERS[server.forwarding],
        8, _SERVER_WEIGHT, server.weight,
        8, _SERVER_UPPER, 0,
        8, _SERVER_LOWER, 0,
        6, _SERVER_FAMILY, _FAMILIES[key.address.version],
    )  # fmt: skip


def _error(kind: int, body: bytes) -> int:
    """Return the errno of an error or an end of a list; the kernel writes it negative."""
    if kind in {_ERROR, _DONE} and len(body) >= _ERROR_NUMBER.size:
        return -int(_ERROR_NUMBER.unpack_from(body)[0])
    return 0


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _attributes(payload: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    start, size = 0, len(payload)
    while start < size:
        length, kind = _ATTRIBUTE.unpack_from(payload, start)
        if length < _ATTRIBUTE.size:
            msg = f"an attribute cannot be {length} bytes long"
            raise ValueError(msg)
        found[kind & _KIND_MASK] = payload[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def _decode_key(row: dict[int, bytes], version: int) -> ServiceKey:
    if (mark := row.get(_SERVICE_MARK)) is not None:
        return FirewallMark(_number(mark), version)
    return VirtualAddress(
        _PROTOCOLS[_NUMBER16.unpack(row[_SERVICE_PROTOCOL])[0]],
        _decode_address(row[_SERVICE_ADDRESS], version),
        _decode_port(row[_SERVICE_PORT]),
    )


def _decode_settings(row: dict[int, bytes], version: int) -> Service:
    scheduler = _decode_text(row[_SERVICE_SCHEDULER])
    flags = _number(row[_SERVICE_FLAGS][:4])
    names = _decode_flags(flags, scheduler)
    if not flags & _PERSISTENT:
        return Service(scheduler, names)
    return Service(
        scheduler,
        names,
        Persistence(
            _number(row[_SERVICE_TIMEOUT]),
            _decode_netmask(row[_SERVICE_NETMASK], version),
            _decode_text(row.get(_SERVICE_ENGINE, b"")),
        ),
    )


def _decode_flags(flags: int, scheduler: str) -> frozenset[str]:
    if not flags & ~0x3:
        return _NO_FLAGS
    names = {"ops"} if flags & _ONE_PACKET else set()
    for bit, meaning, number in _SCHEDULER_FLAGS:
        if flags & bit:
            names.add(f"{scheduler}-{meaning}" if meaning and scheduler in _NAMED_BY_SCHEDULER else number)
    return frozenset(names)


_NO_FLAGS: frozenset[str] = frozenset()


def _decode_netmask(mask: bytes, version: int) -> int:
    return _number(mask) if version == 6 else int.from_bytes(mask, "big").bit_count()  # noqa: PLR2004


def _decode_text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii")


def _decode_address(value: bytes, version: int) -> Address:
    size = 4 if version == 4 else 16  # noqa: PLR2004
    if len(value) < size:
        msg = f"an IPv{version} address cannot be {len(value)} bytes long"
        raise ValueError(msg)
    return Address(value[:size])


def _decode_port(value: bytes) -> int:
    return int.from_bytes(value[:2], "big")


def _number(value: bytes) -> int:
    number: int = _NUMBER32.unpack(value)[0]
    return number
