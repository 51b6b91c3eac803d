"""The director's hands on the kernel's table: programs what it decides, reads the table again and again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lvsd.errors import KernelError
from lvsd.model import Instant

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.director import Director
    from lvsd.edge.ipvs import Ipvs
    from lvsd.effects import Effect
    from lvsd.ipvs.change import Change
    from lvsd.model import Seconds

SOON: Final[Seconds] = 0.2
"""The least time between two readings, however many are asked for."""


class TableKeeper:
    """Carries the director's changes to the kernel and the kernel's table to the director."""

    def __init__(
        self,
        director: Director,
        ipvs: Ipvs,
        feed: Callable[[Callable[[Instant], list[Effect]]], None],
        failed: Callable[[KernelError], None],
    ) -> None:
        self._director = director
        self._ipvs = ipvs
        self._feed = feed
        self._failed = failed
        self._wanted = asyncio.Event()
        self._answer = asyncio.Event()

    def want_reading(self) -> None:
        """Ask for the table to be read soon."""
        self._wanted.set()

    async def program(self, changes: tuple[Change, ...]) -> None:
        """Program `changes` and tell the director what came of them."""
        try:
            refused = await self._ipvs.program(changes)
        except KernelError as error:
            reasons: dict[int, str] | None = dict.fromkeys(range(len(changes)), str(error))
        else:
            unknown = any(refusal.unknown for refusal in refused.values())
            reasons = None if unknown else {i: refusal.reason for i, refusal in refused.items()}
        self._feed(lambda now: self._director.programmed(reasons, now))
        self._answer.set()

    async def answered(self) -> None:
        """Wait until changes have been programmed."""
        self._answer.clear()
        await self._answer.wait()

    async def read(self) -> None:
        """Read the table once, for the director.

        It hears of a table that is as at the last reading, too: its own changes in between may be undone.
        """
        self._director.begin_reading()
        table = await self._ipvs.read()
        for effects in self._director.read(table, Instant(time.monotonic(), time.time())):
            self._feed(lambda _, effects=effects: effects)  # type: ignore[misc]
            await asyncio.sleep(0)

    async def run(self, interval: Callable[[], Seconds]) -> None:
        """Read the table every `interval()` seconds, and soon after it was asked for."""
        began = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval()):
                    await self._wanted.wait()
            await asyncio.sleep(max(0.0, began + SOON - time.monotonic()))
            self._wanted.clear()
            began = time.monotonic()
            try:
                await self.read()
            except KernelError as error:
                self._failed(error)
