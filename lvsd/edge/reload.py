"""Brings a configuration into force, service by service, so that the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from lvsd.config.hostnames import names_of, with_addresses
from lvsd.edge import garbage, names
from lvsd.edge.aside import aside
from lvsd.events import ConfigLoaded, NameChanged, NameFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lvsd.config.frames import Loaded
    from lvsd.config.hostnames import Name
    from lvsd.config.model import VirtualService
    from lvsd.director import Director
    from lvsd.effects import Effect
    from lvsd.events import Event
    from lvsd.model import Address, Instant, Seconds

RESOLVE_EVERY: Final[Seconds] = 60.0
AT_ONCE: Final = 20
"""Services taken in before the loop gets its turn: one to two milliseconds at five real servers each."""

MANY: Final = 100
"""Services changed by a reload for which it is worth sparing the garbage collector the new ones."""

NOTES_TOLD: Final = 20


class Reloader:
    """Compares what was read with what is in force by the services' digests, and takes in what differs."""

    def __init__(
        self,
        director: Director,
        feed: Callable[[Callable[[Instant], list[Effect]]], None],
        report: Callable[[Event], None],
        write_down: Callable[[], Awaitable[None]],
    ) -> None:
        self._director = director
        self._feed = feed
        self._report = report
        self._write_down = write_down
        self._digests: dict[str, bytes] = {}
        self._failing: set[Name] = set()
        self._turn = asyncio.Lock()

    async def apply(self, path: str, loaded: Loaded) -> None:
        """Bring `loaded` into force."""
        async with self._turn:
            fresh = [name for name, blob in loaded.services.items() if self._digests.get(name) != blob.digest]
            gone = [name for name in self._digests if name not in loaded.services]
            with garbage.spared() if len(fresh) >= MANY else nullcontext():
                services = await self._unpacked(loaded, fresh)
                self._report(self._loaded(path, loaded, services, gone))
                await self._take_in(services, gone)
            self._digests = {name: blob.digest for name, blob in loaded.services.items()}

    async def follow_names(self) -> None:
        """Look up the host names in use again and again; a name that no longer resolves changes nothing."""
        while True:
            await asyncio.sleep(RESOLVE_EVERY)
            await self.resolve()

    async def resolve(self) -> None:
        """Look up the host names in use, and take in the services whose addresses changed.

        A reload does not wait for the look-up, which may take long.
        """
        services = list(self._director.services.values())
        used, found = await aside(lambda: _look_up(services), "names")
        async with self._turn:
            failing = used.keys() - found.keys()
            if failing - self._failing:
                self._report(NameFailed(hosts=sorted({name for name, _ in failing})[:NOTES_TOLD]))
            self._failing = failing
            moved = {name: address for name, address in found.items() if used[name] != address}
            for (host, _), address in moved.items():
                old = used[host, address.version]
                self._report(NameChanged(host=host, old=str(old), new=str(address)))
            if moved:
                await self._move(moved)

    async def _unpacked(self, loaded: Loaded, names: Iterable[str]) -> list[VirtualService]:
        """Return those of the services `names` that are not in force already."""
        services = []
        for i, name in enumerate(names):
            service = loaded.services[name].service()
            if service != self._director.services.get(name):
                services.append(service)
            await _breathe(i)
        return services

    async def _move(self, moved: dict[Name, Address]) -> None:
        changed = []
        for i, service in enumerate(list(self._director.services.values())):
            now = with_addresses(service, moved)
            if now != service:
                self._digests[service.name] = b""
                changed.append(now)
            await _breathe(i)
        await self._take_in(changed, [])

    async def _take_in(self, services: list[VirtualService], gone: Iterable[str]) -> None:
        leaving = [self._director.services[name] for name in gone]
        self._director.hold([*services, *leaving])
        for i, service in enumerate(services):
            self._feed(lambda now, service=service: self._director.enter(service, now))  # type: ignore[misc]
            await _breathe(i)
        for i, service in enumerate(leaving):
            self._feed(lambda _, service=service: self._director.leave(service.name))  # type: ignore[misc]
            await _breathe(i)
        await self._write_down()  # before it is made, so that what a crash leaves is known for lvsd's own
        self._feed(self._director.release)

    def _loaded(
        self, path: str, loaded: Loaded, services: list[VirtualService], gone: list[str]
    ) -> ConfigLoaded:
        edited = sum(service.name in self._director.services for service in services)
        return ConfigLoaded(
            config=path,
            format=loaded.format,
            files=list(loaded.files)[:NOTES_TOLD],
            notes=[str(note) for note in loaded.notes[:NOTES_TOLD]],
            services=len(loaded.services),
            added=len(services) - edited,
            edited=edited,
            removed=len(gone),
        )


async def _breathe(i: int) -> None:
    """Let the loop go on after every few services."""
    if i % AT_ONCE == AT_ONCE - 1:
        await asyncio.sleep(0)


def _look_up(services: Iterable[VirtualService]) -> tuple[dict[Name, Address], dict[Name, Address]]:
    used = names_of(services)
    return used, names.resolve(used)
