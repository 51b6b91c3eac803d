"""Lets through which of the packets that come are to be heeded, and tells of the others, seldom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.errors import PacketError
from lvsd.events import VrrpDiffers, VrrpRejected
from lvsd.vrrp.admission import MALFORMED, Limiter, differences, trouble_with
from lvsd.vrrp.packet import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.model import VrrpInstance
    from lvsd.events import Event
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.packet import Advertisement

VRID_AT = 1


@dataclass(frozen=True, slots=True)
class Packet:
    """A VRRP packet as it came in on an interface."""

    interface: str
    source: Address
    destination: Address
    hop_limit: int
    payload: bytes

    @property
    def vrid(self) -> int:
        """Which virtual router it says that it is about; 0, which is none, where it is too short for that."""
        return self.payload[VRID_AT] if len(self.payload) > VRID_AT else 0


@dataclass(frozen=True, slots=True)
class Received:
    """What a packet says, where it is to be heeded, and what there is to tell of it."""

    said: Advertisement | None
    told: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Reception:
    """Remembers what was told lately."""

    _limiter: Limiter = field(default_factory=Limiter)

    def take(
        self, packet: Packet, instance: VrrpInstance | None, own: Address | None, now: Seconds
    ) -> Received:
        """Take in a packet for an instance, which speaks from the address `own`; for none, None."""
        try:
            said = decode(packet.payload, packet.source, packet.destination)
        except PacketError as problem:
            return Received(None, list(self._reject(packet, "", MALFORMED, str(problem), now)))
        if instance is None or own is None:
            return Received(None)
        if (trouble := trouble_with(instance, own, said, packet.hop_limit)) is not None:
            kind, words = trouble
            name = "" if kind == MALFORMED else instance.name
            return Received(None, list(self._reject(packet, name, kind, words, now)))
        return Received(said, [
            VrrpDiffers(instance=instance.name, peer=str(packet.source), reason=words)
            for kind, words in differences(instance, said, packet.destination)
            if self._limiter.admits((instance.name, packet.source, kind), now)
        ])  # fmt: skip

    def _reject(
        self, packet: Packet, instance: str, kind: str, reason: str, now: Seconds
    ) -> Iterator[VrrpRejected]:
        count = self._limiter.admits((packet.interface, instance, kind), now)
        if count:
            yield VrrpRejected(
                instance=instance,
                interface=packet.interface,
                source=str(packet.source),
                reason=reason,
                count=count,
            )
