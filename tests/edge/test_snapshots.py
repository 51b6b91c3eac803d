"""A snapshot's lines fit in the log, whatever there is to tell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lvsd.config.model import Level, LogFormat, LogSettings
from lvsd.director import Director
from lvsd.edge.history import read_state
from lvsd.edge.log import Log
from lvsd.edge.snapshots import Snapshots
from lvsd.failover import Failover
from lvsd.model import FirewallMark, Instant, Rows, Service
from lvsd.vips import Vips

if TYPE_CHECKING:
    from pathlib import Path

FOREIGN = 3000


async def test_thousands_of_foreign_rows_are_told_in_lines_of_less_than_16_kib(tmp_path: Path) -> None:
    file, director = tmp_path / "log", Director({})
    table = {FirewallMark(mark, 4): Rows(Service("rr"), {}) for mark in range(1, FOREIGN + 1)}
    list(director.read(table, Instant(0.0, 0.0)))
    log = Log(LogSettings(LogFormat.JSON, str(file), Level.INFO))
    snapshots = Snapshots("vs1", director, Failover(), Vips(()), log, lambda event: log.report(event, 1.0))
    snapshots.want("test")
    writing = asyncio.create_task(snapshots.run())
    while "snapshot.end" not in (file.read_text() if file.exists() else ""):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    writing.cancel()
    log.close()
    assert max(map(len, file.read_bytes().splitlines())) < 16 * 1024
    state = read_state(str(file))
    assert state.complete
    assert len(state.foreign) == FOREIGN
