"""YAML text to a document: every scalar stays the text it is, the schema gives types.

Events are taken one by one from libyaml, with a stack of our own: nothing recurses, and what would grow
without bounds (nesting, aliases of aliases) is refused at the place where it passes the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

import yaml

from lvsd.config.document import BEGIN, MOST_MISTAKES, Document, Mark, Marks, spell
from lvsd.config.words import shown
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from yaml import CSafeLoader as _Parser
except ImportError:  # PyYAML without libyaml: the same events, about seven times slower
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]

MAX_DEPTH = 20
MAX_VALUES = 1_000_000
"""How many values a file may have, aliases counted in full; 5,000 services x 5 servers have 150,000."""

Event: TypeAlias = Any
"""One of PyYAML's events; its own annotations leave out half of what they have."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_MERGE = "<<"

_PLAIN_WORDS = {
    "mapping values are not allowed": (
        "a second `: ` in one value: quote it, mend the indentation, or end the line above in `:`"
    ),
    "could not find expected ':'": "a `:` is missing after this line's key",
    "did not find expected key": "this line is not indented like the lines it belongs to",
    "did not find expected '-' indicator": "this line is not indented like the list it belongs to",
    "did not find expected ',' or ']'": "a `,` or the closing `]` is missing",
    "did not find expected ',' or '}'": "a `,` or the closing `}` is missing",
    "did not find expected node content": "a value is missing here, or a bracket is never closed",
    "found unexpected end of stream": "a quote that is opened here is never closed",
    "found undefined alias": "this alias names an anchor that was not set before",
    "block sequence entries are not allowed": "a `- ` cannot stand here: begin the list on a line of its own",
}


def parse(text: str, file: str) -> Document:
    """Return the document that `text` holds; raise ConfigError where it is not one YAML mapping."""
    builder = _Builder(file)
    take: dict[type, Callable[[Any], None]] = {
        yaml.ScalarEvent: builder.scalar,
        yaml.MappingStartEvent: builder.mapping,
        yaml.SequenceStartEvent: builder.sequence,
        yaml.MappingEndEvent: builder.end,
        yaml.SequenceEndEvent: builder.end,
        yaml.AliasEvent: builder.alias,
        yaml.DocumentStartEvent: builder.document,
    }
    next_event = _Parser(text).get_event
    try:
        while (kind := type(event := next_event())) is not yaml.StreamEndEvent:
            if kind in take:
                take[kind](event)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_in_plain_words(error, text, file)]) from None
    return builder.finish()


@dataclass(slots=True)
class _Anchored:
    """A value that aliases may repeat; `size` is None until it is complete."""

    value: Any
    marks: Mark | Marks
    size: int | None


class _Around(NamedTuple):
    """What was open around a mapping or list, which part of it that is, and how many values came before."""

    data: Any
    marks: Marks
    part: str | int
    anchored: _Anchored | None
    before: int


