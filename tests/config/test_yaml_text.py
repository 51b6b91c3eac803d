"""YAML text to documents: the limits, and both of PyYAML's parsers."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import pytest
import yaml

from lvsd.config import yaml_text
from lvsd.config.yaml_text import parse
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from lvsd.config.document import Path

TEXT = """\
checks:
  web: {type: http, status: [200, "301-308"]}
virtual_services:
  www:
    real_servers:
      - rs1
      - {address: rs2, weight: 2}
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("checks",), "f:1:1"),
        (("checks", "web"), "f:2:3"),
        (("checks", "web", "type"), "f:2:15"),
        (("checks", "web", "status", 1), "f:2:35"),
        (("virtual_services", "www", "real_servers", 0), "f:6:9"),
        (("virtual_services", "www", "real_servers", 1), "f:7:9"),
        (("virtual_services", "www", "real_servers", 1, "weight"), "f:7:32"),
        (("virtual_services", "www", "nonesuch"), "f:4:3"),
        (("virtual_services", "www", "real_servers", 9, "weight"), "f:5:5"),
        ((), "f:1:1"),
    ],
)
def test_every_value_has_its_place(path: Path, place: str) -> None:
    assert str(parse(TEXT, "f").place(path)) == place


def test_key_has_a_place_of_its_own() -> None:
    assert str(parse(TEXT, "f").place(("checks", "web", "type"), key=True)) == "f:2:9"


def test_scalars_stay_the_text_they_are_and_only_plain_nulls_are_none() -> None:
    text = "[on, 22:22, 1e3, 007, 2001-01-01, ~, null, '', 'null', \"~\", , ]".replace(", ,", ",")
    assert parse(f"a: {text}\nb:\n", "f").data == {
        "a": ["on", "22:22", "1e3", "007", "2001-01-01", None, None, "", "null", "~"],
        "b": None,
    }


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_endless_nesting_is_refused_at_once(opening: str) -> None:
    began = perf_counter()
    with pytest.raises(ConfigError):
        parse("a:\n  " + opening * 100_000, "f")
    assert perf_counter() - began < 20


def test_aliases_that_multiply_are_refused_before_they_do() -> None:
    rows = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 100)}]" for n in range(1, 40)]
    began = perf_counter()
    with pytest.raises(ConfigError, match="holds more than 1,000,000 values"):
        parse("\n".join(["a0: &a0 [x, x]", *rows]), "f")
    assert perf_counter() - began < 20


def test_values_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_text, "MAX_VALUES", 1000)
    with pytest.raises(ConfigError, match="holds more than 1,000 values"):
        parse("a: [" + "x," * 1000 + "]", "f")


def test_without_libyaml_the_documents_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = parse(TEXT, "f")
    monkeypatch.setattr(yaml_text, "_Parser", yaml.SafeLoader)
    assert parse(TEXT, "f") == with_libyaml
