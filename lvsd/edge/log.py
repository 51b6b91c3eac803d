"""The log: numbers each event, renders it, and hands the line to a thread, so that nothing waits for it."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from lvsd.config.model import Level, LogFormat
from lvsd.edge.outlet import Outlet
from lvsd.errors import printable
from lvsd.events import LibraryWarned, LogDropped
from lvsd.telling import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from lvsd.config.model import LogSettings
    from lvsd.events import Event
    from lvsd.model import Seconds

_RANKS: Final = {level: rank for rank, level in enumerate(Level)}
_PRIORITIES: Final = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}
"""sd-daemon(3): how a line on standard output tells the journal its priority."""


class Log:
    """The log of one run. `on_recovered` is called when lines could be written again after some were lost."""

    def __init__(self, settings: LogSettings) -> None:
        self.run = secrets.token_hex(6)
        self.since_snapshot = 0
        self.on_recovered: Callable[[], None] = lambda: None
        self._sequence = 0
        self._dropped = 0
        self._outlet = Outlet(settings.file)
        self.configure(settings)

    def configure(self, settings: LogSettings) -> None:
        """Write as `settings` say from now on, to the file of that name as it is now (it may be rotated).

        Raise OSError, and change nothing, where the file cannot be opened.
        """
        self._outlet.open(settings.file)
        self._least = _RANKS[settings.level]
        logger = structlog.wrap_logger(
            self._outlet, processors=[_renderer(settings)], wrapper_class=structlog.BoundLogger
        )
        self._logger = logger.bind()  # unbound, it would be made anew for each line, at 3 us

    def report(self, event: Event, at: Seconds) -> None:
        """Write `event` as of the moment `at` (wall clock); numbers follow what is written, without a gap."""
        if _RANKS[event.level] < self._least:
            return
        self.catch_up(at)
        self._write(event, at)

    def catch_up(self, at: Seconds) -> None:
        """Tell how many lines were lost, once there is room again."""
        if self._dropped and not self._outlet.is_full:
            count, self._dropped = self._dropped, 0
            self._write(LogDropped(count=count, reason=self._outlet.trouble or "too slow"), at)
            self.on_recovered()

    @property
    def is_crowded(self) -> bool:
        """Whether lines wait that fill more than half of the queue, so that a snapshot had better wait."""
        return self._outlet.is_crowded

    def close(self) -> None:
        """Write what waits, within seconds."""
        self._outlet.close()

    def _write(self, event: Event, at: Seconds) -> None:
        self._sequence += 1
        self.since_snapshot += 1
        if self._outlet.is_full:
            self._dropped += 1
            return
        self._logger.msg(
            event.name,
            ts=timestamp(at),
            seq=self._sequence,
            run=self.run,
            level=str(event.level),
            fields=event.to_json(),
        )


class BridgeHandler(logging.Handler):
    """Turns what libraries log into events; `report` is called in whatever thread they log from."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Report one line of a library's log."""
        self._report(LibraryWarned(logger=record.name, message=record.getMessage()[:1000]))


def _renderer(settings: LogSettings) -> Callable[[Any, str, Any], tuple[tuple[bytes], dict[str, Any]]]:
    """Return the structlog processor that makes a line of an event."""
    on_terminal = not settings.file and sys.stdout.isatty()
    console = settings.format is LogFormat.CONSOLE or (settings.format is LogFormat.AUTO and on_terminal)
    text = _console_line(colors=on_terminal) if console else _json_line
    in_journal = not settings.file and bool(os.environ.get("JOURNAL_STREAM"))

    def render(_: Any, __: str, told: Any) -> tuple[tuple[bytes], dict[str, Any]]:  # noqa: ANN401
        line: bytes = text(told)
        return (_PRIORITIES[told["level"]] + line if in_journal else line,), {}

    return render


def _json_line(told: dict[str, Any]) -> bytes:
    record = {field: told[field] for field in ("ts", "seq", "run", "level", "event")}
    return orjson.dumps(record | told["fields"], option=orjson.OPT_APPEND_NEWLINE)


def _console_line(*, colors: bool) -> Callable[[dict[str, Any]], bytes]:
    render = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=20, pad_level=True)

    def line(told: dict[str, Any]) -> bytes:
        fields = {
            field: printable(value) if isinstance(value, str) else value
            for field, value in told["fields"].items()
        }
        shown = {"timestamp": told["ts"], "level": told["level"], "event": told["event"], **fields}
        return f"{render(None, '', shown)}\n".encode()

    return line
