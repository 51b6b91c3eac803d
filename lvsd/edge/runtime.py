"""Where lvsd keeps what it needs to know after a restart."""

from __future__ import annotations

import os
from pathlib import Path


def directory() -> Path:
    """Return systemd's RuntimeDirectory, else /run/lvsd.

    Where a drop-in adds others, systemd names them all (systemd.exec(5)) and sorts them: the one called lvsd
    is meant, where there is one, so that commands outside the unit find the same.
    """
    given = [Path(each) for each in os.environ.get("RUNTIME_DIRECTORY", "").split(":") if each]
    own = [each for each in given if each.name == "lvsd"]
    return [*own, *given, Path("/run/lvsd")][0]
