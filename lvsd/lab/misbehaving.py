"""A server that answers as it is told to: every way in which a real server can fail a client or a probe."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from lvsd.lab.machine import Machine


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP answer: a good one, one with another status, or with another body."""

    body: str = "ok\n"
    status: int = 200


@dataclass(frozen=True, slots=True)
class SlowPage:
    """A good HTTP answer whose body comes one byte every `pause` seconds."""

    body: str = "ok\n"
    pause: float = 0.5


@dataclass(frozen=True, slots=True)
class EndlessPage:
    """An HTTP answer whose body never ends."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """A text that is sent at once, then whatever comes is read and not answered: telnet's banner."""

    text: str = "login: "


@dataclass(frozen=True, slots=True)
class Echo:
    """Whatever comes is sent back."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The connection is accepted and nothing is ever said: a stuck web server, a telnet without a banner."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is accepted and reset."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is accepted and closed in order, with nothing said."""


Behaviour = Page | SlowPage | EndlessPage | Greeting | Echo | Refuse | Hang | Reset | Close


class MisbehavingServer:
    """Listens on all addresses of a host, IPv4 and IPv6, from within this process.

    `accepted` counts connections. Connections that are open keep their behaviour when it changes.
    """

    def __init__(self, machine: Machine, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._machine = machine
        self._behaviour: Behaviour = Refuse()
        self._listening: socket.socket | None = None
        self._turning = asyncio.Lock()
        self._flapping: asyncio.Task[None] | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def behave(self, behaviour: Behaviour) -> None:
        """Answer new connections so from now on; ends `flap`."""
        await _cancel(self._flapping)
        self._flapping = None
        await self._turn(behaviour)

    async def flap(self, one: Behaviour, other: Behaviour, period: float) -> None:
        """Change between two behaviours every `period` seconds, until told otherwise."""
        await self.behave(one)
        self._flapping = asyncio.create_task(self._flap(one, other, period))

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await self.behave(Refuse())
        for task in tuple(self._conversations):
            await _cancel(task)

    async def _flap(self, one: Behaviour, other: Behaviour, period: float) -> None:
        while True:
            for behaviour in (other, one):
                await asyncio.sleep(period)
                await asyncio.shield(self._turn(behaviour))  # a half-made listener would be lost

    async def _turn(self, behaviour: Behaviour) -> None:
        async with self._turning:
            await self._become(behaviour)

    async def _become(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        loop = asyncio.get_running_loop()
        if isinstance(behaviour, Refuse):
            if self._listening is not None:
                loop.remove_reader(self._listening)
                self._listening.close()
                self._listening = None
        elif self._listening is None:
            self._listening = await self._machine.do(_listen, self.port)
            loop.add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            link, _ = listening.accept()
        except BlockingIOError:  # whoever knocked is gone
            return
        link.settimeout(0)
        self.accepted += 1
        task = asyncio.create_task(self._converse(link))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        task.add_done_callback(lambda _: link.close())  # one cancelled at once never began

    async def _converse(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            await _answer(link, self._behaviour)


async def _answer(link: socket.socket, behaviour: Behaviour) -> None:
    loop = asyncio.get_running_loop()
    match behaviour:
        case Page() | SlowPage() | EndlessPage():
            await _read_question(link)
            await _answer_http(link, behaviour)
        case Greeting(text):
            await loop.sock_sendall(link, text.encode())
            await _swallow(link)
        case Echo():
            while received := await loop.sock_recv(link, 65536):
                await loop.sock_sendall(link, received)
        case Hang():
            await _swallow(link)
        case Reset():
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        case Close() | Refuse():
            link.shutdown(socket.SHUT_WR)
            await _swallow(link)  # what is closed with something unread is reset
        case _:
            assert_never(behaviour)


async def _answer_http(link: socket.socket, page: Page | SlowPage | EndlessPage) -> None:
    loop = asyncio.get_running_loop()
    match page:
        case Page(body, status):
            await loop.sock_sendall(link, _head(len(body.encode()), status) + body.encode())
        case SlowPage(body, pause):
            await loop.sock_sendall(link, _head(len(body.encode())))
            for letter in body:
                await asyncio.sleep(pause)
                await loop.sock_sendall(link, letter.encode())
        case EndlessPage():
            await loop.sock_sendall(link, _head(None))
            while True:
                await loop.sock_sendall(link, b"x" * 4096)
                await asyncio.sleep(0.01)
        case _:
            assert_never(page)


def _head(length: int | None, status: int = 200) -> bytes:
    lines = [f"HTTP/1.1 {status} As Told", "Connection: close"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


async def _read_question(link: socket.socket) -> None:
    received = b""
    while b"\r\n\r\n" not in received:
        more = await asyncio.get_running_loop().sock_recv(link, 65536)
        if not more:
            raise ConnectionAbortedError
        received += more


async def _swallow(link: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(link, 65536):
        pass


def _listen(port: int) -> socket.socket:
    listening = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    listening.settimeout(0)
    return listening


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
