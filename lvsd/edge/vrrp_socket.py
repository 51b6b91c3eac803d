"""Raw sockets for advertisements, each for one interface and one IP version (RFC 9568, 5.1)."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, TypeAlias

from lvsd.failover import Packet
from lvsd.model import Address
from lvsd.vrrp.packet import GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE: Final = 1000
"""How many packets are taken in before anything else is done; a flood of them must not hold up a timer."""


class VrrpSocket:
    """Hears what comes to `interface` over IPv4 or IPv6 (`version`), by multicast and unicast.

    Raise OSError where there is no such interface, or no right to open raw sockets (CAP_NET_RAW). It ends
    with its interface: for one that has come back it takes a new one. `malformed` counts packets whose IP
    header makes no sense, of which nobody hears.
    """

    def __init__(self, interface: str, version: int, heard: Callable[[Packet], None]) -> None:
        self.interface = interface
        self.version = version
        self.malformed = 0
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._socket = _open(interface, version)
        self._index = socket.if_nametoindex(interface)
        self._take = self._take_v4 if version == _V4 else self._take_v6
        self._loop.add_reader(self._socket, self.drain)

    def drain(self) -> None:
        """Hear all that has come. Whoever acts on silence calls it first, so that the silence is real."""
        for _ in range(AT_ONCE):
            try:
                packet = self._take()
            except OSError:  # nothing is left, or something once went wrong with the interface; or closed
                return
            if packet is None:
                self.malformed += 1
            else:
                self._heard(packet)

    def send(self, payload: bytes, source: Address, destination: Address) -> None:
        """Send to the group or to a peer; raise OSError, also where `source` is no address of this host."""
        if self.version == _V4:
            sender = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(self._index, source, _ANY_V4))
            self._socket.sendmsg([payload], [sender], 0, (str(destination), 0))
        else:
            sender = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO_V6.pack(source, self._index))
            self._socket.sendmsg([payload], [sender], 0, (str(destination), 0, 0, self._index))

    def close(self) -> None:
        """Hear and send no more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _take_v4(self) -> Packet | None:
        """Return the next packet, which IPv4 delivers with its header, or None where that makes no sense."""
        datagram = self._socket.recv(_ROOM)
        if len(datagram) < _SHORTEST_HEADER:
            return None
        length = (datagram[0] & 0xF) * 4
        _, total, hop_limit, source, destination = _IPV4.unpack_from(datagram)
        if not _SHORTEST_HEADER <= length <= total <= len(datagram):
            return None
        payload = datagram[length:total]
        return Packet(self.interface, Address(source), Address(destination), hop_limit, payload)

    def _take_v6(self) -> Packet | None:
        """Return the next packet, whose header IPv6 keeps, or None where the kernel does not tell of it."""
        payload, told, _, sender = self._socket.recvmsg(_ROOM, _ROOM_TOLD)
        fields = {kind: value for level, kind, value in told if level == socket.IPPROTO_IPV6}
        try:
            destination, _ = _PKTINFO_V6.unpack(fields[socket.IPV6_PKTINFO])
            (hop_limit,) = _INT.unpack(fields[socket.IPV6_HOPLIMIT])
        except (KeyError, struct.error):
            return None
        return Packet(self.interface, Address.parse(sender[0]), Address(destination), hop_limit, payload)


_Option: TypeAlias = tuple[int, int, int | bytes]

# What Python 3.11 has no names for: linux/in.h and linux/in6.h.
_IP_PKTINFO = 8
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29

_PKTINFO = struct.Struct("i4s4s")  # struct in_pktinfo of linux/in.h: interface, source, destination
_PKTINFO_V6 = struct.Struct("16sI")  # struct in6_pktinfo of linux/ipv6.h: source or destination, interface
_MREQN = struct.Struct("4s4si")  # struct ip_mreqn of linux/in.h: group, address, interface
_MREQ_V6 = struct.Struct("16sI")  # struct ipv6_mreq of linux/in6.h: group, interface
_IPV4 = struct.Struct("!2sH4xB3x4s4s")
_INT = struct.Struct("i")

_V4 = 4
_SHORTEST_HEADER = 20
_ROOM = 1 << 13
"""More than the longest advertisement: 255 IPv6 addresses take 4 kB."""
_ROOM_TOLD = 256
_ROOM_WAITING = 1 << 20
_INTERNETWORK_CONTROL = 0xC0
"""What routers say to each other goes first: class selector 6 (RFC 4594, 3.1)."""
_PRIORITY = 6
"""TC_PRIO_INTERACTIVE of linux/pkt_sched.h: the first band of the queues, and the most without a right."""
_ANY_V4 = bytes(4)


def _open(interface: str, version: int) -> socket.socket:
    family = socket.AF_INET if version == _V4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    try:
        # First, so that nothing comes from elsewhere; it also says best that there is no such interface.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        index = socket.if_nametoindex(interface)
        for level, name, value in _options_v4(index) if version == _V4 else _options_v6(index):
            opened.setsockopt(level, name, value)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM_WAITING)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)  # after IP_TOS, which sets it
    except OSError:
        opened.close()
        raise
    return opened


def _options_v4(index: int) -> list[_Option]:
    group = _MREQN.pack(GROUP_V4, _ANY_V4, index)
    options: list[tuple[int, int | bytes]] = [
        (socket.IP_ADD_MEMBERSHIP, group),
        (_IP_MULTICAST_ALL, 0),
        (socket.IP_MULTICAST_IF, group),
        (socket.IP_MULTICAST_TTL, HOP_LIMIT),
        (socket.IP_MULTICAST_LOOP, 0),
        (socket.IP_TTL, HOP_LIMIT),
        (socket.IP_TOS, _INTERNETWORK_CONTROL),
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
        (socket.IPV6_TCLASS, _INTERNETWORK_CONTROL),
    ]
    return [(socket.IPPROTO_IPV6, name, value) for name, value in options]
