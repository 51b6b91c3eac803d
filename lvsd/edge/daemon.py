"""The daemon: brings what happens to the director, and carries out what it decides. It decides nothing."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, assert_never

from lvsd import __version__
from lvsd.config.model import OnStop
from lvsd.director import Director
from lvsd.edge import garbage, state_file, systemd
from lvsd.edge.failover_keeper import FailoverKeeper
from lvsd.edge.links import Links
from lvsd.edge.log import BridgeHandler, Log
from lvsd.edge.memory import Memory
from lvsd.edge.prober import Prober
from lvsd.edge.probes import Probes
from lvsd.edge.reload import Reloader
from lvsd.edge.snapshots import Snapshots
from lvsd.edge.table import TableKeeper
from lvsd.edge.vip_keeper import VipKeeper
from lvsd.effects import AddAddress, Forget, Probe, Program, ReadTable, Remember, RemoveAddress, Report
from lvsd.errors import ConfigError, KernelError, Mistake, Place
from lvsd.events import (
    AddressRemoved,
    ConfigRejected,
    DirectorReady,
    DirectorStarted,
    DirectorStopped,
    LibraryWarned,
    StateLost,
)
from lvsd.model import Instant
from lvsd.vips import Vips
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from lvsd.config.frames import Loaded
    from lvsd.config.model import DirectorAddress
    from lvsd.edge.addresses import Addresses
    from lvsd.edge.ipvs import Ipvs
    from lvsd.edge.parser import Parser
    from lvsd.edge.signals import Signals
    from lvsd.effects import Effect
    from lvsd.events import Event
    from lvsd.health.outcome import Outcome
    from lvsd.health.roster import Target
    from lvsd.model import Seconds

STOP_WITHIN: Final[Seconds] = 10.0
READY_WITHIN: Final[Seconds] = 30.0
STATUS_EVERY: Final[Seconds] = 1.0
LOST_LINES_EVERY: Final[Seconds] = 1.0
MISTAKES_TOLD: Final = 20


class Daemon:
    """One run: holds the director, and the hands that it has on the system."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a run is made of
        self,
        path: str,
        loaded: Loaded,
        log: Log,
        ipvs: Ipvs,
        addresses: Addresses,
        signals: Signals,
        parser: Parser,
    ) -> None:
        self._path = path
        self._loaded = loaded
        self._log = log
        self._signals = signals
        self._parser = parser
        file = state_file.path()
        remembered = state_file.read(file)
        self._lost = StateLost(file=str(file), reason=remembered.trouble) if remembered.trouble else None
        self._director = Director(remembered.rows, loaded.settings.log.level)
        self._vips = Vips(remembered.addresses)
        self._memory = Memory(file, self._director, self._vips, self._report)
        self._links = Links(on_end=self._done, on_link=self._interface_changed)
        self._probes = Probes(self._links.impeded)
        self._prober = Prober(self._probes, self._probe_finished, self._report)
        self._table = TableKeeper(self._director, ipvs, self._feed, self._table_failed)
        self._recorded = remembered.addresses
        self._failover = FailoverKeeper(
            self._director, self._links, addresses, ipvs, self._keep_vips, self._report
        )
        self._vip_keeper = VipKeeper(self._vips, addresses, self._carry_out_now, self._failover.placed)
        self._reloader = Reloader(self._director, self._feed, self._report, self._memory.write)
        self._snapshots = Snapshots(
            loaded.settings.director, self._director, self._failover.failover, self._vips, log, self._report
        )
        log.on_recovered = lambda: self._snapshots.want("lines lost")
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._verdicts_changed = True
        self._rejected = False
        self._started = False
        self._began_at = _began_at()  # now: the probes may leave no descriptor for it

    async def run(self, dropped: Iterable[DirectorAddress] = ()) -> None:
        """Run until told to stop; raise what goes wrong in lvsd itself, so that it is restarted.

        `dropped` are VIPs that this run has taken away already, and has to tell of.
        """
        self._listen_to_libraries()
        name = self._loaded.settings.director
        started = DirectorStarted(director=name, version=__version__, pid=os.getpid(), config=self._path)
        self._report(started)
        for vip in dropped:
            self._report(AddressRemoved(address=str(vip), interface=vip.interface, cause="vrrp"))
        if self._lost is not None:
            self._report(self._lost)
        try:
            await self._signals.unless_stopped(self._live(), self._failure)
            await self._withdraw()
        finally:
            await self._end()

    async def _live(self) -> None:
        await self._start()
        garbage.resume()
        self._report(self._ready())
        systemd.ready(self._status())
        await asyncio.gather(
            self._table.run(lambda: self._loaded.settings.ipvs.reconcile),
            self._failover.run(),
            self._vip_keeper.run(),
            self._reloader.follow_names(),
            self._reload_when_told(),
            self._snapshot_when_told(),
            self._memory.run(),
            self._feed_watchdog(),
            self._tell_status(),
            self._tell_lost_lines(),
        )

    async def _start(self) -> None:
        await self._follow_links()
        self._failover.start(self._loaded.settings, self._recorded)
        await self._reloader.apply(self._path, self._loaded)
        await self._table.read()
        self._failover.adopted()
        self._snapshots.want("start")
        self._begin(self._snapshots.run())
        preparing = self._probes.prepare(target.check for target in self._director.roster.watched)
        await asyncio.gather(self._settled(READY_WITHIN), preparing)
        # The VIP comes last: who reaches it finds the services behind it.
        self._started = True
        self._want_addresses()
        await self._memory.write()  # before they are made, as for rows
        self._vip_keeper.keep("config")

    def _want_addresses(self, *, anew: bool = True) -> None:
        shared = (vip for each in self._failover.failover.instances for vip in placed(each))
        own = self._loaded.settings.addresses
        if not self._started:  # those that are not here yet come last
            own = tuple(each for each in own if (each.address, each.interface) in self._vips.owned)
        wanted = (*own, *self._failover.vips())
        self._carry_out_now(self._vips.want(wanted, shared, anew=anew))

    def _keep_vips(self) -> None:
        """Have those VIPs in place, and no others, that this director holds now."""
        self._vip_keeper.look_again()  # in case that it fails half-way
        self._want_addresses(anew=False)
        self._vip_keeper.keep("vrrp")

    def _interface_changed(self, name: str) -> None:
        self._vip_keeper.look_again()
        self._failover.look(name)

    async def _follow_links(self) -> None:
        """Follow the director's own interfaces; without them every failure is taken for the server's."""
        try:
            await self._links.start()
        except KernelError as error:
            self._report(LibraryWarned(logger="lvsd.edge.links", message=str(error)))

    async def _withdraw(self) -> None:
        """Stop: the rows and VIPs stay, or go where the configuration says so."""
        systemd.stopping()
        await self._failover.stop(STOP_WITHIN)
        await self._prober.close()
        rows = "kept"
        if self._loaded.settings.ipvs.on_stop is OnStop.REMOVE:
            rows = await self._remove_all()
        await self._memory.write()
        self._report(DirectorStopped(reason=self._signals.reason, rows=rows))

    async def _remove_all(self) -> str:
        """Remove the rows and VIPs; return what became of the rows."""
        if not self._director.adopted:
            return "kept: the table had not been read yet"
        self._feed(self._director.withdraw)
        await self._settled(STOP_WITHIN)
        self._vip_keeper.remove_all()
        left = len(self._director.ledger.actual)
        return f"removed, but for those of {left} services" if left else "removed"

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._prober.close()
        await self._probes.close()
        await self._links.close()
        await self._failover.close()

    def _feed(self, step: Callable[[Instant], list[Effect]]) -> None:
        """Give the director something to decide, with the time of now, and carry out what it decides."""
        now = Instant(time.monotonic(), time.time())
        self._carry_out(step(now), now)
        self._arm()
        if self._director.turned:
            turned, self._director.turned = self._director.turned, set()
            self._failover.weigh(turned)

    def _carry_out_now(self, effects: Iterable[Effect]) -> None:
        self._feed(lambda _: list(effects))

    def _carry_out(self, effects: Iterable[Effect], now: Instant) -> None:
        for effect in effects:
            match effect:
                case Report(event):
                    self._log.report(event, now.wall)
                case Probe(target, at):
                    self._prober.at(target, at)
                case Forget(target):
                    self._prober.forget(target)
                case Program(changes):
                    self._begin(self._table.program(changes))
                case ReadTable():
                    self._table.want_reading()
                case Remember(keys):
                    self._memory.note_change(keys)
                case AddAddress() | RemoveAddress():
                    self._vip_keeper.look_again()
                case _:
                    assert_never(effect)
        self._snapshots.count()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._director.next_timer
        if at is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(at, self._feed, self._director.tick)

    def _report(self, event: Event) -> None:
        self._log.report(event, time.time())

    def _probe_finished(self, target: Target, outcome: Outcome) -> None:
        self._verdicts_changed = True
        self._feed(lambda now: self._director.finish(target, outcome, now))

    def _table_failed(self, error: KernelError) -> None:
        self._report(LibraryWarned(logger="lvsd.edge.ipvs", message=str(error)))

    async def _settled(self, within: Seconds) -> None:
        """Wait until nothing is to be programmed any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not self._director.ledger.idle:
                    await self._table.answered()

    async def _reload_when_told(self) -> None:
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            systemd.reloading()
            await self._load_again()
            systemd.ready(self._status())

    async def _snapshot_when_told(self) -> None:
        while True:
            await self._signals.snapshot.wait()
            self._signals.snapshot.clear()
            self._snapshots.want("SIGUSR1")

    async def _load_again(self) -> None:
        try:
            loaded = await self._parser.load(self._path)
            try:
                self._log.configure(loaded.settings.log)
            except OSError as error:
                raise log_error(self._path, loaded, error) from None
        except (ConfigError, OSError) as error:
            self._report(_rejected(self._path, error))
            self._rejected = True
            return
        self._rejected = False
        self._loaded = loaded
        self._director.level = loaded.settings.log.level
        self._snapshots.name = loaded.settings.director
        await self._reloader.apply(self._path, loaded)
        self._failover.configure(loaded.settings)
        self._want_addresses()
        await self._memory.write()
        self._vip_keeper.keep("config")
        self._snapshots.want("reload")

    async def _feed_watchdog(self) -> None:
        interval = systemd.watchdog_interval()
        while interval is not None:
            systemd.alive()
            await asyncio.sleep(interval)

    async def _tell_status(self) -> None:
        told = ""
        while True:
            if self._verdicts_changed:
                self._verdicts_changed = False
                status = self._status()
                if status != told:
                    systemd.status(status)
                    told = status
            await asyncio.sleep(STATUS_EVERY)

    async def _tell_lost_lines(self) -> None:
        while True:
            self._log.catch_up(time.time())
            await asyncio.sleep(LOST_LINES_EVERY)

    def _status(self) -> str:
        tables = self._director.ledger.actual.values()
        live = sum(any(server.weight for server in rows.servers.values()) for rows in tables)
        roster = self._director.roster
        servers = f"{roster.up} of {roster.members} real servers up"
        rejected = "; the last reload was rejected" if self._rejected else ""
        return f"{live} of {len(self._director.services)} virtual services and {servers}{rejected}"

    def _ready(self) -> DirectorReady:
        ledger = self._director.ledger
        since_start = time.clock_gettime(time.CLOCK_BOOTTIME) - self._began_at
        return DirectorReady(
            services=len(ledger.actual),
            servers=sum(len(rows.servers) for rows in ledger.actual.values()),
            seconds=round(since_start, 3),
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failure.done():
            self._failure.set_exception(task.exception() or RuntimeError())

    def _listen_to_libraries(self) -> None:
        loop = asyncio.get_running_loop()

        def report(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._report, event)

        logging.getLogger().handlers = [BridgeHandler(report)]
        loop.set_exception_handler(lambda _, context: self._unhandled(context))

    def _unhandled(self, context: dict[str, Any]) -> None:
        """End lvsd, to be started anew, rather than go on with a part of it standing still."""
        error = context.get("exception")
        self._report(LibraryWarned(logger="asyncio", message=f"{context['message']}: {error!r}"[:1000]))
        if isinstance(error, Exception) and not isinstance(error, OSError) and not self._failure.done():
            self._failure.set_exception(error)


def log_error(path: str, loaded: Loaded, error: OSError) -> ConfigError:
    """Return what to say of a log file that cannot be opened."""
    what_to_do = "" if error.errno == errno.EINVAL else "; mend its directory or its rights"
    message = f"cannot write to {loaded.settings.log.file}: {error.strerror}{what_to_do}"
    return ConfigError([Mistake(Place(path), "log.file", message)])


def _rejected(path: str, error: ConfigError | OSError) -> ConfigRejected:
    if isinstance(error, OSError):
        return ConfigRejected(config=path, count=1, mistakes=[f"{path}: {error.strerror or error}"])
    mistakes = [str(mistake) for mistake in error.mistakes[:MISTAKES_TOLD]]
    return ConfigRejected(config=path, count=len(error.mistakes), mistakes=mistakes)


def _began_at() -> Seconds:
    """Return when this process began, in seconds since the boot (proc(5), field 22 of /proc/self/stat)."""
    with open("/proc/self/stat", encoding="ascii") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")
