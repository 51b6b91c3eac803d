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

from lvsd.errors import KernelError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypeAlias

    _Link: TypeAlias = Any  # pyroute2 has no types

NO_RIGHT: Final = "no right to make an interface with a virtual MAC address: it takes CAP_NET_ADMIN"


def virtual_mac(vrid: int, version: int) -> str:
    """Return the MAC address of a VRID over IPv4 or IPv6 (RFC 9568, 7.3)."""
    return f"00:00:5e:00:{1 if version == _V4 else 2:02x}:{vrid:02x}"


def interface_name(vrid: int, version: int) -> str:
    """Return the name of the interface that has it: `vrrp.51`, `vrrp6.51`."""
    return f"vrrp.{vrid}" if version == _V4 else f"vrrp6.{vrid}"


class VirtualMacs:
    """The interfaces with virtual MAC addresses. Raise KernelError where the kernel refuses.

    Its VIPs go on such an interface, with a prefix length of 32 or 128: it is to be no way to the LAN. It is
    there while its instance is master only, for a backup that has it would take packets meant for the master.
    """

    def __init__(self) -> None:
        self._kernel = AsyncIPRoute()
        self._arp_ignored: dict[str, tuple[int, set[str]]] = {}

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

    async def add(self, interface: str, vrid: int, version: int) -> str:
        """Make the interface on top of `interface`, up, or adopt the one that is there; return its name."""
        if (parent := await self._find(interface)) is None:
            msg = f"there is no interface {interface}"
            raise KernelError(msg)
        name, mac = interface_name(vrid, version), virtual_mac(vrid, version)
        try:
            index = await self._make(name, mac, parent)
            # Without an address that is made from the MAC (RFC 9568, 7.4), and before it comes up.
            await self._set(index, _af_spec_v6())
            if version == _V4:
                await self._set(index, _af_spec_v4(_ARP_IGNORE, 1), _af_spec_v4(_RP_FILTER, _LOOSE))
                await self._ignore_arp(parent, name)
            await self._kernel.link("set", index=index, state="up")
        except NetlinkError as error:
            _refused(f"make {name} on {interface}", error)
        return name

    async def remove(self, interface: str, vrid: int, version: int) -> bool:
        """Remove the interface and all that is on it; return False where it was not there."""
        name = interface_name(vrid, version)
        try:
            await self._heed_arp(interface, name)
            if (found := await self._find(name)) is None:
                return False
            await self._kernel.link("del", index=found["index"])
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return False
            _refused(f"remove {name}", error)
        return True

    async def _make(self, name: str, mac: str, parent: _Link) -> int:
        """Return the index of the interface, made or found; it is down where it was made."""
        if await self._find(name) is None:
            await self._kernel.link(
                "add", ifname=name, kind="macvlan", link=parent["index"], address=mac, macvlan_mode="private"
            )
        found = await self._find(name)
        if found is None or (found.get("link"), found.get("address")) != (parent["index"], mac):
            msg = f"{name} is another interface than one with {mac} on {parent.get('ifname')}"
            raise KernelError(msg)
        return int(found["index"])

    async def _ignore_arp(self, parent: _Link, name: str) -> None:
        """Keep the parent from answering for the VIPs with its own MAC address; others' settings are kept."""
        interface = parent.get("ifname")
        if interface not in self._arp_ignored:
            before = parent.get(("af_spec", "af_inet"))["arp_ignore"]
            self._arp_ignored[interface] = before, set()
            await self._set(parent["index"], _af_spec_v4(_ARP_IGNORE, max(before, 1)))
        self._arp_ignored[interface][1].add(name)

    async def _heed_arp(self, interface: str, name: str) -> None:
        """Give the parent its setting back with the last interface that needs another."""
        before, names = self._arp_ignored.get(interface, (0, set()))
        names.discard(name)
        if names or interface not in self._arp_ignored:
            return
        del self._arp_ignored[interface]
        if (parent := await self._find(interface)) is not None:
            await self._set(parent["index"], _af_spec_v4(_ARP_IGNORE, before))

    async def _find(self, name: str) -> _Link | None:
        # A dump, since pyroute2 keeps the acknowledgement of each `get` for ever.
        async for link in await self._kernel.get_links(ifname=name):
            return link
        return None

    async def _set(self, index: int, *settings: bytes) -> None:
        """Change settings over netlink: a unit with ProtectKernelTunables= cannot write to /proc/sys."""
        for setting in settings:
            request = _SettingsMessage()
            request["index"] = index
            request["attrs"] = [("IFLA_AF_SPEC", setting)]
            async for _ in await self._kernel.nlm_request(request, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK):
                pass


class _SettingsMessage(nlmsg):  # type: ignore[misc]
    """An ifinfomsg that takes the settings of an address family as bytes, which pyroute2 can only read."""

    fields = ifinfmsg.fields
    nla_map = ((26, "IFLA_AF_SPEC", "cdata"),)


_V4 = 4
_ATTRIBUTE = struct.Struct("HH")

# linux/if_link.h and linux/ip.h
_IFLA_INET_CONF, _IFLA_INET6_ADDR_GEN_MODE = 1, 8
_RP_FILTER, _ARP_IGNORE = 8, 19
_LOOSE = 2
"""Packets come in here and answers leave by the parent. It wins over a strict net.ipv4.conf.all.rp_filter."""
_ADDR_GEN_MODE_NONE = 1


def _af_spec_v4(setting: int, value: int) -> bytes:
    conf = _attribute(_IFLA_INET_CONF, _attribute(setting, struct.pack("I", value)))
    return _attribute(socket.AF_INET, conf)


def _af_spec_v6() -> bytes:
    return _attribute(socket.AF_INET6, _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_MODE_NONE])))


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _refused(action: str, error: NetlinkError) -> NoReturn:
    if error.code == errno.EPERM:
        raise KernelError(NO_RIGHT) from error
    msg = f"cannot {action}: {os.strerror(error.code)}"
    raise KernelError(msg) from error
