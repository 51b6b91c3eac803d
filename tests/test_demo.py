"""What a newcomer types first: `make demo` and `lvsd lab shell`."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    "lvsd explain vip:",
    "Every step came out as told",
]
FAILOVERS = [
    ("vs1 is stopped (SIGTERM)", "vs2"),
    ("vs1 is back", "vs1"),
    ("lvsd on vs1 is killed (kill -9)", "vs1 and vs2"),
    ("it is back", "vs1"),
    ("vs1 is cut off", "vs2"),
    ("the cable is back", "vs1"),
]
"""What becomes of the master, in this order, and with whom the VIP is then."""

OUTAGE = r"the VIP is with {} after \d+ ms; the client's longest time without an answer: \d+ ms, "


@pytest.fixture(autouse=True, scope="module")
def _on_user_mode_linux() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("LVSD_LAB_KERNEL", "uml")
        for variable in ("MAKEFLAGS", "MAKELEVEL"):  # as at a prompt, and not below `make test`
            monkeypatch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="module")
def told(_on_user_mode_linux: None) -> str:
    """What `make demo` says, after its set-up."""
    setup, demo = said_by("make", "--dry-run", "demo", f"PYTHON={sys.executable}").splitlines()
    assert setup == "./setup.sh"
    return said_by(*shlex.split(demo))


def test_the_demo_comes_out_as_told(told: str) -> None:
    rest = told
    for step in STEPS:
        assert step in rest, told
        rest = rest.partition(step)[2]


def test_the_demo_tells_the_outage_of_each_failover_in_milliseconds(told: str) -> None:
    steps = re.split(r"^\[\d+\] ", told, flags=re.MULTILINE)
    begin = next(n for n, step in enumerate(steps, 1) if step.startswith("Two directors share the VIP"))
    for step, (deed, owners) in zip(steps[begin : begin + len(FAILOVERS)], FAILOVERS, strict=True):
        assert step.startswith(deed), told
        assert re.search(OUTAGE.format(owners), step), told


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
