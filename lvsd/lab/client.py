"""Clients that run in this process on a host of the lab and record what became of every request."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.machine import Machine

LIMIT = 1 << 20
"""The most that is read of one answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """What became of one request: its body, or why there is none. Times are monotonic seconds."""

    started_at: float
    duration: float
    body: str | None
    error: str | None = None


class HttpClient:
    """Sends HTTP requests to one address, each on a new connection and so from a port of its own.

    `interval` is the time between two starts; a request never waits for the one before. It stops by itself
    after `count` requests. `requests` holds all that ended, in the order of their ends.
    """

    def __init__(  # noqa: PLR0913 - all have a default
        self,
        machine: Machine,
        address: str,
        *,
        port: int = 80,
        path: str = "/",
        interval: float = 0.1,
        timeout: float = 3.0,
        count: int = 10_000,
    ) -> None:
        self.requests: list[Request] = []
        self._machine = machine
        self._address = address
        self._port = port
        self._path = path
        self._interval = interval
        self._timeout = timeout
        self._count = count
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; `stop` ends it."""
        self._task = asyncio.create_task(self._send_all())

    async def finish(self) -> Self:
        """Wait until `count` requests have ended, and return the client with its record."""
        if self._task is not None:
            await self._task
        return self

    async def stop(self) -> Self:
        """Send no more, wait for the answers that are due, and return the client with its record."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        return self

    @property
    def failures(self) -> tuple[Request, ...]:
        """The requests that got no answer with status 200."""
        return tuple(request for request in self.requests if request.error is not None)

    def failures_between(self, begin: float, end: float) -> tuple[Request, ...]:
        """Return the failed requests that were started from `begin` to `end` (time.monotonic())."""
        return tuple(request for request in self.failures if begin <= request.started_at <= end)

    def outage(self, begin: float, end: float) -> float:
        """Return the longest time without an answer from `begin` to `end` (time.monotonic())."""
        answered = (each.started_at + each.duration for each in self.requests if each.error is None)
        moments = [begin, *sorted(at for at in answered if begin <= at <= end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def bodies(self) -> Counter[str]:
        """Return how often each body came: which server answered how many requests."""
        return Counter(request.body.strip() for request in self.requests if request.body is not None)

    def summary(self) -> str:
        """Return one line: how many requests, what they got, the slowest."""
        errors = Counter(request.error for request in self.failures)
        slowest = max((request.duration for request in self.requests), default=0.0)
        parts = [f"{count} x {what}" for what, count in [*self.bodies().items(), *errors.items()]]
        return f"{len(self.requests)} requests: {', '.join(parts) or 'none'}; slowest {slowest * 1000:.0f} ms"

    async def fetch(self) -> str:
        """Send one request and return the body; raises OSError, TimeoutError or ValueError."""
        async with asyncio.timeout(self._timeout):
            return await self._exchange()

    async def _send_all(self) -> None:
        pending: set[asyncio.Task[None]] = set()
        begun_at = asyncio.get_running_loop().time()
        try:
            for number in range(self._count):
                task = asyncio.create_task(self._record())
                pending.add(task)
                task.add_done_callback(pending.discard)
                due_at = begun_at + (number + 1) * self._interval
                await asyncio.sleep(due_at - asyncio.get_running_loop().time())
        finally:
            await asyncio.gather(*pending)

    async def _record(self) -> None:
        started_at = time.monotonic()
        body = error = None
        try:
            body = await self.fetch()
        except (OSError, TimeoutError, ValueError) as failure:
            error = _reason(failure)
        self.requests.append(Request(started_at, time.monotonic() - started_at, body, error))

    async def _exchange(self) -> str:
        question = f"GET {self._path} HTTP/1.1\r\nHost: {self._address}\r\nConnection: close\r\n\r\n"
        async with _connection(self._machine, self._address, self._port) as link:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(link, question.encode())
            answer = await _read(link, LIMIT)
        return _body(answer)


class Session:
    """A connection that stays open: `exchange` shows whether it still lives."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    @classmethod
    async def open(cls, machine: Machine, address: str, port: int, *, timeout: float = 5.0) -> Self:  # noqa: ASYNC109
        """Connect; raises OSError or TimeoutError."""
        async with asyncio.timeout(timeout):
            return cls(await _connect(machine, address, port))

    async def exchange(self, text: str, timeout: float = 5.0) -> str:  # noqa: ASYNC109
        """Send a line to an echoing server and return what comes back."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            await loop.sock_sendall(self._link, text.encode())
            return (await loop.sock_recv(self._link, 65536)).decode(errors="replace")

    async def receive(self, timeout: float = 5.0) -> str:  # noqa: ASYNC109
        """Return what comes next; empty at the connection's end."""
        async with asyncio.timeout(timeout):
            received = await asyncio.get_running_loop().sock_recv(self._link, 65536)
            return received.decode(errors="replace")

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def telnet_banner(
    machine: Machine,
    address: str,
    port: int,
    *,
    expect: str,
    timeout: float,  # noqa: ASYNC109
) -> str:
    """Refuse every telnet option that is offered or asked for; return the text up to `expect`.

    Raises OSError, TimeoutError, or ValueError when the server ends the session before.
    """
    loop = asyncio.get_running_loop()
    received = b""
    answered = 0
    async with asyncio.timeout(timeout), _connection(machine, address, port) as link:
        while expect.encode() not in (text := _TELNET_COMMAND.sub(b"", received)):
            more = await loop.sock_recv(link, 4096)
            if not more:
                message = f"the session ended after {text.decode(errors='replace')!r}"
                raise ValueError(message)
            received += more
            asked = [match.group() for match in _TELNET_OPTION.finditer(received)]
            await loop.sock_sendall(link, b"".join(map(_refusal, asked[answered:])))
            answered = len(asked)
    banner = text.decode(errors="replace").replace("\r", "").replace("\0", "")
    return banner[: banner.index(expect) + len(expect)]


_WILL, _WONT, _DO, _DONT = 251, 252, 253, 254
_TELNET_OPTION = re.compile(rb"\xff[\xfb-\xfe].", re.DOTALL)
_TELNET_COMMAND = re.compile(rb"\xff(?:[\xfb-\xfe].|\xfa.*?\xff\xf0|[\xf1-\xf9])", re.DOTALL)


def _refusal(option: bytes) -> bytes:
    """Return the answer that refuses what `option` offers or asks; a refusal itself needs none."""
    answer = {_WILL: _DONT, _DO: _WONT}.get(option[1])
    return b"" if answer is None else bytes((option[0], answer, option[2]))


async def _connect(machine: Machine, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET  # noqa: PLR2004
    link = await machine.socket(family)
    try:
        await asyncio.get_running_loop().sock_connect(link, (address, port))
    except BaseException:
        link.close()
        raise
    return link


@contextlib.asynccontextmanager
async def _connection(machine: Machine, address: str, port: int) -> AsyncIterator[socket.socket]:
    link = await _connect(machine, address, port)
    with link:
        yield link


async def _read(link: socket.socket, limit: int) -> bytes:
    """Return all that comes until the other side closes, and no more than `limit`."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < limit and (more := await loop.sock_recv(link, 65536)):
        received += more
    return bytes(received)


def _body(answer: bytes) -> str:
    """Return the body of an HTTP answer; raises ValueError unless it is whole and its status 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if status is None:
        message = "no HTTP answer"
    elif status[1] != b"200":
        message = f"HTTP {status[1].decode()}"
    elif length is not None and len(body) < int(length[1]):
        message = "answer cut short"
    else:
        return body.decode(errors="replace")
    raise ValueError(message)


def _reason(failure: Exception) -> str:
    if isinstance(failure, TimeoutError) and not failure.args:
        return "timed out"
    if isinstance(failure, OSError) and failure.errno:
        return os.strerror(failure.errno).lower()
    return str(failure)
