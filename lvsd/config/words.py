"""How mistakes are put into words."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LONGEST_SHOWN = 60
MOST_COMPARED = 1000


def shown(value: object) -> str:
    """Return how a wrong value is shown to the operator."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


def one_of(choices: Iterable[str]) -> str:
    """Return `dr, nat or tun`."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """Return `; did you mean 'web'?` where a choice is close to `word`, else nothing."""
    if len(choices) > MOST_COMPARED or len(word) > LONGEST_SHOWN:
        return ""
    exact_but_case = [choice for choice in choices if choice.lower() == word.lower()]
    close = exact_but_case or get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
