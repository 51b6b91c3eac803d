"""One probe's connection: its socket, what it is doing, and whose fault an error is."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import struct
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.model import Address

_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)

_CHUNK = 16384
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_IP_BIND_ADDRESS_NO_PORT = 24  # the socket module of Python 3.11 does not name it

_LOCAL_WORDS = {
    errno.ENFILE: "the host is out of file descriptors: raise fs.file-max",
    errno.ENOBUFS: "out of memory for sockets",
    errno.ENOMEM: "out of memory for sockets",
    errno.EADDRNOTAVAIL: "no local port is free: widen net.ipv4.ip_local_port_range",
    errno.EADDRINUSE: "no local port is free: widen net.ipv4.ip_local_port_range",
    errno.EAGAIN: "no local port is free: widen net.ipv4.ip_local_port_range",
    errno.EPERM: "the director's own rules forbid it",
    errno.EACCES: "the director's own rules forbid it",
    errno.ENETUNREACH: "the director has no route to it",
    errno.EHOSTUNREACH: "the director has no route to it",
    errno.ENETDOWN: "the director's network is down",
    errno.EAFNOSUPPORT: "the director has no IPv6",
}

_REMOTE_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "connection timed out",
    errno.EHOSTUNREACH: "no route to host",
    errno.EHOSTDOWN: "no route to host",
    errno.ENETUNREACH: "network unreachable",
}

_FROM_A_SERVER = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT})
"""What `connect` may return at once, over loopback, and yet was said by the server."""


class LocalFault(Exception):  # noqa: N818 - an outcome's name, and no error of lvsd's
    """The director itself could not make the probe; the text is what the operator reads."""


class Connection:
    """One probe's way to a real server.

    `doing` is kept current, for the words of a time-out; `excuse` says why one now would be the director's.
    """

    __slots__ = ("_bind", "_close", "_sock", "address", "doing", "excuse", "port")

    def __init__(self, address: Address, port: int, bind: Address | None) -> None:
        self.address = address
        self.port = port
        self.doing = "connecting"
        self.excuse = ""
        self._bind = bind
        self._sock: socket.socket
        self._close: Callable[[], None] | None = None

    async def connect(self) -> None:
        """Connect, or raise: LocalFault where the own kernel refuses, OSError where the network does.

        A connection that was open before is closed.
        """
        self.close()
        self.doing = "connecting"
        self._sock = _open(self.address)
        self._close = self._sock.close
        if self._bind is not None:
            _bind(self._sock, self._bind)
        code = self._sock.connect_ex((_text(self.address), self.port))
        if code == errno.EINPROGRESS:
            code = await _connected(self._sock)
        elif code and code not in _FROM_A_SERVER:
            # No packet left: the director's own routes, ports, memory or rules stand in the way.
            _blame_director(code)
        if code:
            raise OSError(code, os.strerror(code))

    async def send(self, content: bytes) -> None:
        """Send all of `content`."""
        await asyncio.get_running_loop().sock_sendall(self._sock, content)

    async def receive(self) -> bytes:
        """Return what comes next, or nothing once the server has closed; broken off, it loses nothing."""
        while True:
            try:
                return self._sock.recv(_CHUNK)
            except BlockingIOError:
                await _readable(self._sock)

    async def hand_over(self, factory: Callable[[], _Protocol]) -> _Protocol:
        """Return a protocol that reads and writes the connection from now on."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(factory, sock=self._sock)
        # asyncio's own 256 KiB are mapped and unmapped anew for each packet that is received.
        transport.max_size = _CHUNK  # type: ignore[attr-defined]
        self._close = transport.abort
        return protocol

    def close(self) -> None:
        """Close at once, whatever is unsent."""
        if self._close is not None:
            self._close()


def words(error: OSError) -> str:
    """Return what the operator reads of an error that came over the network."""
    code = error.errno or 0
    return _REMOTE_WORDS.get(code) or (error.strerror or str(error)).lower()


def descriptor_limit() -> int:
    """Return how many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _open(address: Address) -> socket.socket:
    """Return a socket whose closing sends a reset.

    That spares the director's ports: an orderly close holds each for a minute in TIME_WAIT.
    """
    try:
        sock = socket.socket(_family(address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        _blame_director(error.errno or 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return sock


def _bind(sock: socket.socket, address: Address) -> None:
    # The port is left to connect, which may use one for many servers at once; bind would use it up.
    sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind((_text(address), 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            message = f"the address {address} to probe from is not on this host"
            raise LocalFault(message) from error
        _blame_director(error.errno or 0)


async def _readable(sock: socket.socket) -> None:
    """Wait until there is something to receive."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    descriptor = sock.fileno()
    loop.add_reader(descriptor, _settle, readable)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


async def _connected(sock: socket.socket) -> int:
    """Wait until `sock` has connected or failed to; return 0 or the error's number."""
    loop = asyncio.get_running_loop()
    writable = loop.create_future()
    descriptor = sock.fileno()  # not the socket, whose repr asyncio would take each time, at 10 us
    loop.add_writer(descriptor, _settle, writable)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _settle(ready: asyncio.Future[None]) -> None:
    """Note that a socket is ready; it is so again, or given up, before who waits for it has its turn."""
    if not ready.done():
        ready.set_result(None)


def _blame_director(code: int) -> NoReturn:
    if code == errno.EMFILE:
        message = f"out of file descriptors ({descriptor_limit()}): raise LimitNOFILE="
    else:
        message = _LOCAL_WORDS.get(code) or os.strerror(code).lower()
    raise LocalFault(message)


def _text(address: Address) -> str:
    return socket.inet_ntop(_family(address), address)


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
