"""Hears every VRRP packet of a lab as it enters the switch: who advertised when, and how late each came."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import socket
import statistics
import struct
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lvsd.errors import PacketError
from lvsd.model import Address
from lvsd.vrrp.packet import PROTOCOL, RESIGNED, Advertisement, decode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from lvsd.lab.lab import Lab
    from lvsd.model import Seconds


@dataclass(frozen=True, slots=True)
class Heard:
    """One VRRP packet; `at` is the kernel's own moment (monotonic). `error` tells why it says nothing."""

    at: Seconds
    source: str
    destination: str
    hop_limit: int
    said: Advertisement | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Lateness:
    """How much later than its interval after the one before each advertisement came; less than 0 is early."""

    count: int
    median: Seconds
    almost_worst: Seconds
    """The 99.9th percentile: of less than 1,000 it is the worst."""
    worst: Seconds


class VrrpCapture:
    """All VRRP packets that any host of a lab has sent while the `async with` block runs, in order.

    What the way to the others does to a packet, such as loss, delay or `Lab.silence`, comes after; what
    `Lab.cut` or `Lab.mute` keeps from the switch is not here.
    """

    def __init__(self, link: socket.socket, bridges: Collection[str]) -> None:
        self.heard: list[Heard] = []
        self._link = link
        self._bridges = bridges

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, lab: Lab) -> AsyncIterator[Self]:
        """Listen to all cables of a lab."""
        with await lab.switch.do(_open) as link:
            capture = cls(link, lab.network.bridges)
            loop = asyncio.get_running_loop()
            loop.add_reader(link, capture.read)
            try:
                yield capture
            finally:
                loop.remove_reader(link)
                capture.read()

    def read(self) -> None:
        """Take in what has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, stamps, _, (interface, *_) = self._link.recvmsg(_FRAME, _STAMP_SPACE)
                if interface not in self._bridges:  # which has a copy of what a port took in
                    self.heard.append(_heard(frame, _moment(stamps)))

    def advertisements(
        self, source: str | None = None, *, vrid: int | None = None, begin: Seconds = 0.0
    ) -> list[tuple[Seconds, Advertisement]]:
        """Return when what was advertised from a moment on: by one source or all, for one VRID or all."""
        return [
            (each.at, each.said)
            for each in self.heard
            if each.said is not None
            and each.at >= begin
            and source in {None, each.source}
            and vrid in {None, each.said.vrid}
        ]

    def sources(self, begin: Seconds = 0.0) -> set[str]:
        """Return who has advertised since a moment, and not only to resign."""
        return {str(said.source) for _, said in self.advertisements(begin=begin) if said.priority != RESIGNED}

    def last(self, *, vrid: int | None = None) -> Advertisement | None:
        """Return what was advertised last, by whomever."""
        advertised = self.advertisements(vrid=vrid)
        return advertised[-1][1] if advertised else None

    def gaps(self, begin: Seconds = 0.0, end: Seconds = math.inf) -> Mapping[str, list[Seconds]]:
        """Return by source how much later than its interval each advertisement came after the one before.

        The time after a resignation is no gap: who resigned is silent until it is master again.
        """
        found: dict[str, list[Seconds]] = defaultdict(list)
        before: dict[tuple[Address, int], tuple[Seconds, Advertisement]] = {}
        for at, said in self.advertisements(begin=begin):
            if at > end:
                break
            key = (said.source, said.vrid)
            if key in before and before[key][1].priority != RESIGNED and said.priority != RESIGNED:
                earlier_at, earlier = before[key]
                found[str(said.source)].append(at - earlier_at - earlier.interval)
            before[key] = (at, said)
        return found

    def lateness(self, source: str, begin: Seconds = 0.0, end: Seconds = math.inf) -> Lateness:
        """Return how late the advertisements of one source came; raise ValueError where there are not two."""
        if late := sorted(self.gaps(begin, end).get(source, [])):
            almost = late[math.ceil(0.999 * len(late)) - 1]
            return Lateness(len(late), statistics.median(late), almost, late[-1])
        message = f"{source} has not advertised twice"
        raise ValueError(message)

    def story(self, begin: Seconds = 0.0) -> str:
        """Return a line for each packet since a moment, for a failed test."""
        return "\n".join(_line(each, begin) for each in self.heard if each.at >= begin)


# linux/if_packet.h, if_ether.h, filter.h, asm-generic/socket.h
_ETH_P_ALL, _ETH_P_IP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_LOAD_HALF, _LOAD_BYTE, _EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
_PACKET_TYPE, _OUTGOING = 0xFFFFF004, 4
_ETHERNET, _TYPE_AT, _PROTOCOL_AT, _NEXT_HEADER_AT = 14, 12, 14 + 9, 14 + 6

_FRAME = 65536
_INSTRUCTION = struct.Struct("HBBI")
_TIMESPEC = struct.Struct("ll")
_STAMP_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)
_V4 = 4
_IPV4 = struct.Struct("!B7xBB2x4s4s")
_LENGTH, _LENGTH_AT = struct.Struct("!H"), 2
_IPV6 = struct.Struct("!4xHBB16s16s")

# Each frame is seen twice or more: as it enters the switch, and as it leaves by every other port.
_ONLY_VRRP = (
    (_LOAD_BYTE, 0, 0, _PACKET_TYPE),
    (_EQUAL, 8, 0, _OUTGOING),
    (_LOAD_HALF, 0, 0, _TYPE_AT),
    (_EQUAL, 0, 2, _ETH_P_IP),
    (_LOAD_BYTE, 0, 0, _PROTOCOL_AT),
    (_EQUAL, 3, 4, PROTOCOL),
    (_EQUAL, 0, 3, _ETH_P_IPV6),
    (_LOAD_BYTE, 0, 0, _NEXT_HEADER_AT),
    (_EQUAL, 0, 1, PROTOCOL),
    (_RETURN, 0, 0, _FRAME),
    (_RETURN, 0, 0, 0),
)


def _open() -> socket.socket:
    """Return a socket that has the VRRP packets of all ports of the calling thread's network."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    link.settimeout(0)
    link.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    instructions = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in _ONLY_VRRP))
    program = struct.pack("HP", len(_ONLY_VRRP), ctypes.addressof(instructions))
    link.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    with contextlib.suppress(BlockingIOError):  # what came before the filter was there
        while True:
            link.recv(_FRAME)
    return link


