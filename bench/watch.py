"""Watches a host's IPVS table over netlink, by questions so small that the watched are not slowed."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lvsd.ipvs import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.lab.machine import Machine
    from lvsd.model import Seconds, ServerKey, ServiceKey

EVERY: Seconds = 0.005
"""How often is looked, and so how exact every moment is."""

_NETLINK_GENERIC, _CONTROL, _GET_FAMILY, _FAMILY_NAME, _FAMILY_ID = 16, 0x10, 3, 2, 1
_HEADER = struct.Struct("=IHHIIBBH")
_ATTRIBUTE = struct.Struct("=HH")


class Watch:
    """Questions about one host's table, answered at once."""

    def __init__(self, machine: Machine, link: socket.socket) -> None:
        self._machine = machine
        self._link = link
        self._family = _ipvs_family(link)

    @classmethod
    async def open(cls, machine: Machine) -> Self:
        """Return one for `machine`; its socket is closed with it."""
        return cls(machine, await machine.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC))

    def close(self) -> None:
        """Close the socket."""
        self._link.close()

    def servers(self, key: ServiceKey) -> set[ServerKey]:
        """Return the real servers of a service; of a missing one none."""
        self._link.send(codec.ask_servers(key, self._family, 1))
        found: set[ServerKey] = set()
        while True:
            for answer in codec.answers(self._link.recv(1 << 16)):
                if answer.last:
                    return found
                row = codec.decode_server(answer.body, key.version)
                if row is not None:
                    found.add(row.key)

    async def rows(self) -> int:
        """Return how many rows the whole table has, by the kernel's listing."""
        listing = await self._machine.do(Path("/proc/thread-self/net/ip_vs").read_bytes)
        return listing.count(b"\n") - 3


async def until(holds: Callable[[], bool], within: Seconds = 300.0, every: Seconds = EVERY) -> Seconds:
    """Return the moment (monotonic) at which `holds` did; raise TimeoutError where it does not."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(every)
    return time.monotonic()


async def accepted(machine: Machine) -> int:
    """Return how many TCP connections the host has taken since it was made."""
    counters = await machine.do(Path("/proc/thread-self/net/snmp").read_text)
    names, values = (line.split() for line in counters.splitlines() if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["PassiveOpens"])


def _ipvs_family(link: socket.socket) -> int:
    """Return IPVS's number in generic netlink."""
    name = codec.FAMILY.encode() + b"\0"
    wanted = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(name), _FAMILY_NAME) + name + bytes(-len(name) % 4)
    link.send(_HEADER.pack(_HEADER.size + len(wanted), _CONTROL, 1, 0, 0, _GET_FAMILY, 1, 0) + wanted)
    body = link.recv(1 << 16)[_HEADER.size :]
    while body:
        length, kind = _ATTRIBUTE.unpack_from(body)
        if kind == _FAMILY_ID:
            return int.from_bytes(body[_ATTRIBUTE.size : length], "little")
        body = body[(length + 3) & ~3 :]
    raise LookupError(codec.FAMILY)
