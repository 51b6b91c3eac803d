"""Links, addresses, routes and impairments by netlink, in the calling thread's network.

`ip` and `tc` would do, but each process costs 45 ms in user-mode-linux and a network takes a dozen of them;
pyroute2 would do, but costs a second to import there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import TYPE_CHECKING

from lvsd.edge.rtnetlink import Rtnetlink, attribute, attributes, messages
from lvsd.lab.kernel import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address that a host has; `label` is the interface's name or one like `eth0:101`."""

    interface: str
    address: str
    label: str


@dataclass(frozen=True, slots=True)
class Impairment:
    """What becomes of packets that are sent over an interface: `loss`, `duplicate` and `reorder` are shares.

    All wait for `delay` seconds, plus or minus `jitter`, but those to `reorder`, which pass at once and so
    overtake the others; without a delay there is nobody to overtake.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0

    def __post_init__(self) -> None:
        if self.reorder and not self.delay:
            message = "packets are reordered by a delay that some are spared: there is none"
            raise ValueError(message)


def add_bridge(name: str) -> None:
    """Make a bridge without spanning tree, up."""
    _ask(_NEWLINK, _link(up=True) + _text(_IFLA_IFNAME, name) + _kind("bridge"), _CREATE)


def add_dummy(name: str) -> None:
    """Make an interface that leads nowhere, up: it only carries addresses."""
    _ask(_NEWLINK, _link(up=True) + _text(_IFLA_IFNAME, name) + _kind("dummy"), _CREATE)


def add_cable(port: str, bridge: str, peer: str, thread_id: int) -> None:
    """Make a cable from `port` of the bridge to the interface `peer` in the network of another thread."""
    there = _text(_IFLA_IFNAME, peer) + _number(_IFLA_NET_NS_PID, thread_id)
    request = (
        _link(up=True) + _text(_IFLA_IFNAME, port) + _number(_IFLA_MASTER, socket.if_nametoindex(bridge))
    )
    _ask(_NEWLINK, request + _kind("veth", attribute(_VETH_INFO_PEER, _link(up=False) + there)), _CREATE)


def set_up(name: str, *, up: bool) -> None:
    """Bring an interface up or down."""
    _ask(_NEWLINK, _link(up=up, change=_IFF_UP) + _text(_IFLA_IFNAME, name))


def set_forwarding(port: str, *, forwards: bool) -> None:
    """Let a bridge's port forward, or drop all that comes and goes with the link up."""
    state = attribute(_IFLA_BRPORT_STATE, bytes([_FORWARDING if forwards else _DISABLED]))
    head = _IFINFO.pack(socket.AF_BRIDGE, 0, socket.if_nametoindex(port), 0, 0)
    _ask(_SETLINK, head + attribute(_IFLA_PROTINFO | _NESTED, state))


def add_address(interface: str, address: str) -> None:
    """Add an address with prefix length; IPv6 is usable at once."""
    it = ip_interface(address)
    flags = _IFA_F_NODAD if it.version == _V6 else 0
    request = _IFADDR.pack(_family(it), it.network.prefixlen, flags, 0, socket.if_nametoindex(interface))
    request += attribute(_IFA_LOCAL, it.ip.packed) + attribute(_IFA_ADDRESS, it.ip.packed)
    if it.version != _V6 and it.network.num_addresses > 1:
        request += attribute(_IFA_BROADCAST, it.network.broadcast_address.packed)
    _ask(_NEWADDR, request, _CREATE)


def add_gateway(gateway: str) -> None:
    """Add the default route over a gateway that is on a link."""
    it = ip_address(gateway)
    request = _RTMSG.pack(_family(it), 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, 0, _UNICAST, 0)
    _ask(_NEWROUTE, request + attribute(_RTA_GATEWAY, it.packed), _CREATE)


def impair(interface: str, impairment: Impairment) -> None:
    """Impair what is sent over the interface; the last call counts."""
    loss, duplicate = _share(impairment.loss), _share(impairment.duplicate)
    every = 1 if impairment.reorder else 0
    options = _NETEM.pack(0, _QUEUED_PACKETS, loss, every, duplicate, 0)
    options += attribute(_NETEM_LATENCY64, struct.pack("q", int(impairment.delay * 1e9)))
    options += attribute(_NETEM_JITTER64, struct.pack("q", int(impairment.jitter * 1e9)))
    options += attribute(_NETEM_REORDER, struct.pack("II", _share(impairment.reorder), 0))
    request = _qdisc(interface) + _text(_TCA_KIND, "netem") + attribute(_TCA_OPTIONS, options)
    _ask(_NEWQDISC, request, _CREATE_OR_REPLACE)