@dataclass(slots=True)
class _Builder:
    """Folds events into data and marks. `data` is the mapping or list that is open, `key` its waiting key."""

    file: str
    data: Any = None
    marks: Marks = field(default_factory=lambda: Marks(BEGIN))
    key: str | None = None
    stack: list[_Around] = field(default_factory=list)
    anchors: dict[str, _Anchored] = field(default_factory=dict)
    values: int = 0
    documents: int = 0
    mistakes: list[Mistake] = field(default_factory=list)

    def document(self, event: Event) -> None:
        self.documents += 1
        if self.documents > 1:
            self._fail(
                event, "a second document begins here: one file holds one configuration, without `---`"
            )

    def scalar(self, event: Event) -> None:
        value = event.value
        mark = event.start_mark
        at = (mark.line + 1, mark.column + 1)
        if self.key is None and type(self.data) is dict:
            self._open_key(event, at)
            return
        if value in _NULLS and not event.style:
            value = None
        self._refuse_tag(event)
        if event.anchor:
            self.anchors[event.anchor] = _Anchored(value, at, 0)
        self._add(event, value, at)

    def mapping(self, event: Event) -> None:
        self._open(event, {})

    def sequence(self, event: Event) -> None:
        self._open(event, [])

    def alias(self, event: Event) -> None:
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            self._fail(event, f"the alias *{event.anchor} names no anchor that was set before")
        if anchored.size is None:
            self._fail(event, f"the alias *{event.anchor} stands inside of what it repeats")
        self.values += anchored.size
        self._add(event, anchored.value, anchored.marks)

    def end(self, _event: Event) -> None:
        if type(self.data) is dict and _MERGE in self.data:
            self._merge()
        around = self.stack.pop()
        if around.anchored:
            around.anchored.size = self.values - around.before
        if self.stack:
            self.data, self.marks = around.data, around.marks

    def finish(self) -> Document:
        if self.data is None:
            raise ConfigError([Mistake(Place(self.file), "", "has no settings, only comments or blanks")])
        return Document(self.file, self.data, self.marks, tuple(self.mistakes))

    def _open(self, event: Event, value: dict[str, Any] | list[Any]) -> None:
        mark = event.start_mark
        marks = Marks((mark.line + 1, mark.column + 1))
        if not self.stack and type(value) is list:
            self._fail(event, "must be a mapping of sections such as `virtual_services:`, not a list")
        if len(self.stack) >= MAX_DEPTH:
            self._fail(event, f"is nested more than {MAX_DEPTH} deep")
        self._refuse_tag(event)
        anchored = None
        if event.anchor:
            anchored = self.anchors[event.anchor] = _Anchored(value, marks, None)
        part = len(self.data) if type(self.data) is list else self.key or ""
        if self.stack:
            self._add(event, value, marks)
        self.stack.append(_Around(self.data, self.marks, part, anchored, self.values))
        self.data, self.marks = value, marks

    def _open_key(self, event: Event, at: Mark) -> None:
        key = event.value
        self._refuse_tag(event)
        if not key:
            self._fail(event, "a key is missing before this `:`")
        if key in self.data:
            path = spell((*(around.part for around in self.stack[1:]), key))
            problem = f"is given twice, first on line {self.marks.keys[key][0]}"
            self.mistakes.append(Mistake(Place(self.file, *at), path, problem))
            if len(self.mistakes) > MOST_MISTAKES:
                raise ConfigError(self.mistakes)
        self.marks.keys.setdefault(key, at)
        self.key = key

    def _add(self, event: Event, value: Any, marks: Mark | Marks) -> None:  # noqa: ANN401 - YAML is anything
        self.values += 1
        if self.values > MAX_VALUES:
            self._fail(event, f"holds more than {MAX_VALUES:,} values, what its aliases repeat included")
        data, key = self.data, self.key
        if type(data) is list:
            self.marks.parts[len(data)] = marks
            data.append(value)
        elif key is not None:
            data[key] = value
            self.marks.parts[key] = marks
            self.key = None
        else:
            expected = "a plain key" if self.stack else "a mapping of sections such as `virtual_services:`"
            self._fail(event, f"must be {expected}, not {shown(value)}")

    def _refuse_tag(self, event: Event) -> None:
        if event.tag:
            self._fail(event, f"the tag {event.tag} is of no use: each setting knows its own type")

    def _merge(self) -> None:
        """Replace `<<: *base` (or a list of such) by the keys of `base` that are not given here."""
        value, marks, at = self.data.pop(_MERGE), self.marks.parts.pop(_MERGE), self.marks.keys.pop(_MERGE)
        if isinstance(value, list) and isinstance(marks, Marks):
            bases = [(base, marks.parts[number]) for number, base in enumerate(value)]
        else:
            bases = [(value, marks)]
        for base, inner in bases:
            if not isinstance(base, dict) or not isinstance(inner, Marks):
                self._fail_at(at, f"`{_MERGE}` takes an alias of a mapping, not {shown(base)}")
            for key in (key for key in base if key not in self.data):
                self.data[key] = base[key]
                self.marks.keys[key], self.marks.parts[key] = inner.keys[key], inner.parts[key]

    def _fail(self, event: Event, message: str) -> NoReturn:
        self._fail_at((event.start_mark.line + 1, event.start_mark.column + 1), message)

    def _fail_at(self, at: Mark, message: str) -> NoReturn:
        raise ConfigError([*self.mistakes, Mistake(Place(self.file, *at), "", message)])


def _in_plain_words(error: yaml.MarkedYAMLError, text: str, file: str) -> Mistake:
    problem = str(error.problem or error.context or "is not YAML")
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Mistake(Place(file), "", f"is not YAML: {problem}")
    line = text.splitlines()[mark.line : mark.line + 1]
    if problem.startswith("found character") and line and line[0][mark.column : mark.column + 1] == "\t":
        problem = "a tab cannot stand here: indent with blanks"
    if problem.startswith("found unexpected end of stream") and error.context_mark is not None:
        mark = error.context_mark
    words = next((plain for known, plain in _PLAIN_WORDS.items() if problem.startswith(known)), problem)
    opened = error.context_mark
    if "closing" in words and opened is not None:
        words = f"{words}, opened at line {opened.line + 1}, column {opened.column + 1}"
    return Mistake(Place(file, mark.line + 1, mark.column + 1), "", f"is not YAML: {words}")
