"""The kernel's IPVS table: programmed and read over netlink, without stopping the event loop.

pyroute2 opens generic netlink and finds IPVS there. The messages are lvsd's own: changes go out in batches
in which only the last one asks for an answer, since the kernel answers every refusal anyway.
"""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias, TypeVar

from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import AsyncGenericNetlinkSocket

from lvsd.edge.ipvs_channel import Channel
from lvsd.errors import KernelError
from lvsd.ipvs import codec, sync, text
from lvsd.ipvs.change import refusal
from lvsd.model import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from types import TracebackType

    from lvsd.ipvs.change import Change, Refusal
    from lvsd.ipvs.codec import Connections, ServerRow
    from lvsd.ipvs.sync import SyncDaemon
    from lvsd.model import ServerKey, Service, ServiceKey, Table

BATCH: Final = 200
"""Changes in a batch: some 30 kB, and few enough for the answers to fit if each one is refused."""

NO_IPVS: Final = (
    "this kernel has no IPVS: `modprobe ip_vs` loads it, a line in /etc/modules-load.d at each boot"
)
NO_RIGHT: Final = (
    "no right to the IPVS table: it takes CAP_NET_ADMIN "
    "(in lvsd.service `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW`, by hand root)"
)
LOST: Final = "the kernel had no room for its answer about the IPVS table"


class Ipvs:
    """The IPVS table of the network namespace in which it is opened.

    What it needs is opened once and kept, so that it works on when descriptors run out: two sockets, the
    kernel's listing, and a thread. In the thread is done what waits for the kernel, which takes its time
    while it loads a scheduler's module or another program changes the table.

    All calls wait for each other, so that no table read is half programmed, and since the kernel answers one
    list at a time. Raise KernelError where the kernel has no IPVS or gives no right to it.
    """

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._turn = asyncio.Lock()
        self._sequence = 0
        self._known: dict[ServiceKey, _Known] = {}
        self._table: Table = {}

    async def __aenter__(self) -> Self:
        try:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ipvs")
            self._opened.callback(self._thread.shutdown, wait=False)
            self._generic = AsyncGenericNetlinkSocket()
            self._generic.module_err_level = "debug"  # the KernelError says it
            self._opened.callback(self._generic.close)
            self._family = await self._bind()
            self._channel = Channel()
            self._opened.callback(self._channel.close)
            await self._check_right()
        except BaseException:
            self._opened.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    async def program(self, changes: Sequence[Change]) -> dict[int, Refusal]:
        """Make `changes` in their order, and return why the kernel refused one, by its index.

        The changes after a refused one are made all the same. After an `unknown` one, read the table.
        """
        refused: dict[int, Refusal] = {}
        async with self._turn:
            for start in range(0, len(changes), BATCH):
                batch = changes[start : start + BATCH]
                errors = await self._submit(batch)
                refused |= {start + i: refusal(batch[i], code) for i, code in errors.items()}
        return refused

    async def read(self) -> Table:
        """Return the whole table.

        What is as it was at the last `read` is the same object again: each `Rows`, or the table itself.
        """
        async with self._turn:
            try:
                return await self._read()
            except _UnloadedError:
                await self._find_again()
                return await self._read()

    async def connections(
        self, services: Collection[ServiceKey]
    ) -> dict[ServiceKey, dict[ServerKey, Connections]]:
        """Return the connections that the kernel counts on each row of `services` at this moment."""
        async with self._turn:
            return {
                key: {row.key: row.connections for row in rows}
                for key, rows in (await self._servers(services)).items()
            }

    async def sync_daemons(self) -> list[SyncDaemon]:
        """Return the daemons that synchronise connections here."""
        async with self._turn:
            try:
                return await self._sync_daemons()
            except _UnloadedError:
                await self._find_again()
                return await self._sync_daemons()

    async def steer(self, step: sync.Step) -> int:
        """Start or stop such a daemon; return 0, or the errno with which the kernel refused.

        EINTR stands for no answer, which is the kernel's way to stop a daemon that has not run yet.
        """
        async with self._turn:
            request = sync.encode(step, self._family, self._take(1))
            for answer in _answers(await self._in_thread(self._channel.exchange, request)):
                return answer.error
        return errno.EINTR

    async def _bind(self) -> int:
        """Return IPVS's number in generic netlink: another one each time the module is loaded."""
        try:
            await self._generic.bind(codec.FAMILY, genlmsg)
        except (NetlinkError, OSError) as error:
            raise _not_found(error) from error
        return int(self._generic.prid)

    async def _find_again(self) -> None:
        try:
            found = await self._generic.discovery(codec.FAMILY)
        except (NetlinkError, OSError) as error:
            raise _not_found(error) from error
        self._family = int(found.get_attr("CTRL_ATTR_FAMILY_ID"))

    async def _check_right(self) -> None:
        request = codec.ask_version(self._family, self._take(1))
        for answer in _answers(await self._in_thread(self._channel.exchange, request)):
            _check(answer.error)

    async def _submit(self, batch: Sequence[Change]) -> dict[int, int]:
        """Return the errno of each change that was not made, by its index."""
        first, last = self._take(len(batch)), len(batch) - 1
        request = b"".join(
            codec.encode(change, self._family, first + i, acknowledged=i == last)
            for i, change in enumerate(batch)
        )
        datagrams = await self._in_thread(self._channel.exchange, request)
        errors = {answer.sequence - first: answer.error for answer in _answers(datagrams)}
        if last not in errors:
            return dict.fromkeys(range(len(batch)), errno.ENOBUFS)
        return {i: code for i, code in errors.items() if code}

    async def _sync_daemons(self) -> list[SyncDaemon]:
        request = sync.ask(self._family, self._take(1))
        datagrams = await self._in_thread(self._channel.exchange, request)
        return [each for answer in _listed(datagrams) if (each := sync.decode(answer.body)) is not None]

    async def _read(self) -> Table:
        services: list[_ServiceRow | None] = []
        for _attempt in range(_ATTEMPTS):
            request = codec.ask_services(self._family, self._take(1))
            datagrams, listing = await self._in_thread(self._channel.snapshot, request)
            services = await _decode_services(datagrams)
            if listing is None:
                break
            if await self._merge(services, listing):
                return self._table
        return await self._read_by_service([service for service in services if service is not None])

    async def _merge(self, services: list[_ServiceRow | None], listing: Iterable[bytes]) -> bool:
        """Put the services and the listing together; False where the table changed in between."""
        pause = _Pause()
        known: dict[ServiceKey, _Known] = {}
        with suppress(ValueError):  # more of the one than of the other, or lines that make no sense
            for row, block in zip(services, text.blocks(_lines(listing)), strict=True):
                await pause.after(len(block))
                if row is None:
                    continue
                key, service = row
                was = self._known.get(key)
                if was is not None and was.block == block and was.rows.service == service:
                    known[key] = was
                elif text.describes(block, key):
                    known[key] = _Known(block, Rows(service, text.servers(block)))
                else:
                    return False
            self._remember(known)
            return True
        return False

    def _remember(self, known: dict[ServiceKey, _Known]) -> None:
        if len(known) != len(self._table) or any(
            self._table.get(key) is not row.rows for key, row in known.items()
        ):
            self._table = {key: row.rows for key, row in known.items()}
        self._known = known

    async def _read_by_service(self, services: list[_ServiceRow]) -> Table:
        """Return the table without the kernel's listing: slower, and right even while it is being changed."""
        servers = await self._servers([key for key, _ in services])
        return {
            key: Rows(service, {row.key: row.server for row in servers[key]}) for key, service in services
        }

    async def _servers(self, services: Collection[ServiceKey]) -> dict[ServiceKey, list[ServerRow]]:
        pause = _Pause()
        rows: dict[ServiceKey, list[ServerRow]] = {}
        keys = iter(services)
        while batch := list(islice(keys, BATCH)):
            first = self._take(len(batch))
            requests = [codec.ask_servers(key, self._family, first + i) for i, key in enumerate(batch)]
            for key, datagrams in zip(batch, await self._in_thread(self._channel.ask, requests), strict=True):
                rows[key] = _decode_servers(datagrams, key.version)
                await pause.after(1 + len(rows[key]))
        return rows

    def _take(self, count: int) -> int:
        """Return the first of `count` sequence numbers in a row; they have 32 bits."""
        first = self._sequence if self._sequence + count < _SEQUENCES else 0
        self._sequence = first + count
        return first

    async def _in_thread(self, work: Callable[[_R], _T], request: _R) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, request)
        except OSError as error:
            raise _failed(error.errno) from error


