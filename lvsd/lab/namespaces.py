"""Namespaces of the kernel we are on: a thread that lives in its own, and calls that Python 3.11 lacks."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from lvsd.lab.kernel import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_BIND = 0x1000
MS_SLAVE = 0x80000
MNT_DETACH = 2


class Residence:
    """A thread that has entered a network, mount and UTS namespace of its own and stays there.

    What it opens belongs there for good: a socket made here and handed to an event loop keeps sending
    from here, and a program started here lives here. Its namespace ends with it and its programs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread_id = 0
        """By which `nsenter --target` finds the namespaces."""
        self.network = 0
        """The inode number that tells the network namespace from others."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"lab-{name}")

    async def enter(self) -> None:
        """Make the namespaces; the network can then be found as /run/netns/NAME."""
        await self.do(self._enter)

    def ask(self, call: Callable[[], T]) -> T:
        """Call something there and return what it returns; blocks the caller."""
        return self._thread.submit(call).result()

    async def do(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something there, without blocking the event loop, and return what it returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: call(*args, **kwargs))

    def leave(self) -> None:
        """End the thread and the network's name."""
        self._thread.shutdown()
        handle = self._handle()
        if handle.exists():
            _libc.umount2(os.fsencode(handle), MNT_DETACH)
            handle.unlink(missing_ok=True)

    def _handle(self) -> Path:
        return Path("/run/netns") / self.name

    def _enter(self) -> None:
        self._handle().parent.mkdir(exist_ok=True)
        self._handle().touch()
        unshare(CLONE_NEWNET)
        self.network = Path("/proc/thread-self/ns/net").stat().st_ino
        mount("/proc/thread-self/ns/net", str(self._handle()), flags=MS_BIND)
        unshare(CLONE_NEWNS | CLONE_NEWUTS)
        mount("none", "/", flags=MS_REC | MS_SLAVE)
        # /sys shows the network of whoever mounted it.
        mount("sysfs", "/sys", "sysfs")
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
        socket.sethostname(self.name)
        self.thread_id = threading.get_native_id()


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system in the calling thread's mount namespace."""
    words = (source, target, kind)
    _check(_libc.mount(*(word.encode() for word in words), flags, options.encode()), f"mount {target}")


def unmount(target: str) -> None:
    """Undo a mount, busy or not."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        message = f"{what}: {os.strerror(number)}; is this a lab's kernel? (`lvsd lab run -- CMD`)"
        raise LabError(message)
