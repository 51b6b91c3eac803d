"""What a check expects to read: the search for it, and what is said when it is not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lvsd.config.expressions import compiled
from lvsd.edge.aside import aside
from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lvsd.config.expressions import Expression
    from lvsd.edge.probes.connection import Connection
    from lvsd.health.telnet import Telnet
    from lvsd.model import Seconds

ANSWER_LIMIT: Final = 65536
"""How many bytes of an answer are read in search of what is expected."""

REST: Final = 20
"""How many times as long as a search took the next one waits, so that an answer in pieces costs little."""

BRIEF: Final = 1_000_000
"""Bytes times steps of the longest search in the event loop: 20 ms at the worst. More has a thread."""

_SHOWN = 80
_ARTICLES = {"answer": "an", "banner": "a"}
_TOO_MUCH = "the director could not search the answer in time: simplify expect, or lower body_limit"


class Searches:
    """Searches of what servers say; none of them delays the event loop, whatever the server chose to say."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def find(
        self, expect: str, connection: Connection, more: Callable[[], Awaitable[bytes | None]]
    ) -> bool:
        """Tell whether `expect` is found in what `more` brings, piece by piece, until that is None.

        `more` may be broken off while it waits. A search begins at the start of the text each time.
        """
        clock = asyncio.get_running_loop().time
        expression = compiled(expect)
        text = bytearray()
        searched, again_at = 0, 0.0
        while True:
            piece = await _until(again_at if len(text) > searched else None, more)
            text += piece or b""
            if len(text) > searched and (piece is None or clock() >= again_at):
                began_at = clock()
                if await self._search(expression, text, connection):
                    return True
                searched = len(text)
                ended_at = clock()
                again_at = ended_at + REST * (ended_at - began_at)
            if piece is None:
                return False

    async def _search(self, expression: Expression, text: bytearray, connection: Connection) -> bool:
        content = text.decode(errors="replace").encode()
        if len(content) * expression.steps <= BRIEF:
            return expression.found_in(content)
        connection.excuse = _TOO_MUCH
        found = await self._search_aside(lambda: expression.found_in(content))
        connection.excuse = ""
        return found

    async def _search_aside(self, search: Callable[[], bool]) -> bool:
        """Search in a thread, one at a time. It cannot be broken off, nor does it keep lvsd from stopping."""
        await self._turn.acquire()
        found = aside(search, "search")
        found.add_done_callback(lambda _: self._turn.release())
        return await asyncio.shield(found)


class _Answer:
    """What a server says on a connection, up to the limit; where `telnet` is given, it is spoken."""

    def __init__(self, noun: str, expect: str, connection: Connection, telnet: Telnet | None) -> None:
        self.received = 0
        self.has_text = False
        self._connection = connection
        self._telnet = telnet
        self._replies = b""
        self._waiting_for_more = f"waiting for {shown(expect)} in the {noun}"

    async def more(self) -> bytes | None:
        """Return the next text, None once the server has closed or the limit is reached."""
        if self.received >= ANSWER_LIMIT:
            return None
        if self._replies:
            replies, self._replies = self._replies, b""
            await self._connection.send(replies)
        content = await self._connection.receive()
        self.received += len(content)
        text = self._text(content)
        if text:
            self.has_text = True
            self._connection.doing = self._waiting_for_more
        return text.encode() if content else None

    def _text(self, content: bytes) -> str:
        if self._telnet is None:
            return content.decode("latin-1")
        heard = self._telnet.hear(content)
        self._replies = heard.replies
        return heard.text


async def read(
    expect: str, noun: str, connection: Connection, searches: Searches, telnet: Telnet | None = None
) -> Outcome:
    """Read from a connection until `expect` is found; where `telnet` is given, speak it."""
    connection.doing = f"waiting for the {noun}"
    answer = _Answer(noun, expect, connection, telnet)
    if await searches.find(expect, connection, answer.more):
        return Outcome.passed(f"{noun} matches")
    if answer.received >= ANSWER_LIMIT:
        return Outcome.failed(beyond(expect, ANSWER_LIMIT))
    return Outcome.failed(
        missed(noun, expect) if answer.has_text else f"closed without {_ARTICLES[noun]} {noun}"
    )


def missed(noun: str, expect: str) -> str:
    """Return what is said of a whole text without a match."""
    return f"{noun} does not match {shown(expect)}"


def beyond(expect: str, limit: int) -> str:
    """Return what is said when `limit` bytes have been read without a match."""
    return f"no match for {shown(expect)} in the first {limit} bytes"


def shown(expect: str) -> str:
    """Return a regular expression as it stands in a reason, cut where it is long."""
    return repr(expect if len(expect) <= _SHOWN else f"{expect[:_SHOWN]}...")


async def _until(moment: Seconds | None, more: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
    """Return the next piece, or an empty one where none has come by `moment`."""
    if moment is None:
        return await more()
    try:
        async with asyncio.timeout_at(moment):
            return await more()
    except TimeoutError:
        return b""
