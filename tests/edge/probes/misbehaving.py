"""Real servers on loopback that behave as they are told to, and the checks that probe them."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from lvsd.config.model import HttpCheck, TcpCheck, TelnetCheck
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from typing import TypeAlias

    Behaviour: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPBACK = Address.parse("127.0.0.1")
SHORT = 0.3
"""The time-out of a probe that is to run into it."""

_EVERY = {"interval": 1.0, "fast_interval": 0.2, "timeout": 5.0, "rise": 1, "fall": 1}
_HTTP = {
    "path": "/",
    "method": "GET",
    "host": "",
    "headers": (),
    "status": ((200, 200),),
    "expect": "",
    "follow_redirects": False,
    "body_limit": 65536,
}


def tcp(**settings: Any) -> TcpCheck:  # noqa: ANN401
    return TcpCheck(**_EVERY | settings)


def telnet(**settings: Any) -> TelnetCheck:  # noqa: ANN401
    return TelnetCheck(**_EVERY | {"expect": "login:"} | settings)


def http(**settings: Any) -> HttpCheck:  # noqa: ANN401
    return HttpCheck(**_EVERY | _HTTP | settings)


@asynccontextmanager
async def serving(behaviour: Behaviour, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve every connection by `behaviour`, then close it; give the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await behaviour(reader, writer)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def refusing() -> Iterator[int]:
    """Hold a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """Hold a port where a connection is neither taken nor refused: its queue is full."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for client in (first, second):
            client.settimeout(0)
            client.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def close(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close at once."""


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection after the request, or at once where none comes."""
    with suppress(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    abort(writer)


def abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def saying(*pieces: bytes, after: bytes = b"", then: Behaviour = close) -> Behaviour:
    """Read up to `after`, say all pieces, each in a packet of its own, and go on with `then`."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if after:
            await reader.readuntil(after)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        await then(reader, writer)

    return behave


def answering(*pieces: bytes, then: Behaviour = close) -> Behaviour:
    """Answer a request for a page with `pieces` of HTTP."""
    return saying(*pieces, after=b"\r\n\r\n", then=then)


def ip(command: str) -> None:
    """Run ip(8)."""
    subprocess.run(["/sbin/ip", *command.split()], check=True)  # noqa: S603


def page(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP answer."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n" + body
