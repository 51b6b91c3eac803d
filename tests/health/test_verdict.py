from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lvsd.config.model import TcpCheck
from lvsd.health.verdict import Health, Verdict, next_probe_at, observe

CHECK = TcpCheck(interval=2.0, fast_interval=0.5, timeout=1.0, rise=2, fall=2)
LETTERS = {Verdict.UP: "U", Verdict.DOWN: "D", Verdict.UNKNOWN: "?"}
UP, DOWN, DOUBTED = Health(Verdict.UP), Health(Verdict.DOWN), Health(Verdict.UP, dissent=1)


def verdicts(outcomes: str, rise: int, fall: int) -> str:
    check, health, story = replace(CHECK, rise=rise, fall=fall), Health(), ""
    for outcome in outcomes:
        health = observe(health, check, passed=outcome == "+")
        story += LETTERS[health.verdict]
    return story


@pytest.mark.parametrize(
    ("rise", "fall", "outcomes", "story"),
    [
        (2, 2, "+", "U"),
        (2, 2, "-", "?"),
        (2, 2, "--", "?D"),
        (2, 2, "-+", "?U"),
        (2, 2, "--+", "?DD"),
        (2, 2, "--++", "?DDU"),
        (2, 2, "--+-+-", "?DDDDD"),
        (2, 2, "+-+-+-", "UUUUUU"),
        (2, 2, "+--+", "UUDD"),
        (1, 1, "+-+-", "UDUD"),
        (3, 1, "-+++-", "DDDUD"),
        (1, 3, "---+--+---", "??DUUUUUUD"),
    ],
)
def test_verdict_follows_rise_and_fall(rise: int, fall: int, outcomes: str, story: str) -> None:
    assert verdicts(outcomes, rise, fall) == story


@given(st.text("+-", max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_it_takes_rise_or_fall_outcomes_in_a_row_to_turn_a_verdict(
    outcomes: str, rise: int, fall: int
) -> None:
    story = verdicts(outcomes, rise, fall)
    for i in range(1, len(story)):
        if story[i] != story[i - 1] and story[i - 1] != "?":
            needed = rise if story[i] == "U" else fall
            assert set(outcomes[i + 1 - needed : i + 1]) == {"+" if story[i] == "U" else "-"}


def test_a_verdict_is_in_doubt_while_outcomes_disagree_with_it() -> None:
    assert not UP.in_doubt
    assert observe(UP, CHECK, passed=False).in_doubt
    assert not observe(DOUBTED, CHECK, passed=True).in_doubt


@pytest.mark.parametrize(
    ("health", "due_at", "now", "at"),
    [
        (UP, 10.0, 10.1, 12.0),
        (DOWN, 10.0, 10.9, 12.0),
        (DOUBTED, 10.0, 10.1, 10.5),
        (UP, 10.0, 12.0, 14.0),
        (UP, 10.0, 13.0, 14.0),
        (UP, 10.0, 17.5, 18.0),
        (DOUBTED, 10.0, 11.2, 11.5),
    ],
)
def test_the_next_probe_is_counted_from_when_the_last_was_due(
    health: Health, due_at: float, now: float, at: float
) -> None:
    assert next_probe_at(CHECK, health, due_at, now) == at


def test_a_probe_that_was_not_made_does_not_make_the_next_more_urgent() -> None:
    assert next_probe_at(CHECK, DOUBTED, 10.0, 10.1, local=True) == 12.0


@example(interval=0.001, due_at=0.5, took=0.5)
@given(
    interval=st.floats(0.001, 100),
    due_at=st.floats(0, 1e6),
    took=st.floats(0, 1000),
)
def test_the_next_probe_is_due_within_an_interval_however_long_the_last_one_took(
    interval: float, due_at: float, took: float
) -> None:
    check = replace(CHECK, interval=interval)
    at = next_probe_at(check, UP, due_at, due_at + took)
    assert due_at + took <= at <= due_at + took + interval * 1.001