def _moment(stamps: Iterable[tuple[int, int, bytes]]) -> Seconds:
    """Return the moment (monotonic) of a packet that the kernel has stamped with the time of day."""
    now, time_of_day = time.monotonic(), time.time()
    for level, kind, stamp in stamps:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            age: Seconds = time_of_day - seconds - nanoseconds / 1e9
            return now - age
    return now


def _heard(frame: bytes, at: Seconds) -> Heard:
    packet = frame[_ETHERNET:]
    if packet[0] >> 4 == _V4:
        first, hop_limit, _, source, destination = _IPV4.unpack_from(packet)
        length = (first & 0xF) * 4
        payload = packet[length : _LENGTH.unpack_from(packet, _LENGTH_AT)[0]]
    else:
        length, _, hop_limit, source, destination = _IPV6.unpack_from(packet)
        payload = packet[_IPV6.size :][:length]
    ends = Address(source), Address(destination)
    try:
        said, error = decode(payload, *ends), ""
    except PacketError as wrong:
        said, error = None, str(wrong)
    return Heard(at, str(ends[0]), str(ends[1]), hop_limit, said, error)


def _line(heard: Heard, begin: Seconds) -> str:
    head = f"{heard.at - begin:9.4f} {heard.source} -> {heard.destination}"
    if heard.said is None:
        return f"{head}: {heard.error}"
    said = heard.said
    return f"{head}: v{said.version} vrid {said.vrid} priority {said.priority} every {said.interval:g} s"
