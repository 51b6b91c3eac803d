"""Has the kernels of the directors tell each other of connections, by the role of each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lvsd.edge.handover import Handover
from lvsd.edge.sync_daemons import SyncDaemons
from lvsd.effects import HandOver
from lvsd.errors import KernelError
from lvsd.events import SyncChanged, SyncRefused
from lvsd.ipvs.sync import SyncRole

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.config.model import SyncSettings
    from lvsd.edge.ipvs import Ipvs
    from lvsd.effects import TakeIn
    from lvsd.events import Event
    from lvsd.ipvs.ledger import Ledger
    from lvsd.model import Seconds

LISTENS_ON: Final[Seconds] = 1.0
"""So long a new master takes in what the one before still has to tell of connections."""

RETRY_EVERY: Final[Seconds] = 10.0


class Synchroniser:
    """Runs the kernel's daemons as the state of the one instance asks that `ipvs.sync` names."""

    def __init__(self, ipvs: Ipvs, ledger: Ledger, report: Callable[[Event], None]) -> None:
        self._daemons = SyncDaemons(ipvs)
        self._handover = Handover(report)
        self._ledger = ledger
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._settings: SyncSettings | None = None
        self._is_master = False
        self._listens_until: Seconds = 0.0
        self._changed = asyncio.Event()
        self._in_force: tuple[SyncSettings | None, SyncRole | None, bool] = (None, None, False)
        self._told: tuple[SyncSettings | None, SyncRole | None] = (None, None)
        self._refused = ""

    def follow(self, settings: SyncSettings | None, masters: set[str]) -> None:
        """Take in the settings, and which instances this director is master of."""
        self._settings = settings
        was_master, self._is_master = self._is_master, settings is not None and settings.instance in masters
        if self._is_master and not was_master:
            self._listen()
        self._changed.set()

    def look(self, interface: str) -> None:
        """Take in that something changed about an interface: its daemon may do nothing any more."""
        if self._settings is not None and self._settings.interface == interface:
            self._in_force = (None, None, False)
            self._changed.set()

    def carry_out(self, effect: HandOver | TakeIn) -> None:
        """Tell of the connections that came by an instance's VIPs, or take in what another has to tell."""
        if self._settings is None or effect.instance.name != self._settings.instance:
            return
        if isinstance(effect, HandOver):
            self._handover.begin(self._settings, frozenset(self._ledger.actual))
        else:
            self._listen()
            self._changed.set()

    async def run(self) -> None:
        """Have the daemons run as they shall, for ever; what the kernel refuses is told, and tried again."""
        while True:
            pause = RETRY_EVERY if self._refused else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._changed.clear()
            await self._set()

    async def stop(self) -> None:
        """Tell what there is to tell; the kernel goes on taking in what the new master's has to tell."""
        await self._handover.finish()
        if self._settings is not None:
            with suppress(KernelError):
                await self._daemons.set(self._settings, SyncRole.BACKUP)

    def _listen(self) -> None:
        self._listens_until = self._loop.time() + LISTENS_ON
        self._loop.call_at(self._listens_until + 0.01, self._changed.set)

    async def _set(self) -> None:
        wanted = settings, role = self._settings, self._role()
        listening = self._loop.time() < self._listens_until
        if (*wanted, listening) == self._in_force:
            return
        try:
            await self._daemons.set(settings, role, listening=listening)
        except KernelError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                self._report(SyncRefused(reason=self._refused))
            self._told = (None, None)
            return
        self._refused, self._in_force = "", (settings, role, listening)
        if settings is not None and role is not None and wanted != self._told:
            self._report(SyncChanged(role=str(role), interface=settings.interface))
        self._told = wanted

    def _role(self) -> SyncRole | None:
        if self._settings is None:
            return None
        return SyncRole.MASTER if self._is_master else SyncRole.BACKUP
