from __future__ import annotations

from dataclasses import replace

from world import CHECKS

from lvsd.events import ProbesLate, ProbesPunctual
from lvsd.health.punctuality import CALM, Punctuality
from lvsd.health.roster import Target
from lvsd.model import Address

assert CHECKS[0] is not None
EVERY_TWO_SECONDS = replace(CHECKS[0], interval=2.0)
RS1 = Target(EVERY_TWO_SECONDS, Address.parse("192.168.0.3"), 80)
OFTEN = Target(replace(EVERY_TWO_SECONDS, interval=0.2), Address.parse("192.168.0.4"), 80)


def test_it_is_told_once_that_probes_begin_late_and_once_that_none_has_for_a_while() -> None:
    punctuality = Punctuality()
    assert punctuality.begin(RS1, 10.0, 10.1) == []
    assert punctuality.begin(RS1, 12.0, 13.0) == [ProbesLate(server="192.168.0.3:80", seconds=1.0)]
    assert punctuality.begin(RS1, 14.0, 15.5) == []
    assert punctuality.begin(RS1, 16.0, 17.0) == []
    assert punctuality.begin(RS1, 18.0, 18.0) == []
    assert punctuality.begin(RS1, 17.0 + CALM, 17.0 + CALM) == [ProbesPunctual(probes=3, seconds=1.5)]
    assert punctuality.begin(RS1, 50.0, 50.0) == []


def test_less_than_half_an_interval_is_not_late() -> None:
    assert Punctuality().begin(RS1, 10.0, 10.9) == []


def test_what_is_probed_often_is_not_called_late_for_a_moment() -> None:
    assert Punctuality().begin(OFTEN, 10.0, 10.4) == []
    assert Punctuality().begin(OFTEN, 10.0, 10.5) != []


def test_what_was_late_is_counted_anew_each_time() -> None:
    punctuality, now = Punctuality(), 0.0
    for _ in range(2):
        assert punctuality.begin(RS1, now, now + 1.0) != []
        now += 1.0 + CALM
        assert punctuality.begin(RS1, now, now) == [ProbesPunctual(probes=1, seconds=1.0)]
