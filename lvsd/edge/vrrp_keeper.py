"""The director's voice and ears towards its peers: sends what failover decides, and brings what it hears."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, assert_never

from lvsd.config.model import TrackedInterface
from lvsd.edge.advertised import Advertised, Said
from lvsd.edge.interfaces import LinkState
from lvsd.edge.neighbours import Announcer, NeighbourWatch, meet
from lvsd.edge.vrrp_socket import VrrpSocket
from lvsd.effects import Announce, HandOver, Inquire, KeepAddresses, Meet, Notify, Report, Send, TakeIn
from lvsd.events import LibraryWarned, VrrpUnsent
from lvsd.failover import Failover, Link
from lvsd.model import Instant
from lvsd.vrrp.packet import GROUP_V4, GROUP_V6, RESIGNED, encode
from lvsd.vrrp.virtual_mac import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lvsd.config.model import DirectorAddress, VrrpInstance
    from lvsd.edge.addresses import Addresses
    from lvsd.edge.links import Links
    from lvsd.edge.mac_keeper import MacKeeper
    from lvsd.edge.synchroniser import Synchroniser
    from lvsd.effects import FailoverEffect
    from lvsd.events import Event
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.reception import Packet


MASTER = "master"


class VrrpKeeper:
    """Carries out what `failover` decides. `keep` puts the VIPs in place that it holds."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it speaks and acts through
        self,
        failover: Failover,
        links: Links,
        addresses: Addresses,
        keep: Callable[[], None],
        report: Callable[[Event], None],
        notify: Callable[[VrrpInstance, str], None],
        sync: Synchroniser,
        macs: MacKeeper,
    ) -> None:
        self.failover = failover
        self._links = links
        self._addresses = addresses
        self._keep = keep
        self._report = report
        self._notify = notify
        self._sync = sync
        self._macs = macs
        self._advertised = Advertised()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._sockets: dict[tuple[str, int], VrrpSocket] = {}
        self._watches: dict[str, NeighbourWatch] = {}
        self._deaf: dict[tuple[str, int], str] = {}
        self._interfaces: set[str] = set()
        self._announcer: Announcer | None = None
        self._unsent: dict[tuple[str, Address | None], str] = {}

    def start(self, instances: Iterable[VrrpInstance], recorded: Iterable[DirectorAddress]) -> None:
        """Listen, with the VIPs that an earlier run has left in place and `recorded` for its own."""
        present = {(found.address, found.interface) for found in self._addresses.all()}
        self.configure(instances)
        origins = {
            _where(each): vip for instance in self.failover.instances for each, vip in _pairs(instance)
        }
        held = [origins.get(_where(each), each) for each in recorded if _where(each) in present]
        fresh = {each.name: self._advertised.fresh_until(_file_of(each)) for each in self.failover.instances}
        self.feed(lambda _: self.failover.resume(held, fresh))
        for instance in self.failover.instances:
            self._inquire(instance)

    def configure(self, instances: Iterable[VrrpInstance]) -> None:
        """Bring the instances into force."""
        wanted = list(instances)
        tracked = {name for instance in wanted for name in _interfaces_of(instance)}
        for name in tracked - self._interfaces:
            self._look(name)
        self._interfaces = tracked
        self.feed(lambda now: self.failover.configure(wanted, now))
        self._listen()
        for name in sorted({interface for interface, _ in self._deaf}):
            self._look(name)

    def look(self, interface: str) -> None:
        """Take in that something changed about an interface."""
        if interface in self._interfaces:
            self._listen()
            self._look(interface)

    def look_again(self) -> None:
        """Try again where nothing could be heard."""
        for interface, _ in list(self._deaf):
            self.look(interface)

    def feed(self, step: Callable[[Instant], list[FailoverEffect]]) -> None:
        """Give failover something to decide, and carry out what it decides."""
        try:
            for effect in step(_now()):
                try:
                    self._carry_out(effect)
                except OSError as error:  # short of descriptors, most likely; the rest is carried out
                    self._report(LibraryWarned(logger="lvsd.edge.vrrp_keeper", message=f"{effect}: {error}"))
        finally:
            self._arm()

    def _carry_out(self, effect: FailoverEffect) -> None:
        match effect:
            case Report(event):
                self._report(event)
            case Send():
                self._send(effect)
            case KeepAddresses():
                self._keep()
            case Announce(instance):
                self.announce(instance)
            case Inquire(instance):
                self._inquire(instance)
            case Meet(instance, master):
                with suppress(OSError):  # then it is met when it is asked
                    meet(instance.interface, master)
            case Notify(instance, state):
                if state != MASTER:
                    self._advertised.forget(_file_of(instance))
                self._notify(instance, state)
            case HandOver() | TakeIn():
                self._sync.carry_out(effect)
            case _:
                assert_never(effect)

    def announce(self, instance: VrrpInstance) -> None:
        """Tell the neighbours of the VIPs of an instance that are in place."""
        by_interface: dict[str, list[DirectorAddress]] = {}
        for address in placed(instance):
            if self._macs.bears(address):
                by_interface.setdefault(address.interface, []).append(address)
        for interface, addresses in by_interface.items():
            try:
                self._announcer = self._announcer or Announcer()
                self._announcer.announce(interface, [address.address for address in addresses])
            except OSError as error:
                self._tell_unsent(instance, error)

    async def released(self, within: Seconds) -> None:
        """Wait until no VIP is in place any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.failover.lingers:  # noqa: ASYNC110 - until its timer
                    await asyncio.sleep(0.01)

    def close(self) -> None:
        """Hear and say no more."""
        if self._timer is not None:
            self._timer.cancel()
        for opened in self._sockets.values():
            opened.close()
        for watch in self._watches.values():
            watch.close()
        self._sockets.clear()
        self._watches.clear()
        if self._announcer is not None:
            self._announcer.close()
        self._advertised.close()

    def _look(self, interface: str) -> None:
        state = self._links.state(interface)
        deaf = (reason for (where, _), reason in self._deaf.items() if where == interface)
        fault = f"{interface} {state}" if state is not LinkState.UP else next(deaf, "")
        found = (
            each.address
            for each in self._addresses.all()
            if each.interface == interface and not each.tentative
        )
        link = Link(tuple(found), fault)
        self.feed(lambda now: self.failover.link(interface, link, now))

    def _listen(self) -> None:
        """Have a socket for each interface and IP version in use, where there is such an interface."""
        wanted = {(each.interface, each.family) for each in self.failover.present}
        self._deaf = {where: reason for where, reason in self._deaf.items() if where in wanted}
        for where in self._sockets.keys() - wanted:
            self._sockets.pop(where).close()
        for where in self._sockets.keys() & wanted:
            if self._links.state(where[0]) is LinkState.MISSING:
                self._sockets.pop(where).close()
        for interface, version in wanted - self._sockets.keys():
            if self._links.state(interface) is not LinkState.MISSING:
                self._open(interface, version)
        self._watch()

    def _watch(self) -> None:
        """Hear, on each interface that has VIPs, who else says that it has one of them."""
        wanted: dict[str, set[Address]] = {}
        for instance in self.failover.instances:
            for vip in instance.vips:
                if self._links.state(vip.interface) is not LinkState.MISSING:
                    wanted.setdefault(vip.interface, set()).add(vip.address)
        for interface in self._watches.keys() - wanted:
            self._watches.pop(interface).close()
        for interface, addresses in wanted.items():
            with suppress(OSError):  # without the right to it the elections go on, and say so
                if interface not in self._watches:
                    self._watches[interface] = NeighbourWatch(interface, partial(self._claimed, interface))
                self._watches[interface].watch(addresses)

    def _claimed(self, interface: str, address: Address, mac: bytes) -> None:
        self.feed(lambda now: self.failover.claimed(interface, address, mac.hex(":"), now))

    def _inquire(self, instance: VrrpInstance) -> None:
        for vip in instance.vips:
            if vip.interface in self._watches:
                with suppress(OSError):  # the interface is down, which is told otherwise
                    self._watches[vip.interface].probe(vip.address)

    def _open(self, interface: str, version: int) -> None:
        """Open a socket. A director that cannot hear the others must not be master beside them."""
        self._deaf.pop((interface, version), None)
        try:
            self._sockets[interface, version] = VrrpSocket(interface, version, self._hear)
        except OSError as error:
            self._deaf[interface, version] = f"VRRP cannot be heard on {interface}: {error.strerror or error}"

    def _hear(self, packet: Packet) -> None:
        self.feed(lambda now: self.failover.hear(packet, now))

    def _tick(self) -> None:
        self._timer = None
        for opened in self._sockets.values():
            opened.drain()  # whoever acts on silence hears first what has come
        self.feed(self.failover.tick)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.failover.next_timer
        if at is not None:
            self._timer = self._loop.call_at(at, self._tick)

    def _send(self, effect: Send) -> None:
        instance, said = effect.instance, effect.advertisement
        opened = self._sockets.get((instance.interface, instance.family))
        if opened is None:
            return
        group = GROUP_V4 if instance.family == 4 else GROUP_V6  # noqa: PLR2004
        peers = (effect.to,) if effect.to is not None else instance.peers or (group,)
        sent = False
        for peer in peers:
            payload = encode(said, peer)
            # Peers would learn that the source address is at the virtual MAC, were it used to find them.
            voice = self._macs.voice(instance) if peer == group else None
            try:
                (voice or opened).send(payload, said.source, peer)
            except OSError as error:
                self._tell_unsent(instance, error, peer)
            else:
                self._unsent.pop((instance.name, peer), None)
                sent = True
        if sent and said.priority != RESIGNED:
            vips = [(vip.address, vip.prefix, vip.interface) for vip in placed(instance)]
            last = Said(instance.interface, said.source, peers, payload, said.interval, vips)
            self._advertised.note(_file_of(instance), last)

    def _tell_unsent(self, instance: VrrpInstance, error: OSError, peer: Address | None = None) -> None:
        reason = error.strerror or str(error)
        if self._unsent.get((instance.name, peer)) != reason:
            self._unsent[instance.name, peer] = reason
            to = f"{peer}: " if instance.peers and peer is not None else ""
            self._report(VrrpUnsent(instance=instance.name, reason=f"{to}{reason}"))


def _pairs(instance: VrrpInstance) -> Iterator[tuple[DirectorAddress, DirectorAddress]]:
    """Yield each VIP as it is placed, and as it is configured."""
    return zip(placed(instance), instance.vips, strict=True)


def _where(vip: DirectorAddress) -> tuple[Address, str]:
    return vip.address, vip.interface


def _file_of(instance: VrrpInstance) -> str:
    return f"{instance.interface}-{instance.family}-{instance.vrid}"


def _interfaces_of(instance: VrrpInstance) -> set[str]:
    tracked = (each.name for each in instance.track if isinstance(each, TrackedInterface))
    return {instance.interface, *tracked, *(vip.interface for vip in placed(instance))}


def _now() -> Instant:
    return Instant(time.monotonic(), time.time())
