"""Asks a LAN who has an address, and waits for the answer: before there is an event loop."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lvsd.vrrp.neighbours import ETHERNET_ARP, parse_advertisement, parse_arp, probe

if TYPE_CHECKING:
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.neighbours import Claim

ASK_EVERY: Final[Seconds] = 0.05
ASKED: Final = 3
"""How often it is asked before nobody is taken to have it."""

_ETHERNET_IPV6: Final = 0x86DD
_ROOM: Final = 2048
_NEXT_HEADER_AT, _ICMP_AT, _ICMP_V6 = 20, 54, 58


def claimed_elsewhere(interface: str, address: Address) -> bool:
    """Tell whether another host answers for `address`; False too where it cannot be asked."""
    ethertype = ETHERNET_ARP if address.version == 4 else _ETHERNET_IPV6  # noqa: PLR2004
    with suppress(OSError, ValueError):
        mac = bytes.fromhex(Path("/sys/class/net", interface, "address").read_text().replace(":", ""))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype)) as packets:
            packets.bind((interface, ethertype))
            for _ in range(ASKED):
                packets.send(probe(address, mac))
                if _is_answered(packets, address, mac):
                    return True
    return False


def _is_answered(packets: socket.socket, address: Address, own: bytes) -> bool:
    give_up_at = time.monotonic() + ASK_EVERY
    while (left := give_up_at - time.monotonic()) > 0:
        if not select.select([packets], [], [], left)[0]:
            return False
        claim = _claim(packets.recv(_ROOM), address.version)
        if claim is not None and claim.address == address and claim.mac != own:
            return True
    return False


def _claim(frame: bytes, version: int) -> Claim | None:
    if version == 4:  # noqa: PLR2004
        return parse_arp(frame)
    if len(frame) <= _ICMP_AT or frame[_NEXT_HEADER_AT] != _ICMP_V6:
        return None
    return parse_advertisement(frame[_ICMP_AT:])
