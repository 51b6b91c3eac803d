"""A thread that writes the log's lines, and the queue to it."""

from __future__ import annotations

import errno
import os
import queue
import stat
import sys
import threading
from collections import deque
from contextlib import suppress
from select import PIPE_BUF, POLLIN, POLLOUT, poll
from time import sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lvsd.model import Seconds

QUEUE_LIMIT: Final = 32 << 20
"""Bytes that may wait to be written; what comes while they are full is dropped, and counted."""

LINES_AT_ONCE: Final = 500
"""Lines written by one system call: those that wait, but no more than some 100 KiB."""

RETRY_AFTER: Final[Seconds] = 1.0
CLOSE_WITHIN: Final[Seconds] = 5.0
WRITABLE_KINDS: Final = {stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR}


class Outlet:
    """A thread that writes lines to standard output or a file, and the queue to it."""

    def __init__(self, file: str) -> None:
        self.trouble = ""
        self._file = file
        self._descriptor = -1
        self._is_regular = False
        self._queued = 0
        self._written = 0
        self._reopens: deque[_Reopen] = deque()
        self._reopened = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lines: queue.SimpleQueue[bytes | _Reopen | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._queued - self._written

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of what may wait does."""
        return self.waiting > QUEUE_LIMIT // 2

    @property
    def is_full(self) -> bool:
        """Whether a line would be too much."""
        return self.waiting > QUEUE_LIMIT

    def open(self, file: str) -> None:
        """Write to `file` from here on, empty for standard output; raise OSError, and change nothing."""
        reopen = _Reopen(_open(file))
        self._reopens.append(reopen)
        self._lines.put(reopen)
        os.eventfd_write(self._reopened, 1)
        self._file = file

    def msg(self, line: bytes) -> None:
        """Write one line."""
        self._queued += len(line)
        self._lines.put(line)

    def close(self) -> None:
        """Write what waits, within seconds."""
        self._lines.put(None)
        self._thread.join(CLOSE_WITHIN)

    def _work(self) -> None:
        while True:
            lines, other = self._take()
            self._write(b"".join(lines))
            if isinstance(other, _Reopen):
                if self._reopens and self._reopens[0] is other:
                    self._turn_over()
            elif other is None:
                self._let_go()
                os.close(self._reopened)
                return

    def _take(self) -> tuple[list[bytes], _Reopen | _More | None]:
        """Wait for something to do; return the lines that wait, and what comes after them."""
        lines: list[bytes] = []
        item = self._lines.get()
        while isinstance(item, bytes):
            lines.append(item)
            if len(lines) >= LINES_AT_ONCE or self._lines.empty():
                return lines, MORE
            item = self._lines.get()
        return lines, item

    def _turn_over(self) -> None:
        """Write to the next descriptor from now on."""
        self._let_go()
        self._descriptor = self._reopens.popleft().descriptor
        self._is_regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def _let_go(self) -> None:
        if self._is_own:
            os.close(self._descriptor)

    @property
    def _is_own(self) -> bool:
        """Whether the descriptor is one that was opened here, and no standard one."""
        return self._descriptor > sys.stderr.fileno()

    def _write(self, lines: bytes) -> None:
        """Write `lines` whole, however long it takes: none is ever torn, later ones wait or go."""
        done = 0
        while done < len(lines):
            try:
                if not self._has_room():
                    done -= self._leave(lines, done)
                    continue
                end = len(lines) if self._is_regular else done + PIPE_BUF
                written = os.write(self._descriptor, memoryview(lines)[done:end])
            except BlockingIOError:  # another writer was faster
                continue
            except OSError as error:
                self._complain(error)
                if self._reopens:
                    done -= self._leave(lines, done)
                else:
                    sleep(RETRY_AFTER)
                continue
            self._written += written
            done += written
            self.trouble = ""

    def _has_room(self) -> bool:
        """Wait until a pipe, socket or terminal can be written to; return False where it is left before."""
        if self._is_regular:
            return True
        either = poll()
        either.register(self._descriptor, POLLOUT)
        either.register(self._reopened, POLLIN)
        while True:
            ready = dict(either.poll())
            if self._descriptor in ready:
                return True
            with suppress(BlockingIOError):
                os.eventfd_read(self._reopened)
            if self._reopens:
                return False

    def _leave(self, lines: bytes, done: int) -> int:
        """Go on to the next descriptor before its turn; return how much is to be written again there.

        The one that fails would be waited for without end where it fills the disc itself, deleted by now.
        """
        if self._reopens[0].descriptor == self._descriptor:
            self._reopens.popleft()
            return 0
        begun = done - (lines.rfind(b"\n", 0, done) + 1)
        if begun and self._is_own:
            with suppress(OSError):  # no regular file, or emptied by someone
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - begun)
        self._turn_over()
        self._written -= begun
        return begun

    def _complain(self, error: OSError) -> None:
        trouble = error.strerror or str(error)
        if trouble != self.trouble:
            self.trouble = trouble
            where = self._file or "standard output"
            print(f"lvsd: the log cannot be written to {where}: {trouble}", file=sys.stderr, flush=True)  # noqa: T201


class _More:
    """Comes after lines where nothing else does."""


MORE: Final = _More()


class _Reopen:
    """Put among the lines: those after it go to another descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


def _open(file: str) -> int:
    if not file:
        return sys.stdout.fileno()
    kind = _kind(file)
    if kind not in WRITABLE_KINDS:
        raise OSError(errno.EINVAL, "it is neither a file nor a FIFO nor a character device")
    # A FIFO is held open for reading too: then it waits for no reader, neither now nor when one goes away.
    access = os.O_RDWR if kind == stat.S_IFIFO else os.O_WRONLY
    return os.open(file, access | os.O_NONBLOCK | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _kind(file: str) -> int:
    """Return what is called `file`, a regular file where nothing is."""
    try:
        return stat.S_IFMT(os.stat(file).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        return stat.S_IFREG
