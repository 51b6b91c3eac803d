"""The director's hands on its interfaces: keeps the VIPs in place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lvsd.effects import AddAddress, RemoveAddress
from lvsd.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.config.model import DirectorAddress
    from lvsd.edge.addresses import Addresses
    from lvsd.effects import Effect
    from lvsd.model import Seconds
    from lvsd.vips import Vips

CHECK_EVERY: Final[Seconds] = 10.0


class VipKeeper:
    """Looks which VIPs are there, and adds and removes what `vips` asks for; all of it at once."""

    def __init__(self, vips: Vips, addresses: Addresses, carry_out: Callable[[list[Effect]], None]) -> None:
        self._vips = vips
        self._addresses = addresses
        self._carry_out = carry_out
        self._changed = asyncio.Event()

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
        present = {(found.address, found.interface) for found in self._addresses.all()}
        effects = self._vips.see(present, cause)
        self._carry_out([each for each in effects if not isinstance(each, AddAddress | RemoveAddress)])
        for effect in effects:
            if isinstance(effect, AddAddress):
                error = _error_of(self._addresses.add, effect.address)
                self._carry_out(self._vips.added(effect.address, error))
            elif isinstance(effect, RemoveAddress):
                self._remove(effect.address, cause)

    def remove_all(self) -> None:
        """Take every VIP away, since lvsd stops for good."""
        for address in list(self._vips.held.values()):
            self._remove(address, "stop")

    def _remove(self, address: DirectorAddress, cause: str) -> None:
        error = _error_of(self._addresses.remove, address)
        self._carry_out(self._vips.removed(address, error, cause))


def _error_of(attempt: Callable[[DirectorAddress], object], address: DirectorAddress) -> str:
    """Return why `attempt` failed, nothing where it did not."""
    try:
        attempt(address)
    except KernelError as error:
        return str(error)
    return ""
