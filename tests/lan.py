"""Directors on a LAN in a time of its own: what one sends the others hear, as late and seldom as is told."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from lvsd.config.model import DirectorAddress, VrrpInstance
from lvsd.effects import Announce, HandOver, Inquire, KeepAddresses, Meet, Notify, Report, Send, TakeIn
from lvsd.events import Event, VrrpChanged
from lvsd.failover import Failover, Link
from lvsd.model import Address, Instant
from lvsd.vrrp.packet import GROUP_V4, encode
from lvsd.vrrp.reception import Packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.effects import FailoverEffect

VIP = DirectorAddress(Address.parse("192.0.2.101"), 24, "eth0")
STEP = 0.0005
EPOCH = 1_700_000_000.0


def instance(name: str = "vip", **settings: object) -> VrrpInstance:
    """Return a VRRP instance, with the settings that every scenario may change."""
    told: dict[str, object] = {
        "interface": "eth0",
        "vrid": 51,
        "version": 3,
        "family": 4,
        "priority": 100,
        "interval": 1.0,
        "addresses": (VIP,),
    }
    return VrrpInstance(name=name, **told | settings)  # type: ignore[arg-type]


@dataclass(slots=True)
class Node:
    """A director: its failover, what it did, and whether it runs, hears and is heard."""

    name: str
    source: Address
    failover: Failover
    instances: list[VrrpInstance]
    paused: bool = False
    dead: bool = False
    hears: bool = True
    heard: bool = True
    holds: set[Address] = field(default_factory=set)
    events: list[tuple[float, Event]] = field(default_factory=list)
    notices: list[tuple[str, str]] = field(default_factory=list)
    announced: list[float] = field(default_factory=list)
    inquired: list[float] = field(default_factory=list)
    synchronised: list[tuple[float, type]] = field(default_factory=list)
    sent: list[tuple[float, Send]] = field(default_factory=list)
    waiting: list[Packet] = field(default_factory=list)

    def changes(self, instance: str = "vip") -> list[str]:
        """Return the states that an instance went to."""
        changed = (event for _, event in self.events if isinstance(event, VrrpChanged))
        return [event.new for event in changed if event.instance == instance]

    @property
    def handed_over(self) -> list[float]:
        """When connections were handed over to another director."""
        return [at for at, kind in self.synchronised if kind is HandOver]

    @property
    def took_in(self) -> list[float]:
        """When another director's were to be taken in."""
        return [at for at, kind in self.synchronised if kind is TakeIn]

    def of(self, kind: type[Event]) -> list[Event]:
        """Return the events of one kind."""
        return [event for _, event in self.events if isinstance(event, kind)]


class Lan:
    """All nodes and the packets on their way. `loss` is a share, `delay` and `jitter` are in seconds."""

    def __init__(
        self, *, loss: float = 0.0, delay: float = 0.001, jitter: float = 0.0, seed: int = 0
    ) -> None:
        self.loss, self.delay, self.jitter = loss, delay, jitter
        self.now = 100.0
        self.nodes: dict[str, Node] = {}
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._on_its_way: list[tuple[float, int, Node, Packet]] = []
        self._numbers = count()

    def add(self, name: str, *instances: VrrpInstance, serving: bool = True) -> Node:
        """Start a director, whose address follows from how many there are."""
        source = Address.parse(f"192.0.2.{len(self.nodes) + 1}")
        node = self.nodes[name] = Node(name, source, Failover(), list(instances))
        self.do(node, lambda now: node.failover.link("eth0", Link((source,)), now))
        self.do(node, lambda now: node.failover.configure(instances, now))
        if serving:
            self.serve(node)
        return node

    def serve(self, node: Node) -> None:
        """Let a director serve."""
        self.do(node, lambda now: node.failover.serve(now, adopted=True, serving=True))

    def do(self, node: Node, step: Callable[[Instant], list[FailoverEffect]]) -> None:
        """Let a director take something in, and do what it decides."""
        for effect in step(Instant(self.now, EPOCH + self.now)):
            match effect:
                case Report(event):
                    node.events.append((self.now, event))
                case Send():
                    node.sent.append((self.now, effect))
                    self._transmit(node, effect)
                case KeepAddresses():
                    node.holds = {address.address for each in node.failover.holding for address in each.vips}
                case Announce():
                    node.announced.append(self.now)
                case Meet():
                    pass  # who is where is known here
                case Inquire():
                    node.inquired.append(self.now)
                case HandOver() | TakeIn():
                    node.synchronised.append((self.now, type(effect)))
                case Notify(instance, state):
                    node.notices.append((instance.name, state))

    def run(self, seconds: float, *, watch: Callable[[], None] | None = None) -> None:
        """Let time pass; `watch` is called after everything that happens."""
        end = self.now + seconds
        while (at := self._next()) is not None and at <= end:
            self.now = max(self.now, at)
            self._happen()
            if watch is not None:
                watch()
        self.now = end

    def inject(self, node: Node, packet: Packet) -> None:
        """Let a director hear a packet from elsewhere."""
        self.do(node, lambda now: node.failover.hear(packet, now))

    def pause(self, node: Node, seconds: float) -> None:
        """Stop a director's process for a while; what it is sent waits in its socket."""
        node.paused = True
        self.run(seconds)
        node.paused = False
        for packet in node.waiting:
            self.inject(node, packet)
        node.waiting.clear()

    def masters(self, instance: str = "vip") -> list[str]:
        """Return who is master."""
        alive = [node for node in self.nodes.values() if not node.dead]
        return [node.name for node in alive if instance in node.failover.masters]

    def owners(self, address: Address = VIP.address) -> list[str]:
        """Return who has an address; the dead keep theirs."""
        return [node.name for node in self.nodes.values() if address in node.holds]

    def _next(self) -> float | None:
        timers = [
            node.failover.next_timer
            for node in self.nodes.values()
            if not node.paused and not node.dead and node.failover.next_timer is not None
        ]
        packets = [self._on_its_way[0][0]] if self._on_its_way else []
        return min([*timers, *packets], default=None)  # type: ignore[type-var]

    def _happen(self) -> None:
        while self._on_its_way and self._on_its_way[0][0] <= self.now:
            _, _, node, packet = heappop(self._on_its_way)
            if node.dead or not node.hears:
                continue
            if node.paused:
                node.waiting.append(packet)
            else:
                self.inject(node, packet)
        for node in self.nodes.values():
            due_at = node.failover.next_timer
            if not node.paused and not node.dead and due_at is not None and due_at <= self.now:
                self.do(node, node.failover.tick)

    def _transmit(self, sender: Node, effect: Send) -> None:
        if not sender.heard:
            return
        for node in self.nodes.values():
            to = effect.to or GROUP_V4
            if node is sender or (effect.to is not None and node.source != effect.to):
                continue
            if self._random.random() < self.loss:
                continue
            payload = encode(effect.advertisement, to)
            packet = Packet("eth0", sender.source, to, 255, payload)
            at = self.now + max(STEP, self.delay + self._random.uniform(-1, 1) * self.jitter)
            heappush(self._on_its_way, (at, next(self._numbers), node, packet))
