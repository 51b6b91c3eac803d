"""The types of single settings, for the schema: how the text is read, and what an editor is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic_core import core_schema

from lvsd.config import values, vrrp_values
from lvsd.config.model import Initial, Level, LogFormat, OnFailure, OnStop, Scope
from lvsd.model import SCHEDULERS, Address, Forwarding, Protocol, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reads:
    """Says that a scalar's text is read by `parse`, which raises ValueError in the operator's words."""

    parse: Callable[[str], object]
    json: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_core_schema__(
        self,
        _source: object,
        _handler: GetCoreSchemaHandler,
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.parse, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(
        self,
        _schema: core_schema.CoreSchema,
        _handler: GetJsonSchemaHandler,
    ) -> dict[str, Any]:
        return dict(self.json)


def _choice(choices: Mapping[str, object]) -> Reads:
    return Reads(partial(values.choice, choices=dict(choices)), {"type": "string", "enum": list(choices)})


def _duration(low: Seconds, high: Seconds) -> Reads:
    return Reads(partial(values.duration, low=low, high=high), _duration_json(low, high))


def _duration_json(low: Seconds, high: Seconds) -> dict[str, Any]:
    text = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$"}
    bare = {"type": "number", "minimum": low, "maximum": high}
    return {"anyOf": [text, bare]}


def _number(low: int, high: int) -> Reads:
    json = {"type": "integer", "minimum": low, "maximum": high}
    return Reads(partial(values.number, low=low, high=high), json)


_TEXT = {"type": ["string", "number", "boolean"]}
_PORT = {"type": ["integer", "string"], "minimum": 1, "maximum": values.MAX_PORT}
_STATUS = {
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[1-9][0-9]{2}( *- *[1-9][0-9]{2})?$"}]
}
_PASSWORD = {**_TEXT, "minLength": 1, "maxLength": vrrp_values.LONGEST_PASSWORD}
_ENDPOINT = {"type": "string", "examples": ["rs1", "rs1:www", "192.168.0.3:80", "[2001:db8::3]:80"]}

FAMILIES = {"ipv4": 4, "ipv6": 6}
SCHEDULER_FLAGS = ("sh-fallback", "sh-port", "mh-fallback", "mh-port")
DAY: Seconds = 86400.0
METHODS = ("GET", "HEAD", "OPTIONS")

Text = Annotated[str, Reads(str, _TEXT)]
Line = Annotated[str, Reads(values.line, _TEXT)]
DirectorName = Annotated[str, Reads(values.director_name, {**_TEXT, "maxLength": values.LONGEST_NAME})]
Expression = Annotated[str, Reads(values.expression, _TEXT)]
Interval = Annotated[Seconds, _duration(0.01, DAY)]
"""Between two probes of a real server: below 10 ms they would cost more than what they watch."""
Timeout = Annotated[Seconds, _duration(0.01, 600.0)]
"""Of a probe: while it waits, nothing is known of the real server."""
Reconcile = Annotated[Seconds, _duration(0.1, DAY)]
"""Between two readings of the table; a large one takes tens of milliseconds."""
Persistence = Annotated[Seconds, _duration(1.0, 31 * DAY)]
"""ipvsadm's bounds; the kernel counts in clock ticks of 32 bits."""
Size = Annotated[int, Reads(values.size, {"type": ["integer", "string"]})]
Weight = Annotated[int, Reads(values.weight, {"type": "integer", "minimum": 0, "maximum": 65535})]
Count = Annotated[int, Reads(values.count, {"type": "integer", "minimum": 1, "maximum": values.MAX_COUNT})]
FwMark = Annotated[int, Reads(values.mark, {"type": ["integer", "string"], "minimum": 1})]
Flag = Annotated[bool, Reads(values.flag, {"type": "boolean"})]
Port = Annotated[str, Reads(values.port, _PORT)]
HostText = Annotated[values.Endpoint, Reads(values.host, {"type": "string"})]
EndpointText = Annotated[values.Endpoint, Reads(values.endpoint, _ENDPOINT)]
VirtualAddressText = Annotated[
    values.Endpoint,
    Reads(values.virtual_address, {"type": "string", "examples": ["192.168.0.101:www", "[2001:db8::1]:80"]}),
]
NetworkText = Annotated[
    values.Network,
    Reads(values.network, {"type": "string", "examples": ["192.168.0.101/24", "2001:db8::101/64"]}),
]
Netmask = Annotated[int, Reads(values.netmask, {"type": "string", "examples": ["255.255.255.0"]})]
Prefix = Annotated[int, Reads(partial(values.number, low=1, high=128), {"type": "integer", "minimum": 1})]
Status = Annotated[tuple[int, int], Reads(values.status, _STATUS)]
HttpPath = Annotated[str, Reads(values.http_path, {"type": "string", "pattern": "^/"})]
HeaderName = Annotated[str, Reads(values.header_name, {"type": "string"})]

Name = Annotated[str, Reads(values.name, _TEXT)]
InterfaceName = Annotated[
    str, Reads(vrrp_values.interface, {"type": "string", "maxLength": values.LONGEST_INTERFACE})
]
VirtualRouterId = Annotated[int, _number(1, 255)]
Priority = Annotated[int, Reads(vrrp_values.priority, {"type": "integer", "minimum": 1, "maximum": 255})]
VrrpVersion = Annotated[
    int, Reads(partial(values.choice, choices={"3": 3, "2": 2}), {"type": "integer", "enum": [3, 2]})
]
AdvertisementInterval = Annotated[
    Seconds,
    Reads(
        vrrp_values.advertisement_interval,
        _duration_json(vrrp_values.SHORTEST_INTERVAL, vrrp_values.LONGEST_INTERVAL),
    ),
]
"""Up to 40.95 s in version 3, from 1 s in version 2."""
PreemptDelay = Annotated[Seconds, _duration(0.0, 1000.0)]
Password = Annotated[str, Reads(vrrp_values.password, _PASSWORD)]
TrackWeight = Annotated[int, _number(0, vrrp_values.MAX_TRACK_WEIGHT)]
CommandText = Annotated[tuple[str, ...], Reads(vrrp_values.command, {"type": "string"})]
CommandInterval = Annotated[Seconds, _duration(0.1, DAY)]
UserName = Annotated[str, Reads(vrrp_values.user, {"type": "string"})]
SyncId = Annotated[int, _number(0, 255)]
MulticastGroup = Annotated[Address, Reads(vrrp_values.multicast_group, {"type": "string"})]
Ttl = Annotated[int, _number(1, 255)]
Mtu = Annotated[int, _number(576, 65535)]

ProtocolName = Annotated[Protocol, _choice({str(p): p for p in Protocol})]
ForwardingName = Annotated[Forwarding, _choice({str(f): f for f in Forwarding})]
InitialName = Annotated[Initial, _choice({str(i): i for i in Initial})]
OnFailureName = Annotated[OnFailure, _choice({str(o): o for o in OnFailure})]
OnStopName = Annotated[OnStop, _choice({str(o): o for o in OnStop})]
ScopeName = Annotated[Scope, _choice({str(s): s for s in Scope})]
LogFormatName = Annotated[LogFormat, _choice({str(f): f for f in LogFormat})]
LevelName = Annotated[Level, _choice({str(v): v for v in Level})]
Family = Annotated[int, _choice(FAMILIES)]
Scheduler = Annotated[str, _choice({s: s for s in SCHEDULERS})]
SchedulerFlag = Annotated[str, _choice({f: f for f in SCHEDULER_FLAGS})]
Method = Annotated[str, _choice({m: m for m in METHODS})]
Engine = Annotated[str, _choice({"sip": "sip"})]
