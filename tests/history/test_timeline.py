"""The periods that a log's lines come to: told as stories, and for whatever a director may go through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from stories import BEGIN, Teller
from test_histories import OUTCOMES, Histories, configs, records, tables

from lvsd.history.course import GONE, MOST, NOT_KNOWN, Course
from lvsd.history.timeline import Timeline, UnknownTargetError, moment

if TYPE_CHECKING:
    from lvsd.events import Record

STORIES = {
    "a row follows its verdict and is no change of its own": (
        """
         0 start
         0 snapshot
        10 judge rs1 down
        10.2 remove rs1
        25 judge rs1 up
        25.2 weigh rs1 1
        60 weigh rs1 5
        """,
        100,
        {
            "www/rs1": "0-10 up 1 | 10-25 down - | 25-60 up 1 | 60-100 up 5",
            "www/rs2": "0-100 up 1",
            "www": "0-10 up 2 of 2 | 10-25.2 up 1 of 2 | 25.2-100 up 2 of 2",
            "vip": "0-100 backup",
            "log": "0-100 running",
        },
    ),
    "a service is up while one server is live": (
        """
         0 start
         0 snapshot
        10 judge rs1 down
        20 weigh rs2 0
        30 weigh rs2 1
        40 judge rs2 down
        """,
        100,
        {
            "www": "0-10 up 2 of 2 | 10-20 up 1 of 2 | 20-30 down 0 of 2"
            " | 30-40 up 1 of 2 | 40-100 down 0 of 2",
            "www/rs2": "0-20 up 1 | 20-30 up 0 | 30-40 up 1 | 40-100 down 1",
        },
    ),
    "a stop is bridged at the next snapshot": (
        """
         0 start
         0 snapshot
        20 stop
        50 start
        51 snapshot
        """,
        100,
        {
            "www/rs1": "0-100 up 1 (31 unknown)",
            "vip": "0-100 backup (31 unknown)",
            "log": "0-20 running | 20-51 stopped | 51-100 running",
        },
    ),
    "a verdict that is not there yet after a start is bridged as well": (
        """
         0 start
         0 snapshot
        20 stop
        30 judge rs1 unknown
        50 start
        51 snapshot
        53 judge rs1 up
        """,
        100,
        {"www/rs1": "0-100 up 1 (33 unknown)", "www/rs2": "0-100 up 1 (31 unknown)"},
    ),
    "what became another meanwhile is unknown in between": (
        """
         0 start
         0 snapshot
        20 judge rs2 up
        30 lose 1
        30 judge rs1 down
        50 snapshot
        """,
        100,
        {
            "www/rs1": "0-20 up 1 | 20-50 unknown - | 50-100 down 1",
            "www/rs2": "0-100 up 1 (30 unknown)",
            "log": "0-20 running | 20-50 unknown | 50-100 running",
        },
    ),
    "a run that does not say that it stops is known up to its last line": (
        """
         0 start
         0 snapshot
        20 judge rs1 down
        60 start
        61 snapshot
        """,
        100,
        {"www/rs1": "0-20 up 1 | 20-100 down 1 (41 unknown)", "vip": "0-100 backup (41 unknown)"},
    ),
    "lines that were dropped are a gap": (
        """
         0 start
         0 snapshot
        20 judge rs1 down
        40 drop 7
        45 snapshot
        """,
        100,
        {"vip": "0-100 backup (25 unknown)", "log": "0-20 running | 20-45 unknown | 45-100 running"},
    ),
    "a log may begin anywhere": (
        """
         0 lose 41
         0 judge rs1 down
         9 judge rs1 up
        10 snapshot
        """,
        30,
        {"www/rs1": "10-30 up 1", "log": "0-10 unknown | 10-30 running"},
    ),
    "an instance is master, backup or in fault": (
        """
         0 start
         0 snapshot
        10 become master
        50 become fault
        60 become backup
        """,
        100,
        {"vip": "0-10 backup | 10-50 master | 50-60 fault | 60-100 backup"},
    ),
    "who is not configured any more is gone": (
        """
         0 start
         0 snapshot
        10 deconfigure rs2
        11 remove rs2
        """,
        100,
        {"www/rs2": "0-10 up 1 | 10-100 gone -", "www": "0-10 up 2 of 2 | 10-100 up 1 of 1"},
    ),
    "a clock that is set back stands still": (
        """
         0 start
         0 snapshot
        50 judge rs1 down
        20 judge rs2 down
        60 judge rs1 up
        """,
        100,
        {"www/rs1": "0-50 up 1 | 50-60 down 1 | 60-100 up 1", "www/rs2": "0-50 up 1 | 50-100 down 1"},
    ),
}


def fold(records: list[Record], since: float = 0, target: str = "") -> Timeline:
    timeline = Timeline(BEGIN + since, target)
    for record in records:
        at = moment(record["ts"])
        assert at is not None
        timeline.fold(record, at)
    return timeline


def told(story: str, until: float = 100, since: float = 0) -> dict[str, Course]:
    """Return the courses of a story by the shortest names of their targets; the director's is `log`."""
    timeline = fold(Teller().tell(story).records, since)
    timeline.end(BEGIN + until)
    named = {
        f"{course.path[0]}/{course.host}" if course.host else course.path[0]: course
        for course in timeline.told()
    }
    return {"log": timeline.log, **named}


