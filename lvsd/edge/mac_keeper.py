"""Keeps the interfaces with virtual MAC addresses of those instances that hold their VIPs, and no others."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final

from lvsd.edge import hushed
from lvsd.edge.virtual_mac import VirtualMacs
from lvsd.edge.vrrp_socket import VrrpVoice
from lvsd.errors import KernelError
from lvsd.events import AddressRefused, LibraryWarned
from lvsd.vrrp.virtual_mac import interface_name, parse_name, placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lvsd.config.model import DirectorAddress, Settings, VrrpInstance
    from lvsd.events import Event
    from lvsd.model import Seconds

RETRY_EVERY: Final[Seconds] = 5.0


class MacKeeper:
    """Makes an interface before VIPs are put on it, removes it when they have gone, one after the other.

    `keep` has the VIPs in place that `bears` says can be, and no others. `made` is told the instance whose
    VIPs can be put in place now. What the kernel refuses is reported, and tried again; `placed` is told which
    VIPs cannot be put in place for that.
    """

    def __init__(
        self,
        keep: Callable[[], None],
        made: Callable[[VrrpInstance], None],
        placed: Callable[[DirectorAddress, str], None],
        report: Callable[[Event], None],
    ) -> None:
        self._keep = keep
        self._tell_made = made
        self._tell_placed = placed
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._stack = AsyncExitStack()
        self._kernel: VirtualMacs | None = None
        self._wanted: dict[str, VrrpInstance] = {}
        self._standing: set[str] = set()
        self._parents: dict[str, str] = {}
        self._voices: dict[str, VrrpVoice] = {}
        self._refusals: dict[str, str] = {}
        self._postponed: set[str] = set()
        self._begun = False
        self._left_over = False
        self._task: asyncio.Task[None] | None = None

    def start(self, settings: Settings, recorded: Iterable[DirectorAddress]) -> None:
        """Take in which interfaces an earlier run has left, with the VIPs that are `recorded` for its own."""
        instances = settings.vrrp
        others = [vip for each in instances for vip in each.vips]
        names = {each.interface for each in recorded if parse_name(each.interface)}
        names |= {_name_of(each) for each in instances if each.virtual_mac}
        names -= {vip.interface for vip in (*settings.addresses, *others)}
        self._standing = names & {name for _, name in socket.if_nameindex()}
        self._left_over = bool(hushed.read())

    def begin(self) -> None:
        """Begin to make and to remove."""
        self._begun = True
        self._wake()

    def want(self, holding: Iterable[VrrpInstance]) -> None:
        """Take in which instances hold their VIPs."""
        wanted = {_name_of(each): each for each in holding if each.virtual_mac}
        self._postponed -= wanted.keys() - self._wanted.keys()  # who has just become master waits for nothing
        self._wanted = wanted
        self._wake()

    def bears(self, vip: DirectorAddress) -> bool:
        """Tell whether a VIP, as it is placed, can be put where it belongs."""
        wanted = self._wanted.get(vip.interface)
        if wanted is None:
            return True
        parent = self._parents.get(vip.interface, wanted.interface)
        return vip.interface in self._standing and parent == wanted.interface

    def voice(self, instance: VrrpInstance) -> VrrpVoice | None:
        """Return what sends to the group with the instance's virtual MAC, None where nothing does."""
        return self._voices.get(_name_of(instance)) if instance.virtual_mac else None

    def look(self, interface: str) -> None:
        """Take in that something changed about an interface: one that somebody took away is made again."""
        if interface in self._parents and not _is_up(interface):
            self._parents.pop(interface)
            self._let_go(interface)
            self._keep()

    async def finish(self, within: Seconds) -> None:
        """Wait until what is not wanted any more has been removed."""
        self.begin()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=within)

    async def close(self) -> None:
        """End, and leave what is in place."""
        self._begun = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for name in list(self._voices):
            self._voices.pop(name).close()
        await self._stack.aclose()

    def _wake(self) -> None:
        if self._begun and self._task is None and (self._left_over or self._next() is not None):
            self._task = self._loop.create_task(self._work())
            self._task.add_done_callback(_raise_error)

    async def _work(self) -> None:
        if self._left_over:
            self._left_over = False
            await self._give_back()
        while (name := self._next()) is not None:
            try:
                await self._mend(name)
            except KernelError as error:
                self._postpone(name, error)
        self._task = None

    async def _give_back(self) -> None:
        """Undo what an earlier run has left set on interfaces, where nothing needs it any more."""
        try:
            await self._opened()
        except KernelError as error:
            self._report(LibraryWarned(logger="lvsd.edge.virtual_mac", message=str(error)))

    def _next(self) -> str | None:
        """Return the next interface that is not as it should be."""
        known = self._standing | self._parents.keys() | self._wanted.keys()
        return next((name for name in sorted(known - self._postponed) if not self._is_right(name)), None)

    def _is_right(self, name: str) -> bool:
        wanted = self._wanted.get(name)
        if wanted is None:
            return name not in self._standing and name not in self._parents
        return name in self._standing and self._parents.get(name) == wanted.interface

    async def _mend(self, name: str) -> None:
        wanted = self._wanted.get(name)
        if wanted is None or self._parents.get(name, wanted.interface) != wanted.interface:
            await self._remove(name)
        else:
            await self._add(name, wanted)
        self._refusals.pop(name, None)

    async def _add(self, name: str, instance: VrrpInstance) -> None:
        kernel = await self._opened()
        await kernel.add(instance.interface, instance.vrid, instance.family)
        self._parents[name] = instance.interface
        self._standing.add(name)
        if name not in self._voices:
            with suppress(OSError):  # then the parent sends, and says so where it cannot
                self._voices[name] = VrrpVoice(name, instance.vrid, instance.family)
        if (wanted := self._wanted.get(name)) is not None:
            self._tell_made(wanted)

    async def _remove(self, name: str) -> None:
        self._parents.setdefault(name, "")
        self._let_go(name)
        self._keep()  # or they would vanish with it
        if (told := parse_name(name)) is not None:
            kernel = await self._opened()
            await kernel.remove(*told)
        self._parents.pop(name, None)

    def _let_go(self, name: str) -> None:
        self._standing.discard(name)
        if (voice := self._voices.pop(name, None)) is not None:
            voice.close()

    def _postpone(self, name: str, error: KernelError) -> None:
        """Tell why an interface cannot be made or removed, once, and do without it until it can."""
        self._tell_refused(name, str(error))
        self._postponed.add(name)
        self._loop.call_later(RETRY_EVERY, self._try_again, name)
        if name in self._standing:
            self._let_go(name)
            self._keep()

    def _tell_refused(self, name: str, reason: str) -> None:
        wanted = self._wanted.get(name)
        if wanted is not None and not _is_up(wanted.interface):
            return  # which keeps the instance out, and is told as its fault
        known, self._refusals[name] = self._refusals.get(name) == reason, reason
        if wanted is None and not known:
            self._report(LibraryWarned(logger="lvsd.edge.virtual_mac", message=reason))
        for vip in placed(wanted) if wanted is not None else ():
            if vip.interface == name:
                if not known:
                    self._report(AddressRefused(address=str(vip), interface=name, reason=reason))
                self._tell_placed(vip, reason)

    def _try_again(self, name: str) -> None:
        self._postponed.discard(name)
        self._wake()

    async def _opened(self) -> VirtualMacs:
        if self._kernel is None:
            self._kernel = await self._stack.enter_async_context(VirtualMacs())
        return self._kernel


# linux/sockios.h, linux/if.h: struct ifreq's name and flags
_SIOCGIFFLAGS = 0x8913
_IFREQ_FLAGS = struct.Struct("16sH22x")
_IFF_UP = 0x1


def _name_of(instance: VrrpInstance) -> str:
    return interface_name(instance.vrid, instance.family)


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(interface.encode(), 0))
        except OSError:
            return False
    return bool(_IFREQ_FLAGS.unpack(answer)[1] & _IFF_UP)


def _raise_error(task: asyncio.Task[None]) -> None:
    """Have an error in lvsd end it, as any other does."""
    if not task.cancelled():
        task.result()
