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
    and keepalived have it; RFC 9568, 5.2.8 has none. It is always true of IPv6, never of version 2.
    `interval` is a whole number of centiseconds up to 40.95 s, in version 2 of seconds up to 255 s.
    `password` is version 2's: up to 8 bytes, of which the last is not zero.
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
    summed_up = checksum(_covered(said, payload, destination))
    return payload[:_CHECKSUM_AT] + summed_up.to_bytes(2) + payload[_CHECKSUM_AT + 2 :]


def decode(payload: bytes, source: Address, destination: Address) -> Advertisement:
    """Return the advertisement in `payload`; raise PacketError with what is wrong with it.

    What is checked is what RFC 9568, 7.1 (with erratum 8301) and RFC 3768, 7.1 ask for, in their order, but
    the hop limit, which is not in it, and what depends on the instance: its VRID, version, password, interval
    and addresses. That IPv6 puts a link-local address first (RFC 9568, 5.2.9) is not asked for, since
    keepalived need not.
    """
    if len(payload) < _HEADER.size:
        message = f"it has {len(payload)} bytes, less than the {_HEADER.size} of a header"
        raise PacketError(message)
    first, vrid, priority, count, rest, _ = _HEADER.unpack_from(payload)
    version = _version(first, source)
    end = _HEADER.size + count * len(source)
    payload = _complete(payload, end + PASSWORD_LENGTH if version == _V2 else end, count)
    covers_addresses = _verify(version, payload, source, destination)
    return Advertisement(
        version=version,
        vrid=_nonzero(vrid, "virtual router id"),
        priority=priority,
        interval=_interval(version, rest),
        addresses=_addresses(payload[_HEADER.size : end], _nonzero(count, "number of addresses")),
        source=source,
        password=_password(rest >> 8, payload[end:]) if version == _V2 else b"",
        covers_addresses=covers_addresses,
    )


def pseudo_header(source: Address, destination: Address, length: int, protocol: int) -> bytes:
    """Return what IPv6 (RFC 8200, 8.1) and, before RFC 9568, IPv4 put in front for the checksum."""
    if source.version == _IPV4:
        return _PSEUDO_HEADERS[4].pack(source, destination, protocol, length)
    return _PSEUDO_HEADERS[6].pack(source, destination, length, protocol)


def checksum(covered: bytes) -> int:
    """Return what is put into a packet so that its one's complement sum is all ones (RFC 1071)."""
    return _sum(covered) ^ _ALL_ONES


def _version(first: int, source: Address) -> int:
    """Return the version in the first byte of an advertisement."""
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
    return version


def _complete(payload: bytes, length: int, count: int) -> bytes:
    """Return the packet without what follows it, which is nobody's."""
    if len(payload) < length:
        message = f"it has {len(payload)} bytes, but with {count} addresses it takes {length}"
        raise PacketError(message)
    return payload[:length]


def _nonzero(value: int, what: str) -> int:
    if value == 0:
        message = f"its {what} is 0"
        raise PacketError(message)
    return value


def _interval(version: int, rest: int) -> Seconds:
    """Return the interval; the four bits before version 3's are reserved (RFC 9568, 5.2.6)."""
    if version == _V2:
        return float(_nonzero(rest & 0xFF, "interval"))
    return round(_nonzero(rest & 0xFFF, "interval") * _CENTISECOND, 2)


def _addresses(packed: bytes, count: int) -> tuple[Address, ...]:
    length = len(packed) // count
    return tuple(Address(packed[at : at + length]) for at in range(0, len(packed), length))


def _password(kind: int, authentication: bytes) -> bytes:
    if kind == NO_AUTHENTICATION:
        return b""
    if kind != SIMPLE_PASSWORD:
        message = f"its authentication is of type {kind}; lvsd knows none (0) and a password (1)"
        raise PacketError(message)
    if not (password := authentication.rstrip(b"\0")):
        message = "its password is empty"
        raise PacketError(message)
    return password


def _verify(version: int, payload: bytes, source: Address, destination: Address) -> bool:
    """Return whether the checksum covers the IP addresses; raise PacketError where it is wrong either way."""
    alone = _sum(payload) == _ALL_ONES
    header = pseudo_header(source, destination, len(payload), PROTOCOL)
    with_header = _sum(header + payload) == _ALL_ONES
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
    return pseudo_header(said.source, destination, len(payload), PROTOCOL) + payload


_PSEUDO_HEADERS = {4: struct.Struct("!4s4sxBH"), 6: struct.Struct("!16s16sI3xB")}
_ALL_ONES = 0xFFFF


def _sum(covered: bytes) -> int:
    if len(covered) % 2:
        covered += b"\0"
    total: int = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 16)
    return total
