"""ARP and neighbour discovery on Ethernet: an address is announced, asked for and claimed.

Frames are built whole, Ethernet header included, so that they leave with the MAC address that they tell of.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from lvsd.model import IPV4_LENGTH, Address
from lvsd.vrrp.packet import HOP_LIMIT, checksum, pseudo_header

ETHERNET_ARP: Final = 0x0806
ETHERTYPE_IPV6: Final = 0x86DD
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
ALL_NODES: Final = Address.parse("ff02::1")


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that `address` is to be reached at their MAC address."""

    address: Address
    mac: bytes


def announcement(address: Address, mac: bytes, *, router: bool) -> bytes:
    """Return the frame that tells everybody that `address` is at `mac` now.

    For IPv4 it is a gratuitous ARP request, whose target link-layer address is set too (RFC 9568, 6.4.2 and
    8.1.2; RFC 5227, 2.3). For IPv6 it is an unsolicited neighbour advertisement that overrides what was known
    (RFC 9568, 6.4.2; RFC 4861, 4.4 and 7.2.6); `router` tells whether the host forwards IPv6.
    """
    if address.version == 4:  # noqa: PLR2004
        return _arp(mac, address, mac, address)
    flags = _OVERRIDE | _ROUTER if router else _OVERRIDE
    message = _DISCOVERY.pack(NEIGHBOUR_ADVERTISEMENT, 0, 0, flags, address) + _TARGET_OPTION.pack(
        _TARGET, 1, mac
    )
    return _icmp_v6(mac, address, ALL_NODES, message)


def probe(address: Address, mac: bytes, sender: Address | None = None) -> bytes:
    """Return the frame with which the host at `mac` asks who has `address`, without saying that it has it.

    For IPv4 it is an ARP request from `sender`, another address of the host, or without one an ARP probe
    (RFC 5227, 2.1.1). Linux answers a probe only by the interface that the address is on, a request by any.
    For IPv6 it is the neighbour solicitation of duplicate address detection (RFC 4862, 5.4.2).
    """
    if address.version == 4:  # noqa: PLR2004
        return _arp(mac, sender or _NONE_V4, bytes(_MAC_LENGTH), address)
    message = _DISCOVERY.pack(NEIGHBOUR_SOLICITATION, 0, 0, 0, address)
    return _icmp_v6(mac, _NONE_V6, Address(_SOLICITED_NODE + address[-3:]), message)


def parse_arp(frame: bytes) -> Claim | None:
    """Return what the sender of an ARP frame claims (RFC 5227, 2.4), or None where it claims nothing."""
    if len(frame) < _ARP.size:
        return None
    _, _, ethertype, *kinds, operation, mac, sender, _, _ = _ARP.unpack_from(frame)
    if ethertype != ETHERNET_ARP or kinds != _ETHERNET_AND_IPV4 or operation not in {_REQUEST, _REPLY}:
        return None
    return _claim(Address(sender), mac)


def parse_advertisement(message: bytes) -> Claim | None:
    """Return what a neighbour advertisement claims, or None where the ICMPv6 message is none or tells no MAC.

    The caller has seen to the checksum and the hop limit; the rest is checked by RFC 4861, 7.1.2.
    """
    if len(message) < _DISCOVERY.size:
        return None
    kind, code, _, _, target = _DISCOVERY.unpack_from(message)
    mac = _target_option(message[_DISCOVERY.size :])
    if kind != NEIGHBOUR_ADVERTISEMENT or code != 0 or target[0] == _MULTICAST or mac is None:
        return None
    return _claim(Address(target), mac)


def multicast_frame(  # noqa: PLR0913, PLR0917 - a header's fields
    mac: bytes, source: Address, group: Address, protocol: int, payload: bytes, traffic_class: int = 0
) -> bytes:
    """Return a frame from `mac` to an IPv6 multicast group, of hop limit 255 (RFC 8200, 3; RFC 2464, 7)."""
    ethernet = (_MULTICAST_MAC + group[-4:], mac, ETHERTYPE_IPV6)
    first = _VERSION_6 | traffic_class << 20
    header = (*ethernet, first, len(payload), protocol, HOP_LIMIT, source, group)
    return _ETHERNET_AND_IPV6.pack(*header) + payload


_MAC_LENGTH = 6
_BROADCAST = b"\xff" * _MAC_LENGTH
_NONE_V4, _NONE_V6 = Address(bytes(IPV4_LENGTH)), Address(bytes(16))
_SOLICITED_NODE = bytes.fromhex("ff02 0000 0000 0000 0000 0001 ff")
_MULTICAST = 0xFF
_MULTICAST_MAC = b"\x33\x33"

_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ETHERNET_AND_IPV4 = [1, 0x0800, _MAC_LENGTH, IPV4_LENGTH]
_REQUEST, _REPLY = 1, 2

_ETHERNET_AND_IPV6 = struct.Struct("!6s6sHIHBB16s16s")
_VERSION_6 = 6 << 28
_ICMP_V6 = 58
_DISCOVERY = struct.Struct("!BBHI16s")
_TARGET = 2
_TARGET_OPTION = struct.Struct("!BB6s")
_ROUTER, _OVERRIDE = 1 << 31, 1 << 29
_CHECKSUM_AT = 2


def _arp(mac: bytes, sender: Address, target_mac: bytes, target: Address) -> bytes:
    """Return a request to all."""
    said = (_REQUEST, mac, sender, target_mac, target)
    return _ARP.pack(_BROADCAST, mac, ETHERNET_ARP, *_ETHERNET_AND_IPV4, *said)


def _icmp_v6(mac: bytes, source: Address, group: Address, message: bytes) -> bytes:
    """Return the message to a multicast group, with the checksum put in."""
    summed_up = checksum(pseudo_header(source, group, len(message), _ICMP_V6) + message)
    whole = message[:_CHECKSUM_AT] + summed_up.to_bytes(2) + message[_CHECKSUM_AT + 2 :]
    return multicast_frame(mac, source, group, _ICMP_V6, whole)


def _target_option(options: bytes) -> bytes | None:
    """Return the target link-layer address, or None where there is none, or an option is malformed."""
    found = None
    while options:
        length = 8 * options[1] if len(options) > 1 else 0
        if not 0 < length <= len(options):
            return None
        if options[0] == _TARGET and length == _TARGET_OPTION.size:
            found = options[2:length]
        options = options[length:]
    return found


def _claim(address: Address, mac: bytes) -> Claim | None:
    return Claim(address, mac) if any(address) and any(mac) else None
