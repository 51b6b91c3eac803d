"""What the director asks of the edge, as values. The edge carries them out in the order given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from lvsd.config.model import DirectorAddress, VrrpInstance
    from lvsd.events import Event
    from lvsd.health.roster import Target
    from lvsd.ipvs.change import Change
    from lvsd.model import Address, Seconds, ServiceKey
    from lvsd.vrrp.packet import Advertisement


@dataclass(frozen=True, slots=True)
class Report:
    """Write one event to the log."""

    event: Event


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe `target` at the moment `at` (monotonic), and tell the director how it ended."""

    target: Target
    at: Seconds


@dataclass(frozen=True, slots=True)
class Forget:
    """Probe `target` no more; one under way is broken off."""

    target: Target


@dataclass(frozen=True, slots=True)
class Program:
    """Program these changes, in this order, and tell the director what the kernel refused."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Read the kernel's table soon: something in it is not as thought."""


@dataclass(frozen=True, slots=True)
class Remember:
    """Write down which rows under these keys, and which addresses, are lvsd's."""

    keys: frozenset[ServiceKey] = frozenset()


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Put a VIP on its interface."""

    address: DirectorAddress


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Take a VIP from its interface."""

    address: DirectorAddress


Effect: TypeAlias = Report | Probe | Forget | Program | ReadTable | Remember | AddAddress | RemoveAddress


@dataclass(frozen=True, slots=True)
class Send:
    """Send an advertisement: to all peers of the instance, or to the one that is told."""

    instance: VrrpInstance
    advertisement: Advertisement
    to: Address | None = None


@dataclass(frozen=True, slots=True)
class KeepAddresses:
    """Put in place the VIPs that are held now, and take the others away."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the neighbours that the instance's VIPs are here: gratuitous ARP, unsolicited advertisements."""

    instance: VrrpInstance


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask the neighbours who else has the instance's VIPs."""

    instance: VrrpInstance


@dataclass(frozen=True, slots=True)
class Meet:
    """Learn a master's hardware address while it can be learnt: it may have to be asked on a bad line."""

    instance: VrrpInstance
    master: Address


@dataclass(frozen=True, slots=True)
class Notify:
    """Run the commands that are to be run when the instance, with its priority as it is, enters `state`."""

    instance: VrrpInstance
    state: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Tell the other director, which has the instance's VIPs or will, of connections that came by them."""

    instance: VrrpInstance


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Take in what another master, which is about to yield, has to tell of connections."""

    instance: VrrpInstance


FailoverEffect: TypeAlias = (
    Report | Send | KeepAddresses | Announce | Inquire | Meet | Notify | HandOver | TakeIn
)
