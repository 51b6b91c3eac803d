"""Interfaces with the MAC address that a VRID has wherever it is master (RFC 9568, 7.3): macvlans."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from lvsd.edge import hushed
from lvsd.edge.hushed import Hushed
from lvsd.edge.rtnetlink import attribute
from lvsd.errors import KernelError
from lvsd.vrrp.virtual_mac import interface_name, virtual_mac

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import TypeAlias

    _Link: TypeAlias = Any  # pyroute2 has no types

NO_RIGHT: Final = "no right to make an interface with a virtual MAC address: it takes CAP_NET_ADMIN"


class VirtualMacs:
    """The interfaces with virtual MAC addresses. Raise KernelError where the kernel refuses.

    It is there while its instance is master only, for a backup that has it would take packets meant for the
    master.

    Advertisements leave with its MAC, from the parent's address, and are heard on the parent, those of a
    second master with the same MAC too: a macvlan that is private would keep them from it.
    """

    def __init__(self) -> None:
        self._kernel = AsyncIPRoute()
        self._hushed = hushed.read()

    async def __aenter__(self) -> Self:
        try:
            await self._kernel.setup_endpoint()
        except OSError as error:
            self._kernel.close()
            msg = f"routing netlink cannot be used: {error.strerror}"
            raise KernelError(msg) from error
        try:
            await self._unhush()  # those whose virtual MACs have gone without us
        except NetlinkError as error:
            self._kernel.close()
            _refused("give an interface its ARP settings back", error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel.close()

    async def add(self, interface: str, vrid: int, version: int) -> str:
        """Make the interface on top of `interface`, up, or adopt the one that is there; return its name."""
        if (parent := await self._find(interface)) is None:
            msg = f"there is no interface {interface}"
            raise KernelError(msg)
        name, mac = interface_name(vrid, version), virtual_mac(vrid, version)
        try:
            index = await self._make(name, mac, parent)
            await self._make_no_address(index)
            await self._set(index, _af_spec_v4({_ARP_IGNORE: _ITS_OWN, _RP_FILTER: _LOOSE}))
            if version == _V4:
                await self._hush(parent, name)
            await self._kernel.link("set", index=index, state="up")
        except NetlinkError as error:
            _refused(f"make {name} on {interface}", error)
        return name

    async def remove(self, vrid: int, version: int) -> bool:
        """Remove the interface with its VIPs; return False where there is none with that MAC address."""
        name = interface_name(vrid, version)
        try:
            found = await self._find(name)
            is_its_own = found is not None and found.get("address") == virtual_mac(vrid, version)
            if found is not None and is_its_own:
                await self._kernel.link("del", index=found["index"])
            self._let_go(name)
            await self._unhush()  # once the VIPs are gone that its parent must not answer for
        except NetlinkError as error:
            _refused(f"remove {name}", error)
        return is_its_own

    async def _make(self, name: str, mac: str, parent: _Link) -> int:
        """Return the index of the interface, made or found; it is down where it was made."""
        if await self._find(name) is None:
            await self._kernel.link(
                "add", ifname=name, kind="macvlan", link=parent["index"], address=mac, macvlan_mode="vepa"
            )
        found = await self._find(name)
        if found is None or (found.get("link"), found.get("address")) != (parent["index"], mac):
            msg = f"{name} is another interface than one with {mac} on {parent.get('ifname')}"
            raise KernelError(msg)
        return int(found["index"])

    async def _make_no_address(self, index: int) -> None:
        """Let IPv6 make no address from the MAC (RFC 9568, 7.4); it is told before the interface is up."""
        try:
            await self._set(index, _af_spec_v6())
        except NetlinkError as error:
            if error.code != errno.EAFNOSUPPORT:  # a host without IPv6
                raise

    async def _hush(self, parent: _Link, name: str) -> None:
        """Keep the parent from telling that the VIPs are at its own MAC address, asked or asking."""
        index = parent["index"]
        conf = parent.get(("af_spec", "af_inet"))
        if index not in self._hushed:
            before = {_ARP_IGNORE: conf["arp_ignore"], _ARP_ANNOUNCE: conf["arp_announce"]}
            self._hushed[index] = Hushed(parent.get("ifname"), index, before)
        self._hushed[index].needed_by.add(name)
        hushed.write(self._hushed.values())  # before it is done, as for rows
        ignore = conf["arp_ignore"] or _ITS_OWN
        await self._set(index, _af_spec_v4({_ARP_IGNORE: ignore, _ARP_ANNOUNCE: _BEST}))

    def _let_go(self, name: str) -> None:
        for it in self._hushed.values():
            it.needed_by.discard(name)

    async def _unhush(self) -> None:
        """Give those parents their settings back on which there is no interface that needs others."""
        if not self._hushed:
            return
        for index, it in list(self._hushed.items()):
            if it.needed_by:
                continue
            try:
                await self._set(index, _af_spec_v4(it.before))
            except NetlinkError as error:
                if error.code != errno.ENODEV:  # it is gone itself
                    raise
            del self._hushed[index]
        hushed.write(self._hushed.values())

    async def _find(self, name: str) -> _Link | None:
        # A dump, since pyroute2 keeps the acknowledgement of each `get` for ever; and to its end, since the
        # kernel calls itself busy when the next one is asked for before.
        found = [link async for link in await self._kernel.get_links(ifname=name)]
        return found[0] if found else None

    async def _set(self, index: int, settings: bytes) -> None:
        """Change settings over netlink: a unit with ProtectKernelTunables= cannot write to /proc/sys."""
        request = _SettingsMessage()
        request["index"] = index
        request["attrs"] = [("IFLA_AF_SPEC", settings)]
        async for _ in await self._kernel.nlm_request(request, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK):
            pass


class _SettingsMessage(nlmsg):  # type: ignore[misc]
    """An ifinfomsg that takes the settings of an address family as bytes, which pyroute2 can only read."""

    fields = ifinfmsg.fields
    nla_map = ((26, "IFLA_AF_SPEC", "cdata"),)


_V4 = 4

# linux/if_link.h and linux/ip.h
_IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE = 1, 8
_RP_FILTER, _ARP_ANNOUNCE, _ARP_IGNORE = 8, 18, 19
_ITS_OWN = 1
"""Answers for the addresses on the interface itself."""
_BEST = 2
"""Asks as an address on the interface itself; else clients would learn that the VIP is there."""
_LOOSE = 2
"""Packets come in here and answers leave by the parent. It wins over a strict net.ipv4.conf.all.rp_filter."""
_ADDR_GEN_MODE_NONE = 1


def _af_spec_v4(settings: Mapping[int, int]) -> bytes:
    conf = b"".join(attribute(setting, struct.pack("I", value)) for setting, value in settings.items())
    return attribute(socket.AF_INET, attribute(_IFLA_INET_CONF, conf))


def _af_spec_v6() -> bytes:
    return attribute(socket.AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_MODE_NONE])))


def _refused(action: str, error: NetlinkError) -> NoReturn:
    if error.code == errno.EPERM:
        raise KernelError(NO_RIGHT) from error
    msg = f"cannot {action}: {os.strerror(error.code)}"
    raise KernelError(msg) from error
