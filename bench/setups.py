"""What is measured, as data, and as each program's own configuration of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lvsd.model import Address, Forwarding, Protocol, Rows, Server, ServerKey, Service, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.model import Seconds, Table

PORT = 80
VRID = 51


@dataclass(frozen=True, slots=True)
class Check:
    """How every real server is probed; a second failure, 0.2 s after the first, takes it out."""

    type: str
    interval: Seconds
    retry_after: Seconds = 0.2
    timeout: Seconds = 1.0


@dataclass(frozen=True, slots=True)
class Balanced:
    """A virtual service on TCP port 80, round-robin by direct routing."""

    vip: str
    servers: tuple[str, ...]

    @property
    def key(self) -> VirtualAddress:
        """What the kernel knows it by."""
        return VirtualAddress(Protocol.TCP, Address.parse(self.vip), PORT)


@dataclass(frozen=True, slots=True)
class Shared:
    """A VIP that two directors share by VRRP, version 3."""

    vip: str
    priority: int
    interval: Seconds


@dataclass(frozen=True, slots=True)
class Setup:
    """Virtual services that are probed alike, or never, and a VIP that is shared with another director."""

    services: tuple[Balanced, ...]
    check: Check | None = None
    shared: Shared | None = None

    @property
    def rows(self) -> int:
        """How many rows the table then has."""
        return sum(1 + len(service.servers) for service in self.services)

    def with_one_more(self, server: str) -> Setup:
        """Return the same, with one more real server in the last service."""
        last = self.services[-1]
        grown = replace(last, servers=(*last.servers, server))
        return replace(self, services=(*self.services[:-1], grown))

    def table(self) -> Table:
        """Return the table with all real servers in it."""
        server = Server(Forwarding.DR, 1)
        return {
            service.key: Rows(Service("rr"), {server_key(text): server for text in service.servers})
            for service in self.services
        }


def setup(services: int, servers: int, check: Check | None = None) -> Setup:
    """Return so many services with so many real servers each, all of different addresses."""
    return Setup(
        tuple(
            Balanced(_address(0, i), tuple(_address(1, i * servers + j) for j in range(servers)))
            for i in range(services)
        ),
        check,
    )


def server_key(address: str) -> ServerKey:
    """Return what the kernel knows the real server by."""
    return ServerKey(Address.parse(address), PORT)


def lvsd_yaml(setup: Setup) -> str:
    """Return the setup as lvsd's YAML."""
    parts = (*_yaml_check(setup.check), *_yaml_shared(setup.shared))
    return "\n".join([*parts, "virtual_services:", *_yaml_services(setup), ""])


def keepalived_conf(setup: Setup) -> str:
    """Return the setup as keepalived.conf; without a check a real server is up from the start there, too."""
    services = (line for service in setup.services for line in _blocks(service, setup.check))
    return "\n".join([*_vrrp_instance(setup.shared), *services, ""])


def ipvsadm_rules(setup: Setup) -> str:
    """Return the setup as `ipvsadm -R` reads it."""
    lines = []
    for service in setup.services:
        place = f"-t {service.vip}:{PORT}"
        lines.append(f"-A {place} -s rr")
        lines += [f"-a {place} -r {server}:{PORT} -g -w 1" for server in service.servers]
    return "\n".join(lines) + "\n"


def _address(network: int, number: int) -> str:
    return f"10.{network}.{number // 250}.{number % 250 + 1}"


def _yaml_check(check: Check | None) -> Iterator[str]:
    if check is None:
        return
    yield "checks:"
    yield "  probe:"
    yield f"    type: {check.type}"
    yield f"    interval: {check.interval:g}s"
    yield f"    fast_interval: {check.retry_after:g}s"
    yield f"    timeout: {check.timeout:g}s"
    yield "    rise: 1"
    yield "    fall: 2"


def _yaml_shared(shared: Shared | None) -> Iterator[str]:
    if shared is None:
        return
    yield "vrrp:"
    yield "  vip:"
    yield "    interface: eth0"
    yield f"    virtual_router_id: {VRID}"
    yield f"    priority: {shared.priority}"
    yield f"    advertisement_interval: {shared.interval:g}s"
    yield f"    addresses: [{shared.vip}/24]"
    yield "ipvs: {sync: {interface: eth0}}"


def _yaml_services(setup: Setup) -> Iterator[str]:
    for i, service in enumerate(setup.services):
        yield f"  s{i}:"
        yield f"    address: {service.vip}:{PORT}"
        yield "    protocol: tcp"
        yield "    scheduler: rr"
        yield "    forward: dr"
        yield f"    check: {'probe' if setup.check else 'none'}"
        yield "    real_servers:"
        yield from (f"      - {server}" for server in service.servers)


def _vrrp_instance(shared: Shared | None) -> Iterator[str]:
    if shared is None:
        return
    yield from ("global_defs {", "  vrrp_version 3", f"  lvs_sync_daemon eth0 vip id {VRID}", "}")
    yield "vrrp_instance vip {"
    yield "  state BACKUP"
    yield "  interface eth0"
    yield f"  virtual_router_id {VRID}"
    yield f"  priority {shared.priority}"
    yield f"  advert_int {shared.interval:g}"
    yield from ("  virtual_ipaddress {", f"    {shared.vip}/24", "  }")
    yield "}"


def _blocks(service: Balanced, check: Check | None) -> Iterator[str]:
    yield f"virtual_server {service.vip} {PORT} {{"
    if check is not None:
        yield f"  delay_loop {check.interval:g}"
    yield from ("  lb_algo rr", "  lb_kind DR", "  protocol TCP")
    for server in service.servers:
        yield f"  real_server {server} {PORT} {{"
        yield "    weight 1"
        yield from _checker(check)
        yield "  }"
    yield "}"


def _checker(check: Check | None) -> Iterator[str]:
    if check is None:
        return
    http = check.type == "http"
    yield f"    {'HTTP_GET' if http else 'TCP_CHECK'} {{"
    if http:
        yield from ("      url {", "        path /", "        status_code 200", "      }")
    yield f"      connect_timeout {check.timeout:g}"
    yield "      retry 1"
    yield f"      delay_before_retry {check.retry_after:g}"
    yield "    }"
