"""The process that parses configurations for the daemon, so that its event loop never waits.

It is started first of all, and imports what it needs while the daemon does. For each request it forks a child
that parses one file and ends. It stays for a while, since one reload is often followed by another.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lvsd.config.frames import frames, mistake_frames
from lvsd.edge.loader import load_config
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.model import Seconds

TIME_LIMIT: Final[Seconds] = 60.0
MEMORY_LIMIT: Final = 2 * 1024**3
NICENESS: Final = 5
STAYS: Final[Seconds] = 60.0
"""How long the process waits for another request; it holds some 30 MB."""

LONGEST_PATH: Final = 4096
STDIN, STDOUT = 0, 1
STATUS: Final = struct.Struct("i")
FOR_THE_DAEMON: Final = [signal.SIGHUP, signal.SIGUSR1]
"""What the process never takes, from its first moment on, if it comes to all processes of the unit."""


class ParserProcess:
    """The daemon's end: starts the process, and asks it to parse files, one after the other.

    From `answer` come the frames of what was asked for last, up to the end; then `control` tells the child's
    exit status.
    """

    def __init__(self, path: str, command: list[str] | None = None) -> None:
        """Start the process, and ask for the file at `path` at once; raise OSError where that cannot be."""
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self.pid = _spawn(theirs.fileno(), command or _command())
            except OSError:
                self.control.close()
                raise
        self.control.settimeout(0)
        try:
            self.ask(path)
        except OSError:
            self._kill()
            raise

    def ask(self, path: str) -> None:
        """Ask for the file at `path`; where the process has ended, the answer is empty. May raise OSError."""
        answer, theirs = socket.socketpair()
        try:
            with theirs, suppress(ConnectionError):
                socket.send_fds(self.control, [os.fsencode(path)], [theirs.fileno()])
        except OSError:
            answer.close()
            raise
        answer.settimeout(0)
        self.answer = answer

    def end(self) -> int:
        """End the process and its child; return the exit status, or minus the signal that ended it."""
        self.answer.close()
        return self._kill()

    def _kill(self) -> int:
        self.control.close()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _command() -> list[str]:
    return [sys.executable, "-P", "-m", "lvsd.edge.parser_process"]


def _spawn(control: int, command: list[str]) -> int:
    # The process imports from where this one did, and never from the directory it happens to be in.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, control, STDIN),
            (os.POSIX_SPAWN_OPEN, STDOUT, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,
        setsigmask=FOR_THE_DAEMON,
        setsigdef=[signal.SIGCHLD],  # ignored, it would leave no status of a child
    )


def main() -> None:
    """Parse whatever is asked for on standard input, until nobody asks any more. This is the process."""
    gc.disable()  # the children end before garbage matters
    import lvsd.config.load  # noqa: F401, PLC0415 - for the children

    with socket.socket(fileno=STDIN) as control:
        control.settimeout(STAYS)
        with suppress(TimeoutError, ConnectionError):
            while _serve(control):
                pass


def _serve(control: socket.socket) -> bool:
    """Answer one request; return False once nobody can ask any more."""
    path, descriptors, _, _ = socket.recv_fds(control, LONGEST_PATH, 1)
    if not descriptors:
        return False
    child = os.fork()
    if child == 0:
        status = 1
        try:
            control.close()
            status = answer(os.fsdecode(path), descriptors[0])
        finally:
            os._exit(status)
    os.close(descriptors[0])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    control.send(STATUS.pack(status))
    return True


def answer(path: str, descriptor: int) -> int:
    """Write the configuration at `path`, or its mistakes, to `descriptor`. This is the child."""
    _confine()
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.writelines(_frames(path))
    except BrokenPipeError:  # nobody waits for the answer any more
        return 1
    except Exception:  # noqa: BLE001 - a defect of lvsd: told, and the process goes on
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _frames(path: str) -> Iterator[bytes]:
    try:
        config, notes = load_config(path)
    except ConfigError as error:
        return mistake_frames(error.mistakes)
    except MemoryError:
        problem = f"needs more than {MEMORY_LIMIT >> 30} GiB of memory to read"
        return mistake_frames([Mistake(Place(path), "", problem)])
    return frames(config, notes)


def _confine() -> None:
    """Take a share of this host that harms nobody, whatever the file holds."""
    with suppress(OSError):  # a hardened unit may forbid these
        _lower(resource.RLIMIT_AS, MEMORY_LIMIT)
        _lower(resource.RLIMIT_CPU, int(TIME_LIMIT))
    with suppress(OSError):
        os.nice(NICENESS)


def _lower(limit: int, wanted: int) -> None:
    _, hard = resource.getrlimit(limit)
    low = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(limit, (low, hard))


if __name__ == "__main__":
    main()
