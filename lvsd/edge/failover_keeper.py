"""Failover as a daemon has it: what decides on it, what it speaks through, and what follows from it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lvsd.config.model import TrackedCommand, TrackedService
from lvsd.edge.mac_keeper import MacKeeper
from lvsd.edge.notifier import Notifier
from lvsd.edge.synchroniser import Synchroniser
from lvsd.edge.tracker import Tracker
from lvsd.edge.vrrp_keeper import VrrpKeeper
from lvsd.events import VrrpWaiting
from lvsd.failover import Failover, name_of
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lvsd.config.model import DirectorAddress, Settings, SyncSettings, Tracked, VrrpInstance
    from lvsd.director import Director
    from lvsd.edge.addresses import Addresses
    from lvsd.edge.ipvs import Ipvs
    from lvsd.edge.links import Links
    from lvsd.events import Event
    from lvsd.model import Seconds

SERVE_LOOKS_EVERY: Final[Seconds] = 0.05
SERVES_WITHIN: Final[Seconds] = 30.0
"""How long, beyond what the checks take, verdicts are waited for that do not come."""

RETRY_EVERY: Final[Seconds] = 10.0
NOTIFIED_WITHIN: Final[Seconds] = 5.0


class FailoverKeeper:
    """Brings failover what happens, and lets it act. `keep` puts the VIPs in place that are held now."""

    def __init__(  # noqa: PLR0913, PLR0917 - what failover depends on
        self,
        director: Director,
        links: Links,
        addresses: Addresses,
        ipvs: Ipvs,
        keep: Callable[[], None],
        report: Callable[[Event], None],
    ) -> None:
        self.failover = Failover()
        self._director = director
        self._report = report
        self._keep = keep
        self._macs = MacKeeper(keep, self._mac_made, self.placed, report)
        self._sync = Synchroniser(ipvs, director.ledger, report)
        self._vrrp = VrrpKeeper(
            self.failover, links, addresses, keep, report, self._notify, self._sync, self._macs
        )
        self._notifier = Notifier(report)
        self._tracker = Tracker(self._find)
        self._sync_settings: SyncSettings | None = None
        self._loop = asyncio.get_running_loop()

    def start(self, settings: Settings, recorded: Iterable[DirectorAddress]) -> None:
        """Listen, with the VIPs that an earlier run has left in place and `recorded` for its own."""
        self._macs.start(settings, recorded)
        self._vrrp.start(settings.vrrp, recorded)
        self._follow(settings)

    def configure(self, settings: Settings) -> None:
        """Bring the instances into force, and what they track."""
        self._vrrp.configure(settings.vrrp)
        self._follow(settings)
        self.weigh(self._services())

    def vips(self) -> list[DirectorAddress]:
        """Return the VIPs that can and are to be in place now, and have what they are put on made ready."""
        holding = self.failover.holding
        self._macs.want(holding)
        return [vip for each in holding for vip in placed(each) if self._macs.bears(vip)]

    def adopted(self) -> None:
        """Take in that the table is as an earlier run has left it."""
        self._vrrp.feed(lambda now: self.failover.serve(now, adopted=True, serving=False))

    def placed(self, vip: DirectorAddress, refusal: str) -> None:
        """Take in that a VIP was put in place, or why not; once what is under way has come to its end."""
        self._loop.call_soon(self._vrrp.feed, lambda now: self.failover.place(vip, refusal, now))

    def look(self, interface: str) -> None:
        """Take in that something changed about an interface."""
        self._macs.look(interface)
        self._vrrp.look(interface)
        self._sync.look(interface)

    def weigh(self, services: Iterable[str]) -> None:
        """Take in whether these services have real servers, those of them that are tracked."""
        for name in self._services().intersection(services):
            lost = self._director.lost(name)
            self._find(TrackedService(name), not lost, lost)

    async def run(self) -> None:
        """Take part once this director can serve, and let the kernel synchronise connections by role."""
        self._macs.begin()
        await asyncio.gather(self._serve(), self._sync.run(), self._listen_again())

    async def stop(self, within: Seconds) -> None:
        """Leave the VIPs to the peers, and wait until one has them, or it is certain that none wants them."""
        self._vrrp.feed(self.failover.stop)
        await self._vrrp.released(within)
        await self._macs.finish(within)
        await self._sync.stop()
        await self._notifier.finish(NOTIFIED_WITHIN)

    async def close(self) -> None:
        """End everything, and leave what is in place."""
        await self._tracker.close()
        await self._notifier.finish(0)
        await self._macs.close()
        self._vrrp.close()

    async def _serve(self) -> None:
        """Let VIPs be taken once the first verdicts are in and the table is programmed.

        Where something of that does not come in time, this director serves in part: it takes over from a
        master that dies, but relieves none that lives.
        """
        if not await self._able_within(self._director.longest_verdict + SERVES_WITHIN):
            missing = self._missing()
            for instance in self.failover.instances:
                self._report(VrrpWaiting(instance=instance.name, reason=f"it serves in part: {missing}"))
            self._let_serve(impaired=True)
            while not await self._able_within(RETRY_EVERY):
                pass
        self._let_serve(impaired=False)

    async def _able_within(self, limit: Seconds) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while self.failover.instances and self._missing():  # noqa: ASYNC110 - many things together
                    await asyncio.sleep(SERVE_LOOKS_EVERY)
                return True
        return False

    def _let_serve(self, *, impaired: bool) -> None:
        self.weigh(self._services())
        self._vrrp.feed(lambda now: self.failover.serve(now, adopted=True, serving=True, impaired=impaired))

    def _missing(self) -> str:
        """Return in words what keeps this director from serving, nothing where it does."""
        director = self._director
        if director.roster.unknown:
            return f"{director.roster.unknown} probes have given no verdict"
        if director.ledger.retry_at is not None:
            return "the kernel refuses a part of the table"
        if not director.ledger.idle:
            return "the table is not programmed yet"
        return f"{', '.join(sorted(self.failover.awaited))} never ran" if self.failover.awaited else ""

    async def _listen_again(self) -> None:
        while True:
            await asyncio.sleep(RETRY_EVERY)
            self._vrrp.look_again()

    def _mac_made(self, instance: VrrpInstance) -> None:
        self._keep()
        self._vrrp.announce(instance)

    def _follow(self, settings: Settings) -> None:
        self._sync_settings = settings.ipvs.sync
        self._sync.follow(self._sync_settings, self.failover.masters)
        self._tracker.follow(each for each in self._tracked() if isinstance(each, TrackedCommand))

    def _notify(self, instance: VrrpInstance, state: str) -> None:
        self._sync.follow(self._sync_settings, self.failover.masters)
        self._notifier.notify(instance, state)

    def _find(self, tracked: Tracked, well: bool, reason: str) -> None:  # noqa: FBT001
        self._vrrp.feed(lambda now: self.failover.find(name_of(tracked), well, reason, now))

    def _services(self) -> set[str]:
        return {each.name for each in self._tracked() if isinstance(each, TrackedService)}

    def _tracked(self) -> list[Tracked]:
        return [each for instance in self.failover.instances for each in instance.track]
