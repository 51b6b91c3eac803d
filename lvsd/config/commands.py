"""Commands as they were written to commands that are safe to run."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvsd.config.model import Command
from lvsd.config.source import Unreadable
from lvsd.config.words import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lvsd.config.document import Findings, Path
    from lvsd.config.source import Entry, Program, Source

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ANYBODY_RUNS = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class CommandBuilder:
    """Makes commands of their words, and puts down programs that cannot or should not be run.

    They decide who is master, or act on it: nobody but root and who runs them may be able to change them.
    """

    source: Source
    findings: Findings

    def build(self, words: Sequence[str], user: str | None, path: Path) -> Command:
        """Return the command; what is wrong with its program is put down at `path`."""
        for message in self._wrong(words[0], user or ""):
            self.findings.mistake(path, message)
        return Command(tuple(words), user or "")

    def _wrong(self, program: str, user: str) -> Iterator[str]:
        if not program.startswith("/"):
            example = "as in /etc/lvsd/notify.sh"
            yield f"must begin with a program's absolute path, {example}, not {shown(program)}"
            return
        try:
            found = self.source.program(program)
        except Unreadable as problem:
            yield f"{program} {problem}: install it, or mend its path"
            return
        if not stat.S_ISREG(found.mode):
            yield f"{program} is no file that can be run"
            return
        if not found.mode & _ANYBODY_RUNS:
            yield f"{program} is not executable: chmod +x {program}"
        yield from _open(program, found, self.source.trusted(user))


def _open(program: str, found: Program, trusted: Collection[int]) -> Iterator[str]:
    """Yield who else can change the program, or put another in its place, and how that is mended."""
    for path, entry in found.way.items():
        it_is, otherwise = "changed", ""
        if path != found.file:
            it_is, otherwise = "replaced", ", or put it elsewhere"
        if entry.owner not in trusted:
            option = "-h " if stat.S_ISLNK(entry.mode) else ""
            whose = f"{entry.name}, who owns {path}"
            yield f"{program} can be {it_is} by {whose}: chown {option}root {path}{otherwise}"
        if _others_write(entry):
            yield f"{program} can be {it_is} by others than its owner: chmod go-w {path}{otherwise}"


def _others_write(entry: Entry) -> bool:
    """Return whether others may write; in a sticky directory they may not touch what is not their own."""
    is_kept = stat.S_ISDIR(entry.mode) and entry.mode & stat.S_ISVTX
    return not (is_kept or stat.S_ISLNK(entry.mode)) and bool(entry.mode & _OTHERS_WRITE)
