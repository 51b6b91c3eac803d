"""No expression and no answer delays the loop, and with it every other probe and advertisement."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from misbehaving import LOOPBACK, SHORT, answering, hang, http, page, saying, serving, tcp

from lvsd.edge.probes import expectation
from lvsd.edge.probes.connection import Connection
from lvsd.edge.probes.expectation import Searches
from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from misbehaving import Behaviour

    from lvsd.config.model import Check
    from lvsd.edge.probes import Probes
    from lvsd.model import Seconds

TICK: Seconds = 0.005

NESTED = "(a+)+$"
NEARLY = b"a" * 30 + b"!"
"""What makes a search for NESTED by backtracking take 2^30 steps."""

LARGE = "[ab]*a[ab]{900}c"
AIMED = random.Random(1).randbytes(60_000).translate(bytes(97 + (byte & 1) for byte in range(256)))  # noqa: S311
"""What makes RE2 take all its steps for each byte of a search for LARGE."""


@asynccontextmanager
async def ticking() -> AsyncIterator[list[Seconds]]:
    """Give the times by which a clock in the loop struck late."""
    clock, late = asyncio.get_running_loop().time, [0.0]
    over = asyncio.Event()

    async def tick() -> None:
        while not over.is_set():
            due_at = clock() + TICK
            await asyncio.sleep(TICK)
            late.append(clock() - due_at)

    ticks = asyncio.create_task(tick())
    yield late
    over.set()
    await ticks  # the one that is due counts too


@pytest.mark.parametrize(
    ("check", "behaviour", "reason"),
    [
        (http(expect=NESTED), answering(page(NEARLY)), f"body does not match '{NESTED}'"),
        (tcp(expect=NESTED), saying(NEARLY), f"answer does not match '{NESTED}'"),
    ],
)
async def test_no_answer_makes_a_search_endless(
    probes: Probes, check: Check, behaviour: Behaviour, reason: str
) -> None:
    async with serving(behaviour) as port:
        assert await probes.probe(check, LOOPBACK, port) == Outcome.failed(reason)


async def test_a_long_search_does_not_hold_the_loop_up(probes: Probes) -> None:
    check = http(expect=LARGE, timeout=60.0, body_limit=1024 * 1024)
    async with serving(answering(page(AIMED * 6))) as port, ticking() as late:
        began = time.monotonic()
        assert await probes.probe(check, LOOPBACK, port) == Outcome.failed(f"body does not match '{LARGE}'")
        took = time.monotonic() - began
    assert max(late) < took / 2  # in the loop, the search of the whole body would be nearly all of it


async def test_search_that_takes_longer_than_the_probe_may_is_the_directors_own(probes: Probes) -> None:
    async with serving(answering(page(AIMED * 3))) as port:
        outcome = await probes.probe(
            http(expect=LARGE, timeout=SHORT, body_limit=1024 * 1024), LOOPBACK, port
        )
    assert outcome == Outcome.local(
        "the director could not search the answer in time: simplify expect, or lower body_limit"
    )


class Slow:
    """An expression whose searches take some time, and are counted."""

    steps = 1

    def __init__(self, wanted: bytes) -> None:
        self.searches = 0
        self._wanted = wanted

    def found_in(self, text: bytes) -> bool:
        self.searches += 1
        time.sleep(0.005)
        return self._wanted in text


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    slow = Slow(b"end")
    monkeypatch.setattr(expectation, "compiled", lambda _: slow)
    return slow


CONNECTION = Connection(LOOPBACK, 0, None)


@pytest.mark.parametrize(("last", "found"), [(b"the end", True), (b"no more", False)])
async def test_answer_in_many_pieces_is_searched_a_few_times(slow: Slow, last: bytes, found: bool) -> None:  # noqa: FBT001
    pieces = iter([*[b"x"] * 2000, last, None])

    async def more() -> bytes | None:
        await asyncio.sleep(0)
        return next(pieces)

    assert await Searches().find("end", CONNECTION, more) is found
    assert slow.searches <= 10


async def test_last_piece_is_searched_though_no_other_ever_comes(slow: Slow) -> None:
    pieces = iter([b"begin", b"... ", b"end"])

    async def more() -> bytes | None:
        for piece in pieces:
            return piece
        await asyncio.Event().wait()
        return None

    async with asyncio.timeout(5):
        assert await Searches().find("end", CONNECTION, more)
    assert slow.searches == 2


async def test_letter_that_comes_in_two_pieces_is_found(probes: Probes) -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    whole = page("é".encode())
    assert whole.endswith(first + second)
    async with serving(answering(whole[:-1], second, then=hang)) as port:
        assert await probes.probe(http(expect="^é$"), LOOPBACK, port) == Outcome.passed("HTTP 200")
