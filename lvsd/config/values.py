"""Texts to values: what can stand in one scalar. Each function raises ValueError in the operator's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from lvsd.config import expressions
from lvsd.config.words import did_you_mean, one_of, shown
from lvsd.model import MAX_WEIGHT, Address, Seconds

T = TypeVar("T")

MAX_PORT = 65535
MAX_MARK = 2**32 - 1
MAX_COUNT = 100
LONGEST_NAME = 255
LONGEST_INTERFACE = 15
"""The kernel's IFNAMSIZ, less the closing zero; labels have the same."""

IPV4_PARTS = 4
LONGEST_IPV4 = 15

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?", re.ASCII)
_SIZES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024 * 1024}
_SIZE = re.compile(r"([0-9]{1,9})\s?(B|KiB|MiB)?", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*\.?", re.ASCII
)
_DOTTED = re.compile(r"[0-9.]+", re.ASCII)
_PORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", re.ASCII)
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_STATUS = re.compile(r"([1-9][0-9]{2})(?:\s*-\s*([1-9][0-9]{2}))?", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,62}[A-Za-z0-9_])?", re.ASCII)
_NOT_IN_A_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_A_PATH = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and perhaps a port as they were written; `address` is known where the host is a literal."""

    host: str
    address: Address | None
    port: str


@dataclass(frozen=True, slots=True)
class Network:
    """A host with a prefix, as in `192.168.0.101/24`."""

    host: Endpoint
    prefix: int


def number(text: str, low: int, high: int) -> int:
    """Return the whole number from `low` to `high` that `text` writes in decimal digits."""
    if not _NUMBER.fullmatch(text) or not low <= (value := int(text)) <= high:
        message = f"must be {low} to {high}, not {shown(text)}"
        raise ValueError(message)
    return value


def weight(text: str) -> int:
    """Return a real server's weight."""
    return number(text, 0, MAX_WEIGHT)


def count(text: str) -> int:
    """Return how many probes in a row rise or fall takes."""
    return number(text, 1, MAX_COUNT)


def mark(text: str) -> int:
    """Return a firewall mark, also written in hexadecimal as iptables prints it."""
    if re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", text):
        text = str(int(text, 16))
    return number(text, 1, MAX_MARK)


def duration(text: str, low: Seconds, high: Seconds) -> Seconds:
    """Return the seconds, from `low` to `high`, in `2s`, `200ms`, `5m` or bare `2`."""
    match = _DURATION.fullmatch(text)
    if not match:
        message = f"must be a duration such as 2s, 200ms, 5m or 1h, not {shown(text)}"
        raise ValueError(message)
    seconds = round(float(match[1]) * _UNITS[match[2] or "s"], 6)
    if not low <= seconds <= high:
        message = f"must be {spelled(low)} to {spelled(high)}, not {shown(text)}"
        raise ValueError(message)
    return seconds


def spelled(seconds: Seconds) -> str:
    """Return a duration as it is written: `10ms`, `5m`, `31d`."""
    if seconds == 0:
        return "0s"
    unit = max((unit for unit in _UNITS if seconds % _UNITS[unit] == 0), key=_UNITS.__getitem__, default="ms")
    return f"{seconds / _UNITS[unit]:.15g}{unit}"


def size(text: str) -> int:
    """Return the bytes in `65536`, `64KiB` or `1MiB`."""
    match = _SIZE.fullmatch(text)
    value = int(match[1]) * _SIZES[match[2] or ""] if match else 0
    if not 1 <= value <= 16 * _SIZES["MiB"]:
        message = f"must be a size from 1 to 16MiB, such as 65536 or 64KiB, not {shown(text)}"
        raise ValueError(message)
    return value


def flag(text: str) -> bool:
    """Return True for `true`, `yes`, `on`, False for `false`, `no`, `off`."""
    if text.lower() not in _FLAGS:
        message = f"must be true or false, not {shown(text)}"
        raise ValueError(message)
    return _FLAGS[text.lower()]


def choice(text: str, choices: dict[str, T]) -> T:
    """Return what `text` means among `choices`."""
    if text not in choices:
        message = f"must be {one_of(choices)}, not {shown(text)}{did_you_mean(text, choices)}"
        raise ValueError(message)
    return choices[text]


def literal(text: str) -> Address | None:
    """Return the address that `text` writes, or None where it is no literal address."""
    parts = text.split(".")
    if (
        len(parts) == IPV4_PARTS
        and len(text) <= LONGEST_IPV4
        and text.isascii()
        and all(map(str.isdecimal, parts))
    ):
        numbers = [int(part) for part in parts]
        written_plainly = ".".join(map(str, numbers)) == text
        return Address(numbers) if written_plainly and max(numbers) < 256 else None  # noqa: PLR2004
    if ":" not in text or "%" in text:
        return None
    try:
        return Address.parse(text)
    except ValueError:
        return None


