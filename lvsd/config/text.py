"""Bytes of a file to text, or a mistake that says which byte is not text."""

from __future__ import annotations

import re

from lvsd.errors import ConfigError, Mistake, Place

_NOT_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def decode(raw: bytes, file: str) -> str:
    """Return the text in `raw`, which must be UTF-8 without control characters, and not empty."""
    if not raw.strip():
        raise ConfigError([Mistake(Place(file), "", "is empty: there is nothing to configure from")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        problem = f"is not UTF-8 text: byte 0x{raw[error.start]:02x} cannot stand here"
        raise ConfigError([Mistake(position(before, len(before), file), "", problem)]) from None
    if found := _NOT_TEXT.search(text):
        problem = f"is not text: control character U+{ord(found.group()):04X}"
        raise ConfigError([Mistake(position(text, found.start(), file), "", problem)])
    return text


def position(text: str, offset: int, file: str) -> Place:
    """Return the place of the character at `offset`."""
    breaks = list(_LINE_BREAK.finditer(text, 0, offset))
    begin = breaks[-1].end() if breaks else 0
    return Place(file, len(breaks) + 1, offset - begin + 1)
