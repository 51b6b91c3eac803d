"""The table as text: out in the layout of `ipvsadm -Ln`, in from the kernel's /proc/net/ip_vs.

/proc/net/ip_vs tells a server's row in a tenth of the time that netlink takes. It leaves out what a virtual
service is set to, and which IP version a firewall mark is for; it lists the services in netlink's order.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from lvsd.ipvs.change import persistence_mask
from lvsd.model import (
    Address,
    FirewallMark,
    Forwarding,
    Protocol,
    Server,
    ServerKey,
    in_table_order,
    join_port,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    from lvsd.ipvs.codec import Connections
    from lvsd.model import Service, ServiceKey, Table

TITLE: Final = "IP Virtual Server version 1.2.1"
"""The first line; ipvsadm adds the size of the kernel's connection table."""

Block: TypeAlias = "list[bytes]"
"""A virtual service's line and those of its real servers, these without the connection counts."""


def render(
    table: Table,
    connections: Mapping[ServiceKey, Mapping[ServerKey, Connections]] | None = None,
    title: str = TITLE,
) -> str:
    """Return `table` as `ipvsadm -Ln` prints it, but without the counts' columns where none are known.

    Rows come in the order of their numbers. ipvsadm means the same, but its comparison wraps around: it puts
    10.0.0.1 behind 192.168.0.1, and shows a mark above 2147483647 as negative and first.
    """
    lines = [title, "Prot LocalAddress:Port Scheduler Flags"]
    counts = "" if connections is None else " ActiveConn InActConn"
    lines.append(f"  -> RemoteAddress:Port           Forward Weight{counts}")
    for key in sorted(table, key=_order):
        rows = table[key]
        lines.append(f"{_service(key)} {rows.service.scheduler}{_settings(key, rows.service)}")
        counted = None if connections is None else connections.get(key, {})
        lines += (_server(at, rows.servers[at], counted) for at in sorted(rows.servers, key=in_table_order))
    return "\n".join(lines) + "\n"


def blocks(lines: Iterable[bytes]) -> Iterator[Block]:
    """Yield the virtual services in the lines of /proc/net/ip_vs."""
    block: Block = []
    for line in islice(lines, _HEADING_LINES, None):
        if line.startswith(b"  ->"):
            block.append(line.rsplit(None, 2)[0])
        else:
            if block:
                yield block
            block = [line]
    if block:
        yield block


def describes(block: Block, key: ServiceKey) -> bool:
    """Whether `block` is the virtual service `key`; a firewall mark's IP version it does not tell."""
    return block[0].startswith(_heading(key))


def servers(block: Block) -> dict[ServerKey, Server]:
    """Return the real servers in `block`; raise ValueError where it is not as the kernel writes it."""
    rows = {}
    for line in islice(block, 1, None):
        _arrow, where, forwarding, weight = line.split()
        rows[_parse_server_key(where)] = Server(_FORWARDING.get(forwarding, Forwarding.DR), int(weight))
    return rows


_HEADING_LINES = 3
_FORWARD_NAMES = {Forwarding.DR: "Route", Forwarding.NAT: "Masq", Forwarding.TUN: "Tunnel"}
_FORWARDING = {name.encode(): forwarding for forwarding, name in _FORWARD_NAMES.items()}
_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_FLAGS = ("sh-fallback", "mh-fallback", "flag-1", "sh-port", "mh-port", "flag-2", "flag-3")


def _order(key: ServiceKey) -> tuple[int, int, int, bytes, int]:
    if isinstance(key, FirewallMark):
        return key.mark, key.version, 0, b"", 0
    return 0, key.version, _PROTOCOLS[key.protocol], key.address, key.port


def _service(key: ServiceKey) -> str:
    if isinstance(key, FirewallMark):
        return f"FWM  {key.mark}" if key.version == 4 else f"FWM  {key.mark} IPv6"  # noqa: PLR2004
    return f"{key.protocol.upper():<4} {join_port(key.address, key.port)}"


def _settings(key: ServiceKey, service: Service) -> str:
    text = ""
    if flags := [name for name in _FLAGS if name in service.flags]:
        text = f" ({','.join(flags)})"
    if (persistence := service.persistence) is not None:
        text += f" persistent {persistence.timeout}"
        if persistence.prefix != len(_ANY[key.version]) * 8:
            text += f" mask {persistence_mask(persistence, key.version)}"
        if persistence.engine:
            text += f" pe {persistence.engine}"
    return f"{text} ops" if "ops" in service.flags else text


_ANY = {4: bytes(4), 6: bytes(16)}


def _server(key: ServerKey, server: Server, counted: Mapping[ServerKey, Connections] | None) -> str:
    row = f"  -> {key!s:<28} {_FORWARD_NAMES[server.forwarding]:<7} "
    if counted is None:
        return f"{row}{server.weight}"
    count = counted.get(key)
    active, inactive = (count.active, count.inactive) if count else (0, 0)
    return f"{row}{server.weight:<6} {active:<10} {inactive:<10}"


def _heading(key: ServiceKey) -> bytes:
    if isinstance(key, FirewallMark):
        return b"FWM  %08X " % key.mark
    return b"%s  %s:%04X " % (key.protocol.upper().encode(), _in_hex(key.address), key.port)


def _in_hex(address: Address) -> bytes:
    if address.version == 4:  # noqa: PLR2004
        return address.hex().upper().encode()
    return b"[%s]" % address.hex(":", 2).encode()


def _parse_server_key(text: bytes) -> ServerKey:
    address, _, port = text.decode("ascii").rpartition(":")
    return ServerKey(Address(bytes.fromhex(address.strip("[]").replace(":", ""))), int(port, 16))