def host(text: str) -> Endpoint:
    """Return the address or host's name in `text`, without a port."""
    address = literal(text)
    if address is None and _DOTTED.fullmatch(text):
        message = f"{shown(text)} is no IPv4 address: four numbers from 0 to 255 without leading zeros"
        raise ValueError(message)
    if address is None and not _HOST.fullmatch(text):
        message = f"{shown(text)} is neither an IPv4 or IPv6 address nor the name of a host"
        raise ValueError(message)
    is_written_plainly = address is None or address.version == 4  # noqa: PLR2004
    return Endpoint(text if is_written_plainly else str(address), address, "")


def endpoint(text: str) -> Endpoint:
    """Return the parts of `HOST`, `HOST:PORT`, an IPv6 address, or one in brackets with a port."""
    if text[:1] == "[":
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            message = f"{shown(text)} must be [IPV6] or [IPV6]:PORT"
            raise ValueError(message)
        written = host(inner)
        return Endpoint(written.host, written.address, port(rest[1:])) if rest else written
    name, colon, rest = text.partition(":")
    if not colon or ":" in rest:
        return host(text)
    written = host(name)
    return Endpoint(written.host, written.address, port(rest))


def virtual_address(text: str) -> Endpoint:
    """Return the parts of `HOST:PORT` or `[IPV6]:PORT`; the port must be there."""
    written = endpoint(text)
    if not written.port:
        example = f"[{written.host}]:80" if ":" in written.host else f"{written.host}:80"
        message = f"{shown(text)} needs a port, as in {example}"
        raise ValueError(message)
    return written


def port(text: str) -> str:
    """Return `text` where it can be a port: a number up to 65535 or a service's name."""
    if _NUMBER.fullmatch(text):
        if not 0 <= int(text) <= MAX_PORT:
            message = f"the port must be 0 to {MAX_PORT}, not {shown(text)}"
            raise ValueError(message)
    elif not text:
        message = "a port is missing after the `:`"
        raise ValueError(message)
    elif not _PORT_NAME.fullmatch(text):
        message = f"{shown(text)} is no port: write a number or a name from /etc/services"
        raise ValueError(message)
    return text


def network(text: str) -> Network:
    """Return the parts of `192.168.0.101/24`."""
    name, slash, prefix = text.partition("/")
    written = host(name)
    longest = 128 if ":" in name else 32
    if not slash:
        message = f"{shown(text)} needs a prefix, as in {name}/{longest}"
        raise ValueError(message)
    if not _NUMBER.fullmatch(prefix) or not 1 <= int(prefix) <= longest:
        message = f"the prefix of {shown(text)} must be 1 to {longest}"
        raise ValueError(message)
    return Network(written, int(prefix))


def netmask(text: str) -> int:
    """Return how many leading ones the IPv4 netmask has, as in 255.255.255.0."""
    mask = literal(text)
    if mask is None or mask.version != 4:  # noqa: PLR2004
        message = f"{shown(text)} is no IPv4 netmask such as 255.255.255.0"
        raise ValueError(message)
    bits = f"{int.from_bytes(mask):032b}"
    if "01" in bits:
        message = f"{text} is no netmask: its ones must come first, then its zeros"
        raise ValueError(message)
    return bits.count("1")


def status(text: str) -> tuple[int, int]:
    """Return the first and last code of `200` or `301-308`."""
    match = _STATUS.fullmatch(text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        message = f"must be an HTTP status or a range of them, such as 200 or 301-308, not {shown(text)}"
        raise ValueError(message)
    return int(match[1]), int(match[2] or match[1])


def expression(text: str) -> str:
    """Return `text` where it is a regular expression."""
    expressions.compiled(text)
    return text


def http_path(text: str) -> str:
    """Return `text` where it can be asked for in an HTTP request."""
    if text[:1] != "/":
        message = f"must begin with /, as in /{text[:40].lstrip('/')}"
        raise ValueError(message)
    if _NOT_IN_A_PATH.search(text) or not text.isascii():
        message = f"{shown(text)} must be written with %XX for blanks and letters beyond ASCII"
        raise ValueError(message)
    return text


def header_name(text: str) -> str:
    """Return `text` where it can name a header (RFC 9110, 5.1)."""
    if not _HEADER_NAME.fullmatch(text):
        message = f"{shown(text)} cannot be the name of an HTTP header"
        raise ValueError(message)
    return text


def line(text: str) -> str:
    """Return `text` where it is one line without control characters."""
    if _NOT_IN_A_LINE.search(text):
        message = "must be one line without control characters"
        raise ValueError(message)
    return text


def name(text: str) -> str:
    """Return `text` where an entry of a section can be called that."""
    if not _NAME.fullmatch(text):
        message = "cannot be a name: up to 64 letters, digits and . : _ - without blanks"
        raise ValueError(message)
    return text


def director_name(text: str) -> str:
    """Return `text` where a director can be called that: it stands in log lines, which have an end."""
    if len(line(text)) > LONGEST_NAME:
        message = f"must have at most {LONGEST_NAME} letters, not {len(text):,}"
        raise ValueError(message)
    return text


def is_interface(name: str) -> bool:
    """Tell whether an interface can have that name."""
    return 1 <= len(name) <= LONGEST_INTERFACE and name.isprintable() and not set(name) & set(" /:")
