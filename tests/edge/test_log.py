"""The log: numbered without a gap, never waited for, never torn."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from lvsd.config.model import Level, LogFormat, LogSettings
from lvsd.edge import outlet
from lvsd.edge.log import Log
from lvsd.events import HealthChanged, NameChanged, ProbePassed, StateLost

if TYPE_CHECKING:
    from collections.abc import Callable

DOWN = HealthChanged(
    service="www",
    server="192.168.0.3:80",
    host="rs1",
    old="up",
    new="down",
    reason="connection refused",
    since="2026-11-22T10:42:07.000000Z",
)
MOVED = NameChanged(host="rs1", old="192.168.0.3", new="192.168.0.4")


def settings(file: Path, format: LogFormat = LogFormat.JSON, level: Level = Level.INFO) -> LogSettings:  # noqa: A002
    return LogSettings(format, str(file), level)


def lines(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]


def test_a_line_has_the_contracts_fields_first_and_then_the_events_own(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log"))
    log.report(DOWN, 1_795_344_127.25)
    log.close()
    (record,) = lines(tmp_path / "log")
    assert list(record)[:5] == ["ts", "seq", "run", "level", "event"]
    assert record["ts"] == "2026-11-22T10:42:07.250000Z"
    assert (record["seq"], record["level"], record["event"]) == (1, "warning", "health.changed")
    assert record["reason"] == "connection refused"


def test_what_is_below_the_level_takes_no_number(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log"))
    log.report(MOVED, 1.0)
    log.report(ProbePassed(server="192.168.0.3:80", reason="HTTP 200"), 2.0)
    log.report(MOVED, 3.0)
    log.close()
    assert [record["seq"] for record in lines(tmp_path / "log")] == [1, 2]


def test_each_start_is_another_run(tmp_path: Path) -> None:
    for _ in range(2):
        log = Log(settings(tmp_path / "log"))
        log.report(MOVED, 1.0)
        log.close()
    first, second = lines(tmp_path / "log")
    assert first["run"] != second["run"]


def test_a_rotated_file_is_opened_anew_and_no_line_is_lost(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log"))
    log.report(MOVED, 1.0)
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.report(MOVED, 2.0)
    log.configure(settings(tmp_path / "log"))
    log.report(MOVED, 3.0)
    log.close()
    assert [record["seq"] for record in lines(tmp_path / "log.1")] == [1, 2]
    assert [record["seq"] for record in lines(tmp_path / "log")] == [3]


def test_a_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log"))
    with pytest.raises(OSError, match="No such file or directory"):
        log.configure(settings(tmp_path / "missing" / "log"))
    log.report(MOVED, 1.0)
    log.close()
    assert [record["seq"] for record in lines(tmp_path / "log")] == [1]


def test_the_console_says_the_same_for_people(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log", LogFormat.CONSOLE))
    log.report(DOWN, 1_795_344_127.25)
    log.close()
    text = (tmp_path / "log").read_text()
    assert "2026-11-22T10:42:07.250000Z" in text
    assert "[warning" in text
    assert "health.changed" in text
    assert "connection refused" in text


def test_what_a_server_says_cannot_speak_to_the_console(tmp_path: Path) -> None:
    log = Log(settings(tmp_path / "log", LogFormat.CONSOLE))
    log.report(replace(DOWN, reason="\x1b[2J", service="\x9b"), 1.0)
    log.report(StateLost(file="\u202e", reason="a\nb"), 1.0)
    log.close()
    text = (tmp_path / "log").read_text()
    assert "\\x1b[2J" in text
    assert [each for each in text if not each.isprintable()] == ["\n", "\n"]


def test_lines_for_the_journal_carry_their_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log = Log(LogSettings(LogFormat.JSON, "", Level.INFO))
    log.report(DOWN, 1.0)
    log.report(MOVED, 2.0)
    log.close()
    assert [line[:4] for line in capfd.readouterr().out.splitlines()] == ["<4>{", "<6>{"]
    assert not list(tmp_path.iterdir())


def test_a_reader_that_stops_reading_delays_nobody_and_the_loss_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO that nobody reads stands for a stalled journal; the lines fill it and the queue."""
    monkeypatch.setattr(outlet, "QUEUE_LIMIT", 20_000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    recovered = threading.Event()
    log = Log(settings(fifo))
    log.on_recovered = recovered.set
    for second in range(2000):
        log.report(DOWN, float(second))
    received = drain(reader, lambda: log._outlet.waiting == 0)  # noqa: SLF001
    log.report(MOVED, 3000.0)
    log.close()
    received += drain(reader, lambda: True)
    os.close(reader)
    records = [orjson.loads(line) for line in received.splitlines()]
    dropped = sum(record["count"] for record in records if record["event"] == "log.dropped")
    written = [record for record in records if record["event"] == "health.changed"]
    assert recovered.is_set()
    assert dropped == 2000 - len(written) > 0
    numbers = [record["seq"] for record in records]
    assert numbers[-1] == len(records) + dropped, "what was dropped has numbers too, so that the gap shows"
    assert numbers == sorted(set(numbers))


def test_a_fifo_without_a_reader_is_not_waited_for_and_a_late_reader_gets_all(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    log = opened(fifo)
    log.report(MOVED, 1.0)
    log.report(DOWN, 2.0)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    received = drain(reader, lambda: log._outlet.waiting == 0)  # noqa: SLF001
    log.close()
    os.close(reader)
    assert [orjson.loads(line)["seq"] for line in received.splitlines()] == [1, 2]


def test_a_full_fifo_is_left_for_a_file_when_told_so_and_no_line_is_lost(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    log = opened(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    for second in range(1000):
        log.report(DOWN, float(second))
    log.configure(settings(tmp_path / "log"))
    log.close()
    whole, _, _torn = drain(reader, lambda: True).rpartition(b"\n")
    os.close(reader)
    in_fifo = [orjson.loads(line)["seq"] for line in whole.splitlines()]
    assert in_fifo + [record["seq"] for record in lines(tmp_path / "log")] == list(range(1, 1001))
    assert in_fifo


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [Path.mkdir, bind])
def test_what_cannot_be_a_log_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "log")
    with pytest.raises(OSError, match="neither a file nor a FIFO nor a character device"):
        Log(settings(tmp_path / "log"))


def test_a_device_is_fine() -> None:
    log = opened(Path(os.devnull))
    log.report(DOWN, 1.0)
    log.close()


def opened(file: Path) -> Log:
    """Return a log of `file`; fail where that is waited for."""
    made: list[Log] = []
    thread = threading.Thread(target=lambda: made.append(Log(settings(file))), daemon=True)
    thread.start()
    thread.join(10)
    assert made, f"{file} is waited for"
    return made[0]


def drain(reader: int, is_done: Callable[[], bool]) -> bytes:
    """Return what comes until nothing does although `is_done`."""
    received = b""
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        done = is_done()
        try:
            chunk = os.read(reader, 65536)
        except BlockingIOError:
            chunk = b""
        received += chunk
        if done and not chunk:
            return received
        time.sleep(0.001)
    message = f"the log does not end; {len(received)} bytes came"
    raise TimeoutError(message)
