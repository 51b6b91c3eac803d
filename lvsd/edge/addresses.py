"""The virtual addresses that a director without a partner holds on its own interfaces."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from lvsd.errors import KernelError

if TYPE_CHECKING:
    from types import TracebackType

    from lvsd.config.model import DirectorAddress
    from lvsd.model import Address

NO_RIGHT: Final = (
    "no right to change addresses: it takes CAP_NET_ADMIN "
    "(in lvsd.service `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW`, by hand root)"
)


@dataclass(frozen=True, slots=True)
class FoundAddress:
    """An address as the kernel has it, whoever put it there. IPv6 has no label."""

    address: Address
    prefix: int
    interface: str
    label: str

    def __str__(self) -> str:
        where = f"{self.address}/{self.prefix} on {self.interface}"
        return f"{where} as {self.label}" if self.label not in {"", self.interface} else where


class Addresses:
    """The addresses of this network namespace's interfaces.

    Its socket is opened once and kept. Raise KernelError where an interface is missing or the kernel refuses.
    """

    def __init__(self) -> None:
        self._kernel = AsyncIPRoute()

    async def __aenter__(self) -> Self:
        try:
            await self._kernel.setup_endpoint()
        except OSError as error:
            self._kernel.close()
            msg = f"routing netlink cannot be used: {error.strerror}"
            raise KernelError(msg) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.close()

    async def present(self, address: DirectorAddress) -> bool:
        """Whether the address is on its interface, with whatever prefix and label."""
        return await self.find(address) is not None

    async def find(self, address: DirectorAddress) -> FoundAddress | None:
        """Return the address as it is on its interface now, or None."""
        return await self._find(address, await self._index(address.interface))

    async def add(self, address: DirectorAddress) -> FoundAddress | None:
        """Put the address on its interface; return None then, or what was there and is adopted as it is.

        An IPv6 address serves at once, without duplicate address detection, and is never the source of
        what the director sends by itself: a probe's answer would stay on a real server that has it too.
        """
        index = await self._index(address.interface)
        if (found := await self._find(address, index)) is not None:
            return found
        request = {"index": index, "address": str(address.address), "prefixlen": address.prefix}
        if address.address.version == 6:  # noqa: PLR2004
            request |= {"flags": _IFA_F_NODAD, "preferred": 0, "valid": _FOR_EVER}
        elif address.label:
            request["label"] = address.label
        try:
            await self._kernel.addr("add", **request)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return await self._find(address, index)
            _refused("add", address, error)
        return None

    async def remove(self, address: DirectorAddress) -> bool:
        """Take the address off its interface; return False where it was not on it."""
        index = await self._index(address.interface)
        if (found := await self._find(address, index)) is None:
            return False
        try:
            await self._kernel.addr(
                "del",
                index=index,
                address=str(found.address),
                prefixlen=found.prefix,
                family=_family(address),
            )
        except NetlinkError as error:
            if error.code == errno.EADDRNOTAVAIL:
                return False
            _refused("remove", address, error)
        return True

    async def _index(self, interface: str) -> int:
        # A dump, since pyroute2 keeps the acknowledgement of each `get` for ever.
        async for link in await self._kernel.get_links(ifname=interface):
            return int(link["index"])
        msg = f"there is no interface {interface}"
        raise KernelError(msg)

    async def _find(self, address: DirectorAddress, index: int) -> FoundAddress | None:
        text = str(address.address)
        async for found in await self._kernel.get_addr(family=_family(address), index=index):
            if (found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")) == text:
                label = found.get_attr("IFA_LABEL") or ""
                return FoundAddress(address.address, int(found["prefixlen"]), address.interface, label)
        return None


_IFA_F_NODAD = 0x02
_FOR_EVER = 0xFFFFFFFF


def _family(address: DirectorAddress) -> int:
    return socket.AF_INET if address.address.version == 4 else socket.AF_INET6  # noqa: PLR2004


def _refused(action: str, address: DirectorAddress, error: NetlinkError) -> NoReturn:
    if error.code == errno.EPERM:
        raise KernelError(NO_RIGHT) from error
    why = "IPv6 is disabled there" if error.code == errno.EACCES else os.strerror(error.code)
    msg = f"cannot {action} {address} on {address.interface}: {why}"
    raise KernelError(msg) from error
