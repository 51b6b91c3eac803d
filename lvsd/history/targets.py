"""Who a log tells of: each target's course, kept in step with the state that the log folds to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lvsd.history.course import GONE, Course, Status
from lvsd.history.live_servers import LiveServers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.events import Record
    from lvsd.history.course import Room
    from lvsd.model import Seconds
    from lvsd.state import Key, State, Wanted

REMOVED: Final = Status(GONE, "not configured any more")


class Targets:
    """The courses of virtual services, real servers and VRRP instances, by their kind and path.

    A course keeps its periods where one of its names is the `target` asked for; each does where it is empty.
    """

    def __init__(self, state: State, room: Room, target: str) -> None:
        self.courses: dict[tuple[str, ...], Course] = {}
        self._state = state
        self._room = room
        self._target = target
        self._live_servers: dict[str, LiveServers] = {}
        self._keys: dict[str, Key] = {}
        self._services_at: dict[Key, set[str]] = {}
        self._told: tuple[str, str] | None = None
        self._being_told: set[str] = set()

    def finish_telling(self, record: Record | None, at: Seconds) -> None:
        """Look at the services that were told of up to the moment `at`, unless `record` goes on with them.

        What is told of a service may take several lines, which follow one another.
        """
        if not self._being_told:
            return
        if (
            record is not None
            and record.get("part")
            and self._told == (record["event"], record.get("service"))
        ):
            return
        names, self._being_told, self._told = self._being_told, set(), None
        for name in names:
            self._survey(name, at)

    def follow(self, record: Record, at: Seconds) -> None:
        """Look at whom `record`, which the state has just taken in, concerns."""
        step = _STEPS.get(record["event"])
        if step is not None:
            step(self, record, at)

    def survey(self, at: Seconds) -> None:
        """Look at all that the state knows."""
        for name in list(self._state.services):
            self._survey(name, at)
        for name in self._state.vrrp:
            self._watch(name, at)
        self._drop_untold(at)

    def lose(self, status: Status, at: Seconds) -> None:
        """Note that how they are is not known from the moment `at` on."""
        self._being_told.clear()
        for course in self.courses.values():
            if course.status.state != GONE:
                course.turn(at, status)

    def _drop_untold(self, at: Seconds) -> None:
        """Close what the state does not know any more."""
        for name in self._live_servers.keys() - self._state.services.keys():
            self._survey(name, at)
        for kind, name in [path for path in self.courses if path[0] == "instance"]:
            if name not in self._state.vrrp:
                self.courses[kind, name].turn(at, REMOVED)

    def _survey(self, name: str, at: Seconds) -> None:
        """Look at a service and all of its real servers."""
        wanted = self._state.services.get(name)
        live = self._live_servers.setdefault(name, LiveServers())
        self._index(name, None if wanted is None else wanted.key)
        servers = {} if wanted is None else wanted.servers
        for server in [server for server in live.standing_of if server not in servers]:
            live.drop(server)
            self._remove("server", name, server, at=at)
        if wanted is None:
            del self._live_servers[name]
            self._remove("service", name, at=at)
            return
        for server in servers:
            self._look(name, wanted, server, at)
        self._sum_up(name, wanted, at)

    def _remove(self, *path: str, at: Seconds) -> None:
        if (course := self.courses.get(path)) is not None:
            course.turn(at, REMOVED)

    def _index(self, name: str, key: Key | None) -> None:
        """Note which row a service has."""
        old = self._keys.get(name)
        if old == key:
            return
        if old is not None:
            del self._keys[name]
            self._services_at[old].discard(name)
            if not self._services_at[old]:
                del self._services_at[old]
        if key is not None:
            self._keys[name] = key
            self._services_at.setdefault(key, set()).add(name)

    def _look(self, name: str, wanted: Wanted, server: str, at: Seconds) -> bool:
        """Look at one real server; return whether that may change how the service is."""
        known, rows = wanted.servers[server], self._state.rows.get(wanted.key)
        row = None if rows is None else rows.servers.get(server)
        weight = None if row is None else row["weight"]
        host = known["name"] or server
        if known.get("sorry"):
            self._remove("server", name, server, at=at)
            return self._live_servers[name].stand_by(server, host, weight)
        status = Status(known["health"], known["reason"], weight)
        path = "server", name, server
        course = self.courses.get(path) or self._begin(path, at, status)
        if course.host != host:
            course.host = host
            self._name(course, _names(name, server, host))
        course.turn(at, status)
        return self._live_servers[name].put(server, host, status)

    def _sum_up(self, name: str, wanted: Wanted, at: Seconds) -> None:
        """Look at what a service's real servers come to."""
        status = self._live_servers[name].status(in_table=wanted.key in self._state.rows)
        path = "service", name
        course = self.courses.get(path) or self._begin(path, at, status)
        if wanted.key[1] not in course.names:
            self._name(course, {name, wanted.key[1]})
        course.turn(at, status)

    def _watch(self, name: str, at: Seconds) -> None:
        """Look at one VRRP instance."""
        told = self._state.vrrp[name]
        status = Status(told["state"], told["reason"])
        path = "instance", name
        course = self.courses.get(path) or self._begin(path, at, status)
        if not course.names:
            self._name(course, {name})
        course.turn(at, status)

    def _begin(self, path: tuple[str, ...], at: Seconds, status: Status) -> Course:
        course = self.courses[path] = Course(path[0], path[1:], self._room, status, at, at)
        return course

    def _name(self, course: Course, names: set[str]) -> None:
        course.names |= names
        if not course.is_wanted and (not self._target or self._target in course.names):
            course.is_wanted = True
            self._room.add()

    def _judged(self, record: Record, at: Seconds) -> None:
        name = record["service"]
        wanted = self._state.services.get(name)
        if wanted is not None and self._look(name, wanted, record["server"], at):
            self._sum_up(name, wanted, at)

    def _server_changed(self, record: Record, at: Seconds) -> None:
        server = record["server"]
        for name in self._services_at.get((record["protocol"], record["address"]), ()):
            wanted = self._state.services[name]
            if server in wanted.servers and self._look(name, wanted, server, at):
                self._sum_up(name, wanted, at)

    def _service_changed(self, record: Record, at: Seconds) -> None:
        for name in list(self._services_at.get((record["protocol"], record["address"]), ())):
            self._survey(name, at)

    def _service_told(self, record: Record, _: Seconds) -> None:
        self._told = record["event"], record["service"]
        names = self._services_at.get((record["protocol"], record["address"]), set())
        self._being_told |= {record["service"], *names} - {""}

    def _instance_told(self, record: Record, at: Seconds) -> None:
        self._watch(record["instance"], at)

    def _snapshot_ended(self, _: Record, at: Seconds) -> None:
        if self._state.unseen is None:  # its last line
            self._drop_untold(at)


def _names(service: str, server: str, host: str) -> set[str]:
    """Return what a real server may be called: by its name or address, with or without port and service."""
    address = server.rpartition(":")[0]
    names = {server, host, address, address.strip("[]"), f"{host}:{server.rpartition(':')[2]}"}
    return names | {f"{service}/{name}" for name in names}


_STEPS: Final[dict[str, Callable[[Targets, Record, Seconds], None]]] = {
    "health.changed": Targets._judged,  # noqa: SLF001 - the class's own table
    "server.added": Targets._server_changed,  # noqa: SLF001
    "server.edited": Targets._server_changed,  # noqa: SLF001
    "server.removed": Targets._server_changed,  # noqa: SLF001
    "service.added": Targets._service_changed,  # noqa: SLF001
    "service.edited": Targets._service_changed,  # noqa: SLF001
    "service.removed": Targets._service_changed,  # noqa: SLF001
    "config.changed": Targets._service_told,  # noqa: SLF001
    "snapshot.service": Targets._service_told,  # noqa: SLF001
    "vrrp.changed": Targets._instance_told,  # noqa: SLF001
    "snapshot.vrrp": Targets._instance_told,  # noqa: SLF001
    "snapshot.end": Targets._snapshot_ended,  # noqa: SLF001
}
