"""The director's hands on its interfaces: keeps the VIPs in place."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from lvsd.edge.interfaces import number_of
from lvsd.edge.own_networks import missed, own_addresses
from lvsd.effects import AddAddress, RemoveAddress, Report
from lvsd.errors import KernelError
from lvsd.events import AddressMisplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lvsd.config.model import DirectorAddress
    from lvsd.edge.addresses import Addresses, FoundAddress
    from lvsd.effects import Effect
    from lvsd.model import Seconds
    from lvsd.vips import Vips

CHECK_EVERY: Final[Seconds] = 10.0


class VipKeeper:
    """Looks which VIPs are there, and adds and removes what `vips` asks for; all of it at once.

    `placed` is told of each that was to be added, and why it could not be, nothing where it could.
    """

    def __init__(
        self,
        vips: Vips,
        addresses: Addresses,
        carry_out: Callable[[list[Effect]], None],
        placed: Callable[[DirectorAddress, str], None],
    ) -> None:
        self._vips = vips
        self._addresses = addresses
        self._carry_out = carry_out
        self._placed = placed
        self._changed = asyncio.Event()
        self._numbers: dict[str, int] = {}

    def look_again(self) -> None:
        """Note that an address came or went."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the VIPs for ever: looked after at once when an address changes, and every few seconds."""
        while True:
            try:
                async with asyncio.timeout(CHECK_EVERY):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            self.keep("config")

    def keep(self, cause: str) -> None:
        """Compare what is wanted with what is there, and mend it."""
        there = self._addresses.all()
        self._leave_renamed()  # after that, or one that gets its name meanwhile is forgotten with what it has
        present = {(found.address, found.interface): found for found in there}
        on_interface: dict[str, list[FoundAddress]] = {}
        for found in there:
            on_interface.setdefault(found.interface, []).append(found)
        effects = self._vips.see(present.keys(), cause)
        self._carry_out([each for each in effects if not isinstance(each, AddAddress | RemoveAddress)])
        for effect in effects:
            if isinstance(effect, AddAddress):
                beside = on_interface.get(effect.address.interface, [])
                networks = own_addresses(effect.address, beside, self._vips.owned)
                error = _error_of(partial(self._addresses.add, effect.address, beside))
                self._carry_out(
                    [*self._vips.added(effect.address, error), *misplaced(effect.address, networks)]
                )
                self._placed(effect.address, error)
            elif isinstance(effect, RemoveAddress):
                it = effect.address
                was = present.get((it.address, it.interface))
                self._remove(it, cause, was)
                if was is not None:
                    on_interface[it.interface].remove(was)  # it may come again, as it is wanted
        self._number_interfaces()

    def remove_all(self) -> None:
        """Take every VIP away, since lvsd stops for good."""
        for address in list(self._vips.held.values()):
            self._remove(address, "stop")

    def _leave_renamed(self) -> None:
        """Take VIPs off an interface that has another name now: it is not where they are wanted."""
        names = {name: _name(number) for name, number in self._numbers.items()}
        renamed = {name: now for name, now in names.items() if now not in {"", name}}
        for address in self._vips.held.values() if renamed else ():
            if address.interface in renamed:
                with suppress(KernelError):  # it has yet another name, or is gone
                    self._addresses.remove(replace(address, interface=renamed[address.interface]))

    def _number_interfaces(self) -> None:
        interfaces = {address.interface for address in self._vips.held.values()}
        self._numbers = {each: number_of(each) or self._numbers.get(each, 0) for each in interfaces}

    def _remove(self, address: DirectorAddress, cause: str, found: FoundAddress | None = None) -> None:
        error = _error_of(partial(self._addresses.remove, address, found))
        self._carry_out(self._vips.removed(address, error, cause))


def misplaced(address: DirectorAddress, own: Iterable[FoundAddress]) -> list[Effect]:
    """Return what to tell of a VIP that should lie in a network of its interface, and does not."""
    networks = missed(address, own)
    if not networks:
        return []
    event = AddressMisplaced(address=str(address), interface=address.interface, networks=networks)
    return [Report(event)]


def _name(number: int) -> str:
    try:
        return socket.if_indextoname(number)
    except OSError:
        return ""


def _error_of(attempt: Callable[[], object]) -> str:
    """Return why `attempt` failed, nothing where it did not."""
    try:
        attempt()
    except KernelError as error:
        return str(error)
    return ""
