"""A history as people and programs read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from stories import BEGIN, Teller

from lvsd.history.history import History, Skipped
from lvsd.history.text import duration, history_text, when
from lvsd.history.timeline import Timeline, moment

if TYPE_CHECKING:
    from lvsd.events import Record

STORY = """
      0 start
      0 snapshot
     60 judge rs1 down
   60.2 remove rs1
    180 judge rs1 up
  180.1 weigh rs1 1
   7200 stop
   7203 start
   7203 snapshot
  10800 become master
  14400 judge rs1 up
"""

TEXT = """\
vs1: 2026-11-22T10:00:00.000Z to 2026-11-22T14:00:00.000Z (4h), from 19 lines
Unknown: 3.0s, since lvsd did not run or its log does not tell (no gaps).

SINCE                     FOR      TARGET   STATE    WEIGHT  WHY
2026-11-22T10:00:00.000Z  3h       vip      backup   -       (3.0s of it unknown)
2026-11-22T10:00:00.000Z  1m       www      up       -       2 of 2 servers live
2026-11-22T10:00:00.000Z  1m       www/rs1  up       1       HTTP 200
2026-11-22T10:00:00.000Z  4h       www/rs2  up       1       HTTP 200 (3.0s of it unknown)
2026-11-22T10:01:00.000Z  2m       www      up       -       1 of 2 servers live, without rs1
2026-11-22T10:01:00.000Z  2m       www/rs1  down     -       timed out
2026-11-22T10:03:00.000Z  3h 57m   www/rs1  up       1       HTTP 200 (3.0s of it unknown)
2026-11-22T10:03:00.100Z  3h 56m   www      up       -       2 of 2 servers live (3.0s of it unknown)
2026-11-22T12:00:00.000Z  3.0s     vs1      stopped  -       lvsd did not run: SIGTERM
2026-11-22T13:00:00.000Z  1h       vip      master   -

TARGET   UP                 KNOWN FOR  UNKNOWN FOR  CHANGES  LONGEST OUTAGE
vip      25.005 % master    3h 59m     3.0s         1        -
www      100.000 %          3h 59m     3.0s         0        -
www/rs1  99.166 %           3h 59m     3.0s         2        2m
www/rs2  100.000 %          3h 59m     3.0s         0        -
"""


def history(records: list[Record], until: float, skipped: Skipped | None = None) -> History:
    timeline = Timeline()
    for record in records:
        timeline.fold(record, moment(record["ts"]) or 0)
    timeline.end(BEGIN + until)
    return History(
        director="vs1",
        since=BEGIN,
        until=BEGIN + until,
        last_at=timeline.at or 0,
        log=timeline.log,
        courses=timeline.told(),
        lines=timeline.lines,
        gaps=timeline.gaps,
        skipped=skipped or Skipped(),
        notes=["A note."] if skipped else [],
    )


def lines(text: str) -> list[list[str]]:
    """Return the words of each line: how wide a column is does not matter here."""
    return [line.split() for line in text.rstrip("\n").split("\n")]


def test_a_person_reads_periods_and_what_they_come_to() -> None:
    assert lines(history_text(history(Teller().tell(STORY).records, 14400))) == lines(TEXT)


def test_columns_stand_under_their_titles() -> None:
    text = history_text(history(Teller().tell(STORY).records, 14400)).split("\n\n")
    for table, title in ((text[1], "STATE"), (text[2], "CHANGES")):
        titles, *rows = table.split("\n")
        start = titles.index(title)
        assert all(row[start - 2 : start] == "  " and row[start] != " " for row in rows)


def test_what_was_passed_over_is_said() -> None:
    told = history(Teller().tell("0 start\n0 snapshot").records, 10, Skipped(others=3, damaged=1, newer=2))
    text = history_text(told)
    assert "Lines that are not told: 6 (3 of other programs, 1 torn or damaged, 2 of events that" in text
    assert "\nA note.\n" in text


def test_colours_are_added_to_states_alone() -> None:
    told = history(Teller().tell(STORY).records, 14400)
    plain, coloured = history_text(told), history_text(told, colours=True)
    assert "\x1b[31mdown" in coloured
    assert "\x1b[32mmaster" in coloured
    assert plain.isascii()
    assert plain.isprintable() is False
    assert all(line.isprintable() for line in plain.splitlines())


def test_what_a_log_holds_cannot_speak_to_the_terminal() -> None:
    teller = Teller().tell("0 start\n0 snapshot\n10 judge rs1 down")
    teller.records[-1]["reason"] = "\x1b[2J\u202e"
    text = history_text(history(teller.records, 20))
    assert "\\x1b[2J\\u202e" in text
    assert all(line.isprintable() for line in text.splitlines())


def test_programs_read_json() -> None:
    told = json.loads(json.dumps(history(Teller().tell(STORY).records, 14400).to_json()))
    assert (told["director"], told["since"], told["until"]) == (
        "vs1",
        "2026-11-22T10:00:00.000000Z",
        "2026-11-22T14:00:00.000000Z",
    )
    targets = {each["target"]: each for each in told["targets"]}
    assert list(targets) == ["vip", "www", "www/rs1", "www/rs2"]
    rs1, vip = targets["www/rs1"], targets["vip"]
    assert (rs1["kind"], rs1["service"], rs1["server"], rs1["name"]) == (
        "server",
        "www",
        "192.0.2.11:80",
        "rs1",
    )
    assert (rs1["availability"], rs1["changes"], rs1["longest_outage_seconds"]) == (99.166, 2, 120)
    assert rs1["periods"][1] == {
        "since": "2026-11-22T10:01:00.000000Z",
        "until": "2026-11-22T10:03:00.000000Z",
        "seconds": 120,
        "unknown_seconds": 0,
        "state": "down",
        "reason": "timed out",
        "weight": None,
    }
    assert (vip["master"], vip["seconds"]) == (25.005, {"backup": 10797, "unknown": 3, "master": 3600})
    assert [period["state"] for period in told["log"]["periods"]] == ["running", "stopped", "running"]
    assert (told["log"]["unknown_seconds"], told["gaps"]) == (3, 0)


def test_what_is_not_quite_always_is_not_told_as_always() -> None:
    told = history(
        Teller().tell("0 start\n0 snapshot\n100 judge rs1 down\n101.5 judge rs1 up").records, 86400 * 30
    )
    assert " 99.999 % " in history_text(told)


def test_servers_of_one_name_are_told_apart() -> None:
    teller = Teller()
    teller.tell("0 start\n0 snapshot")
    for record in teller.records:
        for server in record.get("real_servers", {}).values():
            server["name"] = "rs"
    told = history(teller.records, 10).to_json()
    assert [each["target"] for each in told["targets"]][2:] == ["www/192.0.2.11:80", "www/192.0.2.12:80"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"), (0.0123, "12ms"), (0.9999, "999ms"), (1, "1.0s"), (59.99, "59.9s"), (60, "1m"),
        (67.9, "1m 7s"), (3600, "1h"), (3605, "1h"), (7380, "2h 3m"), (90000, "1d 1h"), (8640000, "100d"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_told_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_is_told_in_utc() -> None:
    assert when(BEGIN + 0.25) == "2026-11-22T10:00:00.250Z"
