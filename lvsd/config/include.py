"""The files of a configuration as one: what `include` names is read, and its sections are merged in."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lvsd.config.document import Document, Findings, Merged
from lvsd.config.formats import require_own
from lvsd.config.source import Unreadable
from lvsd.config.text import decode
from lvsd.config.words import shown
from lvsd.config.yaml_text import parse
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from lvsd.config.document import Path
    from lvsd.config.source import Source

MAX_NESTED = 8
MAX_FILES = 10_000
MAX_TOTAL_BYTES = 64 * 1024 * 1024

_MERGED_BY_NAME = ("checks", "virtual_services")
_WILDCARD = re.compile(r"[*?\[]")


def merge(main: Document, source: Source) -> Findings:
    """Return `main` with all that it includes, as `findings.merged`, and what was wrong on the way."""
    findings = Findings(Merged(main, files=[main.file]))
    _Merger(source, findings).take(main, (posixpath.normpath(main.file),))
    return findings


@dataclass(slots=True)
class _Merger:
    source: Source
    findings: Findings
    read: int = 0

    def take(self, document: Document, chain: tuple[str, ...]) -> None:
        """Merge `document`, which was reached by `chain`, and then what it includes."""
        self.findings.mistakes += document.mistakes
        self.findings.notes += document.notes
        for section, value in document.data.items():
            if section in _MERGED_BY_NAME and isinstance(value, dict):
                self._take_entries(document, section, value)
            elif section != "include":
                self._take_section(document, section, value)
        for path, pattern in _patterns(document, self.findings):
            self._include(document, path, pattern, chain)

    def _take_entries(self, document: Document, section: str, entries: dict[str, Any]) -> None:
        merged = self.findings.merged
        target = merged.data.setdefault(section, {})
        merged.owners.setdefault((section,), document)
        if not isinstance(target, dict):
            target = merged.data[section] = {}
        for name, value in entries.items():
            if name in target:
                self._twice(document, (section, name))
            else:
                target[name] = value
                merged.owners[section, name] = document

    def _take_section(self, document: Document, section: str, value: object) -> None:
        merged = self.findings.merged
        if section in merged.data and (value is None or section not in _MERGED_BY_NAME):
            if value is not None:
                self._twice(document, (section,))
            return
        merged.data[section] = value
        merged.owners[(section,)] = document

    def _twice(self, document: Document, path: Path) -> None:
        first = self.findings.merged.place(path, key=True)
        self._mistake(document, path, f"is given twice, first at {first}")

    def _mistake(self, document: Document, path: Path, message: str) -> None:
        Findings(Merged(document), self.findings.mistakes).mistake(path, message, key="include" not in path)

    def _include(self, document: Document, path: Path, pattern: str, chain: tuple[str, ...]) -> None:
        if not pattern:
            self._mistake(document, path, "is empty: write a file or a pattern, or leave it out")
            return
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(document.file), pattern))
        try:
            files = self.source.glob(wanted) if _WILDCARD.search(pattern) else [wanted]
            for file in files:
                self._include_file(document, path, file, chain)
        except Unreadable as problem:
            self._mistake(document, path, f"cannot include {wanted}: {problem}")

    def _include_file(self, document: Document, path: Path, file: str, chain: tuple[str, ...]) -> None:
        if file in chain:
            circle = " -> ".join((*chain[chain.index(file) :], file))
            self._mistake(document, path, f"goes round in a circle: {circle}")
        elif len(chain) > MAX_NESTED:
            self._mistake(
                document, path, f"is nested more than {MAX_NESTED} deep: {' -> '.join((*chain, file))}"
            )
        elif file not in self.findings.merged.files:
            self.findings.merged.files.append(file)
            self._read(document, path, file, chain)

    def _read(self, document: Document, path: Path, file: str, chain: tuple[str, ...]) -> None:
        try:
            raw = self.source.read(file)
        except Unreadable as problem:
            self._mistake(document, path, f"cannot include {file}: {problem}")
            return
        self.read += len(raw)
        if self.read > MAX_TOTAL_BYTES or len(self.findings.merged.files) > MAX_FILES:
            problem_now = f"includes too much: at most {MAX_FILES:,} files and {MAX_TOTAL_BYTES >> 20} MiB"
            self._mistake(document, path, problem_now)
            self.findings.raise_mistakes()
        try:
            text = decode(raw, file)
            require_own(text, file)
            self.take(parse(text, file), (*chain, file))
        except ConfigError as error:
            self.findings.mistakes += error.mistakes


def _patterns(document: Document, findings: Findings) -> list[tuple[Path, str]]:
    """Return the patterns under `include`, each with its path."""
    value = document.data.get("include")
    if value is None:
        return []
    entries = value if isinstance(value, list) else [value]
    here = Findings(Merged(document), findings.mistakes)
    patterns: list[tuple[Path, str]] = []
    for number, entry in enumerate(entries):
        path: Path = ("include", number) if isinstance(value, list) else ("include",)
        if isinstance(entry, str):
            patterns.append((path, entry))
        else:
            here.mistake(path, f"must be a file or a pattern, or a list of them, not {shown(entry)}")
    return patterns
