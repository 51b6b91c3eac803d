"""An lvs.conf beside lvsd's own YAML, which two directors and their real servers may share.

Its services are merged like those of any file (include.py). Who holds its VIPs, it cannot say: that is told
from the `vrrp` section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lvsd.config import values
from lvsd.config.document import BEGIN, Document, Marks
from lvsd.config.model import Note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.document import Merged, Path
    from lvsd.config.vips import VipBuilder

_VIPS: Path = ("director", "addresses")


def hand_out_vips(merged: Merged) -> None:
    """Let the VIPs of lvs.conf be the addresses of the one VRRP instance without any.

    Where there is no instance at all, they are the director's.
    """
    if merged.lvs_conf is None:
        return
    instances = merged.data.get("vrrp")
    if not instances:
        _to_director(merged, merged.lvs_conf)
        return
    lacking = [
        name for name, data in instances.items() if isinstance(data, dict) and not data.get("addresses")
    ]
    if len(lacking) == 1:
        _to_instance(merged, merged.lvs_conf, lacking[0])


def unheld_vips(merged: Merged, vips: VipBuilder) -> Iterator[Note]:
    """Yield a remark on each VIP of lvs.conf that is not among `vips`."""
    document = merged.lvs_conf
    if document is None:
        return
    for number, entry in enumerate(_vips(document)):
        try:
            address = vips.lookup.host(values.network(entry["address"]).host).address
        except ValueError:  # told with the services on it
            continue
        if not vips.holds(address):
            message = f"{address} is an address of no VRRP instance: lvsd brings it up on no director"
            yield Note(document.place((*_VIPS, number, "address")), "VIP", message)


def _to_director(merged: Merged, document: Document) -> None:
    director = merged.data.get("director") or {}
    given = director.get("addresses") or [] if isinstance(director, dict) else None
    if not isinstance(given, list):  # a mistake, told later
        return
    merged.data["director"] = {**director, "addresses": [*given, *_vips(document)]}
    for number in range(len(_vips(document))):
        path = (*_VIPS, len(given) + number)
        merged.owners[path] = _with_part(document, path, (*_VIPS, number))


def _to_instance(merged: Merged, document: Document, name: str) -> None:
    instance = merged.data["vrrp"][name]
    given: dict[str, Any] = {"addresses": _vips(document)}
    interfaces = {vip["interface"] for vip in _vips(document)}
    if not instance.get("interface") and len(interfaces) == 1:
        given["interface"] = interfaces.pop()
        path = ("vrrp", name, "interface")
        merged.owners[path] = _with_part(document, path, (*_VIPS, 0, "interface"))
    path = ("vrrp", name, "addresses")
    merged.owners[path] = _with_part(document, path, _VIPS)
    merged.data["vrrp"][name] = {**instance, **given}


def _vips(document: Document) -> list[dict[str, str]]:
    vips: list[dict[str, str]] = document.data["director"]["addresses"]
    return vips


def _with_part(document: Document, path: Path, part: Path) -> Document:
    """Return a document that knows the place of `document`'s `part`, as that of `path`."""
    marks: Any = document.marks
    for key in part:
        marks = marks.parts[key]
    for key in reversed(path):
        marks = Marks(BEGIN, parts={key: marks})
    return Document(document.file, {}, marks)
