"""Shapes of virtual services to virtual services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.config.checks import suggested_by_port
from lvsd.config.entries import NONE
from lvsd.config.hosts import IPV4
from lvsd.config.model import RealServer, VirtualService
from lvsd.config.rules import persistence, service_mistakes, service_notes
from lvsd.config.schema import CheckShape, ServiceShape, endpoint_of
from lvsd.config.words import did_you_mean
from lvsd.model import FirewallMark, Protocol, Service, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lvsd.config.checks import CheckBuilder
    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.config.model import Check, Host
    from lvsd.config.schema import RealServerShape
    from lvsd.config.shapes import Shaped
    from lvsd.config.values import Endpoint
    from lvsd.errors import Place
    from lvsd.model import ServerKey, ServiceKey

_IDENTITY = ("address", "fwmark", "family", "protocol")


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What real servers and the probe take over from their service; a firewall mark has no port."""

    protocol: Protocol
    port: int
    version: int

    @classmethod
    def of(cls, key: ServiceKey) -> _Inherited:
        if isinstance(key, VirtualAddress):
            return cls(key.protocol, key.port, key.version)
        return cls(Protocol.TCP, 0, key.version)


@dataclass(frozen=True, slots=True)
class ServiceBuilder:
    """Makes virtual services of their shapes, and puts down what does not go together in them.

    `checks` are the named ones; None stands for one that has mistakes of its own. `sync` is where `ipvs.sync`
    stands, if it does.
    """

    lookup: Lookup
    findings: Findings
    check_builder: CheckBuilder
    checks: Mapping[str, Check | None]
    sync: Place | None = None
    _keys: dict[ServiceKey, str] = field(default_factory=dict)

    def build(self, name: str, shaped: Shaped[ServiceShape]) -> VirtualService | None:
        """Return the service `name`; None where its address cannot be told."""
        path: Path = ("virtual_services", name)
        shape = shaped.value
        check = self._check(shape, path)
        found = self._key(shaped, path)
        if found is None:
            return None
        key, vip = found
        inherited = _Inherited.of(key)
        servers = self._real_servers(shaped, inherited, path)
        service = VirtualService(
            name=name,
            key=key,
            vip=vip,
            service=Service(shape.scheduler, _flags(shape), persistence(shape, key.version)),
            forwarding=shape.forward,
            check=check if shape.check is not None else self._suggested(inherited, path),
            initial=shape.initial,
            on_failure=shape.on_failure,
            sorry_server=self._sorry_server(shape, inherited, path),
            real_servers=tuple(servers.values()),
        )
        self._look_over(shaped, service, {server.key: number for number, server in servers.items()}, path)
        return service

    def _key(self, shaped: Shaped[ServiceShape], path: Path) -> tuple[ServiceKey, Host | None] | None:
        shape = shaped.value
        if shape.fwmark is not None:
            return FirewallMark(shape.fwmark, shape.family or IPV4), None
        if shape.address is None:
            if shaped.trusts("address", "fwmark"):
                self.findings.mistake(path, "`address` is missing: VIP:PORT, or a `fwmark` in its place")
            return None
        try:
            vip = self.lookup.host(shape.address)
            port = self.lookup.port(shape.address.port, shape.protocol)
        except ValueError as problem:
            self.findings.mistake((*path, "address"), str(problem))
            return None
        return VirtualAddress(shape.protocol, vip.address, port), vip

    def _real_servers(
        self,
        shaped: Shaped[ServiceShape],
        inherited: _Inherited,
        path: Path,
    ) -> dict[int, RealServer]:
        """Return the real servers by their number in the list."""
        servers: dict[int, RealServer] = {}
        known: dict[ServerKey, int] = {}
        for number, item in shaped.numbered("real_servers"):
            at = (*path, "real_servers", number)
            server = self._server(item, inherited, at)
            if server is None:
                continue
            first = known.setdefault(server.key, number)
            if first != number:
                place = self.findings.merged.place((*path, "real_servers", first))
                message = f"{server.key} is given twice, first as real_servers[{first}] at {place}"
                self.findings.mistake(at, message)
            servers[number] = server
        return servers

    def _server(
        self,
        item: Endpoint | RealServerShape,
        inherited: _Inherited,
        path: Path,
    ) -> RealServer | None:
        written, weight = endpoint_of(item)
        try:
            host = self.lookup.routable(written, inherited.version)
            port = self.lookup.port(written.port, inherited.protocol) if written.port else inherited.port
        except ValueError as problem:
            self.findings.mistake(path if item is written else (*path, "address"), str(problem))
            return None
        return RealServer(host, port, weight)

    def _sorry_server(
        self,
        shape: ServiceShape,
        inherited: _Inherited,
        path: Path,
    ) -> RealServer | None:
        if shape.sorry_server is None:
            return None
        return self._server(shape.sorry_server, inherited, (*path, "sorry_server"))

    def _check(self, shape: ServiceShape, path: Path) -> Check | None:
        """Return the check that the service names or describes."""
        wanted = shape.check
        if isinstance(wanted, CheckShape):
            return self.check_builder.build(wanted, (*path, "check"))
        if wanted is None or wanted == NONE:
            return None
        if wanted not in self.checks:
            meant = did_you_mean(wanted, [*self.checks, NONE])
            self.findings.mistake((*path, "check"), f"there is no check named {wanted!r}{meant}")
        return self.checks.get(wanted)

    def _suggested(self, inherited: _Inherited, path: Path) -> Check | None:
        shape = suggested_by_port(inherited.protocol, inherited.port)
        return None if shape is None else self.check_builder.build(shape, path)

    def _look_over(
        self,
        shaped: Shaped[ServiceShape],
        service: VirtualService,
        numbers: Mapping[ServerKey, int],
        path: Path,
    ) -> None:
        """Put down what does not go together, as far as it is certain that it was meant."""
        if shaped.trusts(*_IDENTITY):
            self._claim(service, path)
        if all(left_out[0] == "real_servers" for left_out in shaped.left_out):
            for at, message in service_mistakes(shaped.value, service, numbers, self.sync):
                self.findings.mistake((*path, *at), message)
            for at, message in service_notes(shaped.value, service):
                self.findings.note((*path, *at), message)

    def _claim(self, service: VirtualService, path: Path) -> None:
        first = self._keys.setdefault(service.key, service.name)
        if first != service.name:
            place = self.findings.merged.place(("virtual_services", first))
            message = f"{service.key} is virtual_services.{first} already, at {place}"
            self.findings.mistake((*path, "address" if service.vip else "fwmark"), message)


def _flags(shape: ServiceShape) -> frozenset[str]:
    return frozenset([*shape.scheduler_flags, "ops"] if shape.ops else shape.scheduler_flags)
