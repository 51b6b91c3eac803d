"""Probes: one attempt at a real server each, on real sockets."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, assert_never

from lvsd.config.model import HttpCheck, TcpCheck, TelnetCheck
from lvsd.edge.probes import tcp, telnet
from lvsd.edge.probes.connection import Connection, LocalFault, descriptor_limit, words
from lvsd.edge.probes.expectation import Searches
from lvsd.edge.probes.limits import Limits
from lvsd.health.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from lvsd.config.model import Check
    from lvsd.edge.probes.http import Session
    from lvsd.model import Address, Seconds

Impeded: TypeAlias = "Callable[[Address, Seconds], str | None]"
"""Why, since a moment of the loop's clock, the director itself could not reach an address; None: it could."""

RESERVE = 32
"""How many file descriptors are left to the rest of the daemon; a quarter where few are allowed."""


def _unimpeded(_address: Address, _since: Seconds) -> str | None:
    return None


class Probes:
    """Makes probes, and holds what they share. It is made, used and closed within one event loop."""

    def __init__(self, impeded: Impeded = _unimpeded) -> None:
        limit = descriptor_limit()
        self._allowed = limit - min(RESERVE, limit // 4)
        self._limit = limit
        self._open = 0
        self._impeded = impeded
        self._loop = asyncio.get_running_loop()
        self._limits = Limits()
        self._searches = Searches()
        self._http: Session | None = None

    async def close(self) -> None:
        """Let go of what is shared; probes under way should have been cancelled before."""
        self._limits.close()
        if self._http is not None:
            await self._http.close()

    async def prepare(self, checks: Iterable[Check]) -> None:
        """Import what `checks` need, so that none of them waits for it within its time-out."""
        if any(isinstance(check, HttpCheck) for check in checks):
            await self._session()

    async def probe(self, check: Check, address: Address, port: int) -> Outcome:
        """Probe `address`, at the check's own port if it has one, else at `port`; take `timeout` at most.

        The time that the director itself stands still does not count.

        Whatever the server does is an outcome. Equal faults have equal reasons, so that they may be compared.
        """
        if self._open >= self._allowed:
            return Outcome.local(f"out of file descriptors ({self._limit}): raise LimitNOFILE=")
        await self.prepare((check,))
        self._open += 1
        connection = Connection(address, check.port or port, check.bind)
        try:
            return await self._attempt(check, connection)
        except LocalFault as fault:
            return Outcome.local(str(fault))
        finally:
            connection.close()
            self._open -= 1

    async def _attempt(self, check: Check, connection: Connection) -> Outcome:
        started_at = self._loop.time()
        try:
            async with asyncio.timeout_at(started_at + check.timeout) as limit:
                self._limits.add(limit)
                try:
                    return await self._run(check, connection)
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if connection.excuse:
                return Outcome.local(connection.excuse)
            reason = f"timed out after {check.timeout:g}s while {connection.doing}"
        except OSError as error:
            reason = words(error)
        impediment = self._impeded(connection.address, started_at)
        return Outcome.failed(reason) if impediment is None else Outcome.local(impediment)

    async def _run(self, check: Check, connection: Connection) -> Outcome:
        match check:
            case TcpCheck():
                return await tcp.probe(check, connection, self._searches)
            case TelnetCheck():
                return await telnet.probe(check, connection, self._searches)
            case HttpCheck():
                session = await self._session()
                return await session.probe(check, connection)
            case _:
                assert_never(check)

    async def _session(self) -> Session:
        """Return what HTTP probes share. aiohttp takes long to import, and not everybody probes by HTTP."""
        if self._http is None:
            http = await asyncio.to_thread(import_module, "lvsd.edge.probes.http")
            self._http = self._http or http.Session(self._searches)
        return self._http
