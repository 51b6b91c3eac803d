"""Which files are a log, and in which order they are read."""

from __future__ import annotations

import gzip
import os
import threading
from typing import TYPE_CHECKING

import pytest

from lvsd.edge.archive import Archive, siblings
from lvsd.edge.excerpt import NoLogError

if TYPE_CHECKING:
    from pathlib import Path


def place_of(line: bytes) -> tuple[str, int] | None:
    """Return the number of a line such as `7 something`."""
    word = line.split(b" ")[0]
    return ("then", int(word)) if word.isdigit() else None


def read(*names: Path | str) -> list[bytes]:
    with Archive([str(name) for name in names], place_of) as archive:
        return list(archive.lines())


def test_files_are_read_in_the_order_of_their_first_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"noise\n5 a\n6 a\n")
    (tmp_path / "b").write_bytes(gzip.compress(b"1 b\n2 b\n"))
    (tmp_path / "c").write_bytes(b"3 c\n")
    expected = [b"1 b", b"2 b", b"3 c", b"noise", b"5 a", b"6 a"]
    assert read(tmp_path / "a", tmp_path / "b", tmp_path / "c") == expected
    assert read(tmp_path) == expected
    assert read(tmp_path / "a", tmp_path / "b", tmp_path / "c", tmp_path / "a") == expected


def test_of_a_directory_only_logs_are_read(tmp_path: Path) -> None:
    (tmp_path / "lvsd.log").write_bytes(b"1 a\n")
    (tmp_path / "wtmp").write_bytes(b"\0\xff\n" * 5000 + b"2 too late\n")
    (tmp_path / "empty").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below/lvsd.log").write_bytes(b"0 a\n")
    os.mkfifo(tmp_path / "fifo")
    assert read(tmp_path) == [b"1 a"]


def test_a_file_that_is_named_is_read_to_its_end(tmp_path: Path) -> None:
    late, early = tmp_path / "late", tmp_path / "early"
    late.write_bytes(b"noise\n" * 5000 + b"9 a\n")
    early.write_bytes(b"1 a\n")
    assert read(late, early)[0] == b"1 a"
    assert read(late)[-1] == b"9 a"


def test_what_can_be_read_once_is_put_in_order_as_well(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "log").write_bytes(b"1 a\n")
    text = gzip.compress(b"noise\n3 b\n4 b\n")
    thread = threading.Thread(target=fifo.write_bytes, args=(text,), daemon=True)
    thread.start()
    assert read(fifo, tmp_path / "log") == [b"1 a", b"noise", b"3 b", b"4 b"]
    thread.join()


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"".join(b"%d a\n" % i for i in range(9999)))[:9000])
    (tmp_path / "whole").write_bytes(b"10000 b\n")
    with Archive([str(tmp_path)], place_of) as archive:
        assert list(archive.lines())[-1] == b"10000 b"
        assert archive.notes() == [f"{tmp_path}/cut.gz could not be read to its end: it is cut off"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoLogError, match=r"missing: No such file"):
        read(tmp_path / "missing")


@pytest.mark.parametrize("with_itself", [True, False])
def test_a_log_has_siblings(with_itself: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a test's parameter
    log = tmp_path / "lvsd.log"
    beside = [tmp_path / f"lvsd.log{end}" for end in (".1", ".2.gz", "-20261122")]
    for file in [*beside, *([log] if with_itself else []), tmp_path / "lvsd.logic", tmp_path / "other.log"]:
        file.touch()
    found = [str(file) for file in [*([log] if with_itself else []), *beside]]
    assert sorted(siblings(str(log))) == sorted(found)


def test_a_log_that_is_not_there_has_no_siblings() -> None:
    assert siblings("/missing/lvsd.log") == ["/missing/lvsd.log"]
