"""Waiting for a state, with a limit that holds on a slow lab."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], timeout: float = 60.0) -> None:  # noqa: ASYNC109
    """Return as soon as `holds` does; raise TimeoutError when it does not in time."""
    async with asyncio.timeout(timeout):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
