"""What a check expects to read: the search for it, and what is said when it is not there."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from lvsd.edge.probes.connection import Connection
    from lvsd.health.telnet import Telnet

ANSWER_LIMIT = 65536
"""How many bytes of an answer are read in search of what is expected."""

compiled = lru_cache(4096)(re.compile)
"""A regular expression, compiled once; the module's own cache is for a few hundred."""

_SHOWN = 80
_ARTICLES = {"answer": "an", "banner": "a"}


async def read(expect: str, noun: str, connection: Connection, telnet: Telnet | None = None) -> Outcome:
    """Read from a connection until `expect` is found; where `telnet` is given, speak it."""
    connection.doing = f"waiting for the {noun}"
    pattern = compiled(expect)
    text = ""
    received = 0
    while received < ANSWER_LIMIT:
        content = await connection.receive()
        if not content:
            return Outcome.failed(
                missed(noun, expect) if text else f"closed without {_ARTICLES[noun]} {noun}"
            )
        received += len(content)
        if telnet is None:
            text += content.decode("latin-1")
        else:
            heard = telnet.hear(content)
            await connection.send(heard.replies)
            text += heard.text
        if not text:
            continue
        if pattern.search(text):
            return Outcome.passed(f"{noun} matches")
        connection.doing = f"waiting for {shown(expect)} in the {noun}"
    return Outcome.failed(beyond(expect, ANSWER_LIMIT))


def missed(noun: str, expect: str) -> str:
    """Return what is said of a whole text without a match."""
    return f"{noun} does not match {shown(expect)}"


def beyond(expect: str, limit: int) -> str:
    """Return what is said when `limit` bytes have been read without a match."""
    return f"no match for {shown(expect)} in the first {limit} bytes"


def shown(expect: str) -> str:
    """Return a regular expression as it stands in a reason, cut where it is long."""
    return repr(expect if len(expect) <= _SHOWN else f"{expect[:_SHOWN]}...")
