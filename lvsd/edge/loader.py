"""Reads configuration files in this process; for the daemon, the parser does."""

from __future__ import annotations

import errno
import glob
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd.config.source import MAX_BYTES, Entry, Program, Unreadable
from lvsd.edge.names import SystemNames
from lvsd.edge.own_networks import OwnNetworks
from lvsd.edge.unprivileged import ROOT, name_of, number_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lvsd.config.model import Config, Note


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

    def program(self, path: str) -> Program:
        """Return the file, and what is passed on the way to it; raise Unreadable where that is unknown."""
        try:
            way = {str(each): _entry(each) for each in _passed(path)}
        except OSError as error:
            raise Unreadable(_why_no_program(error)) from None
        return Program(next(reversed(way)), way)

    def trusted(self, user: str) -> Collection[int]:
        """Return root's number and, but for what runs as root, those of `user` and of who runs this."""
        runs_as = number_of(user)
        if runs_as == ROOT:
            return {ROOT}
        return {ROOT, os.geteuid()} if runs_as is None else {ROOT, os.geteuid(), runs_as}


def load_config(path: str) -> tuple[Config, tuple[Note, ...]]:
    """Return the configuration in the file at `path`, parsed in this process; raise ConfigError."""
    from lvsd.config.load import load as parse  # noqa: PLC0415 - pydantic and yaml stay out of the daemon

    return parse(path, Files(), SystemNames(), OwnNetworks())


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


def _passed(path: str) -> Iterator[Path]:
    """Yield what the kernel passes on its way along `path`, from `/` on, and the file at last."""
    Path(path).stat()  # raises OSError for what leads nowhere, round in a circle, or where nobody may look
    here, left = Path("/"), _parts(path)
    yield here
    while left:
        part = left.pop()
        here = here.parent if part == ".." else here / part
        yield here
        if here.is_symlink():
            target = here.readlink()
            left += _parts(str(target))
            here = Path("/") if target.is_absolute() else here.parent


def _parts(path: str) -> list[str]:
    """Return the names in a path, the last first."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def _entry(path: Path) -> Entry:
    found = path.lstat()
    return Entry(found.st_mode, found.st_uid, name_of(found.st_uid))


def _why_no_program(error: OSError) -> str:
    if error.errno != errno.ENOENT:
        return f"cannot be looked at: {error.strerror}"
    return "does not exist on this host"


def _words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "does not exist"
    if error.errno == errno.EACCES:
        return f"may not be read by this user (id {os.geteuid()})"
    return f"cannot be read: {error.strerror}"
