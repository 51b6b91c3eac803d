"""Which MAC address a VRID has wherever it is master (RFC 9568, 7.3), and where the VIPs are that have it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvsd.config.model import DirectorAddress, VrrpInstance


def virtual_mac(vrid: int, version: int) -> str:
    """Return the MAC address of a VRID over IPv4 or IPv6 (RFC 9568, 7.3)."""
    return f"00:00:5e:00:{1 if version == _V4 else 2:02x}:{vrid:02x}"


def interface_name(vrid: int, version: int) -> str:
    """Return the name of the interface that has it: `vrrp.51`, `vrrp6.51`."""
    return f"vrrp.{vrid}" if version == _V4 else f"vrrp6.{vrid}"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return VRID and IP version of an interface with a virtual MAC address; None where it is another."""
    found = _NAME.fullmatch(name)
    return (int(found[2]), 6 if found[1] else _V4) if found else None


def placed(instance: VrrpInstance) -> tuple[DirectorAddress, ...]:
    """Return the VIPs of an instance where they are put.

    With a virtual MAC address, those of its IP version go from its interface to the one that has it.
    """
    return tuple(_placed(vip, instance) for vip in instance.vips)


def _placed(vip: DirectorAddress, instance: VrrpInstance) -> DirectorAddress:
    where = vip.interface, vip.address.version
    if not instance.virtual_mac or where != (instance.interface, instance.family):
        return vip
    name = interface_name(instance.vrid, instance.family)
    # It is to be no way to the LAN, but for those who are told apart by their interface anyway.
    prefix = vip.prefix if vip.address.is_link_local else 8 * len(vip.address)
    return replace(vip, interface=name, prefix=prefix, label="")


_V4 = 4
_NAME = re.compile(r"vrrp(6?)\.([1-9][0-9]{0,2})", re.ASCII)
