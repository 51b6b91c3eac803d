"""Follows the director's own interfaces, addresses and routes over netlink."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETROUTE, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lvsd.edge.interfaces import AddressChange, Attached, Interfaces, LinkState, Network
from lvsd.errors import KernelError
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self, TypeAlias

    from lvsd.model import Seconds

    _Message: TypeAlias = Any  # pyroute2 has no types

SETTLE: Final = 0.2
REFRESH: Final = 60.0
"""Routes are read `SETTLE` seconds after a change, then ever more rarely, and each `REFRESH` for good.

They are not subscribed to: a routing daemon's churn would cost more than the answer is worth.
"""

REOPEN: Final = 0.2
"""How many seconds pass before netlink is opened again after it has failed."""

_GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_MAIN_TABLE = 254
_UNICAST = 1
_ROUTED_BY = {"kernel": 2, "boot": 3, "static": 4, "ra": 9, "dhcp": 16}
"""Whose routes are read, by protocol: what a routing daemon has learnt, a million perhaps, it also mends."""


class Links:
    """Follows this host's interfaces, addresses and routes. It only reads, which needs no rights.

    `on_address` is told of each address that is there at the start, comes or goes, and `on_link` the name of
    each interface that something changes about. Until `start`, and where
    that fails, nothing is impeded. Only the main routing table is looked at. `on_end` is given the task that
    `start` has begun when it ends: by `close`, or by an error in lvsd, after which nothing is followed.
    """

    def __init__(
        self,
        on_address: Callable[[AddressChange], None] | None = None,
        on_end: Callable[[asyncio.Task[None]], object] | None = None,
        on_link: Callable[[str], None] | None = None,
    ) -> None:
        self._on_address = on_address
        self._on_link = on_link
        self._on_end = on_end
        self._interfaces = Interfaces()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Return once everything has been read; raise KernelError where netlink does not allow it."""
        started = self._loop.create_future()
        self._task = self._loop.create_task(self._run(started))
        await asyncio.wait((started, self._task), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        elif self._on_end is not None:
            self._task.add_done_callback(self._on_end)

    async def close(self) -> None:
        """Follow no more. What was last known stays; how it ended, `start` or `on_end` has told."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def impeded(self, address: Address, since: Seconds) -> str | None:
        """Return why the director could not reach `address` at some time after `since`, or None.

        `since` is a moment of the event loop's clock. The answer comes from memory, at once.
        """
        return self._interfaces.impeded(address, since)

    def state(self, name: str) -> LinkState:
        """Return how the interface `name` is."""
        return self._interfaces.state(name)

    async def _run(self, started: asyncio.Future[None]) -> None:
        while True:
            try:
                async with AsyncIPRoute() as events, AsyncIPRoute(strict_check=True) as requests:
                    await events.bind(groups=_GROUPS)
                    await self._read_all(requests)
                    if not started.done():
                        started.set_result(None)
                    await self._follow(events, requests)
            except (OSError, NetlinkError) as error:
                if not started.done():
                    message = f"cannot follow the network interfaces over netlink: {error}"
                    raise KernelError(message) from error
            # ENOBUFS, most likely: events were lost, so that all is read anew, through new sockets.
            await asyncio.sleep(REOPEN)

    async def _follow(self, events: AsyncIPRoute, requests: AsyncIPRoute) -> None:
        pause = SETTLE
        while True:
            if await self._hears_within(pause, events):
                pause = SETTLE
            else:
                await self._read_routes(requests)
                pause = min(2 * pause, REFRESH)

    async def _hears_within(self, pause: Seconds, events: AsyncIPRoute) -> bool:
        """Take in the next datagram of events; return False where none comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                async for message in events.get():
                    self._hear(message)
                return True
        return False

    def _hear(self, message: _Message) -> None:
        match message["event"]:
            case "RTM_NEWLINK" | "RTM_DELLINK" if message["family"] != socket.AF_UNSPEC:
                pass  # a bridge's port
            case "RTM_NEWLINK":
                self._set_link(message)
            case "RTM_DELLINK":
                self._remove_link(message["index"])
            case "RTM_NEWADDR":
                self._add_address(_attached(message))
            case "RTM_DELADDR":
                self._remove_address(_attached(message))

    async def _read_all(self, requests: AsyncIPRoute) -> None:
        # Links last: one that is up in the end had all that was read before of its routes and addresses.
        attached = {_attached(message) async for message in await requests.get_addr()}
        links = [message async for message in await requests.get_links()]
        for index in self._interfaces.links() - {message["index"] for message in links}:
            self._remove_link(index)
        for message in links:
            self._set_link(message)
        for gone in self._interfaces.attached() - attached:
            self._remove_address(gone)
        for new in attached:
            self._add_address(new)
        await self._read_routes(requests)

    async def _read_routes(self, requests: AsyncIPRoute) -> None:
        routes: dict[int, set[Network]] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            for protocol in _ROUTED_BY.values():
                async for message in await requests.nlm_request(
                    _route_filter(family, protocol), RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP
                ):
                    for index in _ways(message):
                        routes.setdefault(index, set()).add(_destination(message))
        async for message in await requests.get_links():
            self._set_link(message)
        self._interfaces.set_routes(routes)

    def _set_link(self, message: _Message) -> None:
        flags = message["flags"]
        if not flags & _IFF_UP:
            state = LinkState.DOWN
        elif not flags & _IFF_RUNNING:
            state = LinkState.NO_CARRIER
        else:
            state = LinkState.UP
        index, name = message["index"], message.get("ifname")
        before, earlier = self._interfaces.state(name), self._interfaces.name(index)
        self._interfaces.set_link(index, name, state, self._loop.time())
        if before is not state:
            self._touch(name)
        if earlier != name:  # it has another name now, and of the one before there is none
            self._touch(earlier)

    def _remove_link(self, index: int) -> None:
        name = self._interfaces.name(index)
        self._interfaces.remove_link(index)
        self._touch(name)

    def _touch(self, interface: str) -> None:
        if self._on_link is not None:
            self._on_link(interface)

    def _add_address(self, attached: Attached) -> None:
        if self._interfaces.add_address(attached):
            self._tell(attached, added=True)
        self._touch(self._interfaces.name(attached.index))

    def _remove_address(self, attached: Attached) -> None:
        if self._interfaces.remove_address(attached):
            self._tell(attached, added=False)
        self._touch(self._interfaces.name(attached.index))

    def _tell(self, attached: Attached, *, added: bool) -> None:
        if self._on_address is not None:
            name = self._interfaces.name(attached.index)
            self._on_address(AddressChange(added, attached.address, attached.prefix, name))


def _attached(message: _Message) -> Attached:
    # An IPv4 address comes as LOCAL, with the other end of a point-to-point link as ADDRESS.
    address = Address.parse(message.get("local") or message.get("address"))
    prefix = message["prefixlen"]
    peer = Address.parse(message.get("address") or message.get("local"))
    return Attached(message["index"], address, prefix, Network.of(peer, prefix))


def _route_filter(family: int, protocol: int) -> rtmsg:
    """Return a request that the kernel answers with the routes of one protocol only."""
    request = rtmsg()
    request["family"] = family
    request["table"] = _MAIN_TABLE
    request["proto"] = protocol
    return request


def _ways(route: _Message) -> Iterator[int]:
    """Return the interfaces through which a route leads."""
    if route["type"] != _UNICAST:
        return
    if route.get("oif") is not None:
        yield route.get("oif")
    for hop in route.get("multipath") or ():
        yield hop["oif"]


def _destination(route: _Message) -> Network:
    anywhere = bytes(4 if route["family"] == socket.AF_INET else 16)
    text = route.get("dst")
    return Network.of(Address.parse(text) if text else Address(anywhere), route["dst_len"])
