"""The log folded into the state: what `status` shows, at any moment that the log covers.

Only facts count: rows are what `service.*` and `server.*` say, verdicts what `health.changed` says, what is
wanted what `config.changed` says, and VRRP instances what `vrrp.changed` says; `snapshot.*` lines set all of
that, so that a log may start anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.events import Record

Key: TypeAlias = "tuple[str, str]"
"""Protocol and address of a virtual service's row, as in the log."""


_SETTINGS = ("scheduler", "flags", "persistence", "netmask", "engine")
_ROW = ("name", "weight", "forward")
_NOT_KNOWLEDGE = {"weight", "forward", "configured"}
_NOTHING_KNOWN: dict[str, Any] = {"health": "unknown", "reason": "no verdict yet", "since": None}


@dataclass(slots=True)
class ServiceRows:
    """A virtual service's row and its real servers' rows: what is set, by address and port."""

    settings: dict[str, Any]
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Wanted:
    """A configured virtual service, and what is known of its real servers, by address and port.

    `before` is what was known of them before the last `config.changed`.
    """

    key: Key
    scheduler: str
    forward: str
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What a log says so far.

    `complete` is False after a gap in it and at the start of a run, until the next snapshot is whole.
    `unseen` are the services and rows that the snapshot being read has not told of so far, None where none
    is being read, and `instances` those of VRRP that it has told of.
    """

    director: str = ""
    run: str = ""
    seq: int = 0
    at: str = ""
    complete: bool = False
    running: bool = False
    services: dict[str, Wanted] = field(default_factory=dict)
    rows: dict[Key, ServiceRows] = field(default_factory=dict)
    addresses: dict[str, dict[str, str]] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)
    vrrp: dict[str, dict[str, Any]] = field(default_factory=dict)
    instances: set[str] = field(default_factory=set)
    unseen: set[str | Key] | None = None

    def fold(self, record: Record) -> None:
        """Take in one line of the log. Events that bear no state only move the time forward."""
        self._follow(record)
        step = _STEPS.get(record["event"])
        if step is not None:
            step(self, record)

    def to_json(self) -> dict[str, Any]:
        """Return the state in the shape that `status --json` has."""
        return {
            "director": self.director,
            "at": self.at,
            "run": self.run,
            "seq": self.seq,
            "complete": self.complete,
            "running": self.running,
            "virtual_services": {name: self._service(wanted) for name, wanted in self.services.items()},
            "vrrp": self.vrrp,
            "addresses": list(self.addresses.values()),
            "foreign": list(self.foreign),
        }

    def see(self, *told: str | Key) -> None:
        """Note that services or rows were told of while a snapshot is read."""
        if self.unseen is not None:
            self.unseen.difference_update(told)

    def lose(self) -> None:
        """Note that something was not told: the state is in doubt until the next snapshot is whole."""
        self.complete, self.unseen = False, None

    def _follow(self, record: Record) -> None:
        seq, run = record["seq"], record["run"]
        if (run, seq) != (self.run, self.seq + 1):
            # What happened between two runs is told by the snapshot that each begins with.
            self.lose()
        self.running = self.running or run != self.run
        self.run, self.seq, self.at = run, seq, record["ts"]

    def _service(self, wanted: Wanted) -> dict[str, Any]:
        protocol, address = wanted.key
        rows = self.rows.get(wanted.key)
        present = {} if rows is None else rows.servers
        return {
            "address": address,
            "protocol": protocol,
            "scheduler": wanted.scheduler if rows is None else rows.settings["scheduler"],
            "forward": wanted.forward,
            "in_table": rows is not None,
            "real_servers": {
                key: _server(wanted.servers.get(key, {}), present.get(key))
                for key in [*wanted.servers, *(key for key in present if key not in wanted.servers)]
            },
        }


def _started(state: State, record: Record) -> None:
    state.director, state.running = record["director"], True


def _stopped(state: State, _: Record) -> None:
    state.running = False


def _dropped(state: State, _: Record) -> None:
    state.lose()


def _configured(state: State, record: Record) -> None:
    name = record["service"]
    if record["change"] == "removed":
        state.services.pop(name, None)
        return
    state.see(name)
    if record["change"] == "added" and record["part"] == 0:
        # One of that name may be known yet from an earlier run.
        state.services.pop(name, None)
    wanted = _want(state, record)
    rows = state.rows.get(wanted.key)
    for key, server in record["real_servers"].items():
        known = wanted.before.get(key, {})
        health = {field: known.get(field, nothing) for field, nothing in _NOTHING_KNOWN.items()}
        wanted.servers[key] = {**health, **server}
        if rows is not None and key in rows.servers:
            rows.servers[key]["name"] = server["name"]


def _want(state: State, record: Record) -> Wanted:
    """Return the service of a `config.changed` or `snapshot.service` line, new with its first part."""
    name = record["service"]
    before = state.services.get(name)
    if record["part"] > 0 and before is not None:
        return before
    key = record["protocol"], record["address"]
    known = {} if before is None else before.servers
    state.services[name] = Wanted(key, record["scheduler"], record["forward"], known)
    return state.services[name]


def _judged(state: State, record: Record) -> None:
    wanted = state.services.get(record["service"])
    if wanted is None:
        return
    server = wanted.servers.setdefault(record["server"], {"name": record["host"]})
    server |= {"health": record["new"], "reason": record["reason"], "since": record["since"]}


def _service_added(state: State, record: Record) -> None:
    state.rows.pop(_key(record), None)
    _service_edited(state, record)


def _service_edited(state: State, record: Record) -> None:
    state.see(_key(record))
    settings = {field: record[field] for field in _SETTINGS}
    state.rows.setdefault(_key(record), ServiceRows(settings)).settings = settings


def _service_removed(state: State, record: Record) -> None:
    state.rows.pop(_key(record), None)


def _server_set(state: State, record: Record) -> None:
    rows = state.rows.get(_key(record))
    if rows is not None:
        rows.servers[record["server"]] = {
            "name": record["host"],
            "weight": record["weight"],
            "forward": record["forward"],
        }


def _server_removed(state: State, record: Record) -> None:
    rows = state.rows.get(_key(record))
    if rows is not None:
        rows.servers.pop(record["server"], None)


def _address_added(state: State, record: Record) -> None:
    fields = {field: record[field] for field in ("address", "interface", "label")}
    state.addresses[f"{record['address']} {record['interface']}"] = fields


def _address_removed(state: State, record: Record) -> None:
    state.addresses.pop(f"{record['address']} {record['interface']}", None)


def _vrrp_changed(state: State, record: Record) -> None:
    state.instances.add(record["instance"])
    _set_instance(state, record, record["new"], record["ts"])


def _vrrp_told(state: State, record: Record) -> None:
    state.instances.add(record["instance"])
    _set_instance(state, record, record["state"], record["since"])
    state.vrrp[record["instance"]]["failing"] = dict(record["failing"])


def _set_instance(state: State, record: Record, is_in: str, since: str) -> None:
    told = {field: record[field] for field in ("addresses", "priority", "master", "reason")}
    failing = state.vrrp.get(record["instance"], {}).get("failing", {})
    state.vrrp[record["instance"]] = {"state": is_in, "since": since, **told, "failing": failing}


def _vrrp_heard(state: State, record: Record) -> None:
    instance = state.vrrp.get(record["instance"])
    if instance is not None:
        instance["master"] = record["master"]


def _vrrp_weighed(state: State, record: Record) -> None:
    instance = state.vrrp.get(record["instance"])
    if instance is None:
        return
    instance["priority"] = record["priority"]
    if record["well"]:
        instance["failing"].pop(record["tracked"], None)
    else:
        instance["failing"][record["tracked"]] = record["reason"]


def _foreign_appeared(state: State, record: Record) -> None:
    state.foreign[record["row"]] = None


def _foreign_disappeared(state: State, record: Record) -> None:
    state.foreign.pop(record["row"], None)


def _snapshot_begins(state: State, record: Record) -> None:
    state.director, state.running = record["director"], True
    state.unseen, state.instances = {*state.services, *state.rows}, set()


def _snapshot_tells(state: State, record: Record) -> None:
    name, key = record["service"], _key(record)
    state.see(name, key)
    _tell_rows(state, record, key)
    if not name:
        return
    wanted = _want(state, record)
    for server, told in record["real_servers"].items():
        if told["configured"]:
            known = {field: told[field] for field in told if field not in _NOT_KNOWLEDGE}
            wanted.servers[server] = {**_NOTHING_KNOWN, **known}


def _tell_rows(state: State, record: Record, key: Key) -> None:
    if record["row"] is None:
        state.rows.pop(key, None)
        return
    if record["part"] == 0 or key not in state.rows:
        state.rows[key] = ServiceRows({field: record["row"][field] for field in _SETTINGS})
    for server, told in record["real_servers"].items():
        if told["weight"] is not None:
            state.rows[key].servers[server] = {field: told[field] for field in _ROW}


def _snapshot_ends(state: State, record: Record) -> None:
    if state.unseen is None:
        return
    if record["part"] == 0:
        state.addresses, state.foreign = {}, {}
    state.addresses |= {f"{told['address']} {told['interface']}": told for told in record["addresses"]}
    state.foreign |= dict.fromkeys(record["foreign"])
    if record["part"] + 1 < record["parts"]:
        return
    state.vrrp = {name: told for name, told in state.vrrp.items() if name in state.instances}
    for unseen in state.unseen:
        if isinstance(unseen, str):
            state.services.pop(unseen, None)
        else:
            state.rows.pop(unseen, None)
    state.unseen, state.complete = None, True


def _key(record: Record) -> Key:
    return record["protocol"], record["address"]


def _server(known: dict[str, Any], row: dict[str, Any] | None) -> dict[str, Any]:
    shown = {
        "name": known.get("name") or ("" if row is None else row["name"]),
        "health": known.get("health", "unknown"),
        "weight": None if row is None else row["weight"],
        "in_table": row is not None,
        "reason": known.get("reason", ""),
        "since": known.get("since"),
    }
    return {**shown, "sorry": True} if known.get("sorry") else shown


_STEPS: dict[str, Callable[[State, Record], None]] = {
    "director.started": _started,
    "director.stopped": _stopped,
    "log.dropped": _dropped,
    "config.changed": _configured,
    "health.changed": _judged,
    "service.added": _service_added,
    "service.edited": _service_edited,
    "service.removed": _service_removed,
    "server.added": _server_set,
    "server.edited": _server_set,
    "server.removed": _server_removed,
    "address.added": _address_added,
    "address.removed": _address_removed,
    "vrrp.changed": _vrrp_changed,
    "vrrp.master": _vrrp_heard,
    "vrrp.tracked": _vrrp_weighed,
    "snapshot.vrrp": _vrrp_told,
    "foreign.appeared": _foreign_appeared,
    "foreign.disappeared": _foreign_disappeared,
    "snapshot.begin": _snapshot_begins,
    "snapshot.service": _snapshot_tells,
    "snapshot.end": _snapshot_ends,
}
