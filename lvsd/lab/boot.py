"""What one boot of the lab reads: its file systems, its command, its unit, in a scratch directory."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSIDE = "LVSD_LAB"
"""The environment variable that is set for whatever runs in a lab's kernel."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What runs in the lab's kernel, and how long and how large it may be."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    directory: Path = field(default_factory=Path.cwd)
    timeout: float = 600.0
    memory: str = "2G"
    systemd: bool = False
    interactive: bool = False
    output: int | None = None
    """A file descriptor for the command's output; None is our own standard output."""

    @property
    def on_terminal(self) -> bool:
        """Whether the command's output goes to a terminal, so that its own output is to be one too."""
        return self.interactive or os.isatty(1 if self.output is None else self.output)


def prepare(scratch: Path, payload: Payload, *, on_host: bool) -> None:
    """Write what `init.sh` reads to the directory `scratch`; `on_host`: there is no kernel to boot."""
    shutil.copy(Path(__file__).with_name("init.sh"), scratch / "init")
    (scratch / "init").chmod(0o755)
    (scratch / "fstab").write_text(_fstab(scratch, payload, on_host=on_host))
    (scratch / "payload").write_text(_script(payload))
    (scratch / "machine-id").write_text("6c76736400000000000000000000001a\n")
    if payload.systemd:
        terminal = "1" if payload.on_terminal else ""
        (scratch / "unit").write_text(_UNIT.format(terminal=terminal))


def _script(payload: Payload) -> str:
    # PYTHONDONTWRITEBYTECODE is left alone: what is compiled once in the lab loads faster the next time.
    environment = {**payload.environment, INSIDE: "1", "TMPDIR": "/run/tmp"}
    exports = [
        f"export {name}={shlex.quote(text)}\n"
        for name, text in environment.items()
        if _SHELL_NAME.fullmatch(name) and name not in {"PWD", "OLDPWD", "_"}
    ]
    directory = shlex.quote(str(payload.directory))
    return "".join(exports) + f"cd {directory} || exit 125\nexec {shlex.join(payload.argv)}\n"


def _fstab(scratch: Path, payload: Payload, *, on_host: bool) -> str:
    def line(device: str, place: str, kind: str, options: str) -> str:
        return " ".join(word.replace(" ", r"\040") for word in (device, place, kind, options)) + "\n"

    # `mount -a` leaves out what it finds mounted from the same source, and here everything must be new.
    new = scratch.name
    lines = [
        line(new, "/proc", "proc", "nosuid"),
        line(new, "/run", "tmpfs", "mode=755"),
        line(".", "/run/lab", "none", "bind,x-mount.mkdir"),
        line(new, "/sys", "sysfs", "nosuid"),
        line(new, "/sys/fs/cgroup", "cgroup2", "nosuid"),
    ]
    if not on_host:
        lines += [
            line("devtmpfs", "/dev", "devtmpfs", "mode=755"),  # which most such kernels have mounted
            line(new, "/dev/pts", "devpts", "x-mount.mkdir,gid=5,mode=620,ptmxmode=666"),
            line(new, "/dev/shm", "tmpfs", "x-mount.mkdir,mode=1777"),  # noqa: S108 - mounted, not used
        ]
    needed = _needed(payload)
    for place, options in _COVERED:
        if not any(path.is_relative_to(place) for path in needed):
            lines.append(line(new, place, "tmpfs", options))
    if payload.systemd:
        # What the host has enabled is the host's affair, and would write to the host's files.
        hidden = ("/etc/systemd/system", "/lib/systemd/system/sysinit.target.wants")
        lines += [line(new, place, "tmpfs", "mode=755") for place in hidden if Path(place).is_dir()]
        if Path("/etc/machine-id").exists():
            lines.append(line("/run/lab/machine-id", "/etc/machine-id", "none", "bind"))
    return "".join(lines)


_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COVERED = (("/tmp", "mode=1777"), ("/var/tmp", "mode=1777"), ("/var/log", "mode=755"))  # noqa: S108
"""Where programs write: on tmpfs in the lab, unless what the command needs is there."""


def _needed(payload: Payload) -> set[Path]:
    """Return the directories that must stay visible, wherever somebody checked this project out."""
    places = {payload.directory, Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent}
    places |= {Path(word) for word in payload.argv if word.startswith("/")}
    return places | {place.resolve() for place in places}


_UNIT = """\
[Unit]
Description=The lab's payload
DefaultDependencies=no
Wants=systemd-journald.socket systemd-journald.service dbus.socket
After=systemd-journald.socket systemd-journald.service dbus.socket

[Service]
Type=oneshot
ExecStart=/run/lab/init payload
Environment=LAB_KERNEL=uml LAB_TERMINAL={terminal}
StandardError=journal
TimeoutStartSec=infinity
"""
