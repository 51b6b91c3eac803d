"""Who holds a virtual address when, from the kernels' own notices: what a failover is measured by."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lvsd.lab import links

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterable, Iterator

    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds


@dataclass(frozen=True, slots=True)
class Held:
    """Who held the address from a moment (monotonic) on."""

    at: Seconds
    by: frozenset[str]


class Holders:
    """Follows which of some hosts have an address; its moments are within a few ms."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.history: list[Held] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, address: str, machines: Iterable[Machine]) -> AsyncIterator[Self]:
        """Follow an address on these hosts while the `async with` block runs."""
        holders = cls(address)
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            by = set()
            for machine in machines:
                link = stack.enter_context(await machine.do(links.open_notices))
                if await machine.has_address(address):
                    by.add(machine.name)
                loop.add_reader(link, holders.read, machine.name, link)
                stack.callback(loop.remove_reader, link)
            holders.history.append(Held(time.monotonic(), frozenset(by)))
            yield holders

    @property
    def now(self) -> frozenset[str]:
        """The names of the hosts that have the address now."""
        return self.history[-1].by

    def read(self, name: str, link: socket.socket) -> None:
        """Take in what a host's kernel has told."""
        at = time.monotonic()
        for has_come, address in links.read_notices(link):
            if address.partition("/")[0] == self.address:
                by = self.now | {name} if has_come else self.now - {name}
                self.history.append(Held(at, by))

    async def become(self, *names: str, timeout: float = 30.0) -> Seconds:  # noqa: ASYNC109
        """Wait until these hosts, and no others, have the address; return since when they have.

        Raises TimeoutError with who had it when.
        """
        give_up_at = time.monotonic() + timeout
        while self.now != set(names):
            if time.monotonic() > give_up_at:
                message = (
                    f"{self.address} is not with {names or 'nobody'} after {timeout:g} s: {self.story()}"
                )
                raise TimeoutError(message)
            await asyncio.sleep(0.005)
        return self.history[-1].at

    def shared(self, begin: Seconds = 0.0, end: Seconds = math.inf) -> Seconds:
        """Return for how long two or more hosts had the address at once."""
        return sum(length for length, by in self._spells(begin, end) if len(by) > 1)

    def orphaned(self, begin: Seconds = 0.0, end: Seconds = math.inf) -> Seconds:
        """Return for how long nobody had it."""
        return sum(length for length, by in self._spells(begin, end) if not by)

    def story(self, begin: Seconds = 0.0) -> str:
        """Return who had it from which moment on, for a failed test."""
        return ", ".join(
            f"{held.at - begin:.3f} {'+'.join(sorted(held.by)) or 'nobody'}" for held in self.history
        )

    def _spells(self, begin: Seconds, end: Seconds) -> Iterator[tuple[Seconds, frozenset[str]]]:
        """Yield how long who had it, between two moments."""
        moments = [held.at for held in self.history[1:]] + [time.monotonic()]
        for held, until in zip(self.history, moments, strict=True):
            yield max(0.0, min(until, end) - max(held.at, begin)), held.by


async def owners(machines: Iterable[Machine], address: str) -> set[str]:
    """Return the names of the hosts that have the address now."""
    return {machine.name for machine in machines if await machine.has_address(address)}
