"""The VIPs: which are wanted here, which are on their interfaces, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from lvsd.effects import AddAddress, Remember, RemoveAddress, Report
from lvsd.events import AddressAdded, AddressRefused, AddressRemoved

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lvsd.config.model import DirectorAddress
    from lvsd.effects import Effect
    from lvsd.model import Address

Where: TypeAlias = "tuple[Address, str]"
"""An address and the name of its interface."""


class Vips:
    """lvsd's own VIPs. An address found on its interface is adopted, one that vanished is put back.

    One that is `shared` with another director is lvsd's own as well, and has no business here meanwhile.
    """

    def __init__(self, recorded: Iterable[DirectorAddress]) -> None:
        self._recorded: dict[Where, DirectorAddress] = {_where(address): address for address in recorded}
        self.owned = dict(self._recorded)
        self.held: dict[Where, DirectorAddress] = {}
        self._wanted: dict[Where, DirectorAddress] = {}
        self.shared: set[Where] = set()
        self._causes: dict[Where, str] = {}
        self._refusals: dict[Where, str] = {}

    @property
    def concerned(self) -> list[DirectorAddress]:
        """All addresses whose presence matters."""
        return list({**self.owned, **self.held, **self._wanted}.values())

    def want(
        self,
        addresses: Iterable[DirectorAddress],
        shared: Iterable[DirectorAddress] = (),
        *,
        anew: bool = True,
    ) -> list[Effect]:
        """Set which VIPs should be there, and which go from director to director.

        Where they are wanted `anew`, as by a reload, what was refused is told again.
        """
        wanted = {_where(address): address for address in addresses}
        passing = {_where(address): address for address in shared}
        known = self.owned.keys() | wanted.keys() | passing.keys()
        changed = wanted != self._wanted or known != self.owned.keys()
        if anew:
            self._refusals = {}
        self._wanted, self.shared = wanted, set(passing)
        self.owned |= passing | wanted
        return [Remember()] if changed else []

    def see(self, present: Collection[Where], cause: str) -> list[Effect]:
        """Take in which of the addresses concerned are on their interfaces; return what is to be done."""
        effects: list[Effect] = []
        for where in [where for where in self.held if where not in present]:
            self._causes[where] = "mended"
            effects.append(Report(_removed(self.held.pop(where), "drift")))
        for where in [where for where in self.owned if where in present and where not in self.held]:
            # What an earlier run made is as that one wanted it, and replaced where this one does not.
            self.held[where] = self._recorded.pop(where, self.owned[where])
            self._causes.pop(where, None)
            effects.append(Report(_added(self.held[where], "adopted")))
        for where, address in self._wanted.items():
            held = self.held.get(where)
            if held != address:
                # The same address with another prefix, label or scope is replaced.
                effects += [] if held is None else [RemoveAddress(held)]
                self._causes.setdefault(where, cause)
                effects.append(AddAddress(address))
        effects += [
            RemoveAddress(address) for where, address in self.held.items() if where not in self._wanted
        ]
        needed = self._wanted.keys() | self.held.keys() | self.shared
        gone = [where for where in self.owned if where not in needed]
        for where in gone:
            del self.owned[where]
        return [*effects, Remember()] if gone else effects

    def added(self, address: DirectorAddress, error: str) -> list[Effect]:
        """Take in that `address` was put on its interface, or why not."""
        where = _where(address)
        if error:
            return self._refused(where, address, error)
        self._refusals.pop(where, None)
        self._recorded.pop(where, None)
        self.held[where] = address
        return [Report(_added(address, self._causes.pop(where, "config")))]

    def removed(self, address: DirectorAddress, error: str, cause: str) -> list[Effect]:
        """Take in that `address` was taken from its interface, or why not."""
        where = _where(address)
        if error:
            return self._refused(where, address, error)
        self._refusals.pop(where, None)
        self.held.pop(where, None)
        if where not in self._wanted.keys() | self.shared:
            self.owned.pop(where, None)
        return [Report(_removed(address, cause)), Remember()]

    def _refused(self, where: Where, address: DirectorAddress, error: str) -> list[Effect]:
        if self._refusals.get(where) == error:
            return []
        self._refusals[where] = error
        event = AddressRefused(address=str(address), interface=address.interface, reason=error)
        return [Report(event)]


def _where(address: DirectorAddress) -> Where:
    return address.address, address.interface


def _added(address: DirectorAddress, cause: str) -> AddressAdded:
    return AddressAdded(address=str(address), interface=address.interface, label=address.label, cause=cause)


def _removed(address: DirectorAddress, cause: str) -> AddressRemoved:
    return AddressRemoved(address=str(address), interface=address.interface, cause=cause)
