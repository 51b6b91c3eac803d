"""Where a VIP goes, tells the other director's kernel of connections that this one's has not told it of."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from lvsd.edge.aside import aside
from lvsd.events import SyncHandedOver
from lvsd.ipvs.connections import messages, open_connections
from lvsd.ipvs.sync import SyncRole, daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lvsd.config.model import SyncSettings
    from lvsd.events import Event
    from lvsd.ipvs.sync import SyncDaemon
    from lvsd.model import Seconds, ServiceKey

WITHIN: Final[Seconds] = 3.0
"""What is not told by then is told by nobody."""

AT_ONCE: Final = 1000
"""So many rows of the kernel's are looked at before anything else is done; the rest has a thread."""

_CONNECTIONS: Final = Path("/proc/thread-self/net/ip_vs_conn")
_ROOM: Final = 1000
_PAUSE: Final[Seconds] = 0.005
"""Connections that the other kernel has room for (net.core.rmem_default), and how long it reads at them."""

_TOLD_AFTER: Final[Seconds] = 0.3
"""What is sent again and again, while a VIP goes, is told once."""


class Handover:
    """Sends the open connections to the other director's kernel. What was lost comes with the next."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._running: asyncio.Future[None] | None = None
        self._again: tuple[SyncSettings, Collection[ServiceKey]] | None = None
        self._most: _Sending | None = None

    def begin(self, settings: SyncSettings, services: Collection[ServiceKey]) -> None:
        """Send those of `services`, the first of them at once; where it is being done, do it once more."""
        if self._running is not None:
            self._again = settings, services
            return
        try:
            sending = _Sending(daemon(settings, SyncRole.MASTER), services)
        except OSError:  # the interface has gone, and the other director with it
            return
        sending.go_on()
        if sending.ended:
            self._take(sending)
        else:
            self._running = aside(sending.finish, "handover")
            self._running.add_done_callback(lambda _: self._go_on(sending))

    async def finish(self) -> None:
        """Wait until all is sent, and tell it."""
        while (running := self._running) is not None:
            await asyncio.wait({running})
        self._tell()

    def _go_on(self, sent: _Sending) -> None:
        self._running = None
        self._take(sent)
        if self._again is not None:
            again, self._again = self._again, None
            self.begin(*again)

    def _take(self, sent: _Sending) -> None:
        if self._most is None:
            self._loop.call_later(_TOLD_AFTER, self._tell)
        if self._most is None or sent.count > self._most.count:
            self._most = sent

    def _tell(self) -> None:
        most, self._most = self._most, None
        if most is not None and most.count:
            self._report(SyncHandedOver(connections=most.count, complete=most.complete))


class _Sending:
    """One reading of the kernel's connections, and how many were sent so far. Raise OSError as sockets do."""

    def __init__(self, told_by: SyncDaemon, services: Collection[ServiceKey]) -> None:
        self.count = 0
        self.ended = False
        self.complete = False
        self._told_by = told_by
        self._services = services
        self._give_up_at = time.monotonic() + WITHIN
        self._link = _open(told_by)
        try:
            self._lines: IO[bytes] = _CONNECTIONS.open("rb")
        except OSError:
            self._link.close()
            raise

    def go_on(self) -> None:
        """Send the next of them."""
        to = str(self._told_by.group), self._told_by.port
        try:
            lines = list(islice(self._lines, AT_ONCE))
            connections = open_connections(lines, self._services)
            for message, count in messages(connections, self._told_by.id, self._told_by.payload):
                self._link.sendto(message, to)
                self.count += count
        except OSError:
            self._end()
        else:
            self.complete = len(lines) < AT_ONCE
            if self.complete or time.monotonic() >= self._give_up_at:
                self._end()

    def finish(self) -> None:
        """Send all that are left, as fast as the other kernel takes them in."""
        rested = 0
        while not self.ended:
            if self.count >= rested + _ROOM:
                time.sleep(_PAUSE)
                rested = self.count
            self.go_on()

    def _end(self) -> None:
        self.ended = True
        self._lines.close()
        self._link.close()


_V4 = 4
_ANY = bytes(4)
_MREQN = struct.Struct("@4s4si")


def _open(told_by: SyncDaemon) -> socket.socket:
    """Return a socket that sends to the group by the interface of the kernel's own daemon."""
    interface = socket.if_nametoindex(told_by.interface)
    v4 = told_by.group.version == _V4
    link = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if v4:
            link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _MREQN.pack(_ANY, _ANY, interface))
            link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, told_by.ttl)
            link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        else:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, told_by.ttl)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    except OSError:
        link.close()
        raise
    return link
