"""Starts programs that have none of lvsd's rights: without a shell, in a session of their own.

Rights belong to a thread, in Linux, and a program has those of the thread that starts it. So the thread that
`spawn` is called in gives them up for good: nothing need be done between fork and exec, and the program costs
the loop 0.2 ms, where util-linux's setpriv(1) takes 2 ms and is refused by the unit's system call filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Final = {"PATH": PATH, "LANG": "C.UTF-8"}
"""All that a command finds in its environment."""

USERS: Final = ("lvsd", "nobody")
"""As whom lvsd runs commands when it is root and is told no user: the first that this host has."""


class NotRunError(Exception):
    """The program was not started; `local` where lvsd itself was short of something."""

    def __init__(self, problem: str, user: str = "", *, local: bool = False) -> None:
        super().__init__(problem)
        self.user = user
        self.local = local


ROOT: Final = 0
"""Root's number."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A program that runs; `end` is a descriptor that can be read when it has ended."""

    popen: subprocess.Popen[bytes]
    end: int
    user: str


def spawn(argv: Sequence[str], user: str) -> Spawned:
    """Start a program as `user`, or where that is empty as lvsd's own choice; raise NotRunError.

    To be called in a thread that does nothing else afterwards: it has no rights any more.
    """
    who = _who(user)
    program = _found(argv[0], who.pw_name)
    _confine()
    try:
        return _spawn([program, *argv[1:]], who)
    except OSError as error:
        problem = f"{argv[0]} cannot be started: {error.strerror}"
        raise NotRunError(problem, who.pw_name, local=error.errno in _SHORTAGES) from error
    except (ValueError, subprocess.SubprocessError) as error:  # a NUL, or what has no place in UTF-8
        problem = f"{argv[0]} cannot be started: {error}"
        raise NotRunError(problem, who.pw_name) from error


def number_of(user: str) -> int | None:
    """Return the number of who runs what is to run as `user`; None where this host has no such user."""
    own = os.geteuid()
    if not user and own != ROOT:
        return own
    try:
        return _account((user,) if user else USERS).pw_uid
    except NotRunError:
        return None


def name_of(number: int) -> str:
    """Return the name of the user with that number, or the number where there is none."""
    return _own_account(number).pw_name


_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS}

_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _who(user: str) -> pwd.struct_passwd:
    own = os.geteuid()
    if not user:
        return _account(USERS) if own == ROOT else _own_account(own)
    who = _account((user,))
    if own not in {ROOT, who.pw_uid}:
        problem = f"only root can run it as {user}, and lvsd is {_own_account(own).pw_name}"
        raise NotRunError(problem, user)
    return who


def _account(names: Sequence[str]) -> pwd.struct_passwd:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    problem = f"there is no user {' or '.join(names)} on this host"
    raise NotRunError(problem, names[0])


def _own_account(own: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(own)
    except KeyError:
        return pwd.struct_passwd((str(own), "", own, os.getegid(), "", "/", ""))


def _found(program: str, user: str) -> str:
    """Return the program's path.

    It is looked for here, since the interpreter's lock is held from fork to exec: were the file on a server
    that is dead, exec would hold up all threads, and this holds up just the one.
    """
    path = shutil.which(program, mode=os.F_OK, path=PATH)
    if path is None:
        problem = f"{program} does not exist"
        raise NotRunError(problem, user)
    return path


def _confine() -> None:
    """Give up what this thread may do beyond others of its user, and what a program could regain."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() != ROOT:  # root's are needed to become another user, and go with that
        # Refused by the unit's system call filter, where nothing inherited is left to be used.
        _libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


def _spawn(argv: Sequence[str], who: pwd.struct_passwd) -> Spawned:
    other = who.pw_uid != os.geteuid()
    popen = subprocess.Popen(  # noqa: S603 - running the operator's command is the purpose
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
        # Without these it is vfork that starts the program, in a thirtieth of the time.
        user=who.pw_uid if other else None,
        group=who.pw_gid if other else None,
        extra_groups=[] if other else None,
    )
    try:
        return Spawned(popen, os.pidfd_open(popen.pid), who.pw_name)
    except BaseException:
        abandon(popen)
        raise


def abandon(popen: subprocess.Popen[bytes]) -> None:
    """Kill a program and all of its session that stayed in its group, and leave nothing of it."""
    with popen:
        os.killpg(popen.pid, signal.SIGKILL)
