"""A log is read back from wherever it lies, whatever stands between its lines, no further than need be."""

from __future__ import annotations

import io
import json
import os
import threading
from typing import IO, TYPE_CHECKING

import orjson
import pytest

from lvsd.edge import backwards, excerpt
from lvsd.edge.backwards import end_of, lines_backwards
from lvsd.edge.excerpt import NoLogError
from lvsd.edge.history import read_state, records
from lvsd.state import State

if TYPE_CHECKING:
    from pathlib import Path

STARTED = (
    b'{"ts":"2026-11-22T10:00:00.000000Z","seq":1,"run":"a","level":"info","event":"director.started",'
    b'"director":"vs1","version":"1","pid":1,"config":"c"}\n'
)
STOPPED = (
    b'{"ts":"2026-11-22T11:00:00.000000Z","seq":2,"run":"a","level":"info","event":"director.stopped",'
    b'"reason":"SIGTERM","rows":"kept"}\n'
)
CONSOLE = b"2026-11-22T12:00:00.000000Z [info     ] config.loaded        config=lvsd.yaml\n"


class Writer:
    """Writes a director's log, one line a second."""

    def __init__(self, director: str, run: str, second: int = 0) -> None:
        self._director, self._run = director, run
        self._second = second
        self._seq = 0

    def line(self, event: str, **fields: object) -> bytes:
        self._seq += 1
        self._second += 1
        moment = f"{self._second // 3600:02}:{self._second // 60 % 60:02}:{self._second % 60:02}"
        record = {"ts": f"2026-11-22T{moment}.000000Z", "seq": self._seq, "run": self._run, "event": event}
        return json.dumps({**record, **fields}).encode() + b"\n"

    def lose(self) -> None:
        self._seq += 1

    def started(self) -> bytes:
        return self.line("director.started", director=self._director)

    def snapshot(self, *addresses: str) -> list[bytes]:
        """Return a snapshot whose end takes a line for each address."""
        told = [{"address": address, "interface": "eth0", "label": ""} for address in addresses]
        parts = max(1, len(told))
        return [
            self.line("snapshot.begin", director=self._director),
            *(
                self.line("snapshot.end", part=i, parts=parts, addresses=told[i : i + 1], foreign=[])
                for i in range(parts)
            ),
        ]

    def address(self, address: str) -> bytes:
        return self.line("address.added", address=address, interface="eth0", label="")


