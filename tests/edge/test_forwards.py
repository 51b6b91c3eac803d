"""A log's lines from its beginning, whatever the file is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import TYPE_CHECKING

import pytest

from lvsd.edge import forwards
from lvsd.edge.backwards import LONGEST
from lvsd.edge.excerpt import NoLogError
from lvsd.edge.forwards import DamagedError, lines_forwards, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = b"".join(b"line %d of it\n" % number for number in range(10_000))
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"a\n", b"a\n\nbc\nd", b"\n\nabc\n"])
def test_lines_are_whole_whatever_the_blocks(
    text: bytes, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwards, "BLOCK", block)
    assert list(lines_forwards(io.BytesIO(text))) == text.splitlines()


@pytest.mark.parametrize("way", PACKED)
def test_a_file_is_unpacked_whatever_its_name(way: str, tmp_path: Path) -> None:
    file = tmp_path / "lvsd.log.1"
    file.write_bytes(PACKED[way](TEXT))
    with file.open("rb") as opened:
        assert list(lines_forwards(unpacked(opened, "x"))) == TEXT.splitlines()


@pytest.mark.parametrize("way", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_what_is_damaged_is_read_as_far_as_it_goes(way: str, damage: str) -> None:
    packed = PACKED[way](TEXT)
    half = len(packed) // 2
    packed = packed[:half] if damage == "cut" else packed[:half] + b"\xff" * 50 + packed[half + 50 :]
    read = []
    with pytest.raises(DamagedError) as error:
        read.extend(lines_forwards(unpacked(io.BytesIO(packed), "x")))
    assert str(error.value)
    assert TEXT.startswith(b"\n".join(read))


def test_what_cannot_be_unpacked_says_how_to_read_it() -> None:
    with pytest.raises(NoLogError, match=r"`zstd -dc x.zst \| lvsd history --log -`"):
        unpacked(io.BytesIO(b"\x28\xb5\x2f\xfd..."), "x.zst")


def test_an_endless_line_is_not_kept() -> None:
    text = b"first\n" + b"{" * (4 * (LONGEST + forwards.BLOCK)) + b"\nlast\n"
    found = list(lines_forwards(unpacked(io.BytesIO(gzip.compress(text)), "x")))
    assert (found[0], found[-1]) == (b"first", b"last")
    assert max(map(len, found)) < LONGEST + 2 * forwards.BLOCK
