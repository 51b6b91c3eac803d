"""`lvsd withdraw`: takes away the VIPs of VRRP that a director which is no more has left on this host."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from lvsd.edge import advertised, hushed, memory, state_file
from lvsd.edge.addresses import Addresses
from lvsd.errors import KernelError
from lvsd.vrrp.virtual_mac import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lvsd.config.model import DirectorAddress


def withdraw() -> Iterator[str]:
    """Take the VIPs away, and yield what became of each.

    Raise AlreadyRunsError where lvsd runs: they are its own then. The next start does not take them for what
    a crash has left.
    """
    file = state_file.path()
    claim = memory.claim(file.parent)
    try:
        remembered = state_file.read(file)
        if remembered.trouble:
            yield f"{file} is {remembered.trouble}: which VIPs are lvsd's is not known"
        advertised.resign()
        with Addresses() as addresses:
            there = {name for _, name in socket.if_nameindex()}
            made = {each.interface for each in remembered.shared if parse_name(each.interface)}
            for address in remembered.shared:
                if address.interface not in made - there:  # a backup has no interface with a virtual MAC
                    yield from _remove(addresses, address)
        if made & there or hushed.read():
            yield from asyncio.run(_remove_interfaces(made & there))
    finally:
        claim.release()


def _remove(addresses: Addresses, address: DirectorAddress) -> Iterator[str]:
    try:
        if addresses.remove(address):
            yield f"{address} removed from {address.interface}"
    except KernelError as error:
        yield str(error)


async def _remove_interfaces(names: Iterable[str]) -> list[str]:
    from lvsd.edge.virtual_mac import VirtualMacs  # noqa: PLC0415 - it imports much, for a few hosts only

    told = []
    try:
        async with VirtualMacs() as virtual_macs:
            for name in sorted(names):
                known = parse_name(name)
                if known is not None and await virtual_macs.remove(*known):
                    told.append(f"{name} removed")
    except KernelError as error:
        told.append(str(error))
    return told
