"""The state file is written by one thread at a time, also when lvsd stops in the midst of it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from lvsd.director import Director
from lvsd.edge import state_file
from lvsd.edge.memory import Memory
from lvsd.ipvs.ledger import Owned
from lvsd.model import FirewallMark
from lvsd.vips import Vips

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    import pytest

    from lvsd.config.model import DirectorAddress

FIRST, SECOND = FirewallMark(1, 4), FirewallMark(2, 4)


async def test_a_write_that_is_broken_off_ends_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, director = tmp_path / "state.json", Director({FIRST: Owned("first")})
    memory = Memory(file, director, Vips(()), lambda _: None)
    begun, go_on, ended = threading.Event(), threading.Event(), list[int]()
    write = state_file.write

    def slowly(file: Path, entries: Iterable[bytes], *addresses: Collection[DirectorAddress]) -> None:
        entries = list(entries)
        if not begun.is_set():
            begun.set()
            go_on.wait(20)
        write(file, entries, *addresses)
        ended.append(len(entries))

    monkeypatch.setattr(state_file, "write", slowly)
    first = asyncio.create_task(memory.write())
    await asyncio.to_thread(begun.wait, 20)
    first.cancel()
    director.ledger.owned[SECOND] = Owned("second")
    memory.note_change([SECOND])
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    await memory.write()
    assert ended == [1, 2]
    assert state_file.read(file).rows == {FIRST: Owned("first"), SECOND: Owned("second")}


async def test_what_did_not_change_is_not_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, director = tmp_path / "state.json", Director({FIRST: Owned("first"), SECOND: Owned("second")})
    memory = Memory(file, director, Vips(()), lambda _: None)
    await memory.write()
    rendered = []
    entry = state_file.entry
    monkeypatch.setattr(state_file, "entry", lambda key, owned: rendered.append(key) or entry(key, owned))
    director.ledger.owned[SECOND] = Owned("other")
    memory.note_change([SECOND])
    await memory.write()
    assert rendered == [SECOND]
    del director.ledger.owned[SECOND]
    memory.note_change([SECOND])
    await memory.write()
    assert state_file.read(file).rows == {FIRST: Owned("first")}
