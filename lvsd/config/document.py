"""A configuration as plain mappings, lists and texts, and where in which file each of them stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lvsd.config.model import Note
from lvsd.errors import ConfigError, Mistake, Place

Mark: TypeAlias = tuple[int, int]
"""Line and column, counting from 1."""

BEGIN: Mark = (1, 1)

MOST_MISTAKES = 500
MOST_NOTES = 100
"""More than anybody reads at once, and few enough to be passed on and logged without delay."""

ENOUGH = 1000
"""After so many mistakes nothing is looked at any more."""

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: `("virtual_services", "web", "real_servers", 2, "weight")`."""


@dataclass(slots=True)
class Marks:
    """Where a mapping or list begins, where its keys stand, and where the parts in it begin."""

    at: Mark
    keys: dict[str | int, Mark] = field(default_factory=dict)
    parts: dict[str | int, Mark | Marks] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its data (mappings, lists, texts, None), the marks beside it, what was wrong in its text."""

    file: str
    data: dict[str, Any]
    marks: Marks
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Note, ...] = ()

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Return where the value at `path` begins, or the nearest thing around it that the file has.

        A mapping or list, and with `key` any value, is shown by its key.
        """
        marks, at = self.marks, BEGIN
        for part in path:
            inner = marks.parts.get(part)
            if inner is None:
                break
            of_key = marks.keys.get(part)
            if isinstance(inner, tuple):
                return Place(self.file, *(of_key if key and of_key else inner))
            marks, at = inner, of_key or inner.at
        return Place(self.file, *at)


@dataclass(slots=True)
class Merged:
    """All files of a configuration as one: its sections, and the document that each part came from.

    `lvs_conf` is the one that was named beside lvsd's own YAML, where nothing is wrong in it.
    """

    main: Document
    data: dict[str, Any] = field(default_factory=dict)
    owners: dict[Path, Document] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    lvs_conf_named: str = ""
    lvs_conf: Document | None = None

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Return where the value at `path` begins, in whichever file that is."""
        owners = (self.owners.get(path[:length]) for length in (3, 2, 1))
        return next((owner for owner in owners if owner), self.main).place(path, key=key)


@dataclass(slots=True)
class Findings:
    """What was found in a configuration while it was read."""

    merged: Merged
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def mistake(
        self,
        path: Path,
        message: str,
        *,
        key: bool = False,
        document: Document | None = None,
    ) -> None:
        """Keep that the value at `path` (with `key`: its key), in `document` if given, cannot be used."""
        place = (document or self.merged).place(path, key=key)
        self.mistakes.append(Mistake(place, spell(path), message))
        if len(self.mistakes) >= ENOUGH:
            self.raise_mistakes()

    def note(self, path: Path, message: str) -> None:
        """Keep a remark on the value at `path`; after the hundredth they are no longer kept."""
        if len(self.notes) < MOST_NOTES:
            self.notes.append(Note(self.merged.place(path), spell(path), message))

    def raise_mistakes(self) -> None:
        """Raise ConfigError with all mistakes in the order of the files' text, where there are any."""
        if self.mistakes:
            raise ConfigError(in_order(self.mistakes, self.merged.files))


def in_order(mistakes: list[Mistake], files: list[str]) -> list[Mistake]:
    """Return `mistakes` without repetitions, sorted by place, the files in the order they were read.

    Of very many the first are returned, and how many more there are.
    """
    rank = {file: number for number, file in enumerate(files)}

    def reading_order(mistake: Mistake) -> tuple[int, int, int]:
        place = mistake.place
        return rank.get(place.file, len(rank)), place.line, place.column

    ordered = sorted(dict.fromkeys(mistakes), key=reading_order)
    if len(ordered) <= MOST_MISTAKES:
        return ordered
    count = f"{len(ordered) - MOST_MISTAKES:,}" if len(ordered) < ENOUGH else "many"
    more = f"and {count} more mistakes"
    return [*ordered[:MOST_MISTAKES], Mistake(Place(files[0]), "", more)]


def spell(path: Path) -> str:
    """Return `virtual_services.web.real_servers[2].weight` for such a path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
