"""Runs a command where we are root and the kernel has IPVS.

On the host's own kernel, in fresh namespaces, where that kernel has IPVS and we are root; else on
user-mode-linux, a whole Linux kernel that is an ordinary process and needs no rights.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd.errors import LvsdError
from lvsd.lab.boot import INSIDE, Payload, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

TIME_LIMIT_REACHED = 124
"""The exit status of a command that ran out of time, as `timeout` has it."""

_MODULES = Path("/usr/lib/uml/modules")
_MEMORY = re.compile(r"([1-9][0-9]*)([MG])")


class LabError(LvsdError):
    """The lab cannot be had here; the text says what to do."""


def run_in_kernel(argv: Sequence[str], **settings: object) -> int:
    """Run `argv` as root on a kernel with IPVS and return its exit status.

    `settings` are the fields of `Payload`. Standard output and error both arrive at our standard output as
    they are written. Returns `TIME_LIMIT_REACHED` after `timeout` seconds; everything is killed then.
    With `systemd`, process 1 is a real systemd (always on user-mode-linux) and the command a unit of it.

    Raises LabError where no such kernel can be had.
    """
    payload = Payload(argv, **settings)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(prefix="lvsd-lab.", dir=_scratch_parent()) as name:
        scratch = Path(name)
        on_host = not payload.systemd and host_has_ipvs()
        prepare(scratch, payload, on_host=on_host)
        command = _unshare(scratch) if on_host else _user_mode_linux(scratch, payload)
        status = _run(command, scratch, payload, on_host=on_host)
        if status is not None:
            return status
        sys.stderr.write(f"lab: the time limit of {payload.timeout:g} s is over; everything was killed\n")
        return TIME_LIMIT_REACHED


def inside() -> bool:
    """Tell whether this process runs in a lab's kernel already."""
    return INSIDE in os.environ


def host_has_ipvs() -> bool:
    """Tell whether the kernel we are on has IPVS and lets us build namespaces on it; may load the module.

    `LVSD_LAB_KERNEL=uml` in the environment says no without looking.
    """
    if os.environ.get("LVSD_LAB_KERNEL") == "uml" or os.geteuid() != 0:
        return False
    if not Path("/proc/net/ip_vs").exists() and not _succeeds("modprobe", "-q", "ip_vs"):
        return False
    return _succeeds("unshare", "--net", "--mount", "--pid", "--fork", "true")


def _succeeds(*command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)  # noqa: S603 - ours
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _scratch_parent() -> str:
    """Return a directory for scratch files whose path the kernel's command line can hold."""
    usual = tempfile.gettempdir()
    return usual if re.fullmatch(r"[\w./+-]+", usual, re.ASCII) else "/tmp"  # noqa: S108 - the last resort


def _unshare(scratch: Path) -> list[str]:
    return [
        # The namespaces end with us, however we end.
        "/usr/bin/setpriv", "--pdeathsig", "KILL", "--",
        "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
        "env", "LAB_KERNEL=host", f"LAB_SCRATCH={scratch}", str(scratch / "init"),
    ]  # fmt: skip


def _user_mode_linux(scratch: Path, payload: Payload) -> list[str]:
    linux = shutil.which("linux.uml")
    if linux is None or not _MODULES.is_dir():
        reason = "root on a kernel with IPVS is" if os.geteuid() == 0 else "no rights are"
        message = (
            f"no kernel with IPVS here: {reason} at hand and user-mode-linux is missing: run `make setup`"
        )
        raise LabError(message)
    if not _MEMORY.fullmatch(payload.memory):
        message = f"memory must be a number and M or G, such as 2G, not {payload.memory!r}"
        raise LabError(message)
    return [
        linux, f"mem={payload.memory}", "rootfstype=hostfs", "rootflags=/", "rw", f"init={scratch}/init",
        # The command has console 1; what the kernel itself has to say goes to scratch/kernel.log.
        "con=null", "con0=null,fd:2", f"con1={'fd:0' if payload.interactive else 'null'},fd:1",
        "quiet", "selinux=0", "fstab=no", f"uml_dir={scratch}/", f"LAB_SCRATCH={scratch}", "LAB_KERNEL=uml",
        *(["LAB_TERMINAL=1"] if payload.on_terminal else []),
        *(["LAB_INTERACTIVE=1"] if payload.interactive else []),
    ]  # fmt: skip


def _run(command: Sequence[str], scratch: Path, payload: Payload, *, on_host: bool) -> int | None:
    """Run the prepared command; return the payload's exit status, or None when its time was over."""
    log = scratch / "kernel.log"
    with log.open("wb") as kernel_log, _terminated_by_signal(), _output(payload, on_host=on_host) as output:
        process = subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
            command,
            stdin=None if payload.interactive else subprocess.DEVNULL,
            stdout=output,
            stderr=output if on_host else kernel_log,
            env={**os.environ, "TMPDIR": str(_memory_directory(payload))},
            start_new_session=not (on_host and payload.interactive),
        )
        with _ended_with_us(process, on_host=on_host):
            try:
                process.wait(payload.timeout)
            except subprocess.TimeoutExpired:
                return None
    return _status(scratch)


def _status(scratch: Path) -> int:
    """Return the exit status that init left."""
    status = scratch / "status"
    said = status.read_text().strip() if status.exists() else ""
    if not said.isdecimal():
        last = (scratch / "kernel.log").read_text(errors="replace").strip()[-4000:] or "nothing"
        message = f"the lab's kernel ended before its command did; it said:\n{last}"
        raise LabError(message)
    return int(said)


@contextlib.contextmanager
def _output(payload: Payload, *, on_host: bool) -> Iterator[int | None]:
    """Yield where the kernel is to write the command's output.

    User-mode-linux makes a terminal that it is given raw, and Control-C would no longer reach us: only
    interactive commands have it, and get it back as it was; others write to it through a pipe.
    """
    if on_host or not payload.on_terminal:
        yield payload.output
    elif payload.interactive:
        import termios  # noqa: PLC0415 - for terminals only

        before = termios.tcgetattr(0)
        try:
            yield payload.output
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
    else:
        with subprocess.Popen(
            ["/bin/cat"], stdin=subprocess.PIPE, stdout=payload.output, start_new_session=True
        ) as copier:
            assert copier.stdin is not None  # noqa: S101 - it is a pipe
            yield copier.stdin.fileno()


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen[bytes], *, on_host: bool) -> Iterator[None]:
    """Leave nothing of the process when the block ends or we do, killed or not."""
    if on_host:
        try:
            yield
        finally:
            process.kill()
            process.wait()
        return
    # User-mode-linux is several processes, in a session of their own, and only its first hears of our death.
    script = 'read -r line; kill -s KILL -- "-$0"'
    watcher = subprocess.Popen(  # noqa: S603 - the number of a process of ours
        ["/bin/sh", "-c", script, str(process.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watcher.kill()
        watcher.communicate()


def _memory_directory(payload: Payload) -> Path:
    """Return where the kernel's memory may be a file: in memory where that is large enough, else on disk."""
    match = _MEMORY.fullmatch(payload.memory)
    wanted = int(match[1]) << (30 if match[2] == "G" else 20) if match else 0
    shm = Path("/dev/shm")  # noqa: S108 - the file is opened and unlinked at once
    if shm.is_dir() and os.access(shm, os.W_OK):
        room = os.statvfs(shm)
        if room.f_bavail * room.f_frsize >= wanted and not room.f_flag & os.ST_NOEXEC:
            return shm
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us in order, so that the kernel is killed and the scratch removed."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # whoever has that one decides
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
