"""Which advertisements a virtual router heeds (RFC 9568, 7.1; RFC 3768, 7.1), and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.vrrp.machine import VERSION_2
from lvsd.vrrp.packet import HOP_LIMIT, RESIGNED

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from lvsd.config.model import VrrpInstance
    from lvsd.model import Address, Seconds
    from lvsd.vrrp.packet import Advertisement

TELL_EVERY: Seconds = 60.0
MOST_TROUBLES = 1000
"""More that last at one time are not told: whoever makes up that many is not to fill the log."""


MALFORMED = "malformed"
"""The kind of trouble that says nothing of the peer's settings."""


def trouble_with(
    instance: VrrpInstance, own: Address, said: Advertisement, hop_limit: int
) -> tuple[str, str] | None:
    """Return why `said` cannot be heeded, of which kind and in words, or None where it can."""
    rules = (
        (bool(instance.peers) or hop_limit == HOP_LIMIT, MALFORMED, f"its hop limit is {hop_limit}, not 255"),
        (
            said.version == instance.version,
            "version",
            f"it is of version {said.version}, and this director's of version {instance.version}",
        ),
        (said.source != own, "source", "it has this director's own address for its source"),
        (
            not instance.peers or said.source in instance.peers,
            "peer",
            "its sender is none of this director's unicast_peers",
        ),
        (
            said.password == instance.password.encode(),
            "password",
            _PASSWORD[bool(said.password), bool(instance.password)],
        ),
        (
            said.version != VERSION_2 or said.interval == instance.interval,
            "interval",
            f"its interval is {said.interval:g} s, not {instance.interval:g} s, and version 2 needs the same",
        ),
    )
    return next(((kind, words) for holds, kind, words in rules if not holds), None)


_WITHOUT_ADDRESSES = (
    "its checksum leaves out the IP addresses (RFC 9568; keepalived's v3_checksum_as_v2): "
    "this director's does so too from now on"
)
_PASSWORD = {
    (True, True): "its password is another",
    (True, False): "it has a password, and this director has none",
    (False, True): "it has no password",
    (False, False): "",
}


def differences(instance: VrrpInstance, said: Advertisement, sent_to: Address) -> Iterator[tuple[str, str]]:
    """Yield what a peer that is heeded does otherwise: of which kind, and in words."""
    if said.priority == RESIGNED:
        return
    own = {address.address for address in instance.addresses}
    if own != set(said.addresses):
        theirs = ", ".join(map(str, said.addresses))
        yield "addresses", f"it advertises {theirs}, this director {', '.join(map(str, sorted(own)))}"
    if said.interval != instance.interval:
        yield "interval", f"its interval is {said.interval:g} s, this director's {instance.interval:g} s"
    if said.version != VERSION_2 and said.source.version == 4 and not said.covers_addresses:  # noqa: PLR2004
        yield "checksum", _WITHOUT_ADDRESSES
    if not instance.peers and not _is_multicast(sent_to):
        yield "unicast", "it advertises to this director alone, and does not hear what is sent to all"


def _is_multicast(address: Address) -> bool:
    return address[0] == 0xFF if address.version == 6 else address[0] >> 4 == 0xE  # noqa: PLR2004


@dataclass(slots=True)
class Limiter:
    """Lets a trouble be told when it begins, and then once a minute while it lasts."""

    _told_at: dict[Hashable, Seconds] = field(default_factory=dict)
    _untold: dict[Hashable, int] = field(default_factory=dict)

    def admits(self, trouble: Hashable, now: Seconds) -> int:
        """Return how often `trouble` came since it was told last, now included; 0 where it is not told."""
        count = self._untold.pop(trouble, 0) + 1
        told_at = self._told_at.get(trouble)
        if told_at is not None and now < told_at + TELL_EVERY:
            self._untold[trouble] = count
            return 0
        if told_at is None and not self._has_room(now):
            return 0
        self._told_at[trouble] = now
        return count

    def _has_room(self, now: Seconds) -> bool:
        """Forget what was told long ago; tell whether another trouble can be remembered."""
        if len(self._told_at) >= MOST_TROUBLES:
            self._told_at = {what: at for what, at in self._told_at.items() if now < at + TELL_EVERY}
            self._untold = {what: count for what, count in self._untold.items() if what in self._told_at}
        return len(self._told_at) < MOST_TROUBLES
