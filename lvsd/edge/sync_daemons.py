"""The kernel's synchronisation of connections, run by role."""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import chain
from typing import TYPE_CHECKING, Final

from lvsd.edge.interfaces import number_of
from lvsd.edge.ipvs import NO_RIGHT
from lvsd.errors import KernelError
from lvsd.ipvs.sync import StopDaemon, SyncRole, daemon, steps, stops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lvsd.config.model import SyncSettings
    from lvsd.edge.ipvs import Ipvs
    from lvsd.ipvs.sync import Step, SyncDaemon


CROSSED: Final = (
    "the table has a real server of another IP version than its service's (`ipvsadm -Ln`), beside which the "
    "kernel synchronises no connections"
)


class SyncDaemons:
    """Starts and stops the kernel's daemons, over the socket of `ipvs`.

    They live in the kernel and go on while lvsd is away; one that runs as it shall is left running.
    """

    def __init__(self, ipvs: Ipvs) -> None:
        self._ipvs = ipvs
        self._turn = asyncio.Lock()
        self._own: SyncSettings | None = None
        self._interface = 0

    async def set(
        self, settings: SyncSettings | None, role: SyncRole | None, *, listening: bool = False
    ) -> None:
        """Let the daemon of `role` run and no other; with None for either, none of lvsd's own.

        With `listening`, a backup runs beside a master: another director still has something to tell.
        Calls are carried out in their order. To be called too when the interface was deleted and is back: the
        kernel's daemon does not notice, and sends or receives nothing any more.

        Raises KernelError with what to do, and may be tried again.
        """
        async with self._turn:
            own = {each for each in (self._own, settings) if each is not None}
            if own:
                self._own = settings or self._own
                await self._apply(settings, role, own, listening=listening)
                self._own = settings

    async def _apply(
        self,
        settings: SyncSettings | None,
        role: SyncRole | None,
        own: Iterable[SyncSettings],
        *,
        listening: bool,
    ) -> None:
        running = await self._ipvs.sync_daemons()
        if settings is None or role is None:
            await self._take(chain.from_iterable(stops(running, each) for each in own))
            return
        interface = number_of(settings.interface)
        replaced = interface != 0 and self._interface not in {0, interface}
        roles = [role, SyncRole.BACKUP] if listening and role is SyncRole.MASTER else [role]
        wanted = [daemon(settings, each) for each in roles]
        await self._take(steps(running, wanted, anew=replaced))
        self._interface = interface or self._interface

    async def _take(self, wanted: Iterable[Step]) -> None:
        for step in wanted:
            _check(step, await self._ipvs.steer(step))


def _check(step: Step, code: int) -> None:
    stopped = code in {errno.ESRCH, errno.EINTR} and isinstance(step, StopDaemon)
    if code and not stopped:
        raise KernelError(NO_RIGHT if code == errno.EPERM else _refusal(step, code))


def _refusal(step: Step, code: int) -> str:
    role = step.daemon.role
    if isinstance(step, StopDaemon):
        return f"the {role} that synchronises connections cannot be stopped: {os.strerror(code)}"
    return f"connections cannot be synchronised as {role}: {_reason(step.daemon, code)}"


def _reason(it: SyncDaemon, code: int) -> str:
    match code:
        case errno.ENODEV:
            return f"there is no interface {it.interface}"
        case errno.ENETUNREACH:
            return f"{it.interface} is down or has no address: `ip address show dev {it.interface}`"
        case errno.EINVAL:
            no_group = f"{it.group} is no multicast group for {it.interface}"
            return f"{CROSSED}, or {no_group}" if it.group.is_multicast else no_group
        case errno.EEXIST:
            return "another program has started a daemon at the same moment: is keepalived running here?"
        case errno.ENOPROTOOPT:
            return "the module ip_vs is being unloaded: `modprobe ip_vs` loads it again"
        case _:
            return os.strerror(code)
