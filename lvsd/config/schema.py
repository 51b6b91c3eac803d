"""The shape of lvsd's YAML: which settings there are, their defaults, and what each is for.

The descriptions are what editors show and what docs/configuration.md says.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from lvsd.config.fields import Shape, default, mapping_or_text
from lvsd.config.model import Initial, Level, LogFormat, OnFailure, OnStop
from lvsd.config.scalars import (
    Count,
    DirectorName,
    EndpointText,
    Engine,
    Expression,
    Family,
    Flag,
    ForwardingName,
    FwMark,
    HeaderName,
    HostText,
    HttpPath,
    InitialName,
    InterfaceName,
    Interval,
    LevelName,
    Line,
    LogFormatName,
    Method,
    Netmask,
    NetworkText,
    OnFailureName,
    OnStopName,
    Persistence,
    Port,
    Prefix,
    ProtocolName,
    Reconcile,
    Scheduler,
    SchedulerFlag,
    ScopeName,
    Size,
    Status,
    Text,
    Timeout,
    VirtualAddressText,
    Weight,
)
from lvsd.config.values import Endpoint
from lvsd.config.vrrp_schema import SyncShape, VrrpShape  # noqa: TC001 - pydantic reads annotations
from lvsd.model import Forwarding, Protocol

ANY_PRINTABLE = "[!-~]"


class AddressShape(Shape):
    """A VIP that the director brings up itself, as one without a partner does."""

    address: NetworkText = Field(description="the VIP with its prefix, as in 192.168.0.101/24")
    interface: InterfaceName = Field(description="the interface that gets it, as in eth0")
    label: Line = Field(
        "", description="IPv4 only: what ifconfig shows it as, such as eth0:101; 15 letters at most"
    )
    scope: ScopeName | None = Field(
        None, description="IPv4 only: how far it is valid, see rtnetlink(7); default: global"
    )


class DirectorShape(Shape):
    """The director itself."""

    name: DirectorName = Field(
        "", description="what the log calls this director, in 255 letters at most; default: the host's name"
    )
    addresses: list[AddressShape] = Field([], description="VIPs of a director without a partner")


class LogShape(Shape):
    """Where the log goes, and how it looks."""

    format: LogFormatName = Field(
        LogFormat.AUTO, description="json, console, or auto: console on a terminal, else json"
    )
    file: Line = Field(
        "", description="the file that is written; default: standard output, under systemd the journal"
    )
    level: LevelName = Field(
        Level.INFO, description="the least level that is written: debug shows every probe"
    )


class IpvsShape(Shape):
    """How the kernel's table is kept."""

    reconcile: Reconcile = default(
        "10s", "how often the kernel's table is compared with the desired one, and mended"
    )
    on_stop: OnStopName = Field(OnStop.KEEP, description="what happens to lvsd's rows and VIPs when it stops")
    sync: SyncShape | None = Field(
        None, description="hands connections to the other director; default: they are not"
    )


class CheckShape(Shape):
    """What every probe has."""

    interval: Interval = default(
        "2s", "from the start of one probe of a real server to the start of the next"
    )
    fast_interval: Interval | None = Field(
        None,
        description="the interval while a verdict is in doubt; default: 200ms, or interval if that is less",
    )
    timeout: Timeout = default("1s", "how long the whole probe may take, from connect to the last byte")
    rise: Count = Field(
        2, description="how many probes in a row must pass before a server that is down is up"
    )
    fall: Count = Field(
        2, description="how many probes in a row must fail before a server that is up is down"
    )
    port: Port | None = Field(None, description="the port that is probed; default: the real server's own")
    bind: HostText | None = Field(
        None, description="the director's address that probes come from; default: the system's choice"
    )


class HttpShape(CheckShape):
    """One HTTP/1.1 request; status and body decide."""

    type: Literal["http"] = Field(description="one HTTP request")
    path: HttpPath = Field("/", description="what is asked for")
    method: Method = Field("GET", description="the request's method")
    host: Line = Field("", description="the Host header; default: the real server's address and port")
    headers: dict[HeaderName, Line] = Field({}, description="further headers of the request")
    status: Annotated[list[Status], Field(min_length=1)] = Field(
        [(200, 299)],
        description="statuses that pass: codes and ranges",
        json_schema_extra={"default": ["200-299"]},
    )
    expect: Expression = Field("", description="a regular expression (RE2) that must be found in the body")
    follow_redirects: Flag = Field(
        default=False, description="whether a redirect's target decides, not the redirect"
    )
    body_limit: Size = default("64KiB", "how much of the body is read and searched")


class TcpShape(CheckShape):
    """A TCP connection; with `send` or `expect`, a talk as well."""

    type: Literal["tcp"] = Field(description="a TCP connection")
    send: Text = Field("", description='what is sent once connected, as in "PING\\r\\n"')
    expect: Expression = Field(
        "", description="a regular expression (RE2) that must be found in what the server says"
    )


class TelnetShape(CheckShape):
    """A TCP connection that answers telnet's option negotiation (RFC 854) and waits for a text."""

    type: Literal["telnet"] = Field(description="a telnet session up to its banner")
    timeout: Timeout = default(
        "5s", "how long the whole probe may take; servers look the director's name up before they greet"
    )
    expect: Expression = Field(
        ANY_PRINTABLE,
        description="a regular expression (RE2) to be found in the banner; default: any printable character",
    )


def _check_tag(value: object) -> str:
    return f"check {value.get('type')}" if isinstance(value, dict) else "text"


