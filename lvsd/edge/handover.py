"""Where a VIP goes, tells the other director's kernel of connections that this one's has not told it of."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lvsd.edge.aside import aside
from lvsd.events import SyncHandedOver
from lvsd.ipvs.connections import messages, open_connections
from lvsd.ipvs.sync import SyncRole, daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lvsd.config.model import SyncSettings
    from lvsd.events import Event
    from lvsd.ipvs.connections import Connection
    from lvsd.ipvs.sync import SyncDaemon
    from lvsd.model import Seconds, ServiceKey

WITHIN: Final[Seconds] = 1.0
"""What is not told by then is told by nobody."""

_CONNECTIONS: Final = Path("/proc/thread-self/net/ip_vs_conn")
_AT_ONCE: Final = 32
_PAUSE: Final[Seconds] = 0.005
"""Messages that the other kernel has room for (net.core.rmem_default), and how long it takes to read them."""

_SAME: Final[Seconds] = 5.0
"""For so long nothing is told twice: the other director may know by now that it is closed."""


class Handover:
    """Sends the connections that are open to the other director's kernel, in a thread of its own."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._running: asyncio.Future[int] | None = None
        self._next: tuple[SyncDaemon, Collection[ServiceKey]] | None = None
        self._told: set[Connection] = set()
        self._forgets: asyncio.TimerHandle | None = None

    def begin(self, settings: SyncSettings, services: Collection[ServiceKey]) -> None:
        """Send those of `services`; where it is being done already, what is new by then is sent after it."""
        self._next = daemon(settings, SyncRole.MASTER), services
        if self._running is None:
            self._go_on()

    async def finish(self) -> None:
        """Wait until all is sent."""
        while (running := self._running) is not None:
            await asyncio.wait({running}, timeout=WITHIN)

    def _go_on(self) -> None:
        if self._next is None:
            self._running = None
            return
        told_by, services = self._next
        self._next = None
        if self._forgets is not None:
            self._forgets.cancel()
        self._forgets = asyncio.get_running_loop().call_later(_SAME, self._told.clear)
        self._running = aside(lambda: self._tell(told_by, services), "handover")
        self._running.add_done_callback(self._done)

    def _done(self, ended: asyncio.Future[int]) -> None:
        if not ended.cancelled() and ended.exception() is None and ended.result():
            self._report(SyncHandedOver(connections=ended.result()))
        self._go_on()

    def _tell(self, told_by: SyncDaemon, services: Collection[ServiceKey]) -> int:
        """Send what is new, and return how many connections that were."""
        give_up_at = time.monotonic() + WITHIN
        count = 0
        with _CONNECTIONS.open("rb") as lines, _open(told_by) as link:
            new = (each for each in open_connections(lines, services) if self._is_new(each))
            sent = messages(new, told_by.id, told_by.payload)
            while time.monotonic() < give_up_at and (batch := list(islice(sent, _AT_ONCE))):
                for message, connections in batch:
                    link.sendto(message, (str(told_by.group), told_by.port))
                    count += connections
                time.sleep(_PAUSE)
        return count

    def _is_new(self, connection: Connection) -> bool:
        known = connection._replace(state=0, expires=0)
        if known in self._told:
            return False
        self._told.add(known)
        return True


_V4 = 4
_MREQN = struct.Struct("@4s4si")


def _open(told_by: SyncDaemon) -> socket.socket:
    """Return a socket that sends to the group by the interface of the kernel's own daemon."""
    interface = socket.if_nametoindex(told_by.interface)
    if told_by.group.version == _V4:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        way = _MREQN.pack(bytes(4), bytes(4), interface)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, way)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, told_by.ttl)
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        return link
    link = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, told_by.ttl)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    return link
