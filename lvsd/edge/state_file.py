"""The file that says which rows and addresses are lvsd's, so that a restart knows.

Losing it costs nothing but that: what is configured is adopted anyway.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from lvsd.config.model import DirectorAddress, Scope
from lvsd.config.values import LONGEST_INTERFACE, MAX_MARK, MAX_PORT, is_interface
from lvsd.edge import runtime
from lvsd.ipvs.ledger import Owned
from lvsd.model import Address, FirewallMark, Protocol, ServerKey, ServiceKey, VirtualAddress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

VERSION = 1
HOST_BITS = {4: 32, 6: 128}

OwnedRows: TypeAlias = dict[ServiceKey, Owned]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier run left; `trouble` says why it could not be read, where it could not.

    Of the `addresses`, those that are `shared` belong to one director at a time.
    """

    rows: OwnedRows
    addresses: tuple[DirectorAddress, ...]
    trouble: str = ""
    shared: tuple[DirectorAddress, ...] = ()


def path() -> Path:
    """Return where the file is."""
    return runtime.directory() / "state.json"


def read(file: Path) -> Remembered:
    """Return what `file` holds, nothing where it is missing."""
    try:
        told = orjson.loads(_content(file))
        if told["version"] != VERSION:
            return Remembered({}, (), f"of version {told['version']}, not {VERSION}")
        rows = {_parse_key(entry): _parse_owned(entry) for entry in told["services"]}
        addresses = tuple(_parse_address(entry) for entry in told["addresses"])
        shared = tuple(_parse_address(entry) for entry in told["addresses"] if entry.get("shared"))
    except FileNotFoundError:
        return Remembered({}, ())
    except OSError as error:
        return Remembered({}, (), error.strerror or str(error))
    except (ValueError, KeyError, TypeError) as error:
        return Remembered({}, (), f"damaged: {error!r}")
    return Remembered(rows, addresses, shared=shared)


def entry(key: ServiceKey, owned: Owned) -> bytes:
    """Return what the file says of the rows under one key."""
    where: dict[str, Any]
    if isinstance(key, FirewallMark):
        where = {"fwmark": key.mark, "version": key.version}
    else:
        where = {"protocol": str(key.protocol), "address": str(key.address), "port": key.port}
    servers = [[str(server.address), server.port, host] for server, host in owned.hosts.items()]
    return orjson.dumps({**where, "name": owned.name, "servers": servers})


def write(
    file: Path,
    entries: Iterable[bytes],
    addresses: Iterable[DirectorAddress],
    shared: Collection[DirectorAddress] = (),
) -> None:
    """Replace `file` as a whole; raise OSError where that fails, and leave the old one."""
    told = {
        "version": VERSION,
        "services": [orjson.Fragment(entry) for entry in entries],
        "addresses": [
            asdict(address) | {"address": str(address.address), "shared": address in shared}
            for address in addresses
        ],
    }
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)  # a FIFO in its place would be waited for
    with fresh.open("xb") as out:
        out.write(orjson.dumps(told))
    fresh.replace(file)


def _content(file: Path) -> bytes:
    # What is no file is not waited for.
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            message = "it is no regular file"
            raise OSError(errno.EINVAL, message)
        return opened.read()


def _parse_key(entry: dict[str, Any]) -> ServiceKey:
    if "fwmark" in entry:
        version = entry["version"]
        if version not in HOST_BITS:
            message = "no IP version"
            raise ValueError(message)
        return FirewallMark(_number(entry["fwmark"], 1, MAX_MARK), int(version))
    address, port = _address(entry["address"]), _number(entry["port"], 0, MAX_PORT)
    return VirtualAddress(Protocol(entry["protocol"]), address, port)


def _parse_owned(entry: dict[str, Any]) -> Owned:
    hosts = {
        ServerKey(_address(address), _number(port, 0, MAX_PORT)): _text(host)
        for address, port, host in entry["servers"]
    }
    return Owned(_text(entry["name"]), hosts)


def _parse_address(entry: dict[str, Any]) -> DirectorAddress:
    address, interface, label = _address(entry["address"]), _text(entry["interface"]), _text(entry["label"])
    if not is_interface(interface) or len(label) > LONGEST_INTERFACE:
        message = "no interface's name, or no label"
        raise ValueError(message)
    prefix, scope = _number(entry["prefix"], 1, HOST_BITS[address.version]), entry.get("scope", Scope.GLOBAL)
    return DirectorAddress(address, prefix, interface, label, Scope(scope))


def _address(value: object) -> Address:
    return Address.parse(_text(value))


def _number(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        message = f"no whole number from {low} to {high}"
        raise ValueError(message)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = "no text"
        raise TypeError(message)
    return value
