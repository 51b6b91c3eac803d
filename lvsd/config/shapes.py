"""Plain data to shapes: what the schema finds wrong, in the operator's words, and what is usable still."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

from pydantic import ValidationError

from lvsd.config.fields import Shape
from lvsd.config.schema import CHECK_SHAPES
from lvsd.config.words import did_you_mean, one_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from lvsd.config.document import Findings, Path

S = TypeVar("S", bound=Shape)

_EXPECTED = {
    "list_type": "a list",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "string_type": "a single value",
}


@dataclass(frozen=True, slots=True)
class Shaped(Generic[S]):
    """A mapping in its shape. What was wrong in it is left out, and `left_out` says which keys and items."""

    value: S
    left_out: frozenset[Path] = frozenset()

    def trusts(self, *keys: str) -> bool:
        """Return whether what stands under `keys` is all that was meant to."""
        return not any(path[0] in keys for path in self.left_out)

    def numbered(self, key: str) -> Iterator[tuple[int, Any]]:
        """Yield the items of the list under `key`, each with its number in the file."""
        numbers = (number for number in count() if (key, number) not in self.left_out)
        yield from zip(numbers, getattr(self.value, key), strict=False)


def shape(model: type[S], data: object, path: Path, findings: Findings) -> Shaped[S] | None:
    """Return `data` as a `model`, each mistake put down and left out; None where nothing is left."""
    try:
        return Shaped(model.model_validate(data))
    except ValidationError as error:
        details = error.errors(include_url=False)
    wrong = [_put_down(detail, model, data, path, findings) for detail in details]
    if not isinstance(data, dict):
        return None
    left_out = frozenset(at[:2] if isinstance(data[at[0]], list) else at[:1] for at in wrong if at)
    try:
        return Shaped(model.model_validate(_without(data, left_out)), left_out)
    except ValidationError:
        return None


def _without(data: dict[str, Any], left_out: frozenset[Path]) -> dict[str, Any]:
    rest = {key: value for key, value in data.items() if (key,) not in left_out}
    for key in {path[0] for path in left_out if len(path) > 1} & rest.keys():
        rest[str(key)] = [item for number, item in enumerate(data[str(key)]) if (key, number) not in left_out]
    return rest


def _put_down(detail: ErrorDetails, model: type[Shape], data: object, path: Path, findings: Findings) -> Path:
    """Put one of pydantic's errors down as a mistake; return where in `data` it is."""
    at = _path_in(data, detail["loc"])
    kind = detail["type"]
    is_key = kind == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)
    if kind == "union_tag_invalid" and isinstance(detail["input"], dict) and "type" in detail["input"]:
        findings.mistake((*path, *at, "type"), _words(detail, model))
    else:
        findings.mistake((*path, *at), _words(detail, model), key=is_key)
    return at


def _path_in(data: object, loc: tuple[str | int, ...]) -> Path:
    """Return the parts of pydantic's `loc` that the data has: it also names tags and missing keys."""
    path: list[str | int] = []
    for part in loc:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = data[part]  # type: ignore[index]
            path.append(part)
    return tuple(path)


def _words(detail: ErrorDetails, model: type[Shape]) -> str:
    value, loc = detail["input"], detail["loc"]
    match detail["type"]:
        case "value_error":
            words = str(detail["ctx"]["error"])
        case "missing":
            words = f"`{loc[-1]}` is missing"
        case "extra_forbidden":
            known = [name for shape in _shapes_at(model, loc) for name in shape.model_fields]
            words = unknown_key(str(loc[-1]), known)
        case "union_tag_invalid":
            words = unknown_type(value)
        case _ if value is None:
            words = "is empty: write a value, or leave the key out"
        case ("list_type" | "model_type" | "dict_type" | "string_type") as kind:
            words = f"must be {_EXPECTED[kind]}, not {shown(value)}"
        case _:
            words = "must not be empty"
    return words


def unknown_key(key: str, known: list[str]) -> str:
    """Return what is said of a key that no setting has."""
    meant = did_you_mean(key, known)
    return f"is no setting{meant}" if meant else f"is no setting; there are {', '.join(sorted(set(known)))}"


def unknown_type(value: object) -> str:
    """Return what is said of a check whose type cannot be told."""
    if not isinstance(value, dict):
        return f"must be a mapping with a `type` of {one_of(CHECK_SHAPES)}, not {shown(value)}"
    if "type" not in value:
        return f"`type` is missing: {one_of(CHECK_SHAPES)}"
    word = value["type"]
    meant = did_you_mean(word, CHECK_SHAPES) if isinstance(word, str) else ""
    return f"must be {one_of(CHECK_SHAPES)}, not {shown(word)}{meant}"


def _shapes_at(model: type[Shape], loc: tuple[str | int, ...]) -> list[type[Shape]]:
    """Return the shapes that the mapping with the key `loc[-1]` may have."""
    shapes = [model]
    for part in loc[:-1]:
        fields = [shape.model_fields[part] for shape in shapes if part in shape.model_fields]
        if fields:
            shapes = list(_shapes_in(fields[0].annotation))
        elif part in _TAGS:
            shapes = [_TAGS[str(part)]]
    return shapes


def _shapes_in(annotation: object) -> Iterator[type[Shape]]:
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        yield annotation
    for argument in get_args(annotation):
        yield from _shapes_in(argument)


_TAGS: dict[str, type[Shape]] = {f"check {name}": shape for name, shape in CHECK_SHAPES.items()}
