"""Tracked commands as real processes: when they run, and what is told of them."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from lvsd.config.model import Command, TrackedCommand
from lvsd.edge import commands
from lvsd.edge.commands import Ended
from lvsd.edge.tracker import Tracker
from lvsd.health.verdict import Health, Verdict, next_slot
from lvsd.vrrp.tracking import judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

Told: TypeAlias = "list[tuple[str, bool, str]]"
MARKS = {"+": True, "-": False}
WORDS = {Verdict.UP: "U", Verdict.DOWN: "D", Verdict.UNKNOWN: "?"}


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can write to."""
    made = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True)  # noqa: S607
    path = Path(made.stdout.strip())
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-r", str(path)], check=True)  # noqa: S603, S607


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
async def tracker(told: Told) -> AsyncIterator[Tracker]:
    made = Tracker(lambda command, ok, reason: told.append((command.name, ok, reason)))
    yield made
    await made.close()


def tracked(name: str, script: str, rise: int = 1, fall: int = 1) -> TrackedCommand:
    command = Command(("/bin/sh", "-c", script))
    return TrackedCommand(name, command, interval=0.02, timeout=30.0, rise=rise, fall=fall)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def lives(pid: Path) -> bool:
    """Tell whether the process runs whose number is in a file."""
    return Path("/proc", pid.read_text().strip()).exists()


@pytest.mark.parametrize(
    ("runs", "rise", "fall", "verdicts"),
    [
        ("+", 3, 3, "U"),
        ("-", 3, 3, "D"),
        ("+---+++", 3, 3, "UUUDDDU"),
        ("-++-+++", 3, 3, "DDDDDDU"),
        ("+-+-", 1, 2, "UUUU"),
        ("+-+-", 1, 1, "UDUD"),
    ],
)
def test_the_first_run_decides_and_then_rise_and_fall(runs: str, rise: int, fall: int, verdicts: str) -> None:
    health, seen = Health(), ""
    for mark in runs:
        health = judge(health, tracked("it", "", rise, fall), passed=MARKS[mark])
        seen += WORDS[health.verdict]
    assert seen == verdicts


@pytest.mark.parametrize(
    ("due_at", "now", "at"), [(10.0, 10.1, 15.0), (10.0, 14.9, 15.0), (10.0, 27.0, 30.0)]
)
def test_runs_keep_their_beat_and_a_turn_that_has_passed_is_left_out(
    due_at: float, now: float, at: float
) -> None:
    assert next_slot(5.0, due_at, now) == at


async def test_the_first_verdict_and_each_change_are_told(
    directory: Path, told: Told, tracker: Tracker
) -> None:
    flag = directory / "flag"
    tracker.follow([tracked("flag", f"test -e {flag}"), tracked("well", "exit 0")])
    await until(lambda: len(told) == 2)
    assert sorted(told) == [("flag", False, "ended with status 1"), ("well", True, "ended with status 0")]
    flag.touch()
    await until(lambda: len(told) == 3)
    flag.unlink()
    await until(lambda: len(told) == 4)
    assert told[2:] == [("flag", True, "ended with status 0"), ("flag", False, "ended with status 1")]


async def test_rise_and_fall_are_counted(directory: Path, told: Told, tracker: Tracker) -> None:
    runs = directory / "runs"
    # Passes at first, fails from the third run on.
    script = f"echo >>{runs}; test $(wc -l <{runs}) -lt 3"
    tracker.follow([tracked("it", script, fall=3)])
    await until(lambda: len(told) == 2)
    assert told == [("it", True, "ended with status 0"), ("it", False, "ended with status 1")]
    assert len(runs.read_text()) >= 5


async def test_a_command_never_runs_twice_at_once(directory: Path, told: Told, tracker: Tracker) -> None:
    runs, lock = directory / "runs", directory / "lock"
    tracker.follow([tracked("it", f"mkdir {lock} && sleep 0.2; echo >>{runs}; rmdir {lock}")])
    await until(lambda: runs.exists() and len(runs.read_text()) >= 5)
    assert told == [("it", True, "ended with status 0")]


async def test_a_reload_leaves_what_is_unchanged_alone(directory: Path, told: Told, tracker: Tracker) -> None:
    gate = directory / "gate"
    waits = tracked("waits", f"until [ -e {gate} ]; do sleep 0.05; done; echo $$ >>{gate}")
    tracker.follow([waits, tracked("gone", "exit 0")])
    await until(lambda: told)
    tracker.follow([tracked("new", "exit 0"), replace(waits)])
    await until(lambda: ("new", True, "ended with status 0") in told)
    gate.touch()
    await until(lambda: len(told) == 3)
    assert [name for name, _, _ in told] == ["gone", "new", "waits"]


async def test_a_changed_setting_brings_nothing_back(directory: Path, told: Told, tracker: Tracker) -> None:
    flag = directory / "flag"
    before = tracked("it", f"test -e {flag}")
    tracker.follow([before])
    await until(lambda: told)
    flag.touch()
    tracker.follow([replace(before, rise=3, weight=-5)])
    assert told == [("it", False, "ended with status 1")] * 2
    await until(lambda: len(told) == 3)
    assert told[2] == ("it", True, "ended with status 0")


async def test_a_command_that_cannot_run_has_failed(told: Told, tracker: Tracker) -> None:
    missing = replace(tracked("it", ""), command=Command(("/no/such/program",)))
    tracker.follow([missing])
    await until(lambda: told)
    assert told == [("it", False, "/no/such/program does not exist")]


async def test_a_command_that_hangs_has_failed(told: Told, tracker: Tracker) -> None:
    tracker.follow([replace(tracked("it", "sleep 600"), timeout=0.5)])
    await until(lambda: told)
    assert told == [("it", False, "timed out after 0.5s")]


async def test_a_shortage_of_lvsds_own_counts_for_nothing(
    told: Told, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    async def run(_command: Command, *, timeout: float) -> Ended:  # noqa: ASYNC109
        nonlocal runs
        await asyncio.sleep(0)
        runs += 1
        short = Ended(None, "", "too many open files", "", local=True)
        return short if runs != 3 and timeout else Ended(0, "", "", "")

    monkeypatch.setattr(commands, "run", run)
    tracker.follow([tracked("it", "")])
    await until(lambda: runs > 10)
    assert told == [("it", True, "ended with status 0")]


async def test_nothing_runs_after_the_end(directory: Path, told: Told) -> None:
    pids = directory / "pids"
    tracker = Tracker(lambda command, ok, reason: told.append((command.name, ok, reason)))
    tracker.follow([tracked("it", f"echo $$ >{pids}; exec sleep 600")])
    await until(lambda: pids.exists() and pids.read_text())
    await tracker.close()
    assert not lives(pids)
    assert told == []
