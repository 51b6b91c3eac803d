"""The nouns of the Linux Virtual Server: what identifies a row of the kernel's table, and what is set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Seconds: TypeAlias = float

IPV4_LENGTH = 4


class Address(bytes):
    """An IPv4 or IPv6 address as its packed bytes, which netlink takes as they are and dicts hash fast.

    `str()` gives the usual text.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address written as `text`; raise ValueError where it is none."""
        return cls(ip_address(text).packed)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self) == IPV4_LENGTH else 6

    @property
    def is_link_local(self) -> bool:
        """Whether it is of fe80::/10; IPv4's own, 169.254.0.0/16, need no interface beside them."""
        return self.version == 6 and self[0] == 0xFE and self[1] & 0xC0 == 0x80  # noqa: PLR2004

    @property
    def is_multicast(self) -> bool:
        """Whether it is a group's: of 224.0.0.0/4 or ff00::/8."""
        return self[0] >> 4 == 0xE if self.version == 4 else self[0] == 0xFF  # noqa: PLR2004

    @property
    def is_loopback(self) -> bool:
        """Whether it never leaves its host: of 127.0.0.0/8, or ::1."""
        return self[0] == 127 if self.version == 4 else int.from_bytes(self) == 1  # noqa: PLR2004

    def __str__(self) -> str:
        if len(self) == IPV4_LENGTH:
            return ".".join(map(str, self))  # a sixth of what ip_address takes, for each row told
        return str(ip_address(bytes(self)))

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"


class Protocol(StrEnum):
    """The transport protocols that IPVS balances."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"

    __hash__ = str.__hash__  # Enum's own is written in Python, and takes longer than all else of a key's


class Forwarding(StrEnum):
    """How IPVS hands a packet to a real server; ipvsadm prints Route, Masq and Tunnel."""

    DR = "dr"
    NAT = "nat"
    TUN = "tun"


SCHEDULERS = (
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
)  # fmt: skip

MAX_WEIGHT = 65535
"""The largest weight that ipvsadm(8) takes; the kernel's field is wider."""


class VirtualAddress(NamedTuple):
    """What clients connect to: the key of a virtual service by protocol, VIP and port."""

    protocol: Protocol
    address: Address
    port: int

    @property
    def version(self) -> int:
        """The IP version of the VIP: 4 or 6."""
        return self.address.version

    def __str__(self) -> str:
        return f"{self.protocol} {join_port(self.address, self.port)}"


class FirewallMark(NamedTuple):
    """The key of a virtual service by firewall mark, one for each IP version."""

    mark: int
    version: int

    def __str__(self) -> str:
        return f"fwmark {self.mark}" if self.version == 4 else f"fwmark {self.mark} ipv6"  # noqa: PLR2004


ServiceKey: TypeAlias = VirtualAddress | FirewallMark


@dataclass(frozen=True, slots=True)
class Persistence:
    """A client stays with its real server for `timeout` seconds after its last connection.

    `prefix` says how much of the client's address counts: 32 or 128 is one client, less is a network.
    `engine` is the kernel's persistence engine (`sip`), or empty.
    """

    timeout: int
    prefix: int
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """What is set on a virtual service's row.

    `flags` are the scheduler's, `sh-fallback`, `sh-port`, `mh-fallback`, `mh-port`, and `ops`
    (one-packet scheduling).
    """

    scheduler: str
    flags: frozenset[str] = frozenset()
    persistence: Persistence | None = None


class ServerKey(NamedTuple):
    """What IPVS uses to tell two real servers of one service apart."""

    address: Address
    port: int

    def __str__(self) -> str:
        return join_port(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Server:
    """What is set on a real server's row. Weight 0 takes no new connections."""

    forwarding: Forwarding
    weight: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A virtual service's row and those of its real servers."""

    service: Service
    servers: Mapping[ServerKey, Server]


Table: TypeAlias = "Mapping[ServiceKey, Rows]"


def in_table_order(key: ServerKey) -> tuple[int, Address, int]:
    """Sort real servers as lvsd adds them: `mh` and `sh` hash over the table in its order."""
    return len(key.address), key.address, key.port


def join_port(address: Address, port: int) -> str:
    """Return `192.168.0.3:80` or `[2001:db8::1]:80`."""
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of both clocks: `monotonic` decides, `wall` (seconds since 1970) is only told."""

    monotonic: Seconds
    wall: Seconds
