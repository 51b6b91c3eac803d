"""Halves the time that a Python program takes to start in user-mode-linux.

There, each first touch of a page of memory costs up to 0.3 ms, and a program that imports aiohttp and
pyroute2 touches ten thousand; pages that are asked for together cost almost nothing. With `ENVIRONMENT`
added to a program's environment, `sitecustomize` beside this file asks for its heap in one piece as it
starts. Nothing else about the program changes, but do not measure its memory so.
"""

from __future__ import annotations

from pathlib import Path

ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parent),
    # All objects on the one heap of the C library, for Python's own heap cannot be asked for in advance.
    "PYTHONMALLOC": "malloc",
}
