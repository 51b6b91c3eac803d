"""Shapes of VRRP instances to VRRP instances."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.config.hosts import IPV4
from lvsd.config.model import VrrpInstance
from lvsd.config.vips import Written
from lvsd.config.vrrp_rules import instance_mistakes, instance_notes
from lvsd.config.vrrp_schema import VipShape, VrrpShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.config.model import DirectorAddress
    from lvsd.config.shapes import Shaped
    from lvsd.config.track import TrackBuilder
    from lvsd.config.values import Endpoint, Network
    from lvsd.config.vips import VipBuilder
    from lvsd.model import Address


@dataclass(frozen=True, slots=True)
class VrrpBuilder:
    """Makes VRRP instances of their shapes, and puts down what does not go together in and between them."""

    lookup: Lookup
    findings: Findings
    vips: VipBuilder
    track: TrackBuilder
    _vrids: dict[tuple[str, int, int], str] = field(default_factory=dict)
    _macs: dict[tuple[int, int], str] = field(default_factory=dict)

    def build_all(self, shapes: Mapping[str, Shaped[VrrpShape]]) -> tuple[VrrpInstance, ...]:
        """Return the instances, without those whose interface or addresses cannot be told."""
        built = [self._build(name, shaped) for name, shaped in shapes.items()]
        instances = tuple(instance for instance in built if instance is not None)
        self._look_over_groups(instances)
        return instances

    def _build(self, name: str, shaped: Shaped[VrrpShape]) -> VrrpInstance | None:
        path: Path = ("vrrp", name)
        shape = shaped.value
        addresses = self._addresses(shaped, "addresses", path)
        excluded = self._addresses(shaped, "excluded_addresses", path)
        tracked = self.track.track(shape.track, (*path, "track"))
        notify = self.track.notify(shape.notify, (*path, "notify"))
        if not self._is_complete(shaped, path) or shape.interface is None or not addresses:
            return None
        family = addresses[0].address.version
        instance = VrrpInstance(
            name=name,
            interface=shape.interface,
            vrid=shape.virtual_router_id,
            version=shape.version,
            family=family,
            priority=shape.priority,
            interval=shape.advertisement_interval,
            password=shape.password or "",
            preempt=shape.preempt,
            preempt_delay=shape.preempt_delay,
            addresses=addresses,
            excluded=excluded,
            peers=self._peers(shaped, family, path),
            source=self._host(shape.source_address, family, (*path, "source_address")),
            sync_group=shape.sync_group or "",
            virtual_mac=shape.virtual_mac,
            track=tracked,
            notify=notify,
        )
        self._look_over(shaped, instance, path)
        return instance

    def _is_complete(self, shaped: Shaped[VrrpShape], path: Path) -> bool:
        """Return whether interface and addresses were given, and put down that they were not."""
        merged = self.findings.merged
        if merged.lvs_conf_named and merged.lvs_conf is None:  # it would have said them
            return False
        missing = [
            key for key in ("interface", "addresses") if not getattr(shaped.value, key) and shaped.trusts(key)
        ]
        for key in missing:
            self.findings.mistake(path, f"`{key}` {'is' if key == 'interface' else 'are'} missing")
        return not missing

    def _addresses(self, shaped: Shaped[VrrpShape], key: str, path: Path) -> tuple[DirectorAddress, ...]:
        interface = shaped.value.interface or ""
        built = (
            self.vips.build(_written(item, interface, (*path, key, number)))
            for number, item in shaped.numbered(key)
        )
        return tuple(address for address in built if address is not None)

    def _peers(self, shaped: Shaped[VrrpShape], family: int, path: Path) -> tuple[Address, ...]:
        known: dict[Address, int] = {}
        for number, written in shaped.numbered("unicast_peers"):
            at: Path = (*path, "unicast_peers", number)
            address = self._host(written, family, at)
            if address is None:
                continue
            first = known.setdefault(address, number)
            if first != number:
                self.findings.mistake(at, f"{address} is given twice, first as unicast_peers[{first}]")
        return tuple(known)

    def _host(self, written: Endpoint | None, family: int, path: Path) -> Address | None:
        """Return the host's address, which must be of the instance's IP version."""
        if written is None:
            return None
        try:
            address = self.lookup.host(written, family).address
        except ValueError as problem:
            self.findings.mistake(path, str(problem))
            return None
        if address.version != family:
            who = written.host if written.address is not None else f"{written.host} ({address})"
            message = f"{who} is IPv{address.version}, the instance's addresses are IPv{family}"
            self.findings.mistake(path, message)
        return address

    def _look_over(self, shaped: Shaped[VrrpShape], instance: VrrpInstance, path: Path) -> None:
        """Put down what does not go together, as far as it is certain that it was meant."""
        self._claim(instance, path)
        if not shaped.left_out and _is_whole(shaped.value, instance):
            for at, message in instance_mistakes(shaped.value, instance):
                self.findings.mistake((*path, *at), message)
            for at, message in instance_notes(shaped.value, instance):
                self.findings.note((*path, *at), message)

    def _claim(self, instance: VrrpInstance, path: Path) -> None:
        key = (instance.interface, instance.family, instance.vrid)
        first = self._vrids.setdefault(key, instance.name)
        if first != instance.name:
            place = self.findings.merged.place(("vrrp", first, "virtual_router_id"))
            whose = f"is vrrp.{first}'s on {instance.interface} (IPv{instance.family}) already, at {place}"
            self.findings.mistake((*path, "virtual_router_id"), f"{instance.vrid} {whose}")
        elif instance.virtual_mac:
            self._claim_mac(instance, path)

    def _claim_mac(self, instance: VrrpInstance, path: Path) -> None:
        first = self._macs.setdefault((instance.family, instance.vrid), instance.name)
        if first != instance.name:
            place = self.findings.merged.place(("vrrp", first, "virtual_mac"))
            message = f"vrrp.{first} has that MAC already, at {place}: a VRID has one on a host"
            self.findings.mistake((*path, "virtual_mac"), message)

    def _look_over_groups(self, instances: Iterable[VrrpInstance]) -> None:
        members = Counter(instance.sync_group for instance in instances)
        for instance in instances:
            if instance.sync_group and members[instance.sync_group] == 1:
                message = f"{instance.name} is the only instance in {instance.sync_group}: it moves alone"
                self.findings.note(("vrrp", instance.name, "sync_group"), message)


def hosts(shapes: Mapping[str, Shaped[VrrpShape]]) -> Iterator[tuple[Endpoint, int]]:
    """Yield every host that will have to be resolved, with the IP version that is wanted of it."""
    for shaped in shapes.values():
        shape = shaped.value
        networks = [_network(item) for item in (*shape.addresses, *shape.excluded_addresses)]
        yield from ((network.host, IPV4) for network in networks)
        literal = networks[0].host.address if networks else None
        family = literal.version if literal else IPV4
        yield from ((peer, family) for peer in shape.unicast_peers)
        if shape.source_address is not None:
            yield shape.source_address, family


def _written(item: Network | VipShape, interface: str, path: Path) -> Written:
    if isinstance(item, VipShape):
        return Written(item.address, item.interface or interface, item.label, path, scope=item.scope)
    return Written(item, interface, "", path, is_text=True)


def _is_whole(shape: VrrpShape, instance: VrrpInstance) -> bool:
    """Return whether all that was written came to something, so that its numbers are those of the file."""
    addresses, peers = len(instance.addresses), len(instance.peers)
    return (addresses, peers) == (len(shape.addresses), len(shape.unicast_peers))


def _network(item: Network | VipShape) -> Network:
    return item.address if isinstance(item, VipShape) else item
