"""Commands as they were written to commands that are safe to run."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.model import Command
from lvsd.config.source import Unreadable
from lvsd.config.words import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lvsd.config.document import Findings, Path
    from lvsd.config.source import Source

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ANYBODY_RUNS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class CommandBuilder:
    """Makes commands of their words, and puts down programs that cannot or should not be run.

    They decide who is master, or act on it: nobody but their owner may be able to change them.
    """

    source: Source
    findings: Findings

    def build(self, words: Sequence[str], user: str | None, path: Path) -> Command:
        """Return the command; what is wrong with its program is put down at `path`."""
        for message in _wrong(words[0], self.source):
            self.findings.mistake(path, message)
        return Command(tuple(words), user or "")


def _wrong(program: str, source: Source) -> Iterator[str]:
    if not program.startswith("/"):
        yield f"must begin with a program's absolute path, as in /etc/lvsd/notify.sh, not {shown(program)}"
        return
    try:
        found = source.program(program)
    except Unreadable as problem:
        yield f"{program} {problem}: install it, or mend its path"
        return
    if not stat.S_ISREG(found.mode):
        yield f"{program} is no file that can be run"
        return
    if not found.mode & _ANYBODY_RUNS:
        yield f"{program} is not executable: chmod +x {program}"
    if found.mode & _OTHERS_WRITE:
        yield f"{program} can be changed by others than its owner: chmod go-w {program}"
    for directory, mode in sorted(found.directories.items()):
        if mode & _OTHERS_WRITE:
            yield (
                f"{program} can be replaced by others than its owner: chmod go-w {directory}, or put it "
                "elsewhere"
            )
