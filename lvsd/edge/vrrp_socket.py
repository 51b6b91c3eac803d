"""Raw sockets for advertisements, each for one interface and one IP version (RFC 9568, 5.1)."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from lvsd.edge.vrrp_raw import INTERNETWORK_CONTROL, PKTINFO_V6, open_socket, send
from lvsd.model import Address
from lvsd.vrrp.neighbours import ETHERTYPE_IPV6, multicast_frame
from lvsd.vrrp.packet import PROTOCOL
from lvsd.vrrp.reception import Packet
from lvsd.vrrp.virtual_mac import virtual_mac

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
        self._socket = open_socket(interface, version)
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
        send(self._socket, self._index, payload, source, destination)

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
            destination, _ = PKTINFO_V6.unpack(fields[socket.IPV6_PKTINFO])
            (hop_limit,) = _INT.unpack(fields[socket.IPV6_HOPLIMIT])
        except (KeyError, struct.error):
            return None
        return Packet(self.interface, Address.parse(sender[0]), Address(destination), hop_limit, payload)


class VrrpVoice:
    """Sends to the group by the interface that has a VRID's MAC address, and hears nothing there.

    Raise OSError as VrrpSocket does. IPv6 lets nothing leave by an interface from a link-local address of
    another; so there the frame is ours.
    """

    def __init__(self, interface: str, vrid: int, version: int) -> None:
        self._interface = interface
        self._mac = bytes.fromhex(virtual_mac(vrid, version).replace(":", ""))
        self._index = socket.if_nametoindex(interface)
        if version == _V4:
            self._socket = open_socket(interface, version, hears=False)
        else:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)

    def send(self, payload: bytes, source: Address, group: Address) -> None:
        """Send to the group; raise OSError, over IPv4 also where `source` is no address of this host."""
        if source.version == _V4:
            send(self._socket, self._index, payload, source, group)
            return
        frame = multicast_frame(self._mac, source, group, PROTOCOL, payload, INTERNETWORK_CONTROL)
        self._socket.sendto(frame, (self._interface, ETHERTYPE_IPV6))

    def close(self) -> None:
        """Send no more."""
        self._socket.close()


_IPV4 = struct.Struct("!2sH4xB3x4s4s")
_INT = struct.Struct("i")

_V4 = 4
_SHORTEST_HEADER = 20
_ROOM = 1 << 13
"""More than the longest advertisement: 255 IPv6 addresses take 4 kB."""
_ROOM_TOLD = 256
