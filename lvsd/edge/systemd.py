"""What lvsd says to systemd: sd_notify(3) by hand, since no library passes MONOTONIC_USEC with RELOADING."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvsd.model import Seconds


def ready(status: str) -> None:
    """Say that the director is in service, after its start or after a reload."""
    _notify(f"READY=1\nSTATUS={status}")


def reloading() -> None:
    """Say that a reload begins."""
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Say that the director stops."""
    _notify("STOPPING=1")


def status(text: str) -> None:
    """Set the line that `systemctl status` shows."""
    _notify(f"STATUS={text}")


def alive() -> None:
    """Feed the watchdog."""
    _notify("WATCHDOG=1")


def watchdog_interval() -> Seconds | None:
    """Return how often to feed the watchdog, None where none watches this process."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or (pid and int(pid) != os.getpid()):
        return None
    return int(microseconds) / 1e6 / 2


def _notify(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)  # noqa: FBT003 - its only argument
        sender.sendto(message.encode(), f"\0{path[1:]}" if path.startswith("@") else path)