def shown(course: Course) -> str:
    """Return a course's periods as a story's expectations have them."""
    periods = []
    for period in course.periods:
        state, reason, weight = period.status
        words = [f"{period.since - BEGIN:.5g}-{period.until - BEGIN:.5g}", state]
        words += [str("-" if weight is None else weight)] if course.kind == "server" else []
        words += [reason.partition(" servers")[0]] if course.kind == "service" else []
        unknown = period.unknown and state not in NOT_KNOWN
        periods.append(" ".join(words) + (f" ({period.unknown:.5g} unknown)" if unknown else ""))
    return " | ".join(periods)


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    story, until, expected = STORIES[name]
    courses = told(story, until)
    assert {target: shown(courses[target]) for target in expected} == expected


OUTAGES = """
     0 start
     0 snapshot
    10 judge rs1 down
    20 judge rs1 up
    40 judge rs1 down
    50 stop
    70 start
    70 snapshot
    75 judge rs1 up
"""


def test_availability_is_of_the_known_time() -> None:
    course = told(OUTAGES)["www/rs1"]
    assert (course.up, course.known, course.not_known) == pytest.approx((55, 80, 20))
    assert course.changes == 4


def test_an_outage_goes_on_after_what_is_unknown() -> None:
    assert told(OUTAGES)["www/rs1"].longest_outage == pytest.approx(15)


def test_what_was_before_is_not_told() -> None:
    course = told(OUTAGES, since=45)["www/rs1"]
    assert shown(course) == "45-75 down 1 (20 unknown) | 75-100 up 1"
    assert (course.up, course.known, course.not_known, course.changes) == pytest.approx((25, 35, 20, 1))


def test_what_is_gone_is_neither_up_nor_unknown() -> None:
    course = told("0 start\n0 snapshot\n10 deconfigure rs2")["www/rs2"]
    assert (course.up, course.known, course.not_known, course.changes) == pytest.approx((10, 10, 0, 0))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("", {"www", "www/192.0.2.11:80", "www/192.0.2.12:80", "vip"}),
        ("www", {"www"}),
        ("192.0.2.1:80", {"www"}),
        ("vip", {"vip"}),
        *(
            (name, {"www/192.0.2.11:80"})
            for name in ("rs1", "www/rs1", "192.0.2.11", "192.0.2.11:80", "rs1:80")
        ),
    ],
)
def test_a_target_goes_by_any_of_its_names(target: str, found: set[str]) -> None:
    timeline = fold(Teller().tell("0 start\n0 snapshot").records, target=target)
    assert {"/".join(course.path) for course in timeline.told()} == found


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("rs3", r"nothing called 'rs3'; did you mean 'rs[12]'\?"),
        ("www/rs3", r"nothing called 'www/rs3'; did you mean 'www/rs[12]'\?"),
        ("xyzzy", r"nothing called 'xyzzy': it knows vip, www$"),
    ],
)
def test_an_unknown_target_says_what_is_close(target: str, message: str) -> None:
    timeline = fold(Teller().tell("0 start\n0 snapshot").records, target=target)
    with pytest.raises(UnknownTargetError, match=message):
        timeline.told()


