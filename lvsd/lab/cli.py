"""`lvsd lab`: run a command on a kernel with IPVS, or have a prompt inside the classic network."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from lvsd.lab.kernel import LabError, run_in_kernel

MOST_SECONDS = 7 * 24 * 3600

EXAMPLES = """\
examples:
  lvsd lab run -- ipvsadm -Ln                   one command, as root, on a kernel with IPVS
  lvsd lab run -- python -m pytest tests/lab    all lab tests in one boot
  lvsd lab run --systemd -- systemctl status    the same with a real systemd as process 1
  lvsd lab shell                                a prompt on the director vs1 of the classic network
  lvsd lab shell client                         a prompt on the client; `on rs1 CMD` runs CMD on rs1

The lab uses this host's kernel, in namespaces of its own, where that has IPVS and you are root; else it
boots user-mode-linux, which needs no rights. /run, /tmp and /var/log are the lab's own; every other file
is the host's, and what you write there stays.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lvsd lab`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="lab_action", required=True, metavar="{run,shell}")

    run = actions.add_parser("run", help="run a command on a kernel with IPVS")
    run.add_argument("--systemd", action="store_true", help="with a real systemd as process 1")
    run.add_argument(
        "--timeout", type=_seconds, default=600.0, metavar="SECONDS", help="kill all after (default: 600)"
    )
    _add_memory(run)
    run.add_argument("argv", nargs="+", metavar="COMMAND", help="the command and its arguments, after `--`")

    shell = actions.add_parser("shell", help="a prompt inside the classic network")
    shell.add_argument(
        "host", nargs="?", default="vs1", metavar="HOST", help="vs1, vs2, rs1, rs2, rs3 or client"
    )
    _add_memory(shell)


def main(arguments: argparse.Namespace) -> int:
    """Do what the arguments say and return the exit status: the command's own, 1 when there is no lab."""
    try:
        if arguments.lab_action == "run":
            return run_in_kernel(
                arguments.argv,
                timeout=arguments.timeout,
                memory=arguments.memory,
                systemd=arguments.systemd,
            )
        return _shell(arguments.host, arguments.memory)
    except LabError as error:
        sys.stderr.write(f"lvsd lab: {error}\n")
        return 1


def _seconds(text: str) -> float:
    """Return how many seconds a command may take."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_SECONDS:
        message = f"must be a number of seconds above 0, at most {MOST_SECONDS}, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory", default="2G", help="the most that user-mode-linux may use (default: 2G)")


def _shell(host: str, memory: str) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        message = "a prompt needs a terminal; for commands there is `lvsd lab run -- COMMAND`"
        raise LabError(message)
    size = shutil.get_terminal_size()
    environment = {**os.environ, "LINES": str(size.lines), "COLUMNS": str(size.columns)}
    return run_in_kernel(
        [sys.executable, "-m", "lvsd.lab.shell", host],
        environment=environment,
        memory=memory,
        timeout=24 * 3600.0,
        interactive=True,
    )
