"""What all shapes of the configuration are made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def default(text: str, description: str) -> Any:  # noqa: ANN401 - as pydantic.Field
    """Return a field whose default is written as in the file, and read like one."""
    return Field(text, validate_default=True, description=description)


def kind(value: object) -> str:
    """Return the tag of a value that may be written in several ways: mapping, list or text."""
    if isinstance(value, dict):
        return "mapping"
    return list_or_text(value)


def list_or_text(value: object) -> str:
    """Return the tag of a value that is a list, or else must be a text."""
    return "list" if isinstance(value, list) else "text"


def mapping_or_text(value: object) -> str:
    """Return the tag of a value that is a mapping, or else must be a text."""
    return "mapping" if isinstance(value, dict) else "text"
