"""What must go together in a VRRP instance: the RFCs' own rules, and what would not work as it is written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lvsd.config.hosts import IPV4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.document import Path
    from lvsd.config.model import VrrpInstance
    from lvsd.config.vrrp_schema import VrrpShape
    from lvsd.model import Seconds

MOST_ADDRESSES: Final = 255
OWNER: Final = 255
V2, V3 = 2, 3

_VIRTUAL_MAC: Final = re.compile(r"vrrp6?\.[1-9][0-9]{0,2}", re.ASCII)
"""What lvsd.vrrp.virtual_mac calls its interfaces."""

_LONGEST: Final[Seconds] = 40.95
_IN_A_SECOND: Final = {V2: 1, V3: 100}


def instance_mistakes(shape: VrrpShape, instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    """Yield what is wrong, each with its path in the instance."""
    yield from _interface(instance)
    yield from _of_version(shape, instance)
    yield from _addresses(instance)
    yield from _source(instance)
    yield from _peers(instance)


def instance_notes(shape: VrrpShape, instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    """Yield remarks on an instance that is usable as it is."""
    if instance.priority == OWNER and not instance.preempt:
        yield ("preempt",), "is not heeded: priority 255 owns the addresses and takes them (RFC 9568, 6.4.2)"
    elif instance.preempt_delay and not instance.preempt:
        yield ("preempt_delay",), "is not heeded where preempt is false"
    if "user" in (fields := getattr(shape.notify, "model_fields_set", ())) and len(fields) == 1:
        yield ("notify", "user"), "is not heeded: there is no command"
    first = instance.addresses[0].address
    if instance.family != IPV4 and not first.is_link_local:
        message = "comes first, where the link-local address of the virtual router belongs (RFC 9568, 5.2.9)"
        yield ("addresses", 0), f"{first} {message}: put it first, as in fe80::{instance.vrid}/64"


def _interface(instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    if _VIRTUAL_MAC.fullmatch(instance.interface):
        message = f"{instance.interface} is an interface that `virtual_mac: true` makes and removes"
        yield ("interface",), f"{message}: write the one under it, as in eth0"


def _of_version(shape: VrrpShape, instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    """Yield what the packets of the instance's version cannot say."""
    if problem := _interval_problem(instance.version, instance.interval):
        yield ("advertisement_interval",), f"{problem}, not {instance.interval:g}s"
    if shape.password is not None and instance.version != V2:
        yield ("password",), "goes with `version: 2` only: version 3 has none"
    if instance.version == V2 and instance.family != IPV4:
        yield ("version",), "2 is IPv4 only, and addresses are IPv6: write `version: 3`"


def _interval_problem(version: int, interval: Seconds) -> str:
    """Return what the interval must be, where the version's packets cannot say it; else nothing."""
    steps = interval * _IN_A_SECOND[version]
    is_whole = abs(steps - round(steps)) < 1e-6  # noqa: PLR2004 - far below what can be written
    if version == V2:
        return "" if is_whole else "must be whole seconds from 1s to 255s, all that version 2 can say"
    if interval > _LONGEST:
        return "must be 10ms to 40.95s in version 3"
    return "" if is_whole else "must be a multiple of 10ms, all that version 3 can say"


def _addresses(instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    count = len(instance.addresses)
    for number, vip in enumerate(instance.addresses):
        if vip.address.version != instance.family:
            message = (
                f"is IPv{vip.address.version}, addresses[0] IPv{instance.family}: an instance advertises "
                "one IP version; put it under excluded_addresses, or into a second instance"
            )
            yield ("addresses", number), message
    if count > MOST_ADDRESSES:
        message = f"an advertisement holds {MOST_ADDRESSES} addresses at most, not {count}"
        yield ("addresses", MOST_ADDRESSES), f"{message}: put the others under excluded_addresses"


def _source(instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    """Yield where a director would speak from an address that the others have as well."""
    if instance.priority != OWNER and instance.source in {vip.address for vip in instance.vips}:
        message = f"{instance.source} is one of the VIPs: give an address that is this director's own"
        yield ("source_address",), message


def _peers(instance: VrrpInstance) -> Iterator[tuple[Path, str]]:
    own = {vip.address for vip in instance.vips}
    for number, peer in enumerate(instance.peers):
        if peer == instance.source:
            yield (
                ("unicast_peers", number),
                f"{peer} is source_address already: peers are the other directors",
            )
        elif peer.is_loopback:
            message = f"{peer} is a loopback address: peers are the other directors' own addresses"
            yield ("unicast_peers", number), message
        elif peer in own:
            yield (
                ("unicast_peers", number),
                f"{peer} is one of the VIPs: peers are the other directors' own addresses",
            )
