from __future__ import annotations

import pytest

from lvsd.health.outcome import LONGEST_REASON, Ended, Outcome


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        (Outcome.passed("x"), Ended.PASSED),
        (Outcome.failed("x"), Ended.FAILED),
        (Outcome.local("x"), Ended.LOCAL),
    ],
)
def test_an_outcome_says_how_the_probe_ended(outcome: Outcome, ended: Ended) -> None:
    assert (outcome.ended, outcome.reason) == (ended, "x")


def test_a_reason_is_kept_to_what_every_line_has_room_for() -> None:
    assert Outcome.failed("x" * LONGEST_REASON).reason == "x" * LONGEST_REASON
    assert Outcome.failed("x" * 100_000).reason == "x" * (LONGEST_REASON - 1) + "…"


def test_equal_faults_have_equal_outcomes() -> None:
    assert Outcome.failed("y" * 1000) == Outcome.failed("y" * 1000)
