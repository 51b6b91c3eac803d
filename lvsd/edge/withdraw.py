"""`lvsd withdraw`: takes away the VIPs of VRRP that a director which is no more has left on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.edge import advertised, memory, state_file
from lvsd.edge.addresses import Addresses
from lvsd.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        advertised.forget_all()
        with Addresses() as addresses:
            for address in remembered.shared:
                yield from _remove(addresses, address)
    finally:
        claim.release()


def _remove(addresses: Addresses, address: DirectorAddress) -> Iterator[str]:
    try:
        if addresses.remove(address):
            yield f"{address} removed from {address.interface}"
    except KernelError as error:
        yield str(error)
