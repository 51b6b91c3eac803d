"""What a VRRP instance needs to be master, and whom it tells what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.model import Notify, TrackedCommand, TrackedInterface, TrackedService
from lvsd.config.vrrp_schema import NotifyShape, TrackedInterfaceShape, TrackedServiceShape
from lvsd.config.words import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lvsd.config.commands import CommandBuilder
    from lvsd.config.document import Findings, Path
    from lvsd.config.model import Tracked
    from lvsd.config.vrrp_schema import TrackedCommandShape, TrackShape

_STATES = ("any", "master", "backup", "fault", "stop")


@dataclass(frozen=True, slots=True)
class TrackBuilder:
    """Makes `track` and `notify` of their shapes. `services` are the names of all virtual services."""

    findings: Findings
    commands: CommandBuilder
    services: Collection[str]

    def track(self, shape: TrackShape | None, path: Path) -> tuple[Tracked, ...]:
        """Return what is tracked: interfaces, services, commands."""
        if shape is None:
            return ()
        kinds: dict[str, Sequence[Tracked]] = {
            "interfaces": [_interface(item) for item in shape.interfaces],
            "services": list(self._services(shape, (*path, "services"))),
            "commands": list(self._commands(shape.commands, (*path, "commands"))),
        }
        for key, items in kinds.items():
            self._no_name_twice(items, (*path, key))
        return tuple(item for items in kinds.values() for item in items)

    def notify(self, shape: NotifyShape | Sequence[str] | None, path: Path) -> Notify:
        """Return the commands that are run on changes of state."""
        if shape is None:
            return Notify()
        if not isinstance(shape, NotifyShape):
            return Notify(any=self.commands.build(shape, None, path))
        written = {state: getattr(shape, state) for state in _STATES}
        return Notify(
            **{
                state: self.commands.build(words, shape.user, (*path, state))
                for state, words in written.items()
                if words is not None
            }
        )

    def _services(self, shape: TrackShape, path: Path) -> Iterator[TrackedService]:
        for number, item in enumerate(shape.services):
            tracked, at = _service(item), (*path, number)
            if tracked.name not in self.services:
                meant = did_you_mean(tracked.name, self.services)
                message = f"there is no virtual service named {tracked.name!r}{meant}"
                self.findings.mistake(at if isinstance(item, str) else (*at, "service"), message)
            yield tracked

    def _commands(self, shapes: Sequence[TrackedCommandShape], path: Path) -> Iterator[TrackedCommand]:
        for number, shape in enumerate(shapes):
            command = self.commands.build(shape.command, shape.user, (*path, number, "command"))
            yield TrackedCommand(
                name=shape.name or command.argv[0].rpartition("/")[2],
                command=command,
                interval=shape.interval,
                timeout=shape.timeout,
                rise=shape.rise,
                fall=shape.fall,
                weight=shape.weight,
            )

    def _no_name_twice(self, items: Sequence[Tracked], path: Path) -> None:
        known: dict[str, int] = {}
        for number, item in enumerate(items):
            first = known.setdefault(item.name, number)
            if first != number:
                advice = ": give one of them a `name`" if isinstance(item, TrackedCommand) else ""
                message = f"{item.name} is given twice, first as {path[-1]}[{first}]{advice}"
                self.findings.mistake((*path, number), message)


def _interface(item: TrackedInterfaceShape | str) -> TrackedInterface:
    if isinstance(item, TrackedInterfaceShape):
        return TrackedInterface(item.interface, item.weight)
    return TrackedInterface(item)


def _service(item: TrackedServiceShape | str) -> TrackedService:
    if isinstance(item, TrackedServiceShape):
        return TrackedService(item.service, item.weight)
    return TrackedService(item)
