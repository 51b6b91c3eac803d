"""Interfaces that must not tell that a VIP with a virtual MAC is theirs, and how they were set before.

It is written down, so that whoever removes the last such VIP after a crash gives them their settings back.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lvsd.edge import runtime
from lvsd.edge.interfaces import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Hushed:
    """An interface by name and number, its settings before, and the interfaces on it that need others."""

    name: str
    index: int
    before: Mapping[int, int]
    needed_by: set[str] = field(default_factory=set)


def read() -> dict[int, Hushed]:
    """Return, by their numbers, those that an earlier run has left so; what is not there any more is not."""
    try:
        told = json.loads(_file().read_bytes())
        known = [
            Hushed(
                each["name"],
                each["index"],
                {int(setting): int(value) for setting, value in each["before"].items()},
                set(each["needed_by"]),
            )
            for each in told
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    there = {name for _, name in socket.if_nameindex()}
    for each in known:
        each.needed_by.intersection_update(there)
    return {each.index: each for each in known if number_of(each.name) == each.index}


def write(hushed: Iterable[Hushed]) -> None:
    """Write down which there are. Where that fails, a crash would leave them as they are."""
    told = [
        {
            "name": each.name,
            "index": each.index,
            "before": {str(setting): value for setting, value in each.before.items()},
            "needed_by": sorted(each.needed_by),
        }
        for each in hushed
    ]
    file = _file()
    new = file.with_suffix(".new")
    with suppress(OSError):
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new.write_text(json.dumps(told))
        new.replace(file)


def _file() -> Path:
    return runtime.directory() / "hushed"
