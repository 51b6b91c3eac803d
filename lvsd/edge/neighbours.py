"""Tells the hosts of a LAN where an address is now, and hears who else claims it (RFC 9568, 8.1.2, 8.2.2)."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Final

from lvsd.edge.aside import aside
from lvsd.edge.rtnetlink import NLM_F_CREATE, Rtnetlink, attribute, attributes
from lvsd.model import Address
from lvsd.vrrp.neighbours import (
    ALL_NODES,
    ETHERNET_ARP,
    NEIGHBOUR_ADVERTISEMENT,
    announcement,
    parse_advertisement,
    parse_arp,
    probe,
)
from lvsd.vrrp.packet import HOP_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from lvsd.vrrp.neighbours import Claim

AT_ONCE: Final = 100
"""How many frames are taken in before anything else is done."""

FILTERABLE: Final = 500
"""Up to how many IPv4 addresses the kernel spares us all other ARP: it has 20 kB for a socket's filter."""


class Announcer:
    """Announces addresses on any interface, by one socket that hears nothing. No right to it is an OSError.

    It is kept while lvsd runs: to close such a socket takes 12 ms, in which the loop would stand still.
    """

    def __init__(self) -> None:
        self._socket = _open_packets()

    def announce(self, interface: str, addresses: Iterable[Address]) -> None:
        """Send one gratuitous ARP or unsolicited neighbour advertisement for each address.

        Raise OSError at the first that cannot be sent. An interface without Ethernet has no need of them.
        """
        if (mac := _mac(self._socket, interface)) is None:
            return
        router = _forwards_v6(interface)
        for address in addresses:
            _send(self._socket, interface, announcement(address, mac, router=router))

    def close(self) -> None:
        """Announce no more."""
        self._socket.close()


def meet(interface: str, address: Address) -> None:
    """Have the kernel learn the hardware address of a neighbour, if it does not know it; raise OSError.

    It keeps what it has learnt, though it may be stale, and sends by that at once (neigh_add of
    net/core/neighbour.c with NTF_USE).
    """
    family = socket.AF_INET if address.version == _V4 else socket.AF_INET6
    where = _NDMSG.pack(family, socket.if_nametoindex(interface), 0, _NTF_USE, 0)
    with closing(Rtnetlink()) as kernel:
        kernel.do(_RTM_NEWNEIGH, where + attribute(_NDA_DST, address), NLM_F_CREATE)


class NeighbourWatch:
    """Calls `claimed` with address and MAC when a MAC other than the interface's claims a watched address.

    Nothing is watched until `watch`. Raise OSError without the right, or without such an interface; with that
    it ends, and one that has come back takes a new watch.
    """

    def __init__(self, interface: str, claimed: Callable[[Address, bytes], None]) -> None:
        self.interface = interface
        self._claimed = claimed
        self._watched: frozenset[Address] = frozenset()
        self._loop = asyncio.get_running_loop()
        self._arp = _open_packets()
        self._advertisements: socket.socket | None = None
        try:
            _let_through(self._arp, ())
            self._arp.bind((interface, ETHERNET_ARP))
        except OSError:
            self._arp.close()
            raise
        self._loop.add_reader(self._arp, self._hear_arp)

    def watch(self, addresses: Collection[Address]) -> None:
        """Watch these addresses and no others."""
        if (watched := frozenset(addresses)) != self._watched:
            _let_through(self._arp, [address for address in watched if address.version == _V4])
            self._watched = watched
        wanted = any(address.version != _V4 for address in watched)
        if wanted and self._advertisements is None:
            self._advertisements = _open_advertisements(self.interface)
            self._loop.add_reader(self._advertisements, self._hear_advertisements)
        elif not wanted:
            self._close_advertisements()

    def probe(self, address: Address) -> None:
        """Ask who has `address`, so that one who holds it in silence claims it; raise OSError."""
        if (mac := _mac(self._arp, self.interface)) is not None:
            sender = _primary(self._arp, self.interface)
            _send(self._arp, self.interface, probe(address, mac, sender if sender != address else None))

    def close(self) -> None:
        """Watch no more."""
        self._close_advertisements()
        self._loop.remove_reader(self._arp)
        aside(self._arp.close, "neighbours")  # it waits for all processors to look away: 12 ms

    def _close_advertisements(self) -> None:
        if self._advertisements is not None:
            self._loop.remove_reader(self._advertisements)
            self._advertisements.close()
            self._advertisements = None

    def _hear_arp(self) -> None:
        for _ in range(AT_ONCE):
            try:
                frame = self._arp.recv(_ROOM)
            except OSError:  # nothing is left, or the interface went down
                return
            self._judge(parse_arp(frame))

    def _hear_advertisements(self) -> None:
        for _ in range(AT_ONCE):
            if self._advertisements is None:
                return
            try:
                message, told, _, _ = self._advertisements.recvmsg(_ROOM, socket.CMSG_SPACE(_INT.size))
            except OSError:
                return
            # One that a router has passed on is forged (RFC 4861, 7.1.2).
            if told and _INT.unpack(told[0][2]) == (HOP_LIMIT,):
                self._judge(parse_advertisement(message))

    def _judge(self, claim: Claim | None) -> None:
        if claim is None or claim.address not in self._watched:
            return
        *_, own_mac = self._arp.getsockname()  # asked for each time, since it may be changed
        if claim.mac != own_mac:
            self._claimed(claim.address, claim.mac)


