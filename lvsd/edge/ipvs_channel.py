"""What waits for the kernel: one socket for its IPVS table, and its listing. Used in a thread of its own."""

from __future__ import annotations

import errno
import os
import socket
from time import sleep
from typing import TYPE_CHECKING, Final

from pyroute2.netlink import NETLINK_GENERIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.model import Seconds

LISTING: Final = "/proc/thread-self/net/ip_vs"
"""/proc/net/ip_vs of this thread's network namespace, where netlink is opened too."""

_PIECES_BETWEEN_BREAKS: Final = 8
_BREAK: Final[Seconds] = 0.0001
_ROOM: Final = 1 << 20
_DATAGRAM: Final = 1 << 15
_PIECE: Final = 1 << 13
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10


class Channel:
    """What waits for the kernel, and is used in the thread only."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)  # refusals without the refused message
        self._listing = _open_listing()

    def close(self) -> None:
        """Close what was opened."""
        self._socket.close()
        if self._listing is not None:
            os.close(self._listing)

    def exchange(self, request: bytes) -> list[bytes]:
        """Send `request` and return the answers: the kernel has queued them by the time it is sent.

        A list comes in parts, each of which makes the kernel write the next. Where the kernel had no room for
        an answer, the last one is missing.
        """
        self._socket.sendall(request)
        return list(_with_breaks(self._receive()))

    def ask(self, requests: Iterable[bytes]) -> list[list[bytes]]:
        """Return the answers to each of `requests`."""
        return [self.exchange(request) for request in requests]

    def snapshot(self, request: bytes) -> tuple[list[bytes], list[bytes] | None]:
        """Return the answers to `request`, and the kernel's listing where it has one."""
        return self.exchange(request), self._list()

    def _receive(self) -> Iterator[bytes]:
        lost = False
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
            else:
                if not lost:
                    yield datagram

    def _list(self) -> list[bytes] | None:
        if self._listing is None:
            self._listing = _open_listing()
        if self._listing is None:
            return None
        try:
            return _read_from_start(self._listing)
        except OSError:  # the module is gone, and this listing with it
            os.close(self._listing)
            self._listing = None
            return None


def _open_listing() -> int | None:
    try:
        return os.open(LISTING, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read_from_start(descriptor: int) -> list[bytes]:
    """Return the pieces as the kernel hands them out; joining them would hold up the loop for long."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return list(_with_breaks(iter(lambda: os.read(descriptor, _PIECE), b"")))


def _with_breaks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Sleep between pieces: on a single CPU, the loop would wait for this thread's whole time slice."""
    for count, piece in enumerate(pieces, 1):
        if not count % _PIECES_BETWEEN_BREAKS:
            sleep(_BREAK)
        yield piece