def test_no_more_periods_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvsd.history.course.MOST", 60)
    flapping = "\n".join(f"{at} judge rs1 {'up' if at % 4 else 'down'}" for at in range(2, 1000, 2))
    course = told(f"0 start\n0 snapshot\n{flapping}", 1000)["www/rs1"]
    assert (len(course.periods), course.earlier) == (15, 484)
    assert sum(course.seconds.values()) == pytest.approx(1000)
    assert MOST > 60


@pytest.mark.parametrize("field", ["service", "server", "new", "reason"])
@pytest.mark.parametrize("value", [None, [], {}, 5, {"a": [1]}])
def test_a_damaged_line_is_a_gap_at_most(field: str, value: object) -> None:
    teller = Teller().tell("0 start\n0 snapshot\n10 become backup")
    teller.tell("20 judge rs1 down\n30 judge rs2 down\n40 snapshot")
    next(each for each in teller.records if each["event"] == "health.changed")[field] = value
    timeline = fold(teller.records)
    timeline.end(BEGIN + 50)
    assert [shown(course) for course in timeline.told() if course.kind == "instance"] in (
        ["0-50 backup"],
        ["0-50 backup (30 unknown)"],
    )


def test_a_line_that_lacks_a_field_is_counted() -> None:
    teller = Teller().tell("0 start\n0 snapshot\n10 judge rs1 down\n30 snapshot")
    del next(each for each in teller.records if each["event"] == "health.changed")["new"]
    timeline = fold(teller.records)
    assert (timeline.damaged, timeline.gaps) == (1, 1)


def test_events_and_fields_of_a_newer_version_are_passed_over() -> None:
    teller = Teller().tell("0 start\n0 snapshot")
    teller.line(5, "quantum.entangled", service="www")
    teller.tell("10 judge rs1 down")
    teller.records[-1]["colour"] = "green"
    timeline = fold(teller.records)
    assert (timeline.newer, timeline.damaged, timeline.gaps) == (1, 0, 0)


class Timelines(Histories):
    """Whatever happens, periods follow one another and end as the state is."""

    @initialize(table=tables, recorded=records, config=configs())
    def start(self, table: Any, recorded: Any, config: Any) -> None:  # noqa: ANN401 - as they are drawn
        self.timeline = Timeline()
        self.folded = 0
        super().start(table, recorded, config)
        self.world.settle()  # with a snapshot, from which on all is known

    @rule()
    def start_again(self) -> None:
        self.world.start(self.world.config, 0)
        self.world.settle()

    @precondition(lambda self: self.world.due)
    @rule(outcome=st.sampled_from("+-"))
    def probe_and_program(self, outcome: str) -> None:
        """Let rows follow verdicts, with no snapshot after them."""
        for target in list(self.world.due) * 3:
            self.world.probe(target, OUTCOMES[outcome])
        while self.world.flight is not None:
            if self.world.flight.refusals is None:
                self.world.work()
            else:
                self.world.answer()

    @invariant()
    def periods_are_in_order(self) -> None:
        if not hasattr(self, "world"):
            return
        for record in self.world.records[self.folded :]:
            self.timeline.fold(record, moment(record["ts"]) or 0)
            self.folded += 1
        self._check_order()
        if self.timeline.is_known:
            self._check_state()

    def _check_order(self) -> None:
        for course in self.timeline.courses:
            ends = [period.until for period in course.periods]
            assert [period.since for period in course.periods][1:] == ends[:-1]
            assert not ends or ends[-1] == course.begun_at or course.unknown

    def _check_state(self) -> None:
        self.timeline.settle()
        state = self.world.state
        now = {course.path: course.status for course in self.timeline.courses if course.status.state != GONE}
        there = {(name,) for name in state.services}
        for name, service in state.to_json()["virtual_services"].items():
            for key, server in service["real_servers"].items():
                if key in state.services[name].servers and not server.get("sorry"):
                    there.add((name, key))
                    status = now[name, key]
                    assert status.state == server["health"]
                    assert status.weight == server["weight"]
        assert now.keys() == there


TestTimelines = Timelines.TestCase
TestTimelines.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