_V4 = 4
_ROOM = 2048
_INT = struct.Struct("i")
_MREQ_V6 = struct.Struct("16sI")  # struct ipv6_mreq of linux/in6.h: group, interface
_IFREQ = struct.Struct("16sH6s16x")  # struct ifreq of linux/if.h: name, kind, MAC address
_IFREQ_ADDRESS = struct.Struct("16sH2x4s16x")  # the same: name, family, IPv4 address

# What Python 3.11 has no names for: linux/sockios.h, if_arp.h, icmpv6.h and asm-generic/socket.h.
_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927
_ARPHRD_ETHER = 1
_ICMPV6_FILTER = 1

# linux/neighbour.h, linux/rtnetlink.h
_RTM_NEWNEIGH, _NDA_DST, _NTF_USE = 28, 1, 0x01
_NDMSG = struct.Struct("=B3xiHBB")

_SO_ATTACH_FILTER = 26

# linux/netconf.h: a message is an address family, and attributes that are numbers
_RTM_GETNETCONF = 82
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING = 1, 2
_NETCONF = struct.Struct("=B3x")
_NUMBER = struct.Struct("=i")

# Classic BPF, linux/filter.h: code, how far to jump if true and if false, value.
_INSTRUCTION = struct.Struct("HBBI")
_PROGRAM = struct.Struct("HP")  # struct sock_fprog: how many instructions, and where
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ARP_SENDER_AT = 28
_WHOLE, _NOTHING = 0xFFFFFFFF, 0


def _open_packets() -> socket.socket:
    """Return a socket for whole frames; it gets none until it is bound."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)


def _open_advertisements(interface: str) -> socket.socket:
    """Return a socket that hears the neighbour advertisements which come to the interface, and no other."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
    try:
        blocked = [0xFFFFFFFF] * 8
        blocked[NEIGHBOUR_ADVERTISEMENT // 32] ^= 1 << NEIGHBOUR_ADVERTISEMENT % 32
        opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("8I", *blocked))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        group = _MREQ_V6.pack(ALL_NODES, socket.if_nametoindex(interface))
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
    except OSError:
        opened.close()
        raise
    return opened


def _let_through(arp: socket.socket, senders: Collection[Address]) -> None:
    """Let nothing wake us but what comes from these addresses, however much ARP there is on the LAN."""
    program = [_INSTRUCTION.pack(_LOAD_WORD, 0, 0, _ARP_SENDER_AT)]
    for sender in senders:
        program.append(_INSTRUCTION.pack(_JUMP_IF_EQUAL, 0, 1, int.from_bytes(sender)))
        program.append(_INSTRUCTION.pack(_RETURN, 0, 0, _WHOLE))
    program.append(_INSTRUCTION.pack(_RETURN, 0, 0, _NOTHING))
    if len(senders) > FILTERABLE:
        program = [_INSTRUCTION.pack(_RETURN, 0, 0, _WHOLE)]
    instructions = ctypes.create_string_buffer(b"".join(program))
    where = _PROGRAM.pack(len(program), ctypes.addressof(instructions))
    arp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)


def _mac(packets: socket.socket, interface: str) -> bytes | None:
    """Return the interface's MAC address now, or None where it is no Ethernet; raise OSError without it."""
    request = _IFREQ.pack(interface.encode(), 0, b"")
    _, kind, mac = _IFREQ.unpack(fcntl.ioctl(packets, _SIOCGIFHWADDR, request))
    return mac if kind == _ARPHRD_ETHER else None


def _primary(packets: socket.socket, interface: str) -> Address | None:
    """Return the interface's first IPv4 address, or None."""
    request = _IFREQ_ADDRESS.pack(interface.encode(), socket.AF_INET, b"")
    try:
        answer = fcntl.ioctl(packets, _SIOCGIFADDR, request)
    except OSError:
        return None
    return Address(_IFREQ_ADDRESS.unpack(answer)[2])


def _forwards_v6(interface: str) -> bool:
    """Whether the host is a router on the interface. Netlink says so where a unit hides /proc/sys."""
    about = attribute(_NETCONFA_IFINDEX, _NUMBER.pack(socket.if_nametoindex(interface)))
    with closing(Rtnetlink()) as kernel:
        try:
            (answer,) = kernel.ask(_RTM_GETNETCONF, _NETCONF.pack(socket.AF_INET6) + about)
        except OSError:  # IPv6 is disabled
            return False
    told = dict(attributes(answer, _NETCONF.size))
    return any(told.get(_NETCONFA_FORWARDING, b""))


def _send(packets: socket.socket, interface: str, frame: bytes) -> None:
    ethertype = int.from_bytes(frame[12:14])
    packets.sendto(frame, (interface, ethertype))
