"""VIPs as they were written to the addresses that a director brings up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lvsd.config.document import spell
from lvsd.config.hosts import IPV4, IPV6
from lvsd.config.model import DirectorAddress, Scope
from lvsd.config.values import LONGEST_INTERFACE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.config.source import Interfaces
    from lvsd.config.values import Network
    from lvsd.model import Address


LONGEST_NETWORK: Final = 30
"""The longest IPv4 prefix whose network has an address of its own and one for broadcasts."""


MOST_NETWORKS: Final = 4
"""So many networks of an interface are named."""


@dataclass(frozen=True, slots=True)
class Written:
    """A VIP as it was written at `path`, alone (`is_text`) or as a mapping.

    `interface` is empty where a mistake in it was put down already.
    """

    network: Network
    interface: str
    label: str
    path: Path
    is_text: bool = False
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class VipBuilder:
    """Makes addresses of what was written, and puts down those that are given twice, wherever that is."""

    lookup: Lookup
    findings: Findings
    _given: dict[tuple[Address, str], Path] = field(default_factory=dict)
    _built: dict[DirectorAddress, Path] = field(default_factory=dict)

    def build(self, written: Written) -> DirectorAddress | None:
        """Return the address; None where its host cannot be told."""
        at = written.path if written.is_text else (*written.path, "address")
        try:
            address = self.lookup.host(written.network.host).address
        except ValueError as problem:
            self.findings.mistake(at, str(problem))
            return None
        for message in _no_vip(address, written.network.prefix):
            self.findings.mistake(at, message)
        for message in _label_mistakes(written.label, written.interface, address):
            self.findings.mistake((*written.path, "label"), message)
        if written.scope is not None and address.version == IPV6:
            message = "must be left out: an IPv6 address has the scope that it says itself"
            self.findings.mistake((*written.path, "scope"), message)
        first = self._given.setdefault(_identity(address, written.interface), written.path)
        if first != written.path:
            place = self.findings.merged.place(first)
            self.findings.mistake(at, f"{address} is given twice, first in {spell(first)} at {place}")
        scope = written.scope or Scope.GLOBAL
        prefix, interface = written.network.prefix, written.interface
        built = DirectorAddress(address, prefix, interface, written.label, scope)
        self._built.setdefault(built, at)
        return built

    def look_at(self, interfaces: Interfaces) -> None:
        """Put down which of the VIPs that were built lie in no network of their interface on this host."""
        for vip, networks in interfaces.missed(self._built).items():
            known = ", ".join(networks[:MOST_NETWORKS])
            message = f"{vip} is in no network of {vip.interface} ({known}), where clients may not find it"
            lone = f"write /{8 * len(vip.address)} if it is meant so"
            advice = f"mend it, its prefix or its interface, or {lone}"
            self.findings.note(self._built[vip], f"{message}: {advice}")

    def holds(self, address: Address) -> bool:
        """Return whether `address` is among those that were built, on whatever interface."""
        return any(address == given for given, _ in self._given)


def _identity(address: Address, interface: str) -> tuple[Address, str]:
    """Return what no two VIPs share: link-local addresses are told apart by their interfaces."""
    return address, interface if address.is_link_local else ""


def _no_vip(address: Address, prefix: int) -> Iterator[str]:
    """Yield why no client could reach the address as one host's.

    That of a network with one or two addresses may be a host's (RFC 3021).
    """
    if address.is_loopback:
        yield f"{address} is a loopback address, which no client reaches: give one of the clients' network"
    elif address.version == IPV4 and prefix <= LONGEST_NETWORK:
        hosts = 0xFFFFFFFF >> prefix
        host = int.from_bytes(address) & hosts
        if host in {0, hosts}:
            what = "broadcast" if host else "own"
            advice = "give a host's, or write /32 if it is one"
            yield f"{address}/{prefix} is its network's {what} address: {advice}"


def _label_mistakes(label: str, interface: str, address: Address) -> Iterator[str]:
    if label and address.version == IPV6:
        yield "must be left out: IPv6 addresses have no label"
    elif label and interface and not f"{label}:".startswith(f"{interface}:"):
        yield f"must begin with its interface, as in {interface}:101"
    if len(label) > LONGEST_INTERFACE:
        yield f"must have at most {LONGEST_INTERFACE} letters, not {len(label)}"
