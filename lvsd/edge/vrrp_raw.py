"""Raw sockets of the VRRP protocol (RFC 9568, 5.1): what it takes to open one, and to send from an address.

It imports little: an advertisement may have to be sent before the rest of lvsd is there.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, TypeAlias

from lvsd.vrrp.packet import GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL

if TYPE_CHECKING:
    from lvsd.model import Address

PKTINFO_V6 = struct.Struct("16sI")
"""struct in6_pktinfo of linux/ipv6.h: source or destination, interface."""

_Option: TypeAlias = tuple[int, int, int | bytes]

# What Python 3.11 has no names for: linux/in.h and linux/in6.h.
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

_PKTINFO = struct.Struct("i4s4s")  # struct in_pktinfo of linux/in.h: interface, source, destination
_MREQN = struct.Struct("4s4si")  # struct ip_mreqn of linux/in.h: group, address, interface
_MREQ_V6 = struct.Struct("16sI")  # struct ipv6_mreq of linux/in6.h: group, interface
_ROOM_WAITING = 1 << 20
INTERNETWORK_CONTROL = 0xC0
"""What routers say to each other goes first: class selector 6 (RFC 4594, 3.1)."""
_PRIORITY = 6
"""TC_PRIO_INTERACTIVE of linux/pkt_sched.h: the first band of the queues, and the most without a right."""
_JOINS = (socket.IP_ADD_MEMBERSHIP, socket.IPV6_JOIN_GROUP)
_V4 = 4
_ANY_V4 = bytes(4)


def open_socket(interface: str, version: int, *, hears: bool = True) -> socket.socket:
    """Return a socket of IPv4 or IPv6 (`version`), for `interface` alone; raise OSError.

    One that does not hear takes in next to nothing.
    """
    family = socket.AF_INET if version == _V4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    try:
        # First, so that nothing comes from elsewhere; it also says best that there is no such interface.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        index = socket.if_nametoindex(interface)
        for level, name, value in _options_v4(index) if version == _V4 else _options_v6(index):
            if hears or name not in _JOINS:
                opened.setsockopt(level, name, value)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM_WAITING if hears else 0)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)  # after IP_TOS, which sets it
    except OSError:
        opened.close()
        raise
    return opened


def send(
    opened: socket.socket, interface: int, payload: bytes, source: Address, destination: Address
) -> None:
    """Send from `source` on the interface of that number; raise OSError where it is no address of ours."""
    if source.version == _V4:
        sender = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(interface, source, _ANY_V4))
        opened.sendmsg([payload], [sender], 0, (str(destination), 0))
    else:
        sender = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PKTINFO_V6.pack(source, interface))
        opened.sendmsg([payload], [sender], 0, (str(destination), 0, 0, interface))


def _options_v4(index: int) -> list[_Option]:
    group = _MREQN.pack(GROUP_V4, _ANY_V4, index)
    options: list[tuple[int, int | bytes]] = [
        (socket.IP_ADD_MEMBERSHIP, group),
        (_IP_MULTICAST_ALL, 0),
        (socket.IP_MULTICAST_IF, group),
        (socket.IP_MULTICAST_TTL, HOP_LIMIT),
        (socket.IP_MULTICAST_LOOP, 0),
        (socket.IP_TTL, HOP_LIMIT),
        (socket.IP_TOS, INTERNETWORK_CONTROL),
    ]
    return [(socket.IPPROTO_IP, name, value) for name, value in options]


def _options_v6(index: int) -> list[_Option]:
    """Return what IPv6 needs; without IPV6_CHECKSUM the kernel leaves the checksum to us."""
    options: list[tuple[int, int | bytes]] = [
        (socket.IPV6_RECVPKTINFO, 1),
        (socket.IPV6_RECVHOPLIMIT, 1),
        (socket.IPV6_JOIN_GROUP, _MREQ_V6.pack(GROUP_V6, index)),
        (_IPV6_MULTICAST_ALL, 0),
        (socket.IPV6_MULTICAST_IF, index),
        (socket.IPV6_MULTICAST_HOPS, HOP_LIMIT),
        (socket.IPV6_MULTICAST_LOOP, 0),
        (socket.IPV6_UNICAST_HOPS, HOP_LIMIT),
        (socket.IPV6_TCLASS, INTERNETWORK_CONTROL),
    ]
    return [(socket.IPPROTO_IPV6, name, value) for name, value in options]
