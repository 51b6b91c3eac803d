"""Telnet sessions through the VIP that stay, and what a director's kernel knows of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lvsd.health.telnet import Telnet
from lvsd.lab.classic import VIP

if TYPE_CHECKING:
    import socket

    from lvsd.lab.machine import Machine


class TelnetSession:
    """A client's telnet session through the VIP, for as long as the block runs; `port` is the client's."""

    def __init__(self, link: socket.socket) -> None:
        self.port: int = link.getsockname()[1]
        self._link = link
        self._telnet = Telnet()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def begin(cls, client: Machine) -> Self:
        """Connect, and wait for the first prompt."""
        link = await client.socket()
        await asyncio.get_running_loop().sock_connect(link, (VIP, 23))
        session = cls(link)
        await session._prompt()
        return session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._link.close()

    async def type(self, text: str) -> None:
        """Send keystrokes."""
        await self._loop.sock_sendall(self._link, text.encode())

    async def answer(self) -> str:
        """Answer the prompt, and return the next one; raises ConnectionResetError or TimeoutError."""
        await self.type("nobody\r\n")
        return await self._prompt()

    async def _prompt(self) -> str:
        text = ""
        async with asyncio.timeout(20):
            while (found := re.search("Password:|login:", text)) is None:
                received = await self._loop.sock_recv(self._link, 4096)
                assert received, f"the session ended after {text!r}"
                heard = self._telnet.hear(received)
                await self._loop.sock_sendall(self._link, heard.replies)
                text += heard.text
        return found[0]


async def connections(director: Machine) -> dict[int, tuple[str, str]]:
    """Return a director's connections by the client's port: the real server and the state."""
    text = await director.do(Path("/proc/thread-self/net/ip_vs_conn").read_text)
    rows = [line.split() for line in text.splitlines()[1:]]
    return {int(row[2], 16): (row[5], row[7]) for row in rows}


async def has_connection(director: Machine, port: int) -> bool:
    _, state = (await connections(director)).get(port, ("", ""))
    return state == "ESTABLISHED"
