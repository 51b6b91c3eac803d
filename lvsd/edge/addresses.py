"""The virtual addresses that a director holds on its own interfaces."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from lvsd.config.model import Scope
from lvsd.edge.interfaces import Network
from lvsd.edge.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, Rtnetlink, attribute, attributes
from lvsd.errors import KernelError
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from lvsd.config.model import DirectorAddress

NO_RIGHT: Final = (
    "no right to change addresses: it takes CAP_NET_ADMIN "
    "(in lvsd.service `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW`, by hand root)"
)

# linux/rtnetlink.h, linux/if_addr.h
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 6, 8
_IFA_F_NODAD, _IFA_F_TENTATIVE, _IFA_F_NOPREFIXROUTE = 0x02, 0x40, 0x200
_SCOPES = {Scope.GLOBAL: 0, Scope.SITE: 200, Scope.LINK: 253, Scope.HOST: 254}
_IFADDRMSG = struct.Struct("=BBBBI")
_CACHEINFO = struct.Struct("=IIII")
_FLAGS = struct.Struct("=I")
_FOR_EVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FoundAddress:
    """An address as the kernel has it, whoever put it there. IPv6 has no label.

    A `tentative` one cannot be used yet: it may be another host's, too (RFC 4862, 5.4).
    """

    address: Address
    prefix: int
    interface: str
    label: str
    tentative: bool = False

    def __str__(self) -> str:
        where = f"{self.address}/{self.prefix} on {self.interface}"
        return f"{where} as {self.label}" if self.label not in {"", self.interface} else where


class Addresses:
    """The addresses of this network namespace's interfaces, by requests that are answered at once.

    Its socket is opened once and kept. Raise KernelError where an interface is missing or the kernel refuses.
    """

    def __init__(self) -> None:
        try:
            self._kernel = Rtnetlink()
        except OSError as error:
            message = f"routing netlink cannot be used: {error.strerror}"
            raise KernelError(message) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.close()

    def all(self) -> list[FoundAddress]:
        """Return all addresses, in the kernel's order."""
        names: dict[int, str] = {}
        told = self._kernel.dump(_RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0))
        found = (self._parse(body, names) for body in told)
        return [each for each in found if each is not None]

    def find(self, address: DirectorAddress) -> FoundAddress | None:
        """Return the address as it is on its interface now, or None."""
        self._index(address.interface)
        return self._find(address)

    def add(
        self, address: DirectorAddress, there: Iterable[FoundAddress] | None = None
    ) -> FoundAddress | None:
        """Put the address on its interface; return None then, or what was there and is adopted as it is.

        An IPv6 address serves at once, without duplicate address detection, and is never the source of
        what the director sends by itself: a probe's answer would stay on a real server that has it too.
        It brings no route where another address of the interface has brought one. `there` spares the kernel
        to tell all addresses again: those of the interface, if they are known.
        """
        index = self._index(address.interface)
        known = self.all() if there is None else there
        there = [each for each in known if each.interface == address.interface]
        if (found := next((each for each in there if each.address == address.address), None)) is not None:
            return found
        covered = self.covers(address, there)
        try:
            self._kernel.do(
                _RTM_NEWADDR, _request(address, index, covered=covered), NLM_F_CREATE | NLM_F_EXCL
            )
        except OSError as error:
            if error.errno == errno.EEXIST:
                return self._find(address)
            _refused("add", address, error)
        return None

    def covers(self, address: DirectorAddress, there: Iterable[FoundAddress] | None = None) -> bool:
        """Tell whether another address of its interface has brought the route to the network it lies in."""
        return any(
            Network.of(found.address, found.prefix).holds(address.address)
            for found in (self.all() if there is None else there)
            if found.interface == address.interface and found.address != address.address
        )

    def remove(self, address: DirectorAddress, found: FoundAddress | None = None) -> bool:
        """Take the address off its interface; return False if it is not there. It may be `found` already."""
        index = self._index(address.interface)
        found = found or self._find(address)
        if found is None:
            return False
        body = _IFADDRMSG.pack(_family(address.address), found.prefix, 0, 0, index)
        try:
            self._kernel.do(_RTM_DELADDR, body + attribute(_IFA_LOCAL, found.address))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            _refused("remove", address, error)
        return True

    def _find(self, address: DirectorAddress) -> FoundAddress | None:
        where = address.address, address.interface
        return next((found for found in self.all() if (found.address, found.interface) == where), None)

    def _parse(self, body: bytes, names: dict[int, str]) -> FoundAddress | None:
        _, prefix, flags, _, index = _IFADDRMSG.unpack_from(body)
        told = dict(attributes(body, _IFADDRMSG.size))
        # An IPv4 address comes as LOCAL, with the other end of a point-to-point link as ADDRESS.
        address = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS))
        if index not in names:
            names[index] = self._kernel.interface_name(index)
        if address is None or not names[index]:
            return None
        label = told.get(_IFA_LABEL, b"").rstrip(b"\0").decode(errors="replace")
        return FoundAddress(Address(address), prefix, names[index], label, bool(flags & _IFA_F_TENTATIVE))

    def _index(self, interface: str) -> int:
        index = self._kernel.interface_index(interface)
        if not index:
            message = f"there is no interface {interface}"
            raise KernelError(message)
        return index


def _request(address: DirectorAddress, index: int, *, covered: bool) -> bytes:
    it = address.address
    flags = _IFA_F_NOPREFIXROUTE if covered else 0
    body = attribute(_IFA_LOCAL, it) + attribute(_IFA_ADDRESS, it)
    if it.version == 6:  # noqa: PLR2004
        flags |= _IFA_F_NODAD
        body += attribute(
            _IFA_CACHEINFO, _CACHEINFO.pack(0, _FOR_EVER, 0, 0)
        )  # preferred for 0 s, valid for ever
    elif address.label:
        body += attribute(_IFA_LABEL, address.label.encode() + b"\0")
    body += attribute(_IFA_FLAGS, _FLAGS.pack(flags))
    return _IFADDRMSG.pack(_family(it), address.prefix, 0, _SCOPES[address.scope], index) + body


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004


def _refused(action: str, address: DirectorAddress, error: OSError) -> NoReturn:
    if error.errno == errno.EPERM:
        raise KernelError(NO_RIGHT) from error
    why = os.strerror(error.errno or 0)
    if error.errno == errno.EACCES:
        why = "IPv6 is disabled there"
    elif error.errno == errno.EINVAL and address.scope is not Scope.GLOBAL:
        why = "its network is there with another scope: write it with /32"
    message = f"cannot {action} {address} on {address.interface}: {why}"
    raise KernelError(message) from error
