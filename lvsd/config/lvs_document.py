"""lvs.conf as the document that lvsd's YAML would give, so that one schema reads both."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from lvsd.config import lvs_conf
from lvsd.config.document import BEGIN, Document, Mark, Marks
from lvsd.config.lvs_conf import LvsConf, ServiceLine, Vip, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Tree: TypeAlias = "Word | Mapping[str, Tree] | Sequence[Tree]"


def parse(text: str, file: str) -> Document:
    """Return the document that the lvs.conf `text` amounts to, with what is wrong in its lines."""
    said = lvs_conf.read(text, file)
    data, marks = _marked(_tree(said))
    if not isinstance(marks, Marks):
        raise TypeError
    return Document(file, data, marks, tuple(said.mistakes), tuple(said.notes))


def _tree(said: LvsConf) -> dict[str, Tree]:
    """Return lvsd's settings; there are no services where LVS_TYPE or VIP cannot be used."""
    return {
        "director": {"addresses": [_address(vip) for vip in said.vips]},
        "virtual_services": dict(_services(said)),
    }


def _address(vip: Vip) -> dict[str, Tree]:
    address = {
        "address": Word(f"{vip.address.text}/{vip.prefix}", vip.address.at),
        "interface": Word(vip.device.text.partition(":")[0], vip.device.at),
    }
    return {**address, "label": vip.device} if ":" in vip.device.text else {**address}


def _services(said: LvsConf) -> Iterator[tuple[str, Tree]]:
    taken: Counter[str] = Counter()
    for vip in said.vips:
        ending = "" if vip is said.vips[0] else f"-{vip.address.text}"
        for line in said.services if said.forward else ():
            yield _name(line, ending, taken), _service(said, vip, line)


def _name(line: ServiceLine, ending: str, taken: Counter[str]) -> str:
    """Return the port's name, with the protocol where that is needed to tell two services apart."""
    port, protocol = line.port.text, line.protocol.text
    names = (
        [f"{port}-{protocol}{ending}"]
        if port.isdecimal()
        else [f"{port}{ending}", f"{port}-{protocol}{ending}"]
    )
    name = next((name for name in names if not taken[name]), names[-1])
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}-{taken[name]}"


def _service(said: LvsConf, vip: Vip, line: ServiceLine) -> dict[str, Tree]:
    service: dict[str, Tree] = {
        "address": Word(f"{vip.address.text}:{line.port.text}", line.port.at),
        "protocol": line.protocol,
        "scheduler": line.scheduler,
    }
    if said.forward:
        service["forward"] = said.forward
    if said.initial:
        service["initial"] = said.initial
    service["real_servers"] = line.servers
    return service


def _marked(tree: Tree) -> tuple[Any, Mark | Marks]:
    """Return the plain data in `tree`, and the marks beside it."""
    if isinstance(tree, Word):
        return tree.text, tree.at
    is_mapping = not isinstance(tree, (list, tuple))
    parts = {key: _marked(part) for key, part in (tree.items() if is_mapping else enumerate(tree))}  # type: ignore[union-attr]
    marks = Marks(_begin(parts), parts={key: marks for key, (_, marks) in parts.items()})
    data = {key: data for key, (data, _) in parts.items()}
    return (data if is_mapping else list(data.values())), marks


def _begin(parts: dict[Any, tuple[Any, Mark | Marks]]) -> Mark:
    for _, marks in parts.values():
        return marks.at if isinstance(marks, Marks) else marks
    return BEGIN
