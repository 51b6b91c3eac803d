"""A log is read back from wherever it lies, whatever stands between its lines."""

from __future__ import annotations

import pytest

from lvsd.edge.history import NoLogError, fold, open_log, records

STARTED = (
    b'{"ts":"2026-11-22T10:00:00.000000Z","seq":1,"run":"a","level":"info","event":"director.started",'
    b'"director":"vs1","version":"1","pid":1,"config":"c"}\n'
)
STOPPED = (
    b'{"ts":"2026-11-22T11:00:00.000000Z","seq":2,"run":"a","level":"info","event":"director.stopped",'
    b'"reason":"SIGTERM","rows":"kept"}\n'
)


@pytest.mark.parametrize(
    "line",
    [
        b"another program's line\n",
        b"\0\xff\xfe\n",
        b'{"ts":"2026-11-22T10:00:01Z","seq":9,"ru',
        b'{"message":"json of another program"}\n',
        b"[1, 2]\n",
        b'{"ts":1,"seq":"2","run":[],"event":{}}\n',
        b"\n",
    ],
)
def test_what_is_not_lvsds_is_passed_over(line: bytes) -> None:
    assert [record["seq"] for record in records([STARTED, line, STOPPED])] == [1, 2]


def test_the_journals_priorities_are_passed_over() -> None:
    assert [record["seq"] for record in records([b"<6>" + STARTED])] == [1]


def test_a_past_moment_shows_the_state_of_then() -> None:
    assert fold([STARTED, STOPPED], "").running is False
    assert fold([STARTED, STOPPED], "2026-11-22T10:30:00.000000Z").running is True


def test_a_log_without_a_line_of_lvsds_is_an_error_that_says_so() -> None:
    with pytest.raises(NoLogError, match="no line of lvsd's found up to 2026-11-22T09"):
        fold([STARTED], "2026-11-22T09:00:00.000000Z")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NoLogError, match=r"/missing/log: No such file"), open_log("/missing/log"):
        pass


@pytest.mark.parametrize("event", ["service.added", "server.removed", "snapshot.service", "health.changed"])
def test_a_line_that_lacks_what_it_should_have_is_a_gap(event: str) -> None:
    damaged = f'{{"ts":"2026-11-22T10:00:01Z","seq":2,"run":"a","event":"{event}"}}\n'.encode()
    state = fold([STARTED, damaged], "")
    assert (state.seq, state.complete) == (2, False)
