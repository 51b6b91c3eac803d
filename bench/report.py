"""The table, and what is said while it comes about."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.model import Seconds


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `how` says how its figures were taken."""

    what: str
    lvsd: str
    keepalived: str
    how: str
    ipvsadm: str = ""


def say(text: str) -> None:
    """Tell how far the work is."""
    sys.stdout.write(f"  {text}\n")
    sys.stdout.flush()


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table in Markdown, with a numbered note for each way of taking them."""
    notes = list(dict.fromkeys(figure.how for figure in figures))
    head = ("", "lvsd", "keepalived", "ipvsadm", "how")
    cells = [(f.what, f.lvsd, f.keepalived, f.ipvsadm or "-", str(notes.index(f.how) + 1)) for f in figures]
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    rule = tuple("-" * width for width in widths)
    lines = [_row(row, widths) for row in (head, rule, *cells)]
    return "\n".join([*lines, "", *(f"{i}. {note}" for i, note in enumerate(notes, 1))])


def machine() -> str:
    """Return what the figures were taken on, with two figures that tell the machine's moment."""
    kernel = (
        "user-mode-linux" if "User Mode Linux" in Path("/proc/cpuinfo").read_text() else "the host's kernel"
    )
    keepalived = _first_line(["/usr/sbin/keepalived", "--version"]).split()[1]
    spawn, spin = milliseconds(_spawn_time()), milliseconds(_spin_time())
    return (
        f"{time.strftime('%Y-%m-%d')}, {kernel} {platform.release()}, {os.cpu_count()} CPU, "
        f"Python {platform.python_version()}, keepalived {keepalived}; "
        f"a fork and exec takes {spawn}, a loop of a million {spin}"
    )


def milliseconds(seconds: Seconds) -> str:
    """Return `12 ms`, or `3.4 ms` below ten, or `1.23 s` from a second on."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"  # noqa: PLR2004


def megabytes(count: float) -> str:
    """Return `40 MB`."""
    return f"{count / 1e6:.0f} MB"


def median(seconds: Sequence[Seconds]) -> str:
    """Return the median of moments, and the slowest where there are several."""
    middle = milliseconds(statistics.median(seconds))
    return middle if len(seconds) == 1 else f"{middle} (worst {milliseconds(max(seconds))})"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _spawn_time() -> Seconds:
    began_at = time.monotonic()
    _first_line(["/bin/true"])
    return time.monotonic() - began_at


def _spin_time() -> Seconds:
    began_at = time.monotonic()
    for _ in range(1_000_000):
        pass
    return time.monotonic() - began_at


def _first_line(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, check=False, text=True)  # noqa: S603 - ours
    return (done.stdout + done.stderr).partition("\n")[0]
