"""`lvsd run`: claims this host, loads the configuration, opens what the daemon holds, and lets it run."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lvsd.edge import advertised, garbage, memory, state_file
from lvsd.edge.addresses import Addresses
from lvsd.edge.daemon import Daemon, log_error
from lvsd.edge.ipvs import Ipvs
from lvsd.edge.log import Log
from lvsd.edge.parser import Parser
from lvsd.edge.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.config.frames import Loaded
    from lvsd.config.model import DirectorAddress
    from lvsd.edge.parser_process import ParserProcess


def run(path: str, begun: ParserProcess, dropped: Sequence[DirectorAddress] = ()) -> None:
    """Run the daemon in the foreground until it is told to stop; raise what ends it otherwise.

    `begun` is parsing the file at `path` already; `dropped` are VIPs that went before there was a log.
    """
    garbage.put_off()  # a start makes little of it, and much to look through for it
    asyncio.run(_run(path, begun, dropped))


async def _run(path: str, begun: ParserProcess, dropped: Sequence[DirectorAddress]) -> None:
    signals = Signals()
    with ExitStack() as stack:
        parser = Parser(begun)
        stack.callback(parser.close)
        stack.callback(memory.claim(state_file.path().parent).release)
        advertised.repeat()
        loaded = await signals.unless_stopped(parser.load(path))
        if loaded is not None:
            await _serve(path, loaded, signals, parser, dropped)


async def _serve(
    path: str, loaded: Loaded, signals: Signals, parser: Parser, dropped: Sequence[DirectorAddress]
) -> None:
    try:
        log = Log(loaded.settings.log)
    except OSError as error:
        raise log_error(path, loaded, error) from None
    try:
        advertised.repeat()
        with Addresses() as addresses:
            async with Ipvs() as ipvs:
                daemon = Daemon(path, loaded, log, ipvs, addresses, signals, parser)
                await daemon.run(dropped)
    finally:
        log.close()
