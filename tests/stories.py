"""Logs of one director, told as stories: a line for each thing that happens, and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lvsd.telling import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.events import Record

BEGIN = 1_795_341_600
"""2026-11-22T10:00:00Z, second 0 of every story."""

SERVICE = {"service": "www", "address": "192.0.2.1:80", "protocol": "tcp"}
SETTINGS = {"scheduler": "rr", "flags": [], "persistence": None, "netmask": None, "engine": ""}
KEYS = {"rs1": "192.0.2.11:80", "rs2": "192.0.2.12:80"}
REASONS = {"up": "HTTP 200", "down": "timed out", "unknown": "no verdict yet"}


class Teller:
    """Keeps what is so, since a snapshot tells all of it, and the lines of the log so far."""

    def __init__(self, director: str = "vs1", run: str = "") -> None:
        self.records: list[Record] = []
        self.health: dict[str, str] = dict.fromkeys(KEYS, "up")
        self.weights: dict[str, int] = dict.fromkeys(KEYS, 1)
        self.instance = "backup"
        self._director = director
        self._prefix = run or director
        self._run = self._seq = 0

    def line(self, at: float, event: str, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON has
        self._seq += 1
        run = f"{self._prefix}-{self._run}"
        record = {"ts": timestamp(BEGIN + at), "seq": self._seq, "run": run, "level": "info", "event": event}
        self.records.append({**record, **fields})

    def start(self, at: float) -> None:
        self._run, self._seq = self._run + 1, 0
        self.line(at, "director.started", director=self._director, version="1", pid=1, config="c")

    def stop(self, at: float) -> None:
        self.line(at, "director.stopped", reason="SIGTERM", rows="kept")

    def lose(self, _: float, count: str) -> None:
        self._seq += int(count)

    def drop(self, at: float, count: str) -> None:
        self.line(at, "log.dropped", count=int(count), reason="too slow")

    def snapshot(self, at: float) -> None:
        self.line(at, "snapshot.begin", director=self._director, reason="start", services=1)
        servers = {KEYS[name]: self._server(name) for name in self.health}
        shown = {**SERVICE, "scheduler": "rr", "forward": "dr", "row": SETTINGS}
        for part, key in enumerate(servers):
            self.line(at, "snapshot.service", **shown, part=part, real_servers={key: servers[key]})
        told = {"reason": "", "priority": 100, "master": "", "addresses": ["192.0.2.1/24"], "failing": {}}
        since = timestamp(BEGIN)
        self.line(at, "snapshot.vrrp", instance="vip", state=self.instance, since=since, **told)
        self.line(at, "snapshot.end", part=0, parts=1, addresses=[], foreign=[])

    def judge(self, at: float, name: str, verdict: str) -> None:
        old, self.health[name] = self.health[name], verdict
        told = {
            "server": KEYS[name],
            "host": name,
            "old": old,
            "new": verdict,
            "since": timestamp(BEGIN + at),
        }
        self.line(at, "health.changed", service="www", **told, reason=REASONS[verdict])

    def weigh(self, at: float, name: str, weight: str) -> None:
        event = "server.edited" if name in self.weights else "server.added"
        self.weights[name] = int(weight)
        told = {**SERVICE, "server": KEYS[name], "host": name, "forward": "dr", "weight": int(weight)}
        self.line(at, event, **told, cause="health")

    def remove(self, at: float, name: str) -> None:
        self.weights.pop(name, None)
        self.line(at, "server.removed", **SERVICE, server=KEYS[name], host=name, cause="health")

    def deconfigure(self, at: float, name: str) -> None:
        del self.health[name]
        servers = {KEYS[each]: {"name": each} for each in self.health}
        told = {**SERVICE, "scheduler": "rr", "forward": "dr", "real_servers": servers}
        self.line(at, "config.changed", change="edited", part=0, **told)

    def become(self, at: float, state: str) -> None:
        old, self.instance = self.instance, state
        told = {"reason": "", "priority": 100, "master": "", "addresses": ["192.0.2.1/24"]}
        self.line(at, "vrrp.changed", instance="vip", old=old, new=state, **told)

    def tell(self, story: str) -> Teller:
        """Let a story happen: `10 judge rs1 down` for each line of it."""
        for step in filter(None, map(str.strip, story.splitlines())):
            at, word, *arguments = step.split()
            act: Callable[..., None] = getattr(self, word)
            act(float(at), *arguments)
        return self

    @property
    def lines(self) -> list[bytes]:
        return [json.dumps(record).encode() + b"\n" for record in self.records]

    def _server(self, name: str) -> dict[str, Any]:
        health = self.health[name]
        since = None if health == "unknown" else timestamp(BEGIN)
        known = {"name": name, "health": health, "reason": REASONS[health], "since": since}
        weight = self.weights.get(name)
        return {**known, "configured": True, "weight": weight, "forward": None if weight is None else "dr"}
