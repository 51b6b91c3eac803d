"""Reads the kernel's IPVS table from /proc/net/ip_vs, as it is, into plain dicts that tests can compare."""

from __future__ import annotations

import socket
from typing import TypedDict

RowKey = tuple[str, int]
"""A real server: address and port."""
TableKey = tuple[str, str, int]
"""A virtual service: `TCP`, address and port; of a firewall mark `FWM`, "" and the mark."""


class ServerRow(TypedDict):
    """What the kernel has for a real server; `forward` is Route, Masq, Tunnel or Local."""

    forward: str
    weight: int
    active: int
    inactive: int


class ServiceRow(TypedDict):
    """What the kernel has for a virtual service.

    How long a client stays with its server is not here: the kernel prints that in ticks of unknown length.
    """

    scheduler: str
    one_packet: bool
    persistent: bool
    servers: dict[RowKey, ServerRow]


Table = dict[TableKey, ServiceRow]


def parse_table(text: str) -> Table:
    """Return what /proc/net/ip_vs says; servers keep the kernel's order."""
    table: Table = {}
    servers: dict[RowKey, ServerRow] = {}
    for line in text.splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            _, place, forward, weight, active, inactive = words
            servers[_place(place)] = ServerRow(
                forward=forward, weight=int(weight), active=int(active), inactive=int(inactive)
            )
        else:
            protocol, place, scheduler, *rest = words
            key = ("FWM", "", int(place, 16)) if protocol == "FWM" else (protocol, *_place(place))
            servers = {}
            table[key] = ServiceRow(
                scheduler=scheduler,
                one_packet="ops" in rest,
                persistent="persistent" in rest,
                servers=servers,
            )
    return table


def weights(table: Table) -> dict[TableKey, dict[RowKey, int]]:
    """Return only the weights: what most tests want to compare."""
    return {
        key: {server: row["weight"] for server, row in service["servers"].items()}
        for key, service in table.items()
    }


def _place(text: str) -> RowKey:
    address, _, port = text.rpartition(":")
    if address.startswith("["):
        packed = socket.inet_pton(socket.AF_INET6, address.strip("[]"))
        return socket.inet_ntop(socket.AF_INET6, packed), int(port, 16)
    return socket.inet_ntoa(bytes.fromhex(address)), int(port, 16)
