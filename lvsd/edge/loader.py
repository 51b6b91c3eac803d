"""Reads configuration files; for the daemon in a child process, so that its event loop never waits.

`python -m lvsd.edge.loader FILE` is that child: it writes the configuration to standard output, as frames.
"""

from __future__ import annotations

import errno
import gc
import glob
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd.config.frames import Broken, FrameReader, Loaded, frames, mistake_frames
from lvsd.config.source import MAX_BYTES, Unreadable
from lvsd.edge.names import SystemNames
from lvsd.errors import ConfigError, Mistake, Place

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterator, Sequence

    from lvsd.config.model import Config, Note
    from lvsd.model import Seconds

TIME_LIMIT: Seconds = 60.0
MEMORY_LIMIT = 2 * 1024**3
NICENESS = 5
CHUNK = 64 * 1024
"""How much of the child's answer is taken at once: some 50 services, well under a millisecond."""


class Files:
    """Configuration files on this host."""

    def read(self, path: str) -> bytes:
        """Return the file's bytes; raise Unreadable for what is missing, too large or no regular file."""
        try:
            _require_regular(Path(path).stat())
            with open(path, "rb", opener=_open_at_once) as file:
                _require_regular(os.fstat(file.fileno()))
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise Unreadable(_words(error)) from None
        _require_small(len(raw))
        return raw

    def glob(self, pattern: str) -> Sequence[str]:
        """Return the paths that match `pattern`, sorted."""
        return sorted(glob.glob(pattern))  # noqa: PTH207 - the pattern may be absolute


def load_config(path: str) -> tuple[Config, tuple[Note, ...]]:
    """Return the configuration in the file at `path`, parsed in this process; raise ConfigError."""
    from lvsd.config.load import load as parse  # noqa: PLC0415 - pydantic and yaml stay out of the daemon

    return parse(path, Files(), SystemNames())


async def load(path: str) -> Loaded:
    """Return the configuration in the file at `path`, parsed in a child process; raise ConfigError."""
    import asyncio  # noqa: PLC0415 - the child has no use for it, and it takes long to import

    reader = FrameReader()
    try:
        child = await _start(path)
    except OSError as error:
        message = f"could not be read: the process that parses it cannot be started: {error.strerror}"
        raise _failure(path, message) from None
    try:
        async with asyncio.timeout(TIME_LIMIT):
            await _read_all(child, reader)
            status = await child.wait()
    except TimeoutError:
        raise _failure(path, f"could not be read within {TIME_LIMIT:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        return reader.loaded()
    except Broken:
        raise _failure(path, f"could not be read: the process that parses it {_ended(status)}") from None


async def _start(path: str) -> Process:
    import asyncio  # noqa: PLC0415 - see load

    # The child imports from where this process did, and never from the directory it happens to be in.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "lvsd.edge.loader", path),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


async def _read_all(child: Process, reader: FrameReader) -> None:
    import asyncio  # noqa: PLC0415 - see load

    if child.stdout is None:
        return
    while chunk := await child.stdout.read(CHUNK):
        reader.feed(chunk)
        await asyncio.sleep(0)  # `read` returns at once while there is more


def _failure(path: str, message: str) -> ConfigError:
    return ConfigError([Mistake(Place(path), "", message)])


def _ended(status: int) -> str:
    match -status:
        case signal.SIGXCPU:
            return f"took more than {TIME_LIMIT:.0f} s"
        case signal.SIGKILL:
            return "was killed, perhaps because this host is short of memory"
        case number if number > 0:
            return f"was killed by signal {number}"
        case _:
            return f"ended with status {status}"


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of what has become a FIFO since it was looked at."""
    return os.open(path, flags | os.O_NONBLOCK)


def _require_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        message = "is a directory, not a file"
        raise Unreadable(message)
    if not stat.S_ISREG(found.st_mode):
        message = "is not a regular file"
        raise Unreadable(message)
    _require_small(found.st_size)


def _require_small(size: int) -> None:
    if size > MAX_BYTES:
        message = f"is too large for a configuration: more than {MAX_BYTES >> 20} MiB"
        raise Unreadable(message)


def _words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "does not exist"
    if error.errno == errno.EACCES:
        return f"may not be read by this user (id {os.geteuid()})"
    return f"cannot be read: {error.strerror}"


def main(path: str) -> int:
    """Write the configuration at `path`, or its mistakes, to standard output. This is the child."""
    _confine()
    out = sys.stdout.buffer
    try:
        out.writelines(_answer(path))
        out.flush()
    except BrokenPipeError:  # nobody waits for the answer any more
        os._exit(1)
    return 0


def _answer(path: str) -> Iterator[bytes]:
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
    gc.disable()  # this process ends before garbage matters
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
    raise SystemExit(main(sys.argv[1]))