def relieve(interface: str) -> None:
    """Undo `impair`."""
    _ask(_DELQDISC, _qdisc(interface))


def addresses() -> tuple[InterfaceAddress, ...]:
    """Return all addresses of global scope, in the kernel's order."""
    with contextlib.closing(Rtnetlink()) as kernel:
        found = [_address(body) for body in kernel.dump(_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))]
    return tuple(address for address in found if address is not None)


def open_notices() -> socket.socket:
    """Return a non-blocking socket on which the kernel tells of addresses that come and go."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    link.settimeout(0)
    link.bind((0, _IPV4_ADDRESSES | _IPV6_ADDRESSES))
    return link


def read_notices(link: socket.socket) -> Iterator[tuple[bool, str]]:
    """Yield what was told so far: whether an address has come or gone, and it with its prefix length."""
    with contextlib.suppress(BlockingIOError):
        while True:
            for kind, _, body in messages(link.recv(1 << 17)):
                if kind in {_NEWADDR, _DELADDR}:
                    yield kind == _NEWADDR, _text_of(body)


# Message types, attributes and flags: linux/rtnetlink.h, if_link.h, if_addr.h, pkt_sched.h.
_NEWLINK, _SETLINK, _NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _NEWQDISC, _DELQDISC = (
    16,
    19,
    20,
    21,
    22,
    24,
    36,
    37,
)
_IPV4_ADDRESSES, _IPV6_ADDRESSES = 0x10, 0x100
_CREATE, _CREATE_OR_REPLACE = 0x600, 0x500
_NESTED = 0x8000
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_PROTINFO, _IFLA_LINKINFO, _IFLA_NET_NS_PID = 3, 10, 12, 18, 19
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER, _IFLA_BRPORT_STATE = 1, 2, 1, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_BROADCAST, _IFA_F_NODAD = 1, 2, 3, 4, 0x02
_RTA_GATEWAY, _TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 5, 254, 4, 1
_TCA_KIND, _TCA_OPTIONS, _TC_ROOT = 1, 2, 0xFFFFFFFF
_NETEM_REORDER, _NETEM_LATENCY64, _NETEM_JITTER64 = 3, 10, 11
_IFF_UP, _DISABLED, _FORWARDING, _V6, _QUEUED_PACKETS = 1, 0, 3, 6, 10_000

_IFINFO = struct.Struct("BxHiII")
_IFADDR = struct.Struct("BBBBI")
_RTMSG = struct.Struct("BBBBBBBBI")
_TCMSG = struct.Struct("B3xiIII")
_NETEM = struct.Struct("IIIIII")


def _link(*, up: bool, change: int = 0) -> bytes:
    flags = _IFF_UP if up else 0
    return _IFINFO.pack(0, 0, 0, flags, change or flags)


def _qdisc(interface: str) -> bytes:
    return _TCMSG.pack(0, socket.if_nametoindex(interface), 0, _TC_ROOT, 0)


def _share(part: float) -> int:
    """Return a share of 0 to 1 as netem has it."""
    return min(int(part * 2**32), 2**32 - 1)


def _kind(name: str, options: bytes = b"") -> bytes:
    nested = attribute(_IFLA_INFO_DATA, options) if options else b""
    return attribute(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, name) + nested)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("I", number))


def _family(it: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET6 if it.version == _V6 else socket.AF_INET


def _ask(kind: int, body: bytes, flags: int = 0) -> None:
    """Send one request; raises LabError with the kernel's reason."""
    with contextlib.closing(Rtnetlink()) as kernel:
        try:
            kernel.do(kind, body, flags)
        except OSError as error:
            message = f"the lab's network: {error.strerror}"
            raise LabError(message) from None


def _address(body: bytes) -> InterfaceAddress | None:
    """Return what an RTM_NEWADDR tells, or None for an address of a scope other than global."""
    _, _, _, scope, index = _IFADDR.unpack_from(body)
    if scope != 0:
        return None
    told = dict(attributes(body, _IFADDR.size))
    interface = socket.if_indextoname(index)
    label = told[_IFA_LABEL].rstrip(b"\0").decode() if _IFA_LABEL in told else interface
    return InterfaceAddress(interface, _text_of(body), label)


def _text_of(body: bytes) -> str:
    """Return the address, with its prefix length, that an RTM_NEWADDR or RTM_DELADDR is about."""
    _, length, *_ = _IFADDR.unpack_from(body)
    told = dict(attributes(body, _IFADDR.size))
    packed = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS, b""))
    return f"{ip_address(packed)}/{length}"
