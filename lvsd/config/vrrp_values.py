"""Texts to values for the sections on VRRP. Each function raises ValueError in the operator's words."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from lvsd.config import values
from lvsd.config.words import shown

if TYPE_CHECKING:
    from lvsd.model import Address, Seconds

LONGEST_PASSWORD = 8
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.01, 255.0
MAX_TRACK_WEIGHT = 253

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", re.ASCII)


def priority(text: str) -> int:
    """Return a VRRP instance's priority."""
    if text == "0":
        message = "must be 1 to 255, not 0: a master that says 0 gives its addresses up (RFC 9568, 5.2.4)"
        raise ValueError(message)
    return values.number(text, 1, 255)


def advertisement_interval(text: str) -> Seconds:
    """Return an interval that one of the versions can say."""
    try:
        return values.duration(text, SHORTEST_INTERVAL, LONGEST_INTERVAL)
    except ValueError as problem:
        if "duration" in str(problem):
            raise
        bounds = "10ms to 40.95s, in version 2 whole seconds from 1s to 255s"
        message = f"must be {bounds}, not {shown(text)}"
        raise ValueError(message) from None


def password(text: str) -> str:
    """Return the password of version 2; what is wrong is said without it."""
    if not 1 <= len(text) <= LONGEST_PASSWORD:
        message = (
            f"must have 1 to {LONGEST_PASSWORD} characters, not {len(text)}: a packet has no room for more"
        )
        raise ValueError(message)
    if not (text.isascii() and text.isprintable()):
        message = "must be printable ASCII"
        raise ValueError(message)
    return text


def interface(text: str) -> str:
    """Return `text` where an interface can be called that."""
    if not values.is_interface(text):
        message = f"must be an interface's name of 1 to {values.LONGEST_INTERFACE} letters, as in eth0"
        raise ValueError(message)
    return text


def multicast_group(text: str) -> Address:
    """Return the multicast address in `text`."""
    address = values.literal(text)
    if address is None or not address.is_multicast:
        message = f"must be a multicast address, such as 224.0.0.81 or ff02::81, not {shown(text)}"
        raise ValueError(message)
    return address


def command(text: str) -> tuple[str, ...]:
    """Return the words of a command, as a shell would split them; nothing else of a shell is heeded."""
    try:
        words = tuple(shlex.split(values.line(text)))
    except ValueError as problem:
        if "control" in str(problem):
            raise
        message = (
            f"cannot be split into words: a quote is never closed, or nothing follows a \\ in {shown(text)}"
        )
        raise ValueError(message) from None
    if not words:
        message = "must be a command: a program's absolute path, and its arguments"
        raise ValueError(message)
    return words


def user(text: str) -> str:
    """Return `text` where a user of this host can be called that."""
    if not _USER.fullmatch(text):
        message = f"must be the name of a user, not {shown(text)}"
        raise ValueError(message)
    return text
