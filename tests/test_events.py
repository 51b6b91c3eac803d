from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvsd.config.model import Level
from lvsd.events import (
    CATALOGUE,
    AddressRemoved,
    ConfigLoaded,
    ConfigRejected,
    Event,
    HealthChanged,
    LibraryWarned,
    NameFailed,
    ServerRemoved,
    from_json,
)
from lvsd.events_doc import catalogue_markdown

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "str | None": st.none() | TEXT,
    "int": st.integers(-(2**53), 2**53),
    "int | None": st.none() | st.integers(0, 2**31),
    "bool": st.booleans(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "list[str]": st.lists(TEXT, max_size=4),
    "list[dict[str, str]]": st.lists(st.dictionaries(TEXT, TEXT, max_size=3), max_size=3),
    "dict[str, str]": st.dictionaries(TEXT, TEXT, max_size=3),
    "dict[str, Any] | None": st.none() | st.dictionaries(TEXT, TEXT | st.integers(0, 9), max_size=3),
    "dict[str, dict[str, Any]]": st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT, max_size=3), max_size=3),
}


@st.composite
def events(draw: st.DrawFn) -> Event:
    event = CATALOGUE[draw(st.sampled_from(sorted(CATALOGUE)))]
    return event(**{field.name: draw(VALUES[str(field.type)]) for field in fields(event)})


@given(events())
def test_an_event_read_back_from_its_line_is_the_event_again(event: Event) -> None:
    for dumps, loads in ((json.dumps, json.loads), (orjson.dumps, orjson.loads)):
        line: Any = dumps({"ts": "", "seq": 1, "run": "", "event": event.name, **event.to_json()})
        assert from_json(loads(line)) == event


def test_an_event_of_another_version_is_refused() -> None:
    with pytest.raises(KeyError):
        from_json({"event": "server.blessed", "ts": "", "seq": 1, "run": ""})


@pytest.mark.parametrize("event", CATALOGUE.values(), ids=CATALOGUE)
def test_every_event_has_a_dotted_name_and_says_what_it_is(event: type[Event]) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z]+", event.name)
    assert event.__doc__
    assert {field.name for field in fields(event)}.isdisjoint({"ts", "seq", "run", "level", "event"})


def test_no_two_events_share_a_name() -> None:
    def below(event: type[Event]) -> list[type[Event]]:
        return [each for sub in event.__subclasses__() for each in [sub, *below(sub)]]

    named = {each.__qualname__: each.name for each in below(Event) if "name" in vars(each)}
    assert sorted(named.values()) == sorted(CATALOGUE)


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (
            HealthChanged(service="", server="", host="", old="up", new="down", reason="", since=None),
            Level.WARNING,
        ),
        (
            HealthChanged(service="", server="", host="", old="down", new="up", reason="", since=None),
            Level.INFO,
        ),
        (
            ServerRemoved(service="", address="", protocol="", server="", host="", cause="drift"),
            Level.WARNING,
        ),
        (ServerRemoved(service="", address="", protocol="", server="", host="", cause="health"), Level.INFO),
        (AddressRemoved(address="", interface="", cause="drift"), Level.WARNING),
        (AddressRemoved(address="", interface="", cause="stop"), Level.INFO),
        (NameFailed(hosts=[]), Level.WARNING),
        (ConfigRejected(config="", count=0, mistakes=[]), Level.ERROR),
    ],
)
def test_what_was_lost_is_a_warning_and_what_somebody_must_mend_an_error(event: Event, level: Level) -> None:
    assert event.level is level


def line(event: Event) -> bytes:
    told = {"ts": "t" * 27, "seq": 2**53, "run": "r" * 12, "level": "warning", "event": event.name}
    return orjson.dumps(told | event.to_json())


@pytest.mark.parametrize("letter", ["x", "ü", "猫", "\U0001f408", '"', "\x01", "\udc80"])
def test_texts_from_outside_are_cut_to_what_a_line_has_room_for(letter: str) -> None:
    long = letter * 20_000
    told = [
        ConfigRejected(config=long, count=30, mistakes=[long] * 30),
        ConfigLoaded(
            config=long, format="lvsd", files=[long] * 30, notes=[long] * 30,
            services=0, added=0, edited=0, removed=0,
        ),
        LibraryWarned(logger=long, message=long),
        NameFailed(hosts=["h" * 253] * 5000),
    ]  # fmt: skip
    assert all(len(line(event)) < 16 * 1024 for event in told)


def test_a_list_that_is_cut_says_how_much_is_missing() -> None:
    event = NameFailed(hosts=[f"host{i:04}" for i in range(1000)])
    assert event.hosts[0] == "host0000"
    assert event.hosts[-1] == f"… and {1000 - (len(event.hosts) - 1)} more"


def test_texts_that_fit_are_told_whole() -> None:
    mistakes = [f"lvsd.yaml:{n}:1: virtual_services.www: unknown key" for n in range(20)]
    assert ConfigRejected(config="lvsd.yaml", count=20, mistakes=mistakes).mistakes == mistakes


def test_the_catalogue_in_the_documents_is_current() -> None:
    page = Path(__file__).parents[1] / "docs" / "events.md"
    assert page.read_text(encoding="utf-8") == catalogue_markdown(), "run `make docs`"
