"""The file that says which rows and addresses are lvsd's, so that a restart knows.

Losing it costs nothing but that: what is configured is adopted anyway.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from lvsd.config.model import DirectorAddress
from lvsd.ipvs.ledger import Owned
from lvsd.model import Address, FirewallMark, Protocol, ServerKey, ServiceKey, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = 1


OwnedRows: TypeAlias = dict[ServiceKey, Owned]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run left; `trouble` says why it could not be read, where it could not."""

    rows: OwnedRows
    addresses: tuple[DirectorAddress, ...]
    trouble: str = ""


def path() -> Path:
    """Return where the file is: in systemd's RuntimeDirectory, else /run/lvsd.

    Where a drop-in adds others, systemd names them all (systemd.exec(5)) and sorts them: the one called lvsd
    is meant, where there is one, so that commands outside the unit find the same.
    """
    given = [Path(each) for each in os.environ.get("RUNTIME_DIRECTORY", "").split(":") if each]
    own = [each for each in given if each.name == "lvsd"]
    return [*own, *given, Path("/run/lvsd")][0] / "state.json"


def read(file: Path) -> Remembered:
    """Return what `file` holds, nothing where it is missing."""
    try:
        content = file.read_bytes()
        told = orjson.loads(content)
        if told["version"] != VERSION:
            return Remembered({}, (), f"of version {told['version']}, not {VERSION}")
        rows = {_parse_key(entry): _parse_owned(entry) for entry in told["services"]}
        addresses = tuple(_parse_address(entry) for entry in told["addresses"])
    except FileNotFoundError:
        return Remembered({}, ())
    except OSError as error:
        return Remembered({}, (), error.strerror or str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Remembered({}, (), f"damaged: {error!r}")
    return Remembered(rows, addresses)


def entry(key: ServiceKey, owned: Owned) -> bytes:
    """Return what the file says of the rows under one key."""
    where: dict[str, Any]
    if isinstance(key, FirewallMark):
        where = {"fwmark": key.mark, "version": key.version}
    else:
        where = {"protocol": str(key.protocol), "address": str(key.address), "port": key.port}
    servers = [[str(server.address), server.port, host] for server, host in owned.hosts.items()]
    return orjson.dumps({**where, "name": owned.name, "servers": servers})


def write(file: Path, entries: Iterable[bytes], addresses: Iterable[DirectorAddress]) -> None:
    """Replace `file` as a whole; raise OSError where that fails, and leave the old one."""
    told = {
        "version": VERSION,
        "services": [orjson.Fragment(entry) for entry in entries],
        "addresses": [asdict(address) | {"address": str(address.address)} for address in addresses],
    }
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(told))
    fresh.replace(file)


def _parse_key(entry: dict[str, Any]) -> ServiceKey:
    if "fwmark" in entry:
        return FirewallMark(int(entry["fwmark"]), int(entry["version"]))
    return VirtualAddress(Protocol(entry["protocol"]), Address.parse(entry["address"]), int(entry["port"]))


def _parse_owned(entry: dict[str, Any]) -> Owned:
    hosts = {ServerKey(Address.parse(text), int(port)): str(host) for text, port, host in entry["servers"]}
    return Owned(str(entry["name"]), hosts)


def _parse_address(entry: dict[str, Any]) -> DirectorAddress:
    address = Address.parse(entry["address"])
    return DirectorAddress(address, int(entry["prefix"]), str(entry["interface"]), str(entry["label"]))
