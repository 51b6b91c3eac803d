"""A whole configuration as values: what lvsd does, whatever format it was written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from lvsd.errors import printable
from lvsd.model import ServerKey

if TYPE_CHECKING:
    from lvsd.errors import Place
    from lvsd.model import Address, Forwarding, Seconds, Service, ServiceKey


class Initial(StrEnum):
    """What a new real server is before its first verdict: out of the table, or in it."""

    PROBE = "probe"
    UP = "up"


class OnFailure(StrEnum):
    """What happens to the row of a real server that is down: delete it, or set its weight to 0."""

    REMOVE = "remove"
    QUIESCE = "quiesce"


class OnStop(StrEnum):
    """What happens to lvsd's rows and VIPs when it is stopped."""

    KEEP = "keep"
    REMOVE = "remove"


class Scope(StrEnum):
    """How far an IPv4 address is valid (rtnetlink(7)): what is sent elsewhere never has it as its source."""

    GLOBAL = "global"
    SITE = "site"
    LINK = "link"
    HOST = "host"


class LogFormat(StrEnum):
    """How log lines look; AUTO is console on a terminal and JSON elsewhere."""

    JSON = "json"
    CONSOLE = "console"
    AUTO = "auto"


class Level(StrEnum):
    """Error: somebody must act. Warning: something was lost. Info: a change. Debug: a probe."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseCheck:
    """What every probe has. `timeout` bounds the whole probe; `port` None means the real server's own."""

    interval: Seconds
    fast_interval: Seconds
    timeout: Seconds
    rise: int
    fall: int
    port: int | None = None
    bind: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpCheck(BaseCheck):
    """Connect; then, where set, send `send` and search the answer for the regular expression `expect`."""

    send: bytes = b""
    expect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelnetCheck(BaseCheck):
    """Connect, answer the option negotiation (RFC 854), and search the text for `expect`."""

    expect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCheck(BaseCheck):
    """One HTTP/1.1 request; it passes when the status is in a range of `status` and `expect` is in the body.

    `host` empty means the real server's address and port. At most `body_limit` bytes of the body are read.
    """

    path: str
    method: str
    host: str
    headers: tuple[tuple[str, str], ...]
    status: tuple[tuple[int, int], ...]
    expect: str
    follow_redirects: bool
    body_limit: int


Check: TypeAlias = TcpCheck | TelnetCheck | HttpCheck


@dataclass(frozen=True, slots=True)
class Host:
    """A host as it was written, and the address that it has now; for a literal address both say the same."""

    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class RealServer:
    """A real server as configured; `key` is its row's, made once."""

    host: Host
    port: int
    weight: int
    key: ServerKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ServerKey(self.host.address, self.port))


@dataclass(frozen=True, slots=True)
class VirtualService:
    """A virtual service as configured. `check` None means never probed, always up."""

    name: str
    key: ServiceKey
    vip: Host | None
    service: Service
    forwarding: Forwarding
    check: Check | None
    initial: Initial
    on_failure: OnFailure
    sorry_server: RealServer | None
    real_servers: tuple[RealServer, ...]


@dataclass(frozen=True, slots=True)
class DirectorAddress:
    """A VIP that a director brings up. `label` may be empty; IPv6 has none, and a scope of its own."""

    address: Address
    prefix: int
    interface: str
    label: str = ""
    scope: Scope = Scope.GLOBAL

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments, run without a shell. `user` empty means lvsd's own choice."""

    argv: tuple[str, ...]
    user: str = ""


@dataclass(frozen=True, slots=True)
class TrackedInterface:
    """An interface that must be up. While it is not, the priority falls by `weight`; 0 means fault."""

    name: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class TrackedService:
    """A virtual service that must have a real server; `weight` as for an interface."""

    name: str
    weight: int = 0


@dataclass(frozen=True, slots=True)
class TrackedCommand:
    """A command that must end with status 0; `weight` as for an interface."""

    name: str
    command: Command
    interval: Seconds
    timeout: Seconds
    rise: int
    fall: int
    weight: int = 0


Tracked: TypeAlias = TrackedInterface | TrackedService | TrackedCommand


@dataclass(frozen=True, slots=True)
class Notify:
    """Commands that are run when a VRRP instance enters a state; `any` is run for every state."""

    any: Command | None = None
    master: Command | None = None
    backup: Command | None = None
    fault: Command | None = None
    stop: Command | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpInstance:
    """A virtual router as configured (RFC 9568, 6.1): the VIPs that go from director to director together.

    `version` is VRRP's, `family` the IP version of its packets and of `addresses`, which are advertised;
    `excluded` are not. Without `peers` it speaks by multicast. `source` None means the interface's own.
    """

    name: str
    interface: str
    vrid: int
    version: int
    family: int
    priority: int
    interval: Seconds
    password: str = field(default="", repr=False)
    preempt: bool = True
    preempt_delay: Seconds = 0.0
    addresses: tuple[DirectorAddress, ...]
    excluded: tuple[DirectorAddress, ...] = ()
    peers: tuple[Address, ...] = ()
    source: Address | None = None
    sync_group: str = ""
    virtual_mac: bool = False
    track: tuple[Tracked, ...] = ()
    notify: Notify = Notify()

    @property
    def vips(self) -> tuple[DirectorAddress, ...]:
        """All its VIPs, advertised or not."""
        return *self.addresses, *self.excluded


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """The kernel's synchronisation of IPVS connections between two directors (ipvsadm(8), --start-daemon).

    `instance` is the VRRP instance whose role decides. None leaves a setting to the kernel.
    """

    interface: str
    instance: str
    id: int = 0
    group: Address | None = None
    port: int | None = None
    ttl: int | None = None
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where the log goes; `file` empty means standard output."""

    format: LogFormat
    file: str
    level: Level


@dataclass(frozen=True, slots=True)
class IpvsSettings:
    """How the kernel's table is kept."""

    reconcile: Seconds
    on_stop: OnStop
    sync: SyncSettings | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is not a virtual service."""

    director: str
    addresses: tuple[DirectorAddress, ...]
    log: LogSettings
    ipvs: IpvsSettings
    vrrp: tuple[VrrpInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `format` is `lvsd` or `lvs.conf`; `files` are all that were read, in order."""

    format: str
    files: tuple[str, ...]
    settings: Settings
    services: tuple[VirtualService, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A remark on a configuration that is usable as it is: something unheeded, or probably not meant."""

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.place}: {self.path}" if self.path else str(self.place)
        return printable(f"{where}: note: {self.message}")
