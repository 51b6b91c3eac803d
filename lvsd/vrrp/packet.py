"""VRRP packets: bytes to advertisements and back (RFC 9568, 5; RFC 3768, 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lvsd.errors import PacketError
from lvsd.model import Address

if TYPE_CHECKING:
    from lvsd.model import Seconds

PROTOCOL: Final = 112
HOP_LIMIT: Final = 255
"""What every advertisement is sent with: one that was routed has less (RFC 9568, 5.1.1.3)."""

GROUP_V4: Final = Address.parse("224.0.0.18")
GROUP_V6: Final = Address.parse("ff02::12")

ADVERTISEMENT: Final = 1
RESIGNED: Final = 0
"""The priority of a master that stops (RFC 9568, 5.2.4)."""

OWNER: Final = 255
"""The priority of the router whose own addresses the VIPs are."""

NO_AUTHENTICATION, SIMPLE_PASSWORD = 0, 1
PASSWORD_LENGTH: Final = 8

_HEADER = struct.Struct("!BBBBHH")
_CHECKSUM_AT = 6
_CENTISECOND = 0.01
_V2, _V3 = 2, 3
_IPV4 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """What a master says. `source` is where it came from.

    `covers_addresses` tells that the checksum of version 3 over IPv4 has a pseudo-header in it, as RFC 5798
    and keepalived have it; RFC 9568, 5.2.8 has none, nor has version 2. `password` is version 2's.
    """

    version: int
    vrid: int
    priority: int
    interval: Seconds
    addresses: tuple[Address, ...]
    source: Address
    password: bytes = b""
    covers_addresses: bool = True


def encode(advertisement: Advertisement, destination: Address) -> bytes:
    """Return the packet's payload, checksum and all."""
    said = advertisement
    body = b"".join(said.addresses)
    if said.version == _V2:
        kind = SIMPLE_PASSWORD if said.password else NO_AUTHENTICATION
        rest = kind << 8 | round(said.interval)
        body += said.password.ljust(PASSWORD_LENGTH, b"\0")
    else:
        rest = round(said.interval / _CENTISECOND)
    first = said.version << 4 | ADVERTISEMENT
    payload = _HEADER.pack(first, said.vrid, said.priority, len(said.addresses), rest, 0) + body
    checksum = _checksum(_covered(said, payload, destination))
    return payload[:_CHECKSUM_AT] + checksum.to_bytes(2) + payload[_CHECKSUM_AT + 2 :]


def decode(payload: bytes, source: Address, destination: Address) -> Advertisement:
    """Return the advertisement in `payload`; raise PacketError with what is wrong with it.

    What is checked is what RFC 9568, 7.1 and RFC 3768, 7.1 ask for, but the hop limit, which is not in it,
    and what depends on the instance: its VRID, version, password and interval.
    """
    if len(payload) < _HEADER.size:
        message = f"it has {len(payload)} bytes, less than the {_HEADER.size} of a header"
        raise PacketError(message)
    first, vrid, priority, count, rest, _ = _HEADER.unpack_from(payload)
    version, kind = first >> 4, first & 0xF
    if version not in {_V2, _V3}:
        message = f"it is of version {version}"
        raise PacketError(message)
    if version == _V2 and source.version != _IPV4:
        message = "it is of version 2, which IPv6 does not have"
        raise PacketError(message)
    if kind != ADVERTISEMENT:
        message = f"it is of type {kind}, which is no advertisement"
        raise PacketError(message)
    if vrid == 0:
        message = "its virtual router id is 0"
        raise PacketError(message)
    length = len(source)
    end = _HEADER.size + count * length
    whole = end + PASSWORD_LENGTH if version == _V2 else end
    if len(payload) < whole:
        message = f"it has {len(payload)} bytes, but {count} addresses take {whole}"
        raise PacketError(message)
    if count == 0:
        message = "it has no address"
        raise PacketError(message)
    payload = payload[:whole]  # what follows is Ethernet's padding, or nobody's
    addresses = tuple(Address(payload[at : at + length]) for at in range(_HEADER.size, end, length))
    return Advertisement(
        version=version,
        vrid=vrid,
        priority=priority,
        interval=_interval(version, rest),
        addresses=addresses,
        source=source,
        password=_password(version, rest >> 8, payload[end:]),
        covers_addresses=_verify(version, payload, source, destination),
    )


def _interval(version: int, rest: int) -> Seconds:
    seconds = float(rest & 0xFF) if version == _V2 else (rest & 0xFFF) * _CENTISECOND
    if seconds == 0:
        message = "its interval is 0"
        raise PacketError(message)
    return round(seconds, 2)


def _password(version: int, kind: int, authentication: bytes) -> bytes:
    if version != _V2 or kind == NO_AUTHENTICATION:
        return b""
    if kind != SIMPLE_PASSWORD:
        message = f"its authentication is of type {kind}; lvsd knows none (0) and a password (1)"
        raise PacketError(message)
    return authentication.rstrip(b"\0")


def _verify(version: int, payload: bytes, source: Address, destination: Address) -> bool:
    """Return whether the checksum covers the IP addresses; raise PacketError where it is wrong either way."""
    alone = _sum(payload) == _ALL_ONES
    with_header = _sum(_pseudo_header(source, destination, len(payload)) + payload) == _ALL_ONES
    if version == _V2 and alone:
        return False
    if version == _V3 and with_header:
        return True
    if version == _V3 and source.version == _IPV4 and alone:
        return False
    message = "its checksum is wrong"
    raise PacketError(message)


def _covered(said: Advertisement, payload: bytes, destination: Address) -> bytes:
    """Return what the checksum is made of."""
    if said.version == _V2 or (said.source.version == _IPV4 and not said.covers_addresses):
        return payload
    return _pseudo_header(said.source, destination, len(payload)) + payload


_PSEUDO_HEADERS = {4: struct.Struct("!4s4sxBH"), 6: struct.Struct("!16s16sI3xB")}
_ALL_ONES = 0xFFFF


def _pseudo_header(source: Address, destination: Address, length: int) -> bytes:
    """Return what IPv6 (RFC 8200, 8.1) and, before RFC 9568, IPv4 put in front for the sum."""
    if source.version == _IPV4:
        return _PSEUDO_HEADERS[4].pack(source, destination, PROTOCOL, length)
    return _PSEUDO_HEADERS[6].pack(source, destination, length, PROTOCOL)


def _checksum(covered: bytes) -> int:
    return _sum(covered) ^ _ALL_ONES


def _sum(covered: bytes) -> int:
    """Return the one's complement sum (RFC 1071)."""
    if len(covered) % 2:
        covered += b"\0"
    total: int = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 16)
    return total
