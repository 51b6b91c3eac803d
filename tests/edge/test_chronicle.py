"""What happened, read from wherever a log lies."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import io
import lzma
import random
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import BEGIN, Teller

from lvsd.edge import runtime
from lvsd.edge.chronicle import Asked, Source, read_history
from lvsd.edge.excerpt import NoLogError
from lvsd.errors import LvsdError
from lvsd.history.text import history_text

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from lvsd.history.history import History

STORY = """
      0 start
      0 snapshot
     60 judge rs1 down
   60.2 remove rs1
    180 judge rs1 up
  180.1 weigh rs1 1
   3000 become master
   7200 stop
   7203 start
   7203 snapshot
   9000 judge rs2 down
  10000 become backup
"""
LINES = Teller().tell(STORY).lines
PARTS = [b"".join(LINES[:3]), b"".join(LINES[3:6]), b"".join(LINES[6:11]), b"".join(LINES[11:])]


def told(*files: Path | str, **asked: Any) -> History:  # noqa: ANN401 - as Asked has it
    return read_history(Source([str(file) for file in files]), Asked(**asked))


def sums(history: History) -> dict[str, tuple[float, float, int]]:
    """Return for how long each target was up and known, and how often that changed."""
    return {
        label: (round(course.up, 3), round(course.known, 3), course.changes)
        for label, course in history.labelled()
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "one.log"
    file.write_bytes(b"".join(LINES))
    return file


WHOLE = {
    "vip": (6997, 9997, 2),
    "www": (9997, 9997, 0),
    "www/rs1": (9877, 9997, 2),
    "www/rs2": (8997, 9997, 1),
}


def test_a_file_is_read(file: Path) -> None:
    history = told(file)
    assert sums(history) == WHOLE
    assert (history.since, history.until, history.last_at) == (BEGIN, BEGIN + 10000, BEGIN + 10000)
    assert (history.lines, history.gaps, history.notes) == (len(LINES), 0, [])


def test_rotated_and_compressed_files_are_one_log_whatever_their_names(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "lvsd.log.3.gz").write_bytes(gzip.compress(PARTS[2]))
    (logs / "lvsd.log.2.xz").write_bytes(lzma.compress(PARTS[0]))
    (logs / "lvsd.log.1").write_bytes(bz2.compress(PARTS[3]))
    (logs / "lvsd.log").write_bytes(PARTS[1])
    assert sums(told(logs)) == WHOLE
    assert sums(told(*logs.iterdir())) == WHOLE
    assert sums(read_history(Source((), str(logs / "lvsd.log")), Asked())) == WHOLE


def test_what_is_there_twice_counts_once(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gz"
    copy.write_bytes(gzip.compress(b"".join(LINES[:8])))
    history = told(file, copy)
    assert sums(history) == WHOLE
    assert (history.skipped.late, history.gaps) == (8, 0)


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = gzip.compress(b"".join(LINES))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert sums(told("-")) == WHOLE


def test_the_time_asked_for_is_what_is_told(file: Path) -> None:
    history = told(file, since=BEGIN + 3600, until=BEGIN + 9500, target="www/rs2")
    assert sums(history) == {"www/rs2": (5397, 5897, 1)}
    assert (history.since, history.until, history.last_at) == (BEGIN + 3600, BEGIN + 9500, BEGIN + 9000)


def test_a_clock_that_was_set_back_makes_no_gap_at_the_end(tmp_path: Path) -> None:
    story = "0 start\n0 snapshot\n50 judge rs1 down\n49 remove rs1\n60 judge rs1 up"
    (tmp_path / "log").write_bytes(b"".join(Teller().tell(story).lines))
    for until in (49.5, 50, 55):
        history = told(tmp_path / "log", until=BEGIN + until)
        assert (history.gaps, history.until) == (0, BEGIN + until)


def test_a_time_after_the_last_line_is_unknown(file: Path) -> None:
    history = told(file, until=BEGIN + 20000)
    assert sums(history) == WHOLE
    assert history.log.not_known == pytest.approx(10003)


def test_what_is_asked_for_may_end_in_a_gap(tmp_path: Path) -> None:
    log = tmp_path / "log"
    story = "0 start\n0 snapshot\n10 judge rs1 down\n50 lose 3\n50 judge rs2 down\n60 snapshot"
    log.write_bytes(b"".join(Teller().tell(story).lines))
    history = told(log, until=BEGIN + 30)
    assert (history.log.not_known, history.until) == (20, BEGIN + 30)
    with pytest.raises(NoLogError, match="nothing is known since then"):
        told(log, since=BEGIN + 70)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"another program's line\n", "others"),
        (b"\0\xff\xfe\n", "others"),
        (b'{"ts":1,"seq":"2","run":[],"event":{}}\n', "damaged"),
        (b'{"ts":"tomorrow","seq":2,"run":"a","event":"x"}\n', "damaged"),
        (b'{"ts":"2026-11-22T10:00:01.000000Z","seq":9,"ru\n', "damaged"),
        (b"2026-11-22T10:00:01.000000Z [info     ] config.loaded        config=x\n", "console"),
    ],
)
def test_what_is_not_lvsds_is_counted_and_changes_nothing(line: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(line.join(LINES))
    history = told(tmp_path / "log")
    assert sums(history) == WHOLE
    assert getattr(history.skipped, kind) == len(LINES) - 1
    assert "Lines that are not told: " in history_text(history)


def test_a_torn_last_line_is_said(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"".join(LINES) + LINES[-1][:60])
    assert told(tmp_path / "log").notes == ["The log's last line is torn."]
    history = told(tmp_path / "log", until=BEGIN + 10100)
    assert [period.status.reason for period in history.log.periods][-1] == "the last line is torn"


def test_a_log_of_an_lvsd_that_runs_goes_on_until_now(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    assert not runtime.is_in_use()
    with (tmp_path / runtime.LOCK).open("w") as lock:
        assert not runtime.is_in_use()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert runtime.is_in_use()
        history = read_history(Source((), str(file)), Asked())
        assert history.until == pytest.approx(max(BEGIN + 10000, time.time()), abs=60)
        assert told(file).until == BEGIN + 10000
    assert read_history(Source((), str(file)), Asked()).until == BEGIN + 10000


def test_two_directors_are_told_apart(tmp_path: Path) -> None:
    vs1, vs2 = Teller().tell(STORY), Teller("vs2").tell(STORY.replace("rs1", "rs2"))
    both = [line for pair in zip(vs1.lines, vs2.lines, strict=True) for line in pair]
    (tmp_path / "log").write_bytes(b"".join(both))
    with pytest.raises(NoLogError, match=r"name one with --director: vs1, vs2$"):
        told(tmp_path / "log")
    assert sums(told(tmp_path / "log", director="vs1")) == WHOLE
    assert sums(told(tmp_path / "log", director="vs2"))["www/rs1"] == (9997, 9997, 0)
    with pytest.raises(NoLogError, match=r"no line of a director called vs3 in this log: vs1, vs2$"):
        told(tmp_path / "log", director="vs3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no line of lvsd's found: is this the right log"),
        (b"something else\n", "no line of lvsd's found: is this the right log"),
        (b"2026-11-22T10:00:01.000000Z [info     ] config.loaded        config=x\n", "`log.format: json`"),
    ],
)
def test_a_log_without_a_line_of_lvsds_is_an_error_that_says_so(
    text: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(text)
    with pytest.raises(NoLogError, match=message):
        told(tmp_path / "log")


def test_the_journal_is_read_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "journal").write_bytes(b"Started it.\n" + b"".join(b"<6>" + line for line in LINES))
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/journal\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert sums(read_history(Source(), Asked())) == WHOLE
    assert "--reverse" not in (tmp_path / "arguments").read_text()
    (tmp_path / "journal").write_bytes(b"")
    with pytest.raises(NoLogError, match=r"^the journal of the unit lvsd: no line of lvsd's found"):
        read_history(Source(), Asked())


@given(
    seed=st.integers(0, 2**32), damages=st.lists(st.sampled_from(["cut", "swap", "bits", "drop"]), max_size=8)
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_becomes_of_a_log_is_told_or_refused(seed: int, damages: list[str], tmp_path: Path) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    lines = LINES.copy()
    for damage in damages:
        i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
        match damage:
            case "cut":
                lines[i] = lines[i][: chance.randrange(len(lines[i]) + 1)]
            case "swap":
                lines[i], lines[j] = lines[j], lines[i]
            case "drop":
                lines[i] = b""
            case _:
                changed = bytearray(lines[i] or b"x")
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
                lines[i] = bytes(changed)
    (tmp_path / "log").write_bytes(b"".join(lines))
    try:
        history = told(tmp_path / "log")
    except LvsdError:
        return
    history_text(history)
    history.to_json()
    for _, course in history.labelled():
        assert 0 <= course.up <= course.known <= history.until - history.since + 1e-3
