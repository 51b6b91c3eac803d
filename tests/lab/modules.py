"""A kernel that loads no more modules, so that it lacks a scheduler."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MODPROBE = Path("/proc/sys/kernel/modprobe")


@contextlib.contextmanager
def no_more_modules() -> Iterator[str]:
    """Keep the kernel from loading modules; yield the name of a scheduler that it has not loaded yet."""
    if "User Mode Linux" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this would keep the machine's own kernel from loading modules")
    loaded = Path("/proc/modules").read_text()
    usual = MODPROBE.read_text()
    MODPROBE.write_text("/bin/false")
    try:
        yield next(name for name in ("ovf", "nq", "sed", "fo") if f"ip_vs_{name} " not in loaded)
    finally:
        MODPROBE.write_text(usual)
