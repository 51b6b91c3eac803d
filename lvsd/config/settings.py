"""All that is not a virtual service: the director, its log, how it keeps the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.config.hosts import IPV6
from lvsd.config.model import DirectorAddress, IpvsSettings, LogSettings, Settings
from lvsd.config.schema import AddressShape, DirectorShape, IpvsShape, LogShape, Shape
from lvsd.config.shapes import Shaped, shape
from lvsd.config.values import LONGEST_INTERFACE, is_interface

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from lvsd.config.document import Findings, Path
    from lvsd.config.hosts import Lookup
    from lvsd.model import Address

    S = TypeVar("S", bound=Shape)


def settings(findings: Findings, lookup: Lookup) -> Settings:
    """Return the settings in the sections `director`, `log` and `ipvs`."""
    director = _section(DirectorShape, "director", findings)
    log = _section(LogShape, "log", findings)
    ipvs = _section(IpvsShape, "ipvs", findings)
    return Settings(
        director=director.value.name or lookup.names.hostname(),
        addresses=_addresses(director, findings, lookup),
        log=LogSettings(log.value.format, log.value.file, log.value.level),
        ipvs=IpvsSettings(ipvs.value.reconcile, ipvs.value.on_stop),
    )


def _section(model: type[S], name: str, findings: Findings) -> Shaped[S]:
    data = findings.merged.data.get(name)
    found = None if data is None else shape(model, data, (name,), findings)
    return found or Shaped(model())


def _addresses(
    director: Shaped[DirectorShape],
    findings: Findings,
    lookup: Lookup,
) -> tuple[DirectorAddress, ...]:
    addresses: dict[Address, DirectorAddress] = {}
    numbers: dict[Address, int] = {}
    for number, written in director.numbered("addresses"):
        path: Path = ("director", "addresses", number)
        try:
            address = lookup.host(written.address.host).address
        except ValueError as problem:
            findings.mistake((*path, "address"), str(problem))
            continue
        for key, message in _wrong(written, address):
            findings.mistake((*path, key), message)
        if (first := numbers.setdefault(address, number)) != number:
            findings.mistake((*path, "address"), f"is given twice, first in director.addresses[{first}]")
        addresses[address] = DirectorAddress(
            address, written.address.prefix, written.interface, written.label
        )
    return tuple(addresses.values())


def _wrong(written: AddressShape, address: Address) -> Iterator[tuple[str, str]]:
    interface, label = written.interface, written.label
    if not is_interface(interface):
        yield "interface", f"must be an interface's name of 1 to {LONGEST_INTERFACE} letters, as in eth0"
    if label and address.version == IPV6:
        yield "label", "must be left out: IPv6 addresses have no label"
    elif label and not f"{label}:".startswith(f"{interface}:"):
        yield "label", f"must begin with its interface, as in {interface}:101"
    if len(label) > LONGEST_INTERFACE:
        yield "label", f"must have at most {LONGEST_INTERFACE} letters, not {len(label)}"
