"""The named entries of a section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lvsd.config import values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.document import Findings

NONE = "none"


def entries(findings: Findings, section: str) -> Iterator[tuple[str, Any]]:
    """Yield the named entries of a section, those whose names can be used."""
    for name, data in findings.merged.data.get(section, {}).items():
        if (section, name) == ("checks", NONE):
            findings.mistake((section, name), "cannot be a name: it means no check", key=True)
            continue
        try:
            values.name(name)
        except ValueError as problem:
            findings.mistake((section, name), str(problem), key=True)
        else:
            yield name, data
