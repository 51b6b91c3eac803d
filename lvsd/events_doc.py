"""The catalogue of events as a page: `python -m lvsd.events_doc > docs/events.md`."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from lvsd.events import CATALOGUE, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# Events

Everything that lvsd reports, made from `lvsd/events.py` by `make docs`. The log has one JSON object a
line, of at most 16 KiB, whatever the names and reasons in it. Each begins with what all events have:

| field | type | meaning |
|---|---|---|
| `ts` | text | when, RFC 3339 in UTC with microseconds |
| `seq` | number | counts up by one within a run; a jump is a gap: lines are missing |
| `run` | text | which start of the daemon, drawn at each |
| `level` | text | error: somebody must act; warning: something was lost or a server went down; \
info: a change; debug: a probe |
| `event` | text | its name, as below |

The state is what the events add up to: `config.changed` says what is wanted, `health.changed` what is known
of the real servers, `service.*` and `server.*` what is in the kernel's table, `address.*` which VIPs are
held, `vrrp.changed` how the VRRP instances are, `foreign.*` which rows are not lvsd's. A snapshot tells all
of it anew. `lvsd status` folds the log in this way; it calls the log incomplete from a gap, or from the start
of a run, to the end of the next snapshot.
"""

_TYPES = {
    "str": "text",
    "str | None": "text or null",
    "int": "number",
    "int | None": "number or null",
    "float": "number",
    "bool": "true or false",
    "list[str]": "list of texts",
    "list[dict[str, str]]": "list of objects",
    "dict[str, str]": "object of texts",
    "dict[str, Any] | None": "object or null",
    "dict[str, dict[str, Any]]": "object of objects",
}

_MEANINGS = {
    "added": "virtual services that are new",
    "address": "the virtual service's address and port, or `fwmark 7`",
    "addresses": "the VIPs held, each with `address`, `interface`, `label`",
    "cause": "why: `adopted` (found and taken over), `config`, `health`, `drift` (somebody else did it), \
`mended` (after drift), `retried` (after a refusal), `stop`, `vrrp` (an election)",
    "change": "`added`, `edited` or `removed`",
    "command": "the program and its arguments",
    "config": "the configuration file",
    "complete": "whether that was all",
    "connections": "how many TCP connections",
    "count": "how many",
    "director": "the director's name",
    "edited": "virtual services that are changed",
    "engine": "the kernel's persistence engine, empty where none is set",
    "failing": "reasons by what is tracked",
    "fall": "how many failures in a row take a server down",
    "file": "which file",
    "files": "the files read, in order, as many as have room",
    "flags": "the scheduler's flags, and `ops`",
    "foreign": "the rows that are not lvsd's",
    "format": "`lvsd` or `lvs.conf`",
    "forward": "the forwarding: `dr`, `nat` or `tun`",
    "host": "the host's name as it is configured",
    "hosts": "the names, as many as have room",
    "instance": "the VRRP instance's name in the configuration",
    "interface": "the interface",
    "label": "the address's label, may be empty",
    "logger": "which part of which library",
    "mac": "the hardware address of the other host",
    "master": "the address of the director that is master as far as is known, may be empty",
    "message": "what it said",
    "mistakes": "the mistakes, each with file, line, column and path, as many as have room",
    "netmask": "how much of a client's address counts for persistence, as a prefix length",
    "networks": "the interface's own addresses, with their prefixes",
    "new": "as it is now",
    "notes": "remarks on the configuration, as many as have room",
    "old": "as it was",
    "output": "what it wrote",
    "part": "0, and counting up where it takes more than one line",
    "parts": "how many lines it takes",
    "peer": "the address that the other director's advertisements come from",
    "persistence": "its time-out in seconds, null where none is set",
    "pid": "the process",
    "priority": "the priority",
    "probes": "how many",
    "protocol": "`tcp`, `udp`, `sctp`, or `fwm` for a firewall mark",
    "real_servers": "by address and port, see above",
    "reason": "why, in words",
    "removed": "virtual services that are gone",
    "retry_in": "seconds until it is tried again",
    "role": "`master` or `backup`",
    "row": "the row: `tcp 192.168.0.101:80`, with ` -> 192.168.0.3:80` that of a real server",
    "rows": "what became of the rows and VIPs",
    "scheduler": "the scheduler",
    "seconds": "how long it took",
    "server": "the real server's address and port",
    "servers": "real servers with a row in the table",
    "service": "the virtual service's name in the configuration",
    "services": "virtual services",
    "since": "when it became so, as `ts`",
    "source": "where the last of them came from",
    "state": "`initialize`, `backup`, `master` or `fault`",
    "tracked": "the interface, command or virtual service",
    "user": "the user as whom it ran",
    "version": "lvsd's version",
    "weight": "the row's weight",
    "well": "whether it is well",
    "yields": "`peer` or `self`",
}

_OTHERWISE = {
    ("address.added", "address"): "the VIP with its prefix",
    ("address.removed", "address"): "the VIP with its prefix",
    ("address.refused", "address"): "the VIP with its prefix",
    ("address.contested", "address"): "the VIP with its prefix",
    ("address.misplaced", "address"): "the VIP with its prefix",
    ("vrrp.changed", "addresses"): "its VIPs, with their prefixes",
    ("snapshot.vrrp", "addresses"): "its VIPs, with their prefixes",
    ("change.refused", "change"): "what ipvsadm would be told to do the same",
    ("probe.failed", "count"): "which failure in a row it is, 0 where the server is down already",
    ("probes.late", "seconds"): "how long after it was due the first of them began",
    ("probes.punctual", "probes"): "how many were late",
    ("probes.punctual", "seconds"): "how long after it was due the latest of them began",
    ("snapshot.service", "row"): "what is set on the service's row",
}


def catalogue_markdown() -> str:
    """Return `docs/events.md`."""
    return "\n".join([HEAD, *(line for name in sorted(CATALOGUE) for line in _entry(CATALOGUE[name]))])


def _entry(event: type[Event]) -> Iterator[str]:
    yield f"## {event.name}\n"
    yield f"{inspect.cleandoc(event.__doc__ or '')}\n"
    yield f"Level: {_level(event)}\n"
    if event.advice:
        yield f"What to do: {event.advice}\n"
    yield "| field | type | meaning |\n|---|---|---|"
    for field in fields(event):
        meaning = _OTHERWISE.get((event.name, field.name)) or _MEANINGS[field.name]
        yield f"| `{field.name}` | {_TYPES[str(field.type)]} | {meaning} |"
    yield ""


def _level(event: type[Event]) -> str:
    return "Info." if event.level is Event.level else inspect.cleandoc(event.level.__doc__ or "")


if __name__ == "__main__":
    sys.stdout.write(catalogue_markdown())
