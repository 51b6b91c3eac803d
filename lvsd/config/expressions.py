"""The regular expressions of checks: RE2's, whose searches take time in proportion to the text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import re2

from lvsd.config.words import shown

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_STEPS = 1000
"""How large an expression may be: what RE2 makes of it takes a step a letter, about."""

_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. A search takes some 10 ns for each byte and step, at the worst."""

    steps: int
    _search: Callable[[bytes], object | None]
    _names_the_end: bool

    def found_in(self, text: bytes) -> bool:
        """Tell whether it is found in `text`, which is UTF-8; `$` also stands before a last line break."""
        if self._search(text) is not None:
            return True
        # RE2's `$` is the end alone, and the texts of servers usually end in a line break.
        if not (self._names_the_end and text.endswith(b"\n")):
            return False
        return self._search(text[:-1]) is not None


@lru_cache(4096)
def compiled(text: str) -> Expression:
    """Return the expression that `text` writes; raise ValueError in the operator's words where it is none."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY
    options.never_capture = True
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        message = (
            f"{shown(text)} is no regular expression of RE2's, "
            f"which knows neither look-around nor back-references: {reason}"
        )
        raise ValueError(message) from None
    if pattern.programsize > MAX_STEPS:
        message = (
            f"{shown(text)} is too large an expression: {pattern.programsize} steps, at most {MAX_STEPS}"
        )
        raise ValueError(message)
    return Expression(pattern.programsize, pattern.search, "$" in text)