AnyCheckShape: TypeAlias = Annotated[
    Annotated[HttpShape, Tag("check http")]
    | Annotated[TcpShape, Tag("check tcp")]
    | Annotated[TelnetShape, Tag("check telnet")],
    Discriminator(_check_tag),
]
CheckOrName: TypeAlias = Annotated[
    Annotated[Line, Tag("text")]
    | Annotated[HttpShape, Tag("check http")]
    | Annotated[TcpShape, Tag("check tcp")]
    | Annotated[TelnetShape, Tag("check telnet")],
    Discriminator(_check_tag),
]


CHECK_SHAPES: dict[str, type[CheckShape]] = {"http": HttpShape, "tcp": TcpShape, "telnet": TelnetShape}


class PersistenceShape(Shape):
    """How a client stays with its real server."""

    timeout: Persistence = default("5m", "how long after its last connection, in whole seconds")
    netmask: Netmask | None = Field(
        None, description="IPv4: how much of the client's address counts, as in 255.255.255.0"
    )
    prefix: Prefix | None = Field(
        None, description="the same as a prefix length; default: 32, IPv6 128, the whole address"
    )
    engine: Engine = Field("", description="sip: by SIP Call-ID, UDP only")


PersistenceOrTime: TypeAlias = Annotated[
    Annotated[Persistence, Tag("text")] | Annotated[PersistenceShape, Tag("mapping")],
    Discriminator(mapping_or_text),
]


class RealServerShape(Shape):
    """A real server with more than its address."""

    address: EndpointText = Field(description="HOST or HOST:PORT; the service's own port unless one is given")
    weight: Weight = Field(1, description="its share of new connections; 0 takes none")


RealServerOrText: TypeAlias = Annotated[
    Annotated[EndpointText, Tag("text")] | Annotated[RealServerShape, Tag("mapping")],
    Discriminator(mapping_or_text),
]


class ServiceShape(Shape):
    """A virtual service: what clients connect to, and the real servers that do the work."""

    address: VirtualAddressText | None = Field(
        None, description="VIP:PORT; port 0 is every port, with persistence"
    )
    fwmark: FwMark | None = Field(None, description="a firewall mark, in place of an address")
    family: Family | None = Field(None, description="with fwmark: the IP version; default: ipv4")
    protocol: ProtocolName = Field(Protocol.TCP, description="the transport protocol; with an address only")
    scheduler: Scheduler = Field("wlc", description="who gets the next connection; the default is ipvsadm's")
    scheduler_flags: list[SchedulerFlag] = Field([], description="settings of the schedulers sh and mh")
    ops: Flag = Field(default=False, description="UDP: schedule each packet by itself")
    persistence: PersistenceOrTime | None = Field(
        None,
        description="a client stays with its real server: a time, or a mapping; default: it need not",
    )
    forward: ForwardingName = Field(Forwarding.DR, description="direct routing, masquerading, or IP-in-IP")
    check: CheckOrName | None = Field(
        None,
        description="a check's name, a check written in place, or none; default: what the port suggests "
        "(80: http, 23: telnet, other TCP: tcp, UDP and SCTP: none)",
    )
    initial: InitialName = Field(
        Initial.PROBE,
        description="a new real server before its first verdict: probe keeps it out, up puts it in the table",
    )
    on_failure: OnFailureName = Field(
        OnFailure.REMOVE,
        description="a real server that is down: remove deletes its row, quiesce sets its weight to 0",
    )
    sorry_server: RealServerOrText | None = Field(
        None, description="takes the connections while all real servers are down"
    )
    real_servers: list[RealServerOrText] = Field(description="the real servers; [] for none yet")


def _with_include(part: dict[str, Any]) -> None:
    """Let editors know that one of the names is none."""
    mapping = next(choice for choice in part["anyOf"] if choice.get("type") == "object")
    about = "an lvs.conf, relative to this file, whose services are taken in"
    mapping["properties"] = {"include": {"type": "string", "description": about}}


class DocumentShape(Shape):
    """lvsd's configuration."""

    include: Line | list[Line] = Field(
        [], description="further files: a path or pattern relative to this file, or a list"
    )
    director: DirectorShape | None = Field(None, description="the director itself")
    log: LogShape | None = Field(None, description="where the log goes, and how it looks")
    ipvs: IpvsShape | None = Field(None, description="how the kernel's table is kept")
    checks: dict[Line, AnyCheckShape] | None = Field(None, description="named checks, which services share")
    virtual_services: dict[Line, ServiceShape] | None = Field(
        None,
        description="the virtual services; {} for none; `include` among them names an lvs.conf",
        json_schema_extra=_with_include,
    )
    vrrp: dict[Line, VrrpShape] | None = Field(
        None, description="the VRRP instances: VIPs that two directors hand over to each other"
    )
    lvs_conf: Line | None = Field(
        None, description="an lvs.conf, relative to this file, whose services and VIPs are taken in"
    )


def endpoint_of(item: Endpoint | RealServerShape) -> tuple[Endpoint, int]:
    """Return where a real server is, and its weight."""
    return (item, 1) if isinstance(item, Endpoint) else (item.address, item.weight)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration, for editors."""
    document = _without_titles(DocumentShape.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lvsd.yaml", **document}


def _without_titles(part: Any) -> Any:  # noqa: ANN401 - a schema is anything
    """Leave out the titles that pydantic makes of the names of settings and classes."""
    if isinstance(part, dict):
        return {key: _without_titles(inner) for key, inner in part.items() if key != "title"}
    return [_without_titles(inner) for inner in part] if isinstance(part, list) else part
