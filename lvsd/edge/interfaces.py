"""The director's own interfaces: which of them are out, and what that keeps it from reaching."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lvsd.model import Address, Seconds


class LinkState(StrEnum):
    """How an interface is; the text is what the operator reads after its name."""

    UP = "is up"
    DOWN = "is down"
    NO_CARRIER = "has no carrier"
    MISSING = "does not exist"


@dataclass(frozen=True, slots=True)
class Network:
    """A network: what the addresses in it have in common, and how many bits they differ in."""

    version: int
    host_bits: int
    bits: int

    @classmethod
    def of(cls, address: Address, prefix: int) -> Network:
        """Return the network of `prefix` bits that `address` lies in."""
        host_bits = 8 * len(address) - prefix
        return cls(address.version, host_bits, int.from_bytes(address) >> host_bits)

    def holds(self, address: Address) -> bool:
        """Tell whether `address` lies in it."""
        return address.version == self.version and int.from_bytes(address) >> self.host_bits == self.bits


@dataclass(frozen=True, slots=True)
class Attached:
    """An address of an interface, and the network that it puts within reach."""

    index: int
    address: Address
    prefix: int
    network: Network


@dataclass(frozen=True, slots=True)
class AddressChange:
    """An address that has come to an interface, or gone from it."""

    added: bool
    address: Address
    prefix: int
    interface: str


@dataclass(frozen=True, slots=True)
class _Link:
    name: str
    state: LinkState

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


@dataclass(frozen=True, slots=True)
class _Outage:
    """What an interface kept from being reached until a moment, and why."""

    reason: str
    networks: frozenset[Network]
    until: Seconds


def number_of(interface: str) -> int:
    """Return an interface's number, another one each time it is made, which no name changes; 0 without it."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


class Interfaces:
    """What is known of the interfaces, and what follows from it for an address; it asks nobody."""

    def __init__(self) -> None:
        self._links: dict[int, _Link] = {}
        self._attached: dict[int, set[Attached]] = {}
        self._routed: dict[int, frozenset[Network]] = {}
        self._out: set[int] = set()
        self._ended: dict[int, _Outage] = {}

    def impeded(self, address: Address, since: Seconds) -> str | None:
        """Return why the director itself could not reach `address` at some time after `since`, or None.

        The way to an address is the smallest network, attached or routed, that it lies in. It was closed if
        each interface that leads there was out. Costs next to nothing while none is.
        """
        if not self._out and not self._ended:
            return None
        outages = dict(self._outages(since))
        closed = [
            (network.host_bits, outage.reason)
            for outage in outages.values()
            for network in outage.networks
            if network.holds(address)
        ]
        if not closed:
            return None
        host_bits, reason = min(closed)
        for index in self._links.keys() - outages.keys():
            if any(way.host_bits <= host_bits and way.holds(address) for way in self._reach(index)):
                return None
        return reason

    def state(self, name: str) -> LinkState:
        """Return how the interface `name` is."""
        return next((link.state for link in self._links.values() if link.name == name), LinkState.MISSING)

    def name(self, index: int) -> str:
        """Return an interface's name."""
        return self._links[index].name if index in self._links else f"interface {index}"

    def links(self) -> frozenset[int]:
        """Return the indices of all interfaces."""
        return frozenset(self._links)

    def attached(self) -> frozenset[Attached]:
        """Return the addresses of all interfaces."""
        return frozenset().union(*self._attached.values())

    def set_link(self, index: int, name: str, state: LinkState, now: Seconds) -> None:
        """Take in how an interface is."""
        if state is not LinkState.UP:
            self._out.add(index)
        elif index in self._out:
            self._ended[index] = _Outage(str(self._links[index]), self._reach(index), now)
            self._out.remove(index)
        self._links[index] = _Link(name, state)

    def remove_link(self, index: int) -> None:
        """Forget an interface: what does not exist is no outage."""
        self._out.discard(index)
        self._links.pop(index, None)
        self._routed.pop(index, None)
        self._ended.pop(index, None)

    def set_routes(self, routes: Mapping[int, set[Network]]) -> None:
        """Take in all routes, by interface; one that is out keeps those it had: the kernel drops them."""
        for index in self._links.keys() - self._out:
            self._routed[index] = frozenset(routes.get(index, ()))

    def add_address(self, attached: Attached) -> bool:
        """Take in an address; return whether it is new."""
        known = self._attached.setdefault(attached.index, set())
        new = attached not in known
        known.add(attached)
        return new

    def remove_address(self, attached: Attached) -> bool:
        """Forget an address; return whether it was known."""
        known = self._attached.get(attached.index, set())
        gone = attached in known
        known.discard(attached)
        return gone

    def _outages(self, since: Seconds) -> Iterator[tuple[int, _Outage]]:
        for index, outage in self._ended.items():
            if outage.until > since:
                yield index, outage
        for index in self._out:
            yield index, _Outage(str(self._links[index]), self._reach(index), float("inf"))

    def _reach(self, index: int) -> frozenset[Network]:
        attached = (each.network for each in self._attached.get(index, ()))
        return self._routed.get(index, frozenset()).union(attached)
