"""Where lvsd keeps what it needs to know after a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

LOCK: Final = "lock"
"""The file that an lvsd which runs holds a lock on."""


def directory() -> Path:
    """Return systemd's RuntimeDirectory, else /run/lvsd.

    Where a drop-in adds others, systemd names them all (systemd.exec(5)) and sorts them: the one called lvsd
    is meant, where there is one, so that commands outside the unit find the same.
    """
    given = [Path(each) for each in os.environ.get("RUNTIME_DIRECTORY", "").split(":") if each]
    own = [each for each in given if each.name == "lvsd"]
    return [*own, *given, Path("/run/lvsd")][0]


def is_in_use() -> bool:
    """Whether an lvsd runs on this host; to ask for its lock would be in the way of one that starts."""
    try:
        lock = (directory() / LOCK).stat()
        held = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return f" {os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino} " in held
