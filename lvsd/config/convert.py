"""Another director's configuration as lvsd's own YAML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lvsd.config import formats
from lvsd.config.load import read
from lvsd.errors import ConfigError, Mistake, Place, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.model import Note
    from lvsd.config.source import Source

SCHEMA_LINE = "# yaml-language-server: $schema=lvsd.schema.json"

_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.:+-]*(?<!:)")


def convert(file: str, source: Source) -> tuple[str, tuple[Note, ...]]:
    """Return lvsd's YAML for `file`, with a note for each line that has no equivalent.

    Names stay names: nothing is looked up. Raise ConfigError where the file has mistakes.
    """
    found, document = read(file, source)
    if found == formats.OWN:
        raise ConfigError(
            [Mistake(Place(file), "", "is lvsd's own YAML already: there is nothing to convert")]
        )
    if document.mistakes:
        raise ConfigError(document.mistakes)
    remarks = [printable(f"# line {note.place.line}, {note.path}: {note.message}") for note in document.notes]
    lines = [SCHEMA_LINE, f"# Converted from {found}.", *remarks, *_lines(document.data, "")]
    return "\n".join(lines) + "\n", document.notes


def _lines(data: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield f"{indent}{_scalar(key)}:" if value else f"{indent}{_scalar(key)}: {{}}"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list):
            yield f"{indent}{_scalar(key)}:" if value else f"{indent}{_scalar(key)}: []"
            yield from (f"{indent}  - {_inline(item)}" for item in value)
        else:
            yield f"{indent}{_scalar(key)}: {_scalar(value)}"


def _inline(item: dict[str, str] | str) -> str:
    if isinstance(item, str):
        return _scalar(item)
    return "{" + ", ".join(f"{_scalar(key)}: {_scalar(value)}" for key, value in item.items()) + "}"


def _scalar(text: str) -> str:
    """Return `text` as it can stand in YAML, also for readers that guess types from looks."""
    looks_like_more = (
        text.lower() in {"null", "true", "false", "yes", "no", "on", "off"} or text[0] in "0123456789"
    )
    if _PLAIN.fullmatch(text) and (not looks_like_more or _is_address(text)):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'  # YAML reads what this writes as Python does


def _is_address(text: str) -> bool:
    return text.count(".") == 3  # noqa: PLR2004
