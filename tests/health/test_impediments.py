from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from world import CHECKS

from lvsd.events import ProbesImpeded, ProbesRecovered
from lvsd.health.impediments import MORE_FAULTS, MOST_FAULTS, Impediments
from lvsd.health.outcome import Outcome
from lvsd.health.roster import Target
from lvsd.model import Address

if TYPE_CHECKING:
    from lvsd.events import Event

assert CHECKS[0] is not None
RS1 = Target(CHECKS[0], Address.parse("192.168.0.3"), 80)
RS2 = replace(RS1, address=Address.parse("192.168.0.4"))
OUT = Outcome.local("out of file descriptors")


NO_ROUTE = Outcome.local("no route to the host")


def told(*events: Event) -> list[str]:
    """Return what is told as `+` (impeded) or `-` (recovered), with its fault."""
    return [
        f"{'+' if isinstance(event, ProbesImpeded) else '-'} {event.to_json()['reason']}" for event in events
    ]


def test_it_is_told_once_that_probes_are_impeded_and_once_that_all_recovered() -> None:
    impediments = Impediments()
    assert impediments.begin(RS1, OUT) == [ProbesImpeded(server="192.168.0.3:80", reason=OUT.reason)]
    assert impediments.begin(RS2, OUT) == []
    assert impediments.begin(RS2, OUT) == []
    assert impediments.end([RS2]) == []
    assert impediments.end([RS1]) == [ProbesRecovered(reason=OUT.reason, probes=3)]


def test_a_target_that_is_probed_no_more_impedes_nothing() -> None:
    impediments = Impediments()
    impediments.begin(RS1, OUT)
    assert impediments.end([RS2]) == []
    assert impediments.end([RS1, RS2]) == [ProbesRecovered(reason=OUT.reason, probes=1)]
    assert impediments.end([RS1]) == []


def test_what_was_lost_is_counted_anew_each_time() -> None:
    impediments = Impediments()
    for _ in range(2):
        assert impediments.begin(RS1, OUT)
        assert impediments.end([RS1]) == [ProbesRecovered(reason=OUT.reason, probes=1)]


def test_a_fault_that_lasts_hides_no_other() -> None:
    impediments = Impediments()
    assert told(*impediments.begin(RS1, NO_ROUTE)) == ["+ no route to the host"]
    for _ in range(3):
        assert told(*impediments.begin(RS2, OUT)) == ["+ out of file descriptors"]
        assert impediments.begin(RS1, NO_ROUTE) == []
        assert impediments.end([RS2]) == [ProbesRecovered(reason=OUT.reason, probes=1)]
    assert impediments.end([RS1]) == [ProbesRecovered(reason=NO_ROUTE.reason, probes=4)]


def test_a_target_that_goes_from_one_fault_to_another_leaves_the_first() -> None:
    impediments = Impediments()
    impediments.begin(RS1, NO_ROUTE)
    assert told(*impediments.begin(RS1, OUT)) == ["+ out of file descriptors"]
    assert told(*impediments.begin(RS1, OUT)) == ["- no route to the host"]
    assert told(*impediments.end([RS1])) == ["- out of file descriptors"]


def test_two_faults_by_turns_are_told_once_each() -> None:
    impediments = Impediments()
    begun = [event for _ in range(9) for fault in (NO_ROUTE, OUT) for event in impediments.begin(RS1, fault)]
    assert told(*begun) == ["+ no route to the host", "+ out of file descriptors"]
    assert told(*impediments.end([RS1])) == ["- no route to the host", "- out of file descriptors"]


def test_faults_without_number_do_not_fill_the_log() -> None:
    impediments = Impediments()
    targets = [replace(RS1, port=port) for port in range(1, 1000)]
    begun = [
        event
        for target in targets
        for event in impediments.begin(target, Outcome.local(f"error {target.port}"))
    ]
    assert len(begun) == MOST_FAULTS + 1
    assert told(begun[-1]) == [f"+ {MORE_FAULTS}"]
    assert len(impediments.end(targets)) == MOST_FAULTS + 1
    assert impediments.begin(RS1, OUT) == [ProbesImpeded(server="192.168.0.3:80", reason=OUT.reason)]
