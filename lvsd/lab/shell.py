"""The inside of `lvsd lab shell`: builds the classic network and gives the terminal to a shell on a host."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

from lvsd.lab.classic import classic
from lvsd.lab.kernel import LabError
from lvsd.lab.lab import Lab

_ON = """\
#!/bin/sh
# on HOST COMMAND...: runs a command on another host of the lab.
target=$(cat "/run/hosts/$1") || exit
shift
exec nsenter --target "$target" --net --uts --mount -- "$@"
"""


async def shell(name: str) -> int:
    """Build the classic network and run a shell on the host `name` until it ends; return its exit status."""
    async with Lab(classic()) as lab:
        if name not in lab.hosts:
            message = f"no host {name!r} in the classic network; it has {', '.join(lab.hosts)}"
            raise LabError(message)
        commands = _write_on(lab)
        sys.stdout.write(
            f"You are on {name}. `on HOST COMMAND` reaches {', '.join(lab.hosts)}; `exit` ends the lab.\n"
        )
        sys.stdout.flush()
        return await lab.hosts[name].do(_prompt, name, f"{commands}:{os.environ['PATH']}")


def _write_on(lab: Lab) -> Path:
    """Write the command `on`; return the directory it is in."""
    for host, machine in lab.hosts.items():
        Path("/run/hosts").mkdir(exist_ok=True)
        Path("/run/hosts", host).write_text(f"{machine.residence.thread_id}\n")
    on = Path("/run/hosts/bin/on")
    on.parent.mkdir()
    on.write_text(_ON)
    on.chmod(0o755)
    return on.parent


def _prompt(name: str, path: str) -> int:
    environment = {**os.environ, "PS1": rf"{name}:\w# ", "PATH": path}
    return subprocess.run(
        ["/bin/bash", "--norc", "--noprofile", "-i"], env=environment, check=False
    ).returncode


def _set_terminal_size() -> None:
    """Tell the lab's terminal the size of the one outside, which it cannot know."""
    size = struct.pack("HHHH", int(os.environ.get("LINES", "24")), int(os.environ.get("COLUMNS", "80")), 0, 0)
    fcntl.ioctl(sys.stdin, termios.TIOCSWINSZ, size)


if __name__ == "__main__":
    # Control-C is for the programs at the prompt; were it ignored here, they would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    if sys.stdin.isatty():
        _set_terminal_size()
    try:
        status = asyncio.run(shell(sys.argv[1]))
    except LabError as error:
        sys.stderr.write(f"lvsd lab: {error}\n")
        status = 1
    raise SystemExit(status)
