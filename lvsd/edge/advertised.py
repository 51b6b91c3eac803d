"""What was advertised last, written down at each advertisement: the next run goes on with it at once.

A director that was killed is started again within the master-down interval, but takes a while to find out how
things are. The kernel forwards meanwhile and has the VIPs; so what the run before said last is said again, as
long as nobody can have taken over. Where somebody has, the VIPs go before anything else. It imports little.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lvsd.edge import runtime
from lvsd.edge.vrrp_raw import open_socket, send
from lvsd.errors import KernelError, PacketError
from lvsd.model import Address
from lvsd.vrrp.machine import DOWN_AFTER
from lvsd.vrrp.packet import RESIGNED, decode, encode
from lvsd.vrrp.virtual_mac import parse_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lvsd.config.model import DirectorAddress
    from lvsd.model import Seconds


REPEATED_FOR: Seconds = 30.0
"""For so long what a run said last is said again, however often those after it die."""

_TEXTS = frozenset({"interface", "source", "peers", "payload", "vips"})

MOST_ASKED = 3
"""So many VIPs of an instance are asked for: they go from director to director together."""


class Said(NamedTuple):
    """An advertisement as it was sent, and to whom; `interval` is the time to the next.

    `vips` are the addresses that this director holds: each with its prefix length and its interface.
    """

    interface: str
    source: Address
    peers: Sequence[Address]
    payload: bytes
    interval: Seconds
    vips: Sequence[tuple[Address, int, str]]


class Advertised:
    """The files in a folder of their own, one for each virtual router that this director is master of."""

    def __init__(self) -> None:
        self._folder = _folder()
        self._descriptors: dict[str, int] = {}

    def note(self, router: str, said: Said) -> None:
        """Write down that this was sent now; on a tmpfs, as /run is, it waits for nothing."""
        told = {
            "at": time.monotonic(),
            "live": time.monotonic(),
            "interval": said.interval,
            "interface": said.interface,
            "source": str(said.source),
            "peers": [str(peer) for peer in said.peers],
            "payload": said.payload.hex(),
            "vips": [(str(address), prefix, interface) for address, prefix, interface in said.vips],
        }
        with suppress(OSError):
            _write(self._descriptor(router), told)

    def forget(self, router: str) -> None:
        """Note that this director is no longer master of it."""
        with suppress(OSError):
            os.ftruncate(self._descriptor(router), 0)

    def fresh_until(self, router: str) -> Seconds:
        """Return until when nobody can have taken over from an earlier run (monotonic)."""
        told = _read(self._folder / router)
        return _fresh_until(told) if told else 0.0

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _descriptor(self, router: str) -> int:
        if router not in self._descriptors:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptors[router] = os.open(self._folder / router, flags, 0o644)
        return self._descriptors[router]


def repeat() -> None:
    """Send again what an earlier run has sent last, where nobody can have taken over since."""
    with suppress(OSError):
        for file in sorted(_folder().iterdir()):
            told = _read(file)
            now = time.monotonic()
            if told and now < _fresh_until(told) and _send(told):
                descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
                _write(descriptor, told | {"at": time.monotonic()})
                os.close(descriptor)


def drop_lost() -> list[DirectorAddress]:
    """Take away the VIPs that an earlier run has left in place, and that another host has by now.

    Return them, for the log that there is not yet.
    """
    dropped: list[DirectorAddress] = []
    with suppress(OSError):
        for file in sorted(_folder().iterdir()):
            told = _read(file)
            if told and time.monotonic() >= _fresh_until(told):
                dropped += _drop_lost(told)
                os.truncate(file, 0)
    return dropped


def resign() -> None:
    """Say that this director is master of nothing any more, for a run that could not."""
    with suppress(OSError):
        for file in _folder().iterdir():
            told = _read(file)
            os.truncate(file, 0)
            if told and told["at"] <= time.monotonic():
                _send(told, priority=RESIGNED)


def _drop_lost(told: dict[str, Any]) -> list[DirectorAddress]:
    from lvsd.config.model import DirectorAddress  # noqa: PLC0415 - only a director that was away needs it
    from lvsd.edge.addresses import Addresses  # noqa: PLC0415
    from lvsd.edge.claimants import claimed_elsewhere  # noqa: PLC0415

    vips = [DirectorAddress(Address.parse(address), prefix, where) for address, prefix, where in told["vips"]]
    if not any(claimed_elsewhere(_lan_of(vip.interface, told), vip.address) for vip in vips[:MOST_ASKED]):
        return []
    dropped = []
    with Addresses() as addresses:
        for vip in vips:
            with suppress(KernelError):
                if addresses.remove(vip):
                    dropped.append(vip)
    return dropped


def _lan_of(interface: str, told: dict[str, Any]) -> str:
    """Return by which interface others are asked: one with a virtual MAC would not hear its like."""
    where: str = told["interface"]
    return where if parse_name(interface) is not None else interface


def _folder() -> Path:
    return runtime.directory() / "advertised"


def _fresh_until(told: dict[str, Any]) -> Seconds:
    at: Seconds = told["at"]
    if at > time.monotonic():  # of an earlier boot are moments that have not come yet
        return 0.0
    return float(min(at + DOWN_AFTER * told["interval"], told["live"] + REPEATED_FOR))


def _send(told: dict[str, Any], priority: int | None = None) -> bool:
    source = Address.parse(told["source"])
    try:
        with open_socket(told["interface"], source.version) as opened:
            interface = socket.if_nametoindex(told["interface"])
            for peer in map(Address.parse, told["peers"]):
                payload = bytes.fromhex(told["payload"])
                if priority is not None:
                    payload = encode(replace(decode(payload, source, peer), priority=priority), peer)
                send(opened, interface, payload, source, peer)
    except (OSError, PacketError):
        return False
    return True


def _read(file: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(file.read_bytes())
        numbers = all(isinstance(told[key], float) for key in ("at", "live", "interval"))
        return told if numbers and told.keys() >= _TEXTS else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(descriptor: int, told: dict[str, Any]) -> None:
    content = json.dumps(told).encode()
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
