"""What a newcomer types first: `make demo` and `lvsd lab shell`."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 240.0
"""Seconds for each, on a busy machine."""

STEPS = [
    "lvsd starts on lvs_dr.conf",
    "all four probes say: up",
    "TCP  192.168.0.101:80 rr",
    "nginx on rs1 is killed",
    "its row was gone after",
    "0 of the next ones failed",
    "and in the table after",
    "A reload adds rs3 to www",
    "rs3 is in; answers meanwhile",
    "kill -9",
    "it is dead; the table is as it was",
    "has adopted the table",
    "requests, not one lost",
    "lvsd status, from that log:",
    "Two directors share the VIP",
    "vs1 is stopped",
    "the VIP is with vs2 after",
    "vs1 is back",
    "the VIP is with vs1 after",
    "is killed (kill -9)",
    "the VIP is with vs1 and vs2 after",
    "vs1 is cut off",
    "the VIP is with vs2 after",
    "the cable is back",
    "the VIP is with vs1 after",
    "lvsd explain vip:",
    "Every step came out as told",
]


@pytest.fixture(autouse=True)
def _on_user_mode_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVSD_LAB_KERNEL", "uml")
    for variable in ("MAKEFLAGS", "MAKELEVEL"):  # as at a prompt, and not below `make test`
        monkeypatch.delenv(variable, raising=False)


def test_the_demo_comes_out_as_told() -> None:
    setup, demo = said_by("make", "--dry-run", "demo", f"PYTHON={sys.executable}").splitlines()
    assert setup == "./setup.sh"
    told = rest = said_by(*shlex.split(demo))
    for step in STEPS:
        assert step in rest, told
        rest = rest.partition(step)[2]


def test_the_shell_is_a_prompt_inside_the_network() -> None:
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "lvsd", "lab", "shell"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as shell:  # noqa: S603 - ours
        os.close(theirs)
        try:
            greeting = read_until(terminal, "vs1:")
            os.write(
                terminal, b"ipvsadm -A -t 192.0.2.1:80; ipvsadm -L -n; on rs1 ip -4 -br address; exit 3\n"
            )
            answer = read_until(terminal, None)
            status = shell.wait(LIMIT)
        finally:
            shell.terminate()
            os.close(terminal)
    assert "You are on vs1." in greeting
    assert "TCP  192.0.2.1:80 wlc" in answer
    assert "192.168.0.3/24" in answer
    assert status == 3, greeting + answer


def said_by(*argv: str) -> str:
    """Run a command that has to succeed; return what it wrote to standard output."""
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_until(terminal: int, text: str | None) -> str:
    """Return what comes from a terminal up to and including `text`, or up to its end."""
    give_up_at = time.monotonic() + LIMIT
    said = b""
    while text is None or text.encode() not in said:
        ready, _, _ = select.select([terminal], [], [], give_up_at - time.monotonic())
        assert ready, said.decode()
        try:
            said += os.read(terminal, 4096)
        except OSError:  # its other end is closed
            assert text is None, said.decode()
            break
    return said.decode()


def test_a_prompt_without_a_terminal_is_refused_and_says_what_to_do() -> None:
    command = [sys.executable, "-m", "lvsd", "lab", "shell"]
    ended = subprocess.run(command, capture_output=True, input="exit\n", text=True, check=False, timeout=60)  # noqa: S603
    assert ended.returncode == 1
    assert "lvsd lab run -- COMMAND" in ended.stderr
