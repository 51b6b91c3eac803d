"""Everything that lvsd ever reports, one frozen class each. `docs/events.md` is made from this module.

A class's fields are what stands in the log line, in JSON's own types, so that a line read back is the event
again. The recorder at the edge adds `ts`, `seq`, `run`, `level` and `event`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeAlias

import orjson

from lvsd.config.model import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have: a dotted `name`, a `level`, and `advice`: what an operator does about it."""

    name: ClassVar[str]
    advice: ClassVar[str] = ""

    @property
    def level(self) -> Level:
        """Info, where a class does not say otherwise."""
        return Level.INFO

    def to_json(self) -> dict[str, Any]:
        """Return the event's own fields as they stand in the log line."""
        return {field: getattr(self, field) for field in _field_names(type(self))}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worded(Event):
    """Its texts come from outside, and are cut to what a line has room for."""

    def __post_init__(self) -> None:
        for field in _field_names(type(self)):
            value = getattr(self, field)
            if isinstance(value, str):
                object.__setattr__(self, field, _cut(value))
            elif isinstance(value, list):
                object.__setattr__(self, field, _cut_list(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Warning(Event):
    @property
    def level(self) -> Level:
        """Warning."""
        return Level.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class _Error(Event):
    @property
    def level(self) -> Level:
        """Error."""
        return Level.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorStarted(_Worded, Event):
    """The daemon runs: which director, which version, with which configuration file."""

    name: ClassVar[str] = "director.started"
    director: str
    version: str
    pid: int
    config: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorReady(Event):
    """The table found in the kernel is adopted and what was missing is programmed.

    `seconds` since the process began.
    """

    name: ClassVar[str] = "director.ready"
    services: int
    servers: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorStopped(_Worded, Event):
    """The daemon ends on purpose. `rows` says whether its rows and VIPs were kept or removed."""

    name: ClassVar[str] = "director.stopped"
    reason: str
    rows: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigLoaded(_Worded, Event):
    """A configuration was read and is now in force. The counts are of virtual services."""

    name: ClassVar[str] = "config.loaded"
    config: str
    format: str
    files: list[str]
    notes: list[str]
    services: int
    added: int
    edited: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRejected(_Worded, _Error):
    """A configuration could not be used; the running one stays. `mistakes` holds the first twenty."""

    name: ClassVar[str] = "config.rejected"
    advice: ClassVar[str] = "Mend the lines named, try with `lvsd check FILE`, then reload again."
    config: str
    count: int
    mistakes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChanged(Event):
    """A reload, or a host name's new address, changed what is wanted of one virtual service.

    `change` is `added`, `edited` or `removed`. `real_servers` maps address and port to the `name`, and to
    `sorry` for the sorry server. A service that fills more than one line goes on in lines with a higher
    `part`.
    """

    name: ClassVar[str] = "config.changed"
    service: str
    change: str
    part: int
    address: str
    protocol: str
    scheduler: str
    forward: str
    real_servers: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameChanged(Event):
    """A host name of the configuration resolves to another address now."""

    name: ClassVar[str] = "name.changed"
    host: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFailed(_Worded, _Warning):
    """Host names of the configuration no longer resolve; their last addresses stay in use."""

    name: ClassVar[str] = "name.failed"
    advice: ClassVar[str] = "Look at /etc/hosts and the DNS. Nothing changes for clients meanwhile."
    hosts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """The verdict on a real server changed, or a reload let another probe decide on it.

    `old` and `new` are `up`, `down` or `unknown`, and alike where just the probe is another. `reason` is the
    outcome of the probe that decided, `since` when it did, null while nothing is known.
    """

    name: ClassVar[str] = "health.changed"
    advice: ClassVar[str] = "For `down`: look at the real server; `reason` says what its probe met."
    service: str
    server: str
    host: str
    old: str
    new: str
    reason: str
    since: str | None

    @property
    def level(self) -> Level:
        """Warning when the real server is down now, else info."""
        return Level.WARNING if self.new == "down" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed(Event):
    """One probe failed, and the verdict may be in doubt: failure `count` of the `fall` that it takes."""

    name: ClassVar[str] = "probe.failed"
    server: str
    reason: str
    count: int
    fall: int

    @property
    def level(self) -> Level:
        """Debug."""
        return Level.DEBUG


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePassed(Event):
    """One probe passed."""

    name: ClassVar[str] = "probe.passed"
    server: str
    reason: str

    @property
    def level(self) -> Level:
        """Debug."""
        return Level.DEBUG


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbesImpeded(_Error):
    """Probes cannot be made, by a fault of the director's own; they give no verdict, and no row moves.

    Said once of each fault, when it begins; `server` is the first that could not be probed.
    """

    name: ClassVar[str] = "probes.impeded"
    advice: ClassVar[str] = "Mend the director: raise LimitNOFILE=, bring the interface up, free memory."
    server: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbesRecovered(Event):
    """The fault `reason` keeps no probe from being made any more; `probes` gave no verdict for it."""

    name: ClassVar[str] = "probes.recovered"
    reason: str
    probes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbesLate(_Warning):
    """Probes begin late: more are asked for than the director can make. No server is blamed for it.

    Said once when it begins, with the first that was late; `seconds` is how late.
    """

    name: ClassVar[str] = "probes.late"
    advice: ClassVar[str] = "Lengthen the intervals of the checks, or give the director more CPU."
    server: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbesPunctual(Event):
    """All probes have begun in time again for a while; `probes` were late, the latest by `seconds`."""

    name: ClassVar[str] = "probes.punctual"
    probes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAdded(Event):
    """A virtual service's row is in the kernel's table now.

    `persistence` is in seconds, null where none is set; `netmask` is a prefix length.
    """

    name: ClassVar[str] = "service.added"
    service: str
    address: str
    protocol: str
    scheduler: str
    flags: list[str]
    persistence: int | None
    netmask: int | None
    engine: str
    cause: str

    @property
    def level(self) -> Level:
        """Warn when it was not lvsd that did it."""
        return Level.WARNING if self.cause == "drift" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEdited(ServiceAdded):
    """A virtual service's row was changed; the fields say how it is now."""

    name: ClassVar[str] = "service.edited"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved(Event):
    """A virtual service's row is gone from the kernel's table, and with it its real servers' rows."""

    name: ClassVar[str] = "service.removed"
    service: str
    address: str
    protocol: str
    cause: str

    @property
    def level(self) -> Level:
        """Warning when it was not lvsd that removed it, else info."""
        return Level.WARNING if self.cause == "drift" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAdded(Event):
    """A real server's row is in the kernel's table now, with `weight`. `host` is its name."""

    name: ClassVar[str] = "server.added"
    service: str
    address: str
    protocol: str
    server: str
    host: str
    forward: str
    weight: int
    cause: str

    @property
    def level(self) -> Level:
        """Warn when it was not lvsd that did it."""
        return Level.WARNING if self.cause == "drift" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEdited(ServerAdded):
    """A real server's row was changed; the fields say how it is now."""

    name: ClassVar[str] = "server.edited"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRemoved(Event):
    """A real server's row is gone from the kernel's table."""

    name: ClassVar[str] = "server.removed"
    service: str
    address: str
    protocol: str
    server: str
    host: str
    cause: str

    @property
    def level(self) -> Level:
        """Warning when it was not lvsd that removed it, else info."""
        return Level.WARNING if self.cause == "drift" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRefused(_Error):
    """The kernel refused one change; everything else went on. It is tried again in `retry_in` seconds."""

    name: ClassVar[str] = "change.refused"
    advice: ClassVar[str] = "`reason` is the kernel's; `change` is what ipvsadm would be told to do the same."
    service: str
    change: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignAppeared(_Warning):
    """A row stands in the kernel's table that is not lvsd's. It is left alone."""

    name: ClassVar[str] = "foreign.appeared"
    advice: ClassVar[str] = "Find who made it; remove it with ipvsadm, or put it into the configuration."
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDisappeared(Event):
    """A row that was not lvsd's is gone, or is lvsd's now."""

    name: ClassVar[str] = "foreign.disappeared"
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressAdded(Event):
    """A VIP is on an interface of this director. `cause` is `adopted`, `config`, `mended` or `vrrp`."""

    name: ClassVar[str] = "address.added"
    address: str
    interface: str
    label: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRemoved(Event):
    """A VIP is no longer on an interface of this director. `cause` is `config`, `stop`, `vrrp` or `drift`."""

    name: ClassVar[str] = "address.removed"
    address: str
    interface: str
    cause: str

    @property
    def level(self) -> Level:
        """Warning when it was not lvsd that removed it, else info."""
        return Level.WARNING if self.cause == "drift" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRefused(_Worded, _Error):
    """A VIP could not be added or removed; whoever is to hold it tries again every ten seconds.

    A VRRP instance leaves its VIPs to another director meanwhile, where one can have them.
    """

    name: ClassVar[str] = "address.refused"
    advice: ClassVar[str] = (
        "`reason` is the kernel's: is the interface there, and is its name right? Where another director "
        "holds the VIP, a restart of lvsd on this one has it tried anew."
    )
    address: str
    interface: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressMisplaced(_Warning):
    """A VIP was put on an interface that has addresses, but none in the VIP's network."""

    name: ClassVar[str] = "address.misplaced"
    advice: ClassVar[str] = (
        "Clients of that network may not find it there: mend the VIP, its prefix or its interface; "
        "with /32 or /128 it is taken as meant."
    )
    address: str
    interface: str
    networks: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressContested(_Warning):
    """Another host on the LAN answers for a VIP that this director holds: `mac` is its hardware address.

    Said when it begins, and every minute while it lasts.
    """

    name: ClassVar[str] = "address.contested"
    advice: ClassVar[str] = (
        "Find the host by its MAC: a real server that answers ARP for the VIP (set arp_ignore=1 and "
        "arp_announce=2 there), or a director that did not let go of it."
    )
    address: str
    interface: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpChanged(_Worded, Event):
    """A VRRP instance went from one state to another: initialize, backup, master, fault.

    `master` is the address of the director that holds the VIPs as far as is known, empty where none is;
    `addresses` are the instance's VIPs.
    """

    name: ClassVar[str] = "vrrp.changed"
    advice: ClassVar[str] = "For `fault`: `reason` says what this director lacks."
    instance: str
    old: str
    new: str
    reason: str
    priority: int
    master: str
    addresses: list[str]

    @property
    def level(self) -> Level:
        """Warning for a fault, else info."""
        return Level.WARNING if self.new == "fault" else Level.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpMaster(Event):
    """A backup hears another master than before: its address and its `priority`."""

    name: ClassVar[str] = "vrrp.master"
    instance: str
    master: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpTracked(_Worded, Event):
    """Something that a VRRP instance tracks or needs failed or is well again; `priority` is its own now."""

    name: ClassVar[str] = "vrrp.tracked"
    instance: str
    tracked: str
    well: bool
    reason: str
    priority: int

    @property
    def level(self) -> Level:
        """Warning when it failed, else info."""
        return Level.INFO if self.well else Level.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpWaiting(_Worded, Event):
    """A VRRP instance does not take part yet, for `reason`; it does as soon as that is over."""

    name: ClassVar[str] = "vrrp.waiting"
    instance: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpContested(_Warning):
    """Two directors are master of one VRRP instance: this one, and `peer` with its `priority`.

    `yields` says which of them the rules make give way: `peer` or `self`. Said when it begins, and every
    minute while it lasts.
    """

    name: ClassVar[str] = "vrrp.contested"
    advice: ClassVar[str] = "The directors did not hear each other: look at the network and at firewalls."
    instance: str
    peer: str
    priority: int
    yields: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpRejected(_Worded, _Warning):
    """VRRP packets that cannot be used came on `interface`, and changed nothing. `source` sent the last one.

    `instance` is empty where none can be told. At most one line a minute for each instance and kind of
    trouble; `count` is of all since the line before.
    """

    name: ClassVar[str] = "vrrp.rejected"
    advice: ClassVar[str] = "`reason` says what differs: make both directors' settings the same."
    instance: str
    interface: str
    source: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpDiffers(_Worded, _Warning):
    """A peer's advertisements are heeded, but say something else than this director's settings.

    At most one line a minute for each peer and kind of difference.
    """

    name: ClassVar[str] = "vrrp.differs"
    advice: ClassVar[str] = "Make both directors' settings the same."
    instance: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpUnsent(_Worded, _Error):
    """Advertisements could not be sent, for `reason`; said once, until one can be sent again."""

    name: ClassVar[str] = "vrrp.unsent"
    advice: ClassVar[str] = (
        "Look at the interface, at the firewall's OUTPUT chain and at lvsd's rights (CAP_NET_RAW)."
    )
    instance: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFailed(_Worded, _Warning):
    """A command that a VRRP instance notifies did not do its work. The instance goes on all the same.

    `reason` is its exit status, its signal, or why it could not be run; `output` is what it wrote.
    """

    name: ClassVar[str] = "command.failed"
    advice: ClassVar[str] = "Run it by hand as `user`, with PATH and LANG alone in its environment."
    instance: str
    command: str
    user: str
    reason: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncChanged(Event):
    """The kernel synchronises IPVS connections with the other director: as `role` master it sends them."""

    name: ClassVar[str] = "sync.changed"
    role: str
    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncHandedOver(Event):
    """A VIP goes to the other director: its kernel was sent `connections` that this one's is slow to send.

    `complete` tells whether these were all; what takes longer than three seconds is not.
    """

    name: ClassVar[str] = "sync.handover"
    connections: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRefused(_Worded, _Error):
    """The kernel does not synchronise IPVS connections, for `reason`; it is tried again every ten seconds.

    A takeover meanwhile cuts established connections.
    """

    name: ClassVar[str] = "sync.refused"
    advice: ClassVar[str] = (
        "Look at the interface that `ipvs.sync` names, and at lvsd's rights (CAP_NET_ADMIN)."
    )
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateLost(_Worded, _Warning):
    """The file that says which rows are lvsd's could not be read or written. Forwarding is not affected."""

    name: ClassVar[str] = "state.lost"
    advice: ClassVar[str] = "Look at the file's rights and the space on /run. It is written anew by itself."
    file: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDropped(_Worded, _Warning):
    """Log lines were lost: the disc or the reader of the log did not keep up, or failed with `reason`."""

    name: ClassVar[str] = "log.dropped"
    advice: ClassVar[str] = "Free space, or look at what reads lvsd's output. A snapshot follows."
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryWarned(_Worded, _Warning):
    """A library that lvsd uses had something to say, or a part of lvsd failed unexpectedly."""

    name: ClassVar[str] = "library.warned"
    advice: ClassVar[str] = "Report it with this line."
    logger: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotBegin(Event):
    """A whole state follows in `snapshot.*` lines, other events between them; a log may start here."""

    name: ClassVar[str] = "snapshot.begin"
    director: str
    reason: str
    services: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotService(Event):
    """One virtual service as it is now: wanted, its row, its real servers.

    A real server has `name`, `health`, `reason`, `since` where it is `configured`, and its row's `weight` and
    `forward`, null where there is none. `row` is what is set on the service's row, null where there is none.
    Rows that are no longer configured have an empty `service`; a service may be told twice. One that fills
    more than one line goes on in lines with a higher `part`.
    """

    name: ClassVar[str] = "snapshot.service"
    service: str
    part: int
    address: str
    protocol: str
    scheduler: str
    forward: str
    row: dict[str, Any] | None
    real_servers: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotVrrp(Event):
    """One VRRP instance as it is now; `since` is when it entered its `state`.

    `failing` maps what it tracks and is not well to the reason.
    """

    name: ClassVar[str] = "snapshot.vrrp"
    instance: str
    state: str
    reason: str
    priority: int
    master: str
    addresses: list[str]
    since: str
    failing: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEnd(Event):
    """The snapshot is whole: VIPs and foreign rows as they are; a service not told since it began is gone.

    Where they fill more than one line, `part` counts from 0 to one less than `parts`.
    """

    name: ClassVar[str] = "snapshot.end"
    part: int = 0
    parts: int = 1
    addresses: list[dict[str, str]]
    foreign: list[str]


def _all_events(base: type[Event]) -> dict[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    for event in base.__subclasses__():
        if "name" in event.__dict__:
            found[event.name] = event
        found |= _all_events(event)
    return found


LONGEST_TEXT = 1000
LONGEST_LIST = 6000
"""Bytes that a text and a list from outside may take in a line."""


def _cut(text: str) -> str:
    """Return `text` in at most LONGEST_TEXT bytes of JSON; what cannot be written as UTF-8 is replaced."""
    text = text.encode(errors="replace").decode()
    while (excess := len(orjson.dumps(text)) - LONGEST_TEXT) > 0:
        # No character takes more than six bytes, and the ellipsis takes the place of one.
        text = f"{text[: len(text) - 1 - max(1, excess // 6)]}…"
    return text


def _cut_list(texts: list[str]) -> list[str]:
    """Return as many of `texts` as have room in LONGEST_LIST bytes, and how many more there are."""
    kept: list[str] = []
    room = LONGEST_LIST
    for text in map(_cut, texts):
        room -= len(orjson.dumps(text)) + 1
        if room < 0:
            return [*kept, f"… and {len(texts) - len(kept)} more"]
        kept.append(text)
    return kept


_FIELD_NAMES: dict[type[Event], tuple[str, ...]] = {}


def _field_names(event: type[Event]) -> tuple[str, ...]:
    if event not in _FIELD_NAMES:
        _FIELD_NAMES[event] = tuple(field.name for field in fields(event))
    return _FIELD_NAMES[event]


CATALOGUE = _all_events(Event)
"""Every event there is, by its name."""

Record: TypeAlias = dict[str, Any]
"""One line of the log, parsed."""


def from_json(record: Record) -> Event:
    """Return the event of a log line; raise KeyError or TypeError where this version has none such."""
    event = CATALOGUE[record["event"]]
    return event(**{field: record[field] for field in _field_names(event)})
