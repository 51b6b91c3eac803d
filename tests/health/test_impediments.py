from __future__ import annotations

from dataclasses import replace

from world import CHECKS

from lvsd.events import ProbesImpeded, ProbesRecovered
from lvsd.health.impediments import Impediments
from lvsd.health.outcome import Outcome
from lvsd.health.roster import Target
from lvsd.model import Address

assert CHECKS[0] is not None
RS1 = Target(CHECKS[0], Address.parse("192.168.0.3"), 80)
RS2 = replace(RS1, address=Address.parse("192.168.0.4"))
OUT = Outcome.local("out of file descriptors")


def test_it_is_told_once_that_probes_are_impeded_and_once_that_all_recovered() -> None:
    impediments = Impediments()
    assert impediments.begin(RS1, OUT) == [ProbesImpeded(server="192.168.0.3:80", reason=OUT.reason)]
    assert impediments.begin(RS2, OUT) == []
    assert impediments.begin(RS2, OUT) == []
    assert impediments.end([RS2]) == []
    assert impediments.end([RS1]) == [ProbesRecovered(probes=3)]


def test_a_target_that_is_probed_no_more_impedes_nothing() -> None:
    impediments = Impediments()
    impediments.begin(RS1, OUT)
    assert impediments.end([RS2]) == []
    assert impediments.end([RS1, RS2]) == [ProbesRecovered(probes=1)]
    assert impediments.end([RS1]) == []


def test_what_was_lost_is_counted_anew_each_time() -> None:
    impediments = Impediments()
    for _ in range(2):
        assert impediments.begin(RS1, OUT)
        assert impediments.end([RS1]) == [ProbesRecovered(probes=1)]
