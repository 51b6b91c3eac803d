"""Reads configuration files in this process; for the daemon, the parser does."""

from __future__ import annotations

import errno
import glob
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd.config.source import MAX_BYTES, Program, Unreadable
from lvsd.edge.names import SystemNames

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        """Return the modes of the file and its directories; raise Unreadable where they cannot be told."""
        try:
            around = {str(each.parent) for each in (Path(path), Path(path).resolve(strict=True))}
            return Program(Path(path).stat().st_mode, {each: Path(each).stat().st_mode for each in around})
        except (OSError, RuntimeError) as error:
            raise Unreadable(_why_no_program(error)) from None


def load_config(path: str) -> tuple[Config, tuple[Note, ...]]:
    """Return the configuration in the file at `path`, parsed in this process; raise ConfigError."""
    from lvsd.config.load import load as parse  # noqa: PLC0415 - pydantic and yaml stay out of the daemon

    return parse(path, Files(), SystemNames())


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


def _why_no_program(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno != errno.ENOENT:
        return f"cannot be looked at: {error.strerror}"
    return "does not exist on this host"


def _words(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "does not exist"
    if error.errno == errno.EACCES:
        return f"may not be read by this user (id {os.geteuid()})"
    return f"cannot be read: {error.strerror}"
