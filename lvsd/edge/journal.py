"""The journal of the unit, read by journalctl."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from datetime import datetime
from typing import TYPE_CHECKING, Final, Self

from lvsd.edge.excerpt import NoLogError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

UNIT: Final = "lvsd"
LATE: Final = 60
"""Seconds by which the journal may have written a line after lvsd did."""


class Journal:
    """The unit's lines up to about the moment `until`. Raise NoLogError where there is no journalctl."""

    def __init__(self, until: str = "", *, newest_first: bool = True) -> None:
        journalctl = shutil.which("journalctl")
        if journalctl is None:
            message = "no log.file is configured, and there is no journalctl here: name a file with --log"
            raise NoLogError(message)
        argv = [journalctl, "--unit", UNIT, "--output", "cat", "--no-pager"]
        if newest_first:
            argv.append("--reverse")
        if until:
            argv.append(f"--until=@{datetime.fromisoformat(until).timestamp() + LATE:.0f}")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._reader = subprocess.Popen(  # noqa: S603
            argv, stdout=subprocess.PIPE, stderr=self._said, env={**os.environ, "LC_ALL": "C"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.terminate()
        self._reader.communicate()
        self._said.close()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines."""
        while self._reader.stdout is not None and (line := self._reader.stdout.readline()):
            yield line

    def complaint(self) -> str:
        """Return why there may be no lines, nothing where there are none: once all lines are read."""
        self._reader.wait()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip()
        if "insufficient permissions" in said or "not seeing messages from other users" in said:
            user = _user()
            return (
                f"{user} has no right to read the journal: ask as root, or let root say "
                f"`usermod -aG systemd-journal {user}` (the group adm will do as well), and log in anew"
            )
        return f"journalctl: {said.splitlines()[-1]}" if said else ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
