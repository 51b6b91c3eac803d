"""The networks that this host's interfaces are in by their own addresses, and the VIPs that are in none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.edge.addresses import Addresses, FoundAddress
from lvsd.edge.interfaces import Network
from lvsd.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from lvsd.config.model import DirectorAddress
    from lvsd.model import Address


class OwnNetworks:
    """The networks of this host's interfaces."""

    def missed(self, vips: Collection[DirectorAddress]) -> dict[DirectorAddress, list[str]]:
        """Return those of the VIPs that should lie in a network of their interface and lie in none.

        With each are the interface's own addresses, which are all but `vips`.
        """
        there = _by_interface()
        taken = {(vip.address, vip.interface) for vip in vips}
        own: dict[tuple[str, int], list[FoundAddress]] = {}
        found = {}
        for vip in vips:
            key = vip.interface, vip.address.version
            if key not in own:
                own[key] = own_addresses(vip, there.get(vip.interface, ()), taken)
            found[vip] = missed(vip, own[key])
        return {vip: networks for vip, networks in found.items() if networks}


def own_addresses(
    vip: DirectorAddress, there: Iterable[FoundAddress], vips: Collection[tuple[Address, str]]
) -> list[FoundAddress]:
    """Return those addresses of the VIP's interface and IP version that are no VIPs themselves."""
    return [
        found
        for found in there
        if (found.interface, found.address.version) == (vip.interface, vip.address.version)
        and (found.address, found.interface) not in vips
    ]


def missed(vip: DirectorAddress, own: Iterable[FoundAddress]) -> list[str]:
    """Return the interface's `own` addresses where the VIP should lie in a network of theirs and does not.

    One whose prefix is that of a single host is not, nor is one of an interface that has no address but the
    link-local one that the kernel gives to each.
    """
    own = list(own)
    networks = {str(found).partition(" ")[0]: Network.of(found.address, found.prefix) for found in own}
    alone = vip.prefix == 8 * len(vip.address)
    given = [found for found in own if not found.address.is_link_local]
    if alone or not given or any(network.holds(vip.address) for network in networks.values()):
        return []
    return list(networks)


def _by_interface() -> dict[str, list[FoundAddress]]:
    there: dict[str, list[FoundAddress]] = {}
    try:
        with Addresses() as addresses:
            for found in addresses.all():
                there.setdefault(found.interface, []).append(found)
    except (KernelError, OSError):  # a sandbox without netlink: whoever cannot look notes nothing
        return {}
    return there