def held(state: State) -> list[str]:
    """Return the addresses that a state tells of."""
    return [told["address"] for told in state.to_json()["addresses"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log"


def told(file: Path, *lines: bytes, until: str = "", director: str = "") -> State:
    """Return the state that a log of these lines tells."""
    file.write_bytes(b"".join(lines))
    return read_state(str(file), until, director)


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


def test_a_past_moment_shows_the_state_of_then(file: Path) -> None:
    assert told(file, STARTED, STOPPED).running is False
    assert told(file, STARTED, STOPPED, until="2026-11-22T10:30:00.000000Z").running is True
    assert told(file, STARTED, STOPPED, until="2026-11-22T11:00:00.000000Z").running is False


def test_who_writes_runs_even_where_its_beginning_is_cut_off(file: Path) -> None:
    vs1 = Writer("vs1", "a")
    vs1.started()
    assert told(file, vs1.address("1.1.1.1/24")).running is True
    assert told(file, vs1.address("1.1.1.1/24"), vs1.line("director.stopped")).running is False


def test_a_log_without_a_line_of_lvsds_is_an_error_that_says_so(file: Path) -> None:
    with pytest.raises(NoLogError, match=r"log: no line of lvsd's found up to 2026-11-22T09"):
        told(file, STARTED, until="2026-11-22T09:00:00.000000Z")
    with pytest.raises(NoLogError, match="no line of lvsd's found: is this the right log"):
        told(file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NoLogError, match=r"/missing/log: No such file"):
        read_state("/missing/log")


@pytest.mark.parametrize("event", ["service.added", "server.removed", "snapshot.service", "health.changed"])
def test_a_line_that_lacks_what_it_should_have_is_a_gap(file: Path, event: str) -> None:
    damaged = f'{{"ts":"2026-11-22T10:00:01Z","seq":2,"run":"a","event":"{event}"}}\n'.encode()
    state = told(file, STARTED, damaged)
    assert (state.seq, state.complete) == (2, False)


def test_a_log_is_read_no_further_back_than_its_last_whole_snapshot(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte in front, of which nothing is there but its size."""
    monkeypatch.setattr(backwards, "BLOCK", 4096)
    vs1 = Writer("vs1", "a")
    with file.open("wb") as log:
        log.write(b"".join([vs1.started(), *vs1.snapshot("1.1.1.1/24")]))
        log.seek(1 << 30)
        log.write(b"".join([b"\n", *vs1.snapshot("2.2.2.2/24", "3.3.3.3/24"), vs1.address("4.4.4.4/24")]))
    monkeypatch.setattr(Watched, "read_so_far", 0)
    with file.open("rb") as log:
        lines = lines_backwards(Watched(log), log.seek(0, os.SEEK_END))  # type: ignore[arg-type]
        assert next(lines) == b""
        assert b"4.4.4.4" in next(lines)
        assert Watched.read_so_far <= 4096
    state = read_state(str(file))
    assert (state.complete, held(state)) == (True, ["2.2.2.2/24", "3.3.3.3/24", "4.4.4.4/24"])


class Watched:
    """A file that counts what is read of it."""

    read_so_far = 0

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def read(self, size: int) -> bytes:
        Watched.read_so_far += size
        return self._file.read(size)


def test_a_snapshot_with_a_gap_in_it_does_not_count(file: Path) -> None:
    vs1 = Writer("vs1", "a")
    whole = vs1.snapshot("1.1.1.1/24")
    torn = vs1.snapshot("2.2.2.2/24", "3.3.3.3/24")
    state = told(file, *whole, vs1.address("9.9.9.9/24"), torn[0], torn[2], vs1.address("4.4.4.4/24"))
    assert (state.complete, held(state)) == (False, ["1.1.1.1/24", "9.9.9.9/24", "4.4.4.4/24"])


@pytest.mark.parametrize("cut", range(8))
def test_the_state_from_the_end_is_that_of_the_whole_log(file: Path, cut: int) -> None:
    first, second = Writer("vs1", "a"), Writer("vs1", "b", 100)
    lines = [first.started(), *first.snapshot("1.1.1.1/24"), first.address("2.2.2.2/24")]
    lines += [second.started(), second.address("3.3.3.3/24"), *second.snapshot("4.4.4.4/24")]
    lines = lines[: len(lines) - cut]
    whole = State()
    for record in records(lines):
        whole.fold(record)
    assert told(file, *lines).to_json() == whole.to_json()


def test_of_a_log_without_snapshots_no_more_is_kept_than_there_is_room_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excerpt, "MOST", 10)
    vs1 = Writer("vs1", "a")
    state = told(file, vs1.started(), *(vs1.address(f"{number}.0.0.0/8") for number in range(100)))
    assert (state.complete, len(held(state))) == (False, 10)


def test_a_line_that_is_being_written_is_passed_over(file: Path) -> None:
    vs1 = Writer("vs1", "a")
    state = told(file, *vs1.snapshot("1.1.1.1/24"), vs1.address("2.2.2.2/24")[:-9])
    assert (state.complete, held(state)) == (True, ["1.1.1.1/24"])


def test_every_moment_of_a_log_can_be_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backwards, "BLOCK", 300)
    vs1 = Writer("vs1", "a")
    lines = [vs1.started()]
    for number in range(60):
        lines += [vs1.address(f"{number}.0.0.0/8"), b"something else\n" * (number % 5)]
        lines += vs1.snapshot(f"{number}.1.1.1/24") if number % 7 == 0 else []
    moments = [record["ts"] for record in records(lines)]
    for until in moments:
        whole = State()
        for record in records(lines):
            if record["ts"] <= until:
                whole.fold(record)
        assert told(file, *lines, until=until).to_json() == whole.to_json(), until


def test_what_is_written_at_two_directors_at_once_is_not_told_as_one(file: Path) -> None:
    vs1, vs2 = Writer("vs1", "a"), Writer("vs2", "b")
    lines = [vs1.started(), vs2.started(), *vs1.snapshot("1.1.1.1/24"), *vs2.snapshot("2.2.2.2/24")]
    lines += [vs1.address("1.1.1.2/24"), vs2.address("2.2.2.3/24"), vs1.address("1.1.1.3/24")]
    with pytest.raises(NoLogError, match=r"several directors write to this log.* --director: vs1, vs2$"):
        told(file, *lines)
    mine, theirs = told(file, *lines, director="vs1"), told(file, *lines, director="vs2")
    assert (mine.complete, held(mine)) == (True, ["1.1.1.1/24", "1.1.1.2/24", "1.1.1.3/24"])
    assert (theirs.complete, held(theirs)) == (True, ["2.2.2.2/24", "2.2.2.3/24"])
    with pytest.raises(NoLogError, match=r"no line of a director called vs3 in this log: vs1, vs2$"):
        told(file, *lines, director="vs3")


def test_a_director_that_ended_before_another_began_is_of_the_past(file: Path) -> None:
    old, new = Writer("old", "a"), Writer("new", "b", 100)
    state = told(file, old.started(), *old.snapshot("1.1.1.1/24"), new.started(), new.address("2.2.2.2/24"))
    assert (state.director, state.complete, held(state)) == ("new", False, ["2.2.2.2/24"])


def test_what_comes_late_of_a_killed_run_is_no_second_director(file: Path) -> None:
    """A journal that is behind may mix the lines of a run with those of the next; their times do not lie."""
    killed, next_run = Writer("vs1", "a", 50), Writer("vs1", "b", 100)
    late = [killed.address(f"{number}.1.1.1/24") for number in range(3)]
    lines = [late[0], next_run.started(), late[1], *next_run.snapshot("4.4.4.4/24"), late[2]]
    state = told(file, *lines, next_run.address("5.5.5.5/24"))
    assert (state.run, state.complete, held(state)) == ("b", True, ["4.4.4.4/24", "5.5.5.5/24"])


def test_the_console_format_gets_a_hint(file: Path) -> None:
    with pytest.raises(NoLogError, match=r"console format.*`log.format: json`"):
        told(file, CONSOLE)
    with pytest.raises(NoLogError, match=r"at 2026-11-22T12:00:00.000000Z the log is in the console format"):
        told(file, STARTED, CONSOLE)
    assert told(file, STARTED, CONSOLE, until="2026-11-22T11:00:00.000000Z").running
    assert told(file, CONSOLE, STARTED).running


def test_what_comes_through_a_pipe_is_read_as_well(file: Path) -> None:
    os.mkfifo(file)
    vs1 = Writer("vs1", "a")
    lines = b"".join([vs1.started(), *vs1.snapshot("1.1.1.1/24")])
    thread = threading.Thread(target=file.write_bytes, args=(lines,), daemon=True)
    thread.start()
    assert held(read_state(str(file))) == ["1.1.1.1/24"]
    thread.join()


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"a\n", b"a\n\nbc\nd", b"\n\nabc\n"])
def test_lines_come_from_the_end_whatever_the_blocks(
    text: bytes, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backwards, "BLOCK", block)
    assert list(lines_backwards(io.BytesIO(text), len(text))) == list(reversed(text.split(b"\n")))


def test_an_endless_line_is_not_kept() -> None:
    text = STARTED.rstrip() + b" " * (backwards.LONGEST + backwards.BLOCK) + b"\n" + STOPPED
    found = list(lines_backwards(io.BytesIO(text), len(text)))
    assert max(map(len, found)) < backwards.LONGEST + 2 * backwards.BLOCK
    assert [record["seq"] for record in records(found)] == [2]


def test_the_end_of_what_was_said_is_found_among_other_lines() -> None:
    lines = [b"x\n", STARTED, b"y" * 5000 + b"\n", STOPPED, b"z\n" * 100]
    text = b"".join(lines)

    def moment(line: bytes) -> str | None:
        return orjson.loads(line)["ts"] if line.startswith(b"{") else None

    ends = [end_of(io.BytesIO(text), f"2026-11-22T{hour:02}:30:00.000000Z", moment) for hour in (9, 10, 11)]
    assert [text[:end].count(b"{") for end in ends] == [0, 1, 2]
    assert end_of(io.BytesIO(text), "", moment) == len(text)


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a journalctl first in PATH that prints a file backwards; what it is told to say is in another."""
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat {tmp_path}/said >&2\ntac {tmp_path}/journal\n'
    )
    program.chmod(0o755)
    (tmp_path / "said").touch()
    (tmp_path / "journal").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_journal_is_read_from_its_end(journalctl: Path) -> None:
    vs1 = Writer("vs1", "a", 3600)
    lines = [vs1.started(), *vs1.snapshot("1.1.1.1/24"), vs1.address("2.2.2.2/24")]
    (journalctl / "journal").write_bytes(b"Started Linux Virtual Server director.\n" + b"".join(lines))
    assert held(read_state("")) == ["1.1.1.1/24", "2.2.2.2/24"]
    told = (journalctl / "arguments").read_text().split()
    assert {"--unit", "lvsd", "--reverse"} <= set(told)
    assert held(read_state("", "2026-11-22T01:00:03.000000Z")) == ["1.1.1.1/24"]
    assert "--until=@1795309263" in (journalctl / "arguments").read_text().split()


@pytest.mark.parametrize(
    "said",
    [
        "Hint: You are currently not seeing messages from other users and the system.\n      Users…\n",
        "No journal files were opened due to insufficient permissions.\n",
    ],
)
def test_who_may_not_read_the_journal_is_told_so(journalctl: Path, said: str) -> None:
    (journalctl / "said").write_text(said)
    with pytest.raises(NoLogError, match=r"has no right to read the journal.*usermod -aG systemd-journal "):
        read_state("")


@pytest.mark.usefixtures("journalctl")
def test_an_empty_journal_is_told_as_one() -> None:
    with pytest.raises(NoLogError, match=r"^the journal of the unit lvsd: no line of lvsd's found: "):
        read_state("")


def test_what_else_is_wrong_with_the_journal_is_told(journalctl: Path) -> None:
    (journalctl / "said").write_text("No journal files were found.\n")
    with pytest.raises(NoLogError, match=r"journalctl: No journal files were found"):
        read_state("")
