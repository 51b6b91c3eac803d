"""The files of a configuration as one: what `include` names is read, and its sections are merged in."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lvsd.config import lvs_document
from lvsd.config.document import Document, Findings, Merged
from lvsd.config.formats import require_lvs_conf, require_own
from lvsd.config.lvs_conf_beside import hand_out_vips
from lvsd.config.source import Unreadable
from lvsd.config.text import decode
from lvsd.config.words import shown
from lvsd.config.yaml_text import parse
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.config.document import Path
    from lvsd.config.source import Source

MAX_NESTED = 8
MAX_FILES = 10_000
MAX_TOTAL_BYTES = 64 * 1024 * 1024

_MERGED_BY_NAME = ("checks", "virtual_services", "vrrp")
_LVS_CONF: tuple[Path, ...] = (("lvs_conf",), ("virtual_services", "include"))
"""Where an lvs.conf is named."""

_WILDCARD = re.compile(r"[*?\[]")


def merge(main: Document, source: Source) -> Findings:
    """Return `main` with all that it includes, as `findings.merged`, and what was wrong on the way."""
    findings = Findings(Merged(main, files=[main.file]))
    _Merger(source, findings).take(main, (posixpath.normpath(main.file),))
    hand_out_vips(findings.merged)
    return findings


@dataclass(frozen=True, slots=True)
class _Include:
    """One pattern under `include`: where it stands, and the files that led there."""

    document: Document
    path: Path
    chain: tuple[str, ...]


@dataclass(slots=True)
class _Merger:
    source: Source
    findings: Findings
    seen: set[str] = field(default_factory=set)
    read: int = 0

    def take(self, document: Document, chain: tuple[str, ...]) -> None:
        """Merge `document`, which was reached by `chain`, and then what it includes."""
        self.findings.mistakes += document.mistakes
        self.findings.notes += document.notes
        for section, value in document.data.items():
            if section in _MERGED_BY_NAME:
                self._take_entries(document, section, value)
            elif section not in ("include", "lvs_conf"):
                self._take_section(document, section, value)
        for path in _LVS_CONF:
            self._lvs_conf(_Include(document, path, chain))
        for path, pattern in self._patterns(document):
            self._include(_Include(document, path, chain), pattern)

    def _take_entries(self, document: Document, section: str, entries: dict[str, Any] | None) -> None:
        merged = self.findings.merged
        merged.owners.setdefault((section,), document)
        if not isinstance(entries, dict):
            if entries is not None:
                message = f"must be a mapping of names, not {shown(entries)}"
                self.findings.mistake((section,), message, document=document)
            return
        target = merged.data.setdefault(section, {})
        for name, value in entries.items():
            if (section, name) in _LVS_CONF:
                continue
            if name in target:
                self._twice(document, (section, name))
            else:
                target[name] = value
                merged.owners[section, name] = document

    def _take_section(self, document: Document, section: str, value: object) -> None:
        merged = self.findings.merged
        if section not in merged.data:
            merged.data[section] = value
            merged.owners[(section,)] = document
        elif value is not None:
            self._twice(document, (section,))

    def _twice(self, document: Document, path: Path) -> None:
        first = self.findings.merged.place(path, key=True)
        self.findings.mistake(path, f"is given twice, first at {first}", key=True, document=document)

    def _patterns(self, document: Document) -> Iterator[tuple[Path, str]]:
        """Yield the patterns under `include`, each with its path."""
        value = document.data.get("include")
        entries = value if isinstance(value, list) else [] if value is None else [value]
        for number, entry in enumerate(entries):
            path: Path = ("include", number) if isinstance(value, list) else ("include",)
            if isinstance(entry, str) and entry:
                yield path, entry
            else:
                message = f"must be a file or a pattern, or a list of them, not {shown(entry or None)}"
                self.findings.mistake(path, message, document=document)

    def _include(self, include: _Include, pattern: str) -> None:
        beside = posixpath.dirname(include.document.file)
        wanted = posixpath.normpath(posixpath.join(beside, pattern))
        try:
            files = self.source.glob(wanted) if _WILDCARD.search(pattern) else [wanted]
        except Unreadable as problem:
            self._wrong(include, f"cannot look for {wanted}: {problem}")
            return
        for file in files:
            self._include_file(include, file)

    def _include_file(self, include: _Include, file: str) -> None:
        chain = include.chain
        if file in chain:
            circle = " -> ".join((*chain[chain.index(file) :], file))
            self._wrong(include, f"goes round in a circle: {circle}")
        elif len(chain) > MAX_NESTED:
            self._wrong(include, f"is nested more than {MAX_NESTED} deep: {' -> '.join((*chain, file))}")
        elif file not in self.seen:
            self.seen.add(file)
            self.findings.merged.files.append(file)
            self._read(include, file)

    def _read(self, include: _Include, file: str) -> None:
        try:
            text = self._text(include, file, f"cannot include {file}")
            if text is not None:
                require_own(text, file)
                self.take(parse(text, file), (*include.chain, file))
        except ConfigError as error:
            self.findings.mistakes += error.mistakes

    def _text(self, include: _Include, file: str, failed: str) -> str | None:
        """Return the text of `file`; put down, beginning with `failed`, why there is none."""
        try:
            raw = self.source.read(file)
        except Unreadable as problem:
            self._wrong(include, f"{failed}: {problem}")
            return None
        self.read += len(raw)
        if self.read > MAX_TOTAL_BYTES or len(self.findings.merged.files) > MAX_FILES:
            limits = f"at most {MAX_FILES:,} files and {MAX_TOTAL_BYTES >> 20} MiB"
            self._wrong(include, f"includes too much: {limits}")
            self.findings.raise_mistakes()
        return decode(raw, file)

    def _lvs_conf(self, include: _Include) -> None:
        """Take in the lvs.conf that is named at `include.path`, if one is."""
        *sections, key = include.path
        within: Any = include.document.data
        for section in sections:
            within = within.get(section)
        if not isinstance(within, dict) or within.get(key) is None:
            return
        named, merged = within[key], self.findings.merged
        merged.data.setdefault("virtual_services", {})
        if not isinstance(named, str) or not named:
            self._wrong(include, f"must be the path of an lvs.conf, not {shown(named or None)}")
            return
        file = posixpath.normpath(posixpath.join(posixpath.dirname(include.document.file), named))
        if merged.lvs_conf_named not in ("", file):
            self._wrong(include, f"there can be one lvs.conf only, and that is {merged.lvs_conf_named}")
        elif not merged.lvs_conf_named:
            merged.lvs_conf_named = file
            merged.files.append(file)
            self._read_lvs_conf(include, file)

    def _read_lvs_conf(self, include: _Include, file: str) -> None:
        try:
            text = self._text(include, file, f"cannot read {file}")
            if text is None:
                return
            require_lvs_conf(text, file)
            document = lvs_document.parse(text, file)
        except ConfigError as error:
            self.findings.mistakes += error.mistakes
            return
        self.findings.mistakes += document.mistakes
        self.findings.notes += document.notes
        self._take_entries(document, "virtual_services", document.data["virtual_services"])
        if not document.mistakes:
            self.findings.merged.lvs_conf = document

    def _wrong(self, include: _Include, message: str) -> None:
        self.findings.mistake(include.path, message, document=include.document)
