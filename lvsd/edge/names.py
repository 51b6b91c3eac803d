"""The host's own names: /etc/hosts, the DNS, /etc/services. All of it may block: call it off the loop."""

from __future__ import annotations

import queue
import socket
from threading import Thread
from typing import TYPE_CHECKING

from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AT_ONCE = 32
"""How many look-ups run at once, so that a slow DNS does not cost its delay once a name."""

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_WELL_KNOWN = {
    "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "http": 80, "www": 80, "pop3": 110,
    "ntp": 123, "imap2": 143, "ldap": 389, "https": 443, "submission": 587, "ldaps": 636, "imaps": 993,
    "pop3s": 995, "mysql": 3306, "postgresql": 5432, "sip": 5060,
}  # fmt: skip
"""For hosts without /etc/services, as small containers are."""


class SystemNames:
    """What this host's resolver says; each name is asked for once in the life of this object."""

    def __init__(self) -> None:
        self._addresses: dict[tuple[str, int], Address | None] = {}

    def prefetch(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Look up the (name, IP version) pairs, many at once."""
        pairs = list(wanted)
        self._addresses.update(zip(pairs, _at_once(pairs, _either_version), strict=True))

    def address(self, name: str, version: int) -> Address | None:
        """Return an address of `name`, of that IP version if it has one; None where nothing knows it."""
        if (name, version) not in self._addresses:
            self._addresses[name, version] = _either_version((name, version))
        return self._addresses[name, version]

    def port(self, name: str, protocol: str) -> int | None:
        """Return the port that /etc/services gives `name`: for this protocol, else for any."""
        for each in (protocol, "tcp", "udp"):
            try:
                return socket.getservbyname(name, each)
            except OSError:
                continue
        return _WELL_KNOWN.get(name)

    def hostname(self) -> str:
        """Return this host's name."""
        return socket.gethostname()


def resolve(names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Address]:
    """Return the present address for each (name, IP version); a name that has none now is left out."""
    pairs = list(names)
    found = zip(pairs, _at_once(pairs, _look_up), strict=True)
    return {pair: address for pair, address in found if address is not None}


def _at_once(
    pairs: list[tuple[str, int]],
    look_up: Callable[[tuple[str, int]], Address | None],
) -> list[Address | None]:
    """Look up all `pairs`, in threads for which nobody waits when the process ends, unlike an executor's."""
    found: queue.SimpleQueue[tuple[int, Address | None]] = queue.SimpleQueue()
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(pairs)):
        waiting.put(i)

    def work() -> None:
        while True:
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            found.put((i, look_up(pairs[i])))

    for _ in range(min(AT_ONCE, len(pairs))):
        Thread(target=work, daemon=True).start()
    answers = dict(found.get() for _ in pairs)
    return [answers[i] for i in range(len(pairs))]


def _either_version(pair: tuple[str, int]) -> Address | None:
    name, version = pair
    return _look_up((name, version)) or _look_up((name, 10 - version))


def _look_up(pair: tuple[str, int]) -> Address | None:
    """Return an address of a name: of many always the same one, and no loopback where it has others."""
    name, version = pair
    try:
        found = socket.getaddrinfo(name, None, family=_FAMILIES[version], type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    addresses = [Address.parse(str(entry[4][0])) for entry in found if "%" not in str(entry[4][0])]
    return min(addresses, key=lambda address: (_is_loopback(address), address), default=None)


def _is_loopback(address: Address) -> bool:
    return address[0] == 127 if address.version == 4 else int.from_bytes(address) == 1  # noqa: PLR2004
