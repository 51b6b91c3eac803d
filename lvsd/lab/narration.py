"""A story told on the terminal while it happens, each step checked as it is told."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lvsd.lab.client import HttpClient

PATIENCE = 20.0

_numbers = count(1)


class DemoError(Exception):
    """A step did not come out as told."""


def say(title: str, *lines: str) -> None:
    """Begin the next step."""
    print(f"\n[{next(_numbers)}] {title}", flush=True)
    tell(*lines)


def tell(*lines: str) -> None:
    """Tell what happens in it."""
    for line in lines:
        print(f"    {line}", flush=True)


def check(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    """Raise DemoError unless it holds."""
    if not holds:
        raise DemoError(otherwise)


async def until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Wait until it holds; raise DemoError where it does not in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await holds():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        message = f"{otherwise} in {PATIENCE:.0f} s"
        raise DemoError(message) from None


async def answered(asking: HttpClient, more: int) -> None:
    """Wait until `more` requests have ended."""
    enough = len(asking.requests) + more

    async def asked() -> bool:
        return len(asking.requests) >= enough

    await until(asked, "the client's requests do not end")
