"""Connections as one kernel's IPVS tells them, and as another's takes them in.

A director's kernel sends what it synchronises with a delay of up to three seconds, and drops what it has not
sent when it is told to stop. What it would have sent is sent in its stead where a VIP goes: the rows of
/proc/net/ip_vs_conn (net/netfilter/ipvs/ip_vs_conn.c), in messages of the synchronisation protocol, version 1
(net/netfilter/ipvs/ip_vs_sync.c).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from lvsd.model import Address, Protocol, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from lvsd.model import ServiceKey


class Connection(NamedTuple):
    """A TCP connection with a real server. `state` is the kernel's number, `expires` in seconds."""

    client: Address
    client_port: int
    service: VirtualAddress
    server: Address
    server_port: int
    state: int
    expires: int


def open_connections(lines: Iterable[bytes], services: Container[ServiceKey]) -> Iterator[Connection]:
    """Yield those TCP connections of `services` that are open, or are being opened.

    Those of a service by firewall mark are told like others, but without their mark, and are left out. So is
    what is being closed, and a line that makes no sense.
    """
    for line in lines:
        fields = line.split()
        if len(fields) < _FIELDS or fields[0] != b"TCP" or fields[7] not in _STATES:
            continue
        try:
            service = VirtualAddress(Protocol.TCP, _address(fields[3]), _port(fields[4]))
            client, client_port = _address(fields[1]), _port(fields[2])
            server, server_port = _address(fields[5]), _port(fields[6])
            expires = int(fields[8])
        except ValueError:
            continue
        # A template of persistence has no port; the kernel sends it at each new connection.
        alike = client.version == service.version == server.version and 0 <= expires < _LONGEST
        if client_port and alike and (service in services or service._replace(port=0) in services):
            state = _STATES[fields[7]]
            yield Connection(client, client_port, service, server, server_port, state, expires)


def messages(connections: Iterable[Connection], sync_id: int, room: int) -> Iterator[tuple[bytes, int]]:
    """Yield messages of at most `room` bytes, each with the number of connections in it."""
    entries: list[bytes] = []
    size = _HEADER.size
    for entry in map(_encode, connections):
        if entries and (size + len(entry) > room or len(entries) == _MOST):
            yield _message(entries, size, sync_id), len(entries)
            entries, size = [], _HEADER.size
        entries.append(entry)
        size += len(entry)
    if entries:
        yield _message(entries, size, sync_id), len(entries)


_FIELDS = 9
_LONGEST = 1 << 31
_STATES: Final = {b"ESTABLISHED": 1, b"SYN_RECV": 3}
"""The numbers of include/net/ip_vs.h, IP_VS_TCP_S_*."""

# struct ip_vs_sync_mesg: reserved, syncid, size, nr_conns, version, spare
_HEADER = struct.Struct("!BBHBbH")
_VERSION = 1
_MOST = 255

# struct ip_vs_sync_v4 and _v6: type, protocol, ver_size, flags, state, the ports of client, VIP and real
# server, fwmark, timeout, and then their addresses
_ENTRY = struct.Struct("!BBHIHHHHII")
_TYPES = {4: 0, 6: 1}
_IPPROTO_TCP = 6
_LENGTHS = {4, 16}
_HIGHEST_PORT = 0xFFFF


def _address(text: bytes) -> Address:
    """Return an IPv4 address of eight digits, or an IPv6 address of eight groups."""
    packed = bytes.fromhex(text.replace(b":", b"").decode("ascii", "replace"))
    if len(packed) not in _LENGTHS:
        message = f"{packed!r} is no address"
        raise ValueError(message)
    return Address(packed)


def _port(text: bytes) -> int:
    """Return a port of at most four digits."""
    port = int(text, 16)
    if not 0 <= port <= _HIGHEST_PORT:
        message = f"{port} is no port"
        raise ValueError(message)
    return port


def _encode(it: Connection) -> bytes:
    # The real server's IP version may be another than the VIP's, which the protocol cannot tell.
    addresses = it.client + it.service.address + it.server
    head = _ENTRY.pack(
        _TYPES[it.service.version],
        _IPPROTO_TCP,
        _ENTRY.size + len(addresses),
        0,
        it.state,
        it.client_port,
        it.service.port,
        it.server_port,
        0,
        it.expires,
    )
    return head + addresses


def _message(entries: list[bytes], size: int, sync_id: int) -> bytes:
    return _HEADER.pack(0, sync_id, size, len(entries), _VERSION, 0) + b"".join(entries)