_R = TypeVar("_R")
_T = TypeVar("_T")
_ServiceRow: TypeAlias = "tuple[ServiceKey, Service]"

_ATTEMPTS = 3
_SEQUENCES = 1 << 32
_ROWS_BETWEEN_TURNS = 200


class _UnloadedError(Exception):
    """The kernel knows the number no more under which IPVS was found: its module was loaded anew."""


class _Known(NamedTuple):
    block: text.Block
    rows: Rows


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


class _Pause:
    """Lets the loop have its turn now and then: so many rows take a millisecond or two."""

    def __init__(self) -> None:
        self._rows = 0

    async def after(self, rows: int) -> None:
        self._rows += rows
        if self._rows >= _ROWS_BETWEEN_TURNS:
            self._rows = 0
            await asyncio.sleep(0)


def _answers(datagrams: Iterable[bytes]) -> Iterator[codec.Answer]:
    return chain.from_iterable(map(codec.answers, datagrams))


def _listed(datagrams: Iterable[bytes]) -> Iterator[codec.Answer]:
    """Yield what the kernel lists; raise where it does not come to the end of the list."""
    for answer in _answers(datagrams):
        if not answer.last:
            yield answer
        elif answer.error == errno.ENOENT:
            raise _UnloadedError
        else:
            _check(answer.error)
            return
    raise KernelError(LOST)


async def _decode_services(datagrams: Iterable[bytes]) -> list[_ServiceRow | None]:
    """Return the virtual services in the kernel's order, with None for one that lvsd does not understand."""
    pause = _Pause()
    services: list[_ServiceRow | None] = []
    for answer in _listed(datagrams):
        services.append(codec.decode_service(answer.body))
        await pause.after(1)
    return services


def _decode_servers(datagrams: Iterable[bytes], version: int) -> list[ServerRow]:
    rows: list[ServerRow] = []
    for answer in _answers(datagrams):
        if answer.last:
            _check(answer.error)
            return rows
        if (row := codec.decode_server(answer.body, version)) is not None:
            rows.append(row)
    raise KernelError(LOST)


def _check(code: int) -> None:
    if code == errno.EPERM:
        raise KernelError(NO_RIGHT)
    if code:
        raise _failed(code)


def _failed(code: int | None) -> KernelError:
    return KernelError(f"the IPVS table cannot be reached: {os.strerror(code or 0)}")


def _not_found(error: NetlinkError | OSError) -> KernelError:
    code: int = (error.code if isinstance(error, NetlinkError) else error.errno) or 0
    if code == errno.ENOENT:
        return KernelError(NO_IPVS)
    return KernelError(f"generic netlink cannot be used: {os.strerror(code)}")
