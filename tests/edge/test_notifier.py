"""Commands that are notified of a VRRP instance's states, as real processes."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.config.model import Command, Notify, VrrpInstance
from lvsd.edge import notifier as edge
from lvsd.edge.notifier import BROKEN_OFF, MOST_WAITING, OVERTAKEN, Notifier
from lvsd.events import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lvsd.events import Event

LONG = 60.0


@pytest.fixture
def log() -> Iterator[Path]:
    """A file that every user can write to."""
    made = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True)  # noqa: S607
    directory = Path(made.stdout.strip())
    directory.chmod(0o777)
    path = directory / "log"
    path.touch()
    path.chmod(0o666)
    yield path
    subprocess.run(["rm", "-r", str(directory)], check=True)  # noqa: S603, S607


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def notifier(told: list[Event]) -> Notifier:
    return Notifier(told.append)


def writes(log: Path, *words: str, first: str = "") -> Command:
    """Return a command that writes its name and arguments as a line."""
    return Command(("/bin/sh", "-c", f'{first} echo "$*" >>{log}', "sh", *words))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def lives(pid: str) -> bool:
    return Path("/proc", pid).exists()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def instance(notify: Notify, name: str = "vip") -> VrrpInstance:
    return VrrpInstance(
        name=name,
        interface="eth0",
        vrid=51,
        version=3,
        family=4,
        priority=150,
        interval=1.0,
        addresses=(),
        notify=notify,
    )


async def test_a_change_runs_the_states_own_command_and_then_the_one_for_all(
    log: Path, told: list[Event], notifier: Notifier
) -> None:
    notify = Notify(
        any=writes(log, "any", "mine"),
        master=writes(log, "own master"),
        backup=writes(log, "own backup"),
        fault=writes(log, "own fault"),
        stop=writes(log, "own stop"),
    )
    for state in "master", "backup", "fault", "stop":
        notifier.notify(instance(notify), state)
    await notifier.finish(LONG)
    assert lines(log) == [
        line
        for state in ("master", "backup", "fault", "stop")
        for line in (f"own {state}", f"any mine INSTANCE vip {state.upper()} 150")
    ]
    assert told == []


async def test_a_state_without_a_command_runs_none(log: Path, notifier: Notifier) -> None:
    notifier.notify(instance(Notify(master=writes(log, "own"))), "backup")
    notifier.notify(instance(Notify()), "master")
    await notifier.finish(LONG)
    assert lines(log) == []


async def test_one_instance_waits_for_itself_and_not_for_others(log: Path, notifier: Notifier) -> None:
    gate = log.with_name("gate")
    held = Notify(any=writes(log, first=f"until [ -e {gate} ]; do sleep 0.05; done;"))
    notifier.notify(instance(held, "slow"), "backup")
    notifier.notify(instance(held, "slow"), "master")
    notifier.notify(instance(Notify(any=writes(log)), "quick"), "master")
    await until(lambda: lines(log))
    gate.touch()
    await notifier.finish(LONG)
    assert lines(log) == [
        "INSTANCE quick MASTER 150",
        "INSTANCE slow BACKUP 150",
        "INSTANCE slow MASTER 150",
    ]


async def test_the_latest_state_always_runs_and_what_is_left_out_is_told(
    log: Path, told: list[Event], notifier: Notifier
) -> None:
    gate = log.with_name("gate")
    held = Notify(any=writes(log, first=f"until [ -e {gate} ]; do sleep 0.05; done;"))
    notifier.notify(instance(held), "stop")
    await asyncio.sleep(0)
    for _ in range(MOST_WAITING):
        notifier.notify(instance(held), "fault")
    notifier.notify(instance(held), "backup")
    notifier.notify(instance(held), "master")
    gate.touch()
    await notifier.finish(LONG)
    states = [line.split()[2] for line in lines(log)]
    assert states == ["STOP", *["FAULT"] * (MOST_WAITING - 2), "BACKUP", "MASTER"]
    assert [event.to_json()["reason"] for event in told] == [OVERTAKEN] * 2


@pytest.mark.parametrize(
    ("argv", "reason", "output"),
    [
        (("/no/such/program",), "/no/such/program does not exist", ""),
        (("/bin/sh", "-c", "echo no mail; exit 4", "sh"), "ended with status 4", "no mail"),
    ],
)
async def test_a_failure_is_told_and_the_next_command_runs_all_the_same(  # noqa: PLR0913, PLR0917
    log: Path, told: list[Event], notifier: Notifier, argv: tuple[str, ...], reason: str, output: str
) -> None:
    notifier.notify(instance(Notify(any=writes(log), master=Command(argv))), "master")
    await notifier.finish(LONG)
    (event,) = told
    assert isinstance(event, CommandFailed)
    assert (event.instance, event.reason, event.output) == ("vip", reason, output)
    assert event.command.startswith(argv[0])
    assert event.user
    assert lines(log) == ["INSTANCE vip MASTER 150"]


async def test_a_command_that_hangs_is_told_and_the_next_change_runs(
    log: Path, told: list[Event], notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "TIME_LIMIT", 2.0)
    notifier.notify(
        instance(Notify(any=Command(("/bin/sleep",)), master=Command(("/bin/sleep", "600")))), "master"
    )
    notifier.notify(instance(Notify(any=writes(log))), "backup")
    await notifier.finish(LONG)
    assert [event.to_json()["reason"] for event in told] == ["timed out after 2s", "ended with status 1"]
    assert lines(log) == ["INSTANCE vip BACKUP 150"]


async def test_what_takes_too_long_at_the_end_is_broken_off_and_told(
    log: Path, told: list[Event], notifier: Notifier
) -> None:
    gate = log.with_name("gate")
    hangs, waits = writes(log, first=f"echo $$ >{gate}; sleep 600;"), writes(log, "waits")
    notifier.notify(instance(Notify(any=waits, backup=hangs)), "backup")
    notifier.notify(instance(Notify(any=waits)), "stop")
    await until(lambda: gate.exists() and lines(gate))
    await notifier.finish(0.1)
    assert not lives(lines(gate)[0])
    assert lines(log) == []
    assert [event.to_json()["reason"] for event in told] == [BROKEN_OFF] * 3
    await notifier.finish(LONG)
