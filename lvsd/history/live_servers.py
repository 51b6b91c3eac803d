"""The real servers of one virtual service, and what they come to together."""

from __future__ import annotations

from enum import StrEnum
from itertools import chain, islice
from typing import Final

from lvsd.history.course import Status

NAMED: Final = 3
"""So many of the real servers that are not live are named."""


class Standing(StrEnum):
    """What a real server does for its service."""

    LIVE = "live"
    IN_DOUBT = "in doubt"
    OUT = "out"
    SORRY = "sorry"
    SPARE = "spare"


class LiveServers:
    """Counts as its members change: the cost of one does not depend on how many there are."""

    def __init__(self) -> None:
        self.standing_of: dict[str, Standing] = {}
        self._hosts: dict[Standing, dict[str, str]] = {standing: {} for standing in Standing}

    def put(self, server: str, host: str, status: Status) -> bool:
        """Note how a real server is; return whether that may change how the service is.

        It is live where it is up and its row takes new connections.
        """
        if not status.weight or status.state == "down":
            return self._put(server, host, Standing.OUT)
        return self._put(server, host, Standing.LIVE if status.state == "up" else Standing.IN_DOUBT)

    def stand_by(self, server: str, host: str, weight: int | None) -> bool:
        """Note how the sorry server is, which has a row where no other is live; return as `put` does."""
        return self._put(server, host, Standing.SORRY if weight else Standing.SPARE)

    def drop(self, server: str) -> None:
        """Forget a real server that is there no more."""
        del self._hosts[self.standing_of.pop(server)][server]

    def status(self, *, in_table: bool) -> Status:
        """Return how the service is: up while it has a live server, unknown while all are in doubt."""
        live, doubtful, out = (self._hosts[each] for each in (Standing.LIVE, Standing.IN_DOUBT, Standing.OUT))
        of_all = f"of {len(live) + len(doubtful) + len(out)} servers live"
        if live:
            return Status("up", f"{len(live)} {of_all}{self._without()}")
        if doubtful:
            return Status("unknown", f"{len(doubtful)} in the table without a verdict yet, 0 {of_all}")
        instead = ", the sorry server in their place" if self._hosts[Standing.SORRY] else ""
        return Status("down", f"0 {of_all}{instead}" if in_table else f"not in the table, 0 {of_all}")

    def _without(self) -> str:
        out, doubtful = self._hosts[Standing.OUT], self._hosts[Standing.IN_DOUBT]
        if not out and not doubtful:
            return ""
        named = list(islice(chain(out.values(), doubtful.values()), NAMED))
        more = len(out) + len(doubtful) - len(named)
        return f", without {', '.join(named)}{f' and {more} more' if more else ''}"

    def _put(self, server: str, host: str, standing: Standing) -> bool:
        before = self.standing_of.get(server)
        if before is standing and self._hosts[standing][server] == host:
            return False
        if before is not None:
            del self._hosts[before][server]
        self.standing_of[server] = standing
        self._hosts[standing][server] = host
        return True
