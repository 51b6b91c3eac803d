"""Hosts and ports as they were written to addresses and numbers; what is wrong is a ValueError in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.config.model import Host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lvsd.config.source import Names
    from lvsd.config.values import Endpoint
    from lvsd.model import Address

IPV4, IPV6 = 4, 6
_MULTICAST_V4 = range(224, 256)
_MULTICAST_V6 = 0xFF


@dataclass(slots=True)
class Lookup:
    """Answers of `names`, each asked for once; literal addresses are never asked for."""

    names: Names
    _hosts: dict[tuple[str, int], Host] = field(default_factory=dict)
    _ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def prefetch(self, wanted: Iterable[tuple[Endpoint, int]]) -> None:
        """Let the names among the (endpoint, IP version) pairs be looked up together."""
        named = {(endpoint.host, version) for endpoint, version in wanted if endpoint.address is None}
        if named:
            self.names.prefetch(sorted(named))

    def host(self, written: Endpoint, version: int = IPV4) -> Host:
        """Return the host, with its address of that IP version if it has one."""
        key = (written.host, version)
        if key not in self._hosts:
            self._hosts[key] = Host(written.host, self._address(written, version))
        return self._hosts[key]

    def routable(self, written: Endpoint, version: int = IPV4) -> Host:
        """Return the host, which must have an address that can be reached by it alone."""
        host = self.host(written, version)
        if host.address.is_link_local:
            who = written.host if written.address is not None else f"{written.host} ({host.address})"
            message = (
                f"{who} is a link-local address, which means nothing without an interface, and IPVS takes "
                "none: give a global or a unique local (fd00::/8) one"
            )
            raise ValueError(message)
        return host

    def port(self, text: str, protocol: str) -> int:
        """Return the number of the port written as `text`."""
        key = (text, protocol)
        if key not in self._ports:
            number = int(text) if text.isdecimal() else self.names.port(text, protocol)
            if number is None:
                message = f"there is no {protocol} port named {text!r} in /etc/services"
                raise ValueError(message)
            self._ports[key] = number
        return self._ports[key]

    def _address(self, written: Endpoint, version: int) -> Address:
        address = written.address or self.names.address(written.host, version)
        if address is None:
            message = f"cannot resolve {written.host}: not in /etc/hosts and not in the DNS"
            raise ValueError(message)
        if not _is_one_hosts(address):
            message = f"{address} is not the address of one host"
            raise ValueError(message)
        return address


def _is_one_hosts(address: Address) -> bool:
    """Return whether `address` is neither unspecified nor multicast nor reserved."""
    if address.version == IPV4:
        return address[0] not in _MULTICAST_V4 and address[0] != 0
    return address[0] != _MULTICAST_V6 and any(address)
