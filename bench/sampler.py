"""A profiler that looks every 10 ms of CPU time where the main thread is.

cProfile reads the clock at each call, which in user-mode-linux costs more than most of what it measures.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from lvsd.model import Seconds

EVERY: Seconds = 0.01
SHOWN = 25


class Sampler:
    """Counts, from `start` on, in which functions the CPU time is spent: within them, and below them too."""

    def __init__(self) -> None:
        self._within: Counter[CodeType] = Counter()
        self._below: Counter[CodeType] = Counter()

    def start(self) -> None:
        """Begin."""
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def stop(self) -> None:
        """End; the signal is ignored then."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def report(self) -> str:
        """Return the dearest functions, in per cent of all CPU time."""
        total = self._within.total() or 1
        lines = [f"{self._within.total() * EVERY:.1f} s of CPU time in the main thread"]
        for title, counts in (("in the function itself", self._within), ("with all it calls", self._below)):
            lines.append(f"-- {title}")
            lines += [
                f"{100 * count / total:5.1f} %  {_name(code)}" for code, count in counts.most_common(SHOWN)
            ]
        return "\n".join(lines) + "\n"

    def _look(self, _: int, frame: FrameType | None) -> None:
        if frame is not None:
            self._within[frame.f_code] += 1
        codes = set()
        while frame is not None:
            codes.add(frame.f_code)
            frame = frame.f_back
        self._below.update(codes)


def _name(code: CodeType) -> str:
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_qualname}"
