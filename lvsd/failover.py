"""Failover: takes in what the other directors say and how this one is, returns what is to be done about it.

It is to the VIPs what `director` is to the table: a reducer that awaits nothing and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from lvsd.config.model import TrackedInterface, TrackedService
from lvsd.effects import KeepAddresses, Report
from lvsd.events import VrrpWaiting
from lvsd.virtual_router import WAITING, VirtualRouter
from lvsd.vrrp.machine import Backup, Fault, Initialize, Master
from lvsd.vrrp.packet import OWNER, RESIGNED
from lvsd.vrrp.reception import Reception
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from lvsd.config.model import DirectorAddress, Tracked, VrrpInstance
    from lvsd.effects import FailoverEffect
    from lvsd.events import Event
    from lvsd.model import Address, Instant, Seconds
    from lvsd.vrrp.packet import Advertisement
    from lvsd.vrrp.reception import Packet

    Key: TypeAlias = tuple[str, int, int]
    """Interface, IP version and VRID: what tells one virtual router from another (RFC 9568, 6)."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: the addresses on it, in the kernel's order, and what is wrong with it, if anything."""

    addresses: tuple[Address, ...] = ()
    fault: str = ""


class Failover:
    """All VRRP instances of this director.

    They take part once this director serves: `adopted` says that the table is as an earlier run left it, and
    `serving` that the first verdicts are in and the table is programmed. One that is `impaired` serves in
    part, and relieves no master that lives.
    """

    def __init__(self) -> None:
        self._routers: dict[Key, VirtualRouter] = {}
        self._leaving: list[VirtualRouter] = []
        self._links: dict[str, Link] = {}
        self._findings: dict[str, tuple[bool, str]] = {}
        self._reception = Reception()
        self.adopted = False
        self.serving = False
        self.impaired = False
        self._stopping = False

    @property
    def instances(self) -> list[VrrpInstance]:
        """The instances as they are configured."""
        return [router.config for router in self._routers.values()]

    @property
    def present(self) -> list[VrrpInstance]:
        """The instances that are to be heard: those too that are no longer configured and still have VIPs."""
        return [router.config for router in self._all()]

    @property
    def holding(self) -> list[VrrpInstance]:
        """The instances whose VIPs are to be in place now, those too that are no longer configured."""
        return [router.config for router in self._all() if router.holds]

    @property
    def lingers(self) -> bool:
        """Whether any VIP is in place still, though this director is no longer master."""
        return any(router.lingers for router in self._all())

    @property
    def masters(self) -> set[str]:
        """The names of the instances that this director is master of."""
        return {router.config.name for router in self._routers.values() if router.is_master}

    @property
    def awaited(self) -> set[str]:
        """What is tracked of which nothing is known yet."""
        return {name for instance in self.instances for name in self._awaited(instance)}

    @property
    def next_timer(self) -> Seconds | None:
        """When `tick` is due (monotonic), None where nothing waits."""
        moments = (router.next_timer for router in self._all())
        return min((moment for moment in moments if moment is not None), default=None)

    def configure(self, instances: Iterable[VrrpInstance], now: Instant) -> list[FailoverEffect]:
        """Take in which instances there are. One that is known, whatever its name, goes on in its state."""
        wanted = {_key(instance): instance for instance in instances}
        effects: list[FailoverEffect] = []
        for key in [key for key in self._routers if key not in wanted]:
            gone = self._routers.pop(key)
            effects += gone.stop("it is no longer configured", now)
            self._leaving.append(gone)
        for key, instance in wanted.items():
            router = self._routers.get(key)
            if router is None:
                router = self._routers[key] = VirtualRouter(instance, now)
                effects += self._tell_waiting(router)
            else:
                effects += router.change(instance, now)
            effects += self._weigh_all(router, now)
        tracked = {name_of(each) for instance in self.instances for each in instance.track}
        self._findings = {
            name: found
            for name, found in self._findings.items()
            if name in tracked or not name.startswith(_COMMAND)  # what ran long ago says nothing
        }
        return [*effects, *self._settle(now)]

    def resume(
        self, held: Collection[DirectorAddress], fresh_until: Mapping[str, Seconds]
    ) -> list[FailoverEffect]:
        """Take in which VIPs an earlier run left in place, and until when nobody can have taken which over.

        Those of a sync group are taken up together or not at all.
        """
        present = {(address.address, address.interface) for address in held}
        for router in self._routers.values():
            own = {(address.address, address.interface) for address in router.config.addresses}
            router.resuming = bool(own & present) and not router.fitness.faults
            router.fresh_until = fresh_until.get(router.config.name, 0.0)
        for router in self._routers.values():
            router.resuming = router.resuming and all(other.resuming for other in self._group(router))
        return [KeepAddresses()] if self._routers else []

    def serve(
        self, now: Instant, *, adopted: bool, serving: bool, impaired: bool = False
    ) -> list[FailoverEffect]:
        """Take in how far this director serves."""
        self.adopted, self.serving, self.impaired = adopted, serving, impaired
        return self._settle(now)

    def link(self, interface: str, link: Link, now: Instant) -> list[FailoverEffect]:
        """Take in how an interface is."""
        before, self._links[interface] = self._links.get(interface, Link()), link
        effects: list[FailoverEffect] = []
        versions = {4, 6} if before.fault != link.fault else self._versions(before) ^ self._versions(link)
        for router in self._routers.values() if versions else ():
            effects += router.try_again(interface, versions, now)
        for router in self._routers.values():
            if router.config.interface == interface:
                effects += self._speak(router, now)
        return effects + self.find(f"interface {interface}", not link.fault, link.fault, now)

    def find(self, tracked: str, well: bool, reason: str, now: Instant) -> list[FailoverEffect]:  # noqa: FBT001
        """Take in how something is that may be tracked: `interface eth1`, `service www`, `command NAME`."""
        self._findings[tracked] = (well, reason)
        effects: list[FailoverEffect] = []
        for router in self._routers.values():
            effects += self._weigh(router, now, tracked)
        return [*effects, *self._settle(now)]

    def place(self, vip: DirectorAddress, refusal: str, now: Instant) -> list[FailoverEffect]:
        """Take in that a VIP was put in place, or why the kernel refused it."""
        effects: list[FailoverEffect] = []
        for router in self._routers.values():
            if vip in placed(router.config):
                preempted = all(each.config.preempt for each in (router, *self._group(router)))
                place = partial(router.place, vip, refusal, now, preempted=preempted)
                effects += self._do(router, place, now)
        return [*effects, *self._settle(now)] if effects else []

    def hear(self, packet: Packet, now: Instant) -> list[FailoverEffect]:
        """Take in a packet; what is for none of the instances changes nothing."""
        key = packet.interface, packet.source.version, packet.vrid
        router = self._routers.get(key) or next((it for it in self._leaving if _key(it.config) == key), None)
        config, own = (None, None) if router is None else (router.config, router.source)
        received = self._reception.take(packet, config, own, now.monotonic)
        effects: list[FailoverEffect] = [*map(Report, received.told)]
        said = received.said
        if router is None or said is None or (self._asks(packet, said, router) and not router.is_master):
            return effects  # a question is for the master, who answers it
        effects += self._do(router, lambda: router.hear(said, now), now)
        return effects + self._resume_together(router)

    def claimed(self, interface: str, address: Address, mac: str, now: Instant) -> list[FailoverEffect]:
        """Take in that another host on the LAN of an interface says that it has an address."""
        effects: list[FailoverEffect] = []
        for router in self._routers.values():
            if any((vip.address, vip.interface) == (address, interface) for vip in router.config.vips):
                effects += router.claimed(address, mac, now) + self._resume_together(router)
        return effects

    def tick(self, now: Instant) -> list[FailoverEffect]:
        """Do what `next_timer` waited for."""
        effects: list[FailoverEffect] = []
        for router in self._all():
            due_at = router.next_timer
            if due_at is None or now.monotonic < due_at:
                continue
            alone = router.takes_over(now) and any(other.follows(now) for other in self._group(router))
            act = partial(router.wait if alone else router.tick, now)
            effects += self._do(router, act, now)
            effects += self._settle_one(router, now)
        self._leaving = [router for router in self._leaving if router.lingers]
        return effects

    def stop(self, now: Instant) -> list[FailoverEffect]:
        """Leave all VIPs to the peers, since lvsd stops."""
        self._stopping = True
        effects: list[FailoverEffect] = []
        for router in self._routers.values():
            effects += router.stop("lvsd stops", now)
        return effects

    def snapshot(self) -> list[Event]:
        """Return the lines of a snapshot."""
        return [router.snapshot() for router in self._routers.values()]

    def _all(self) -> list[VirtualRouter]:
        return [*self._routers.values(), *self._leaving]

    def _awaited(self, instance: VrrpInstance) -> set[str]:
        names = map(name_of, instance.track)
        return {name for name in names if name not in self._findings and name.startswith(_COMMAND)}

    def _do(
        self, router: VirtualRouter, act: Callable[[], list[FailoverEffect]], now: Instant
    ) -> list[FailoverEffect]:
        """Let a virtual router act, and those of its group move with it."""
        before = router.state
        effects = act()
        if type(router.state) is type(before) or not router.config.sync_group:
            return effects
        return effects + self._move_together(router, now, was_master=isinstance(before, Master))

    def _move_together(
        self, router: VirtualRouter, now: Instant, *, was_master: bool
    ) -> list[FailoverEffect]:
        effects: list[FailoverEffect] = []
        reason = f"with {router.config.name}, of the same sync group"
        for other in self._group(router):
            if router.is_master and isinstance(other.state, Backup) and not other.follows(now):
                effects += other.take_over(reason, now)
            elif was_master and isinstance(router.state, Backup | Initialize) and other.is_master:
                effects += other.step_down(reason, now)
            elif isinstance(router.state, Fault):
                effects += self._settle_one(other, now)
        return effects

    def _group(self, router: VirtualRouter) -> list[VirtualRouter]:
        group = router.config.sync_group
        return [
            other
            for other in self._routers.values()
            if group and other is not router and other.config.sync_group == group
        ]

    def _resume_together(self, router: VirtualRouter) -> list[FailoverEffect]:
        """Let those of a sync group give up what an earlier run held, where one of them did."""
        others = [each for each in self._group(router) if each.resuming]
        if router.resuming or router.is_master or not others:
            return []
        for each in others:
            each.resuming = False
        return [KeepAddresses()]

    def _settle(self, now: Instant) -> list[FailoverEffect]:
        effects: list[FailoverEffect] = []
        for router in self._routers.values():
            effects += self._settle_one(router, now)
        return effects

    def _settle_one(self, router: VirtualRouter, now: Instant) -> list[FailoverEffect]:
        if self._stopping or router in self._leaving:
            return []
        self._agree(router, now)
        router.impaired = self.impaired
        faults = router.fitness.faults
        faults.pop(_GROUP, None)
        others = (other for other in self._group(router) if other.fitness.faults.keys() - {_GROUP})
        if (other := next(others, None)) is not None:
            why = next(reason for what, reason in other.fitness.faults.items() if what != _GROUP)
            faults[_GROUP] = f"{other.config.name}, of the same sync group: {why}"
        serving = self.serving and not self._awaited(router.config)
        return self._do(router, lambda: router.settle(now, adopted=self.adopted, serving=serving), now)

    def _agree(self, router: VirtualRouter, now: Instant) -> None:
        """Give those of a sync group one priority, and let one of them break ties, lest they pull apart."""
        group = [router, *self._group(router)]
        ceiling = min(each.own_priority for each in group) if len(group) > 1 else OWNER
        if router.fitness.ceiling != ceiling:
            router.limit(ceiling, now)
        # The same one on all directors, whatever their interfaces are called.
        router.breaks_ties = router is min(group, key=lambda each: (each.config.vrid, each.config.family))

    def _speak(self, router: VirtualRouter, now: Instant) -> list[FailoverEffect]:
        """Find where a router's advertisements come from; without, it cannot take part."""
        config = router.config
        link = self._links.get(config.interface, Link(fault=f"{config.interface} does not exist"))
        router.speak_from(None if link.fault else config.source or self._own(config, link), now)
        router.fitness.faults.pop(_LINK, None)
        if router.source is None:
            kind = "address of its own" if config.family == 4 else "link-local address"  # noqa: PLR2004
            nothing = f"{config.interface} has no IPv{config.family} {kind}"
            router.fitness.faults[_LINK] = link.fault or nothing
        return self._settle_one(router, now)

    def _own(self, config: VrrpInstance, link: Link) -> Address | None:
        """Return an address of an interface that is no VIP; of IPv6 a link-local one (RFC 9568, 5.1.2.1)."""
        own = [each for each in self._own_of(link) if each.version == config.family]
        if config.family == 6:  # noqa: PLR2004
            own = [each for each in own if each.is_link_local]
        return own[0] if own else None

    def _versions(self, link: Link) -> set[int]:
        """Return the IP versions that an interface has addresses of its own of."""
        return {each.version for each in self._own_of(link)}

    def _own_of(self, link: Link) -> list[Address]:
        """Return the addresses on an interface that are no VIPs."""
        vips = {vip.address for instance in self.instances for vip in instance.vips}
        return [each for each in link.addresses if each not in vips]

    def _weigh_all(self, router: VirtualRouter, now: Instant) -> list[FailoverEffect]:
        """Take in how all that a router tracks is, and what it tracks no more."""
        wanted = {name_of(tracked) for tracked in router.config.track}
        effects = router.heed_only(wanted, now)
        for name in wanted:
            effects += self._weigh(router, now, name)
        return effects + self._speak(router, now)

    def _weigh(self, router: VirtualRouter, now: Instant, name: str) -> list[FailoverEffect]:
        well, reason = self._findings.get(name, (True, ""))
        effects: list[FailoverEffect] = []
        for tracked in router.config.track:
            if name_of(tracked) == name:
                fault = "" if well else f"{name}: {reason}"
                effects += router.weigh(name, tracked.weight, fault, now)
        return effects

    def _asks(self, packet: Packet, said: Advertisement, router: VirtualRouter) -> bool:
        """Tell whether a backup asks for an advertisement, and does not resign."""
        return said.priority == RESIGNED and packet.destination == router.source and not router.config.peers

    def _tell_waiting(self, router: VirtualRouter) -> list[FailoverEffect]:
        if self.serving:
            return []
        return [Report(VrrpWaiting(instance=router.config.name, reason=WAITING))]


_COMMAND = "command "
_LINK = "link"
_GROUP = "sync group"


def name_of(tracked: Tracked) -> str:
    """Return what is tracked, in words: `interface eth1`, `service www`, `command NAME`."""
    match tracked:
        case TrackedInterface(name=name):
            return f"interface {name}"
        case TrackedService(name=name):
            return f"service {name}"
        case _:
            return f"{_COMMAND}{tracked.name}"


def _key(instance: VrrpInstance) -> Key:
    return instance.interface, instance.family, instance.vrid
