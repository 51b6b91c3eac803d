"""A network as data: what hosts there are, how they are linked, what runs on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lvsd.lab.services import Service

DEFAULT_BRIDGE = "lan"


@dataclass(frozen=True, slots=True)
class Interface:
    """A network card of a host and the bridge its cable leads to."""

    name: str
    addresses: tuple[str, ...] = ()
    """With their prefix lengths: `192.168.0.3/24`, `fd00:0:0:1::3/64`."""
    bridge: str = DEFAULT_BRIDGE


@dataclass(frozen=True, slots=True)
class Host:
    """One host: its own network, host name, `/run/lvsd` and `/var/log` on a kernel that all hosts share."""

    name: str
    addresses: tuple[str, ...] = ()
    """Those of `eth0`, with prefix lengths; short for one Interface on the default bridge."""
    gateways: tuple[str, ...] = ()
    vips: tuple[str, ...] = ()
    """Virtual addresses on `dummy0` for which the host does not answer ARP: what makes a real server."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """`net.` settings by their dotted names, written before any address is set."""
    services: tuple[Service, ...] = ()
    """What is started once all hosts are linked."""
    interfaces: tuple[Interface, ...] = ()
    """Further network cards, for hosts on several bridges."""

    def cards(self) -> tuple[Interface, ...]:
        """Return all network cards, `eth0` of the default bridge first where the host has one."""
        first = (Interface("eth0", self.addresses),) if self.addresses else ()
        return first + self.interfaces


@dataclass(frozen=True, slots=True)
class Network:
    """Hosts and the bridges between them; a bridge exists because a card leads to it."""

    hosts: tuple[Host, ...]

    def __post_init__(self) -> None:
        names = [host.name for host in self.hosts]
        if len(set(names)) != len(names):
            message = f"two hosts have the same name: {', '.join(sorted(names))}"
            raise ValueError(message)

    @property
    def bridges(self) -> tuple[str, ...]:
        """The bridges' names, each once."""
        return tuple(dict.fromkeys(card.bridge for host in self.hosts for card in host.cards()))

    def etc_hosts(self) -> str:
        """Return /etc/hosts as every host of the network sees it: IPv4 first, as people expect."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
        named = [
            (ip_interface(address).ip, host.name)
            for host in self.hosts
            for card in host.cards()
            for address in card.addresses
        ]
        lines += [f"{address} {name}" for address, name in sorted(named, key=lambda entry: entry[0].version)]
        return "\n".join(lines) + "\n"
