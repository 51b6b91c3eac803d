"""Requests to the kernel's routing netlink that are answered before they return (rtnetlink(7)).

What pyroute2 does of it takes turns of the event loop, in which the master of a VIP would neither hold it nor
say so. Here a takeover is one step: the kernel works while it is being asked.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/netlink.h, linux/rtnetlink.h
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
_ATTRIBUTE_KIND = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_NAME_SIZE: Final = 16
_IFREQ = struct.Struct(f"={_NAME_SIZE}si20x")  # struct ifreq of linux/if.h
_SIOCGIFNAME, _SIOCGIFINDEX = 0x8910, 0x8933  # linux/sockios.h
_RECEIVE: Final = 1 << 17


class Rtnetlink:
    """A socket for requests to the network namespace that it was made in; raises what the kernel says."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def interface_name(self, index: int) -> str:
        """Return an interface's name, empty where there is none, and take no descriptor for it."""
        return self._interface(_SIOCGIFNAME, _IFREQ.pack(b"", index))[:_NAME_SIZE].rstrip(b"\0").decode()

    def interface_index(self, name: str) -> int:
        """Return an interface's number, 0 where there is none."""
        told = self._interface(_SIOCGIFINDEX, _IFREQ.pack(name.encode()[: _NAME_SIZE - 1], 0))
        return int(_IFREQ.unpack(told)[1]) if told else 0

    def _interface(self, request: int, about: bytes) -> bytes:
        try:
            return fcntl.ioctl(self._socket, request, about)
        except OSError:
            return b""

    def do(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Have one request carried out."""
        for _ in self._answers(kind, body, flags | NLM_F_ACK):
            pass

    def ask(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of what the kernel answers to one request."""
        return list(self._answers(kind, body, NLM_F_ACK))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return the bodies of what the kernel has of one kind."""
        return list(self._answers(kind, body, NLM_F_DUMP))

    def _answers(self, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            for answer, sequence, content in messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return
                if answer == NLMSG_ERROR:
                    _raise_for(-_ERROR.unpack_from(content)[0])
                    return
                yield content


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(body: bytes, begin: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and payload of each attribute in `body` from `begin` on."""
    while begin + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, begin)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _ATTRIBUTE_KIND, body[begin + _ATTRIBUTE.size : begin + length]
        begin += length + -length % 4


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, sequence number and body of each message."""
    begin = 0
    while begin + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, begin)
        yield kind, sequence, data[begin + _HEADER.size : begin + length]
        begin += length + -length % 4


def _raise_for(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))
