"""Commands as real processes: how they end, what they may do, and that they delay nobody."""

from __future__ import annotations

import asyncio
import os
import pwd
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from lvsd.config.model import Command
from lvsd.edge import commands, unprivileged
from lvsd.edge.commands import LONGEST_OUTPUT, Ended, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = os.geteuid() == 0
ACCOUNTS = [each.pw_name for each in pwd.getpwall()]
CHOSEN = next(name for name in unprivileged.USERS if name in ACCOUNTS)
USER = CHOSEN if ROOT else pwd.getpwuid(os.geteuid()).pw_name

as_root = pytest.mark.skipif(not ROOT, reason="only root can become another user")


def sh(script: str, user: str = "") -> Command:
    return Command(("/bin/sh", "-c", script, "sh"), user)


async def ended(command: Command, *arguments: str, timeout: float = 60) -> Ended:  # noqa: ASYNC109
    return await run(command, arguments, timeout=timeout)


def numbers_in(path: Path) -> list[int]:
    return [int(number) for number in path.read_text().split()]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def until_gone(pids: Path) -> None:
    await until(lambda: not any(lives(pid) for pid in numbers_in(pids)))


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait for its parent, who is not always us."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user can write to; pytest's own are closed to others."""
    made = subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True)  # noqa: S607
    path = Path(made.stdout.strip())
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-r", str(path)], check=True)  # noqa: S603, S607


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", Ended(0, "", "", USER)),
        ("echo well; echo ill >&2; exit 3", Ended(3, "well\nill\n", "", USER)),
        ("kill -9 $$", Ended(None, "", "killed by SIGKILL", USER)),
        ("printf '\\377'", Ended(0, "\ufffd", "", USER)),
        ("head -c 1000000 /dev/zero | tr '\\0' x", Ended(0, "x" * LONGEST_OUTPUT, "", USER)),
    ],
)
async def test_it_tells_how_a_command_ended(script: str, expected: Ended) -> None:
    assert await ended(sh(script)) == expected


@pytest.mark.parametrize(
    ("how", "reason", "passed"),
    [
        (Ended(0, "", "", ""), "ended with status 0", True),
        (Ended(3, "", "", ""), "ended with status 3", False),
        (Ended(None, "", "timed out after 1s", ""), "timed out after 1s", False),
    ],
)
def test_a_reason_is_for_people(how: Ended, reason: str, *, passed: bool) -> None:
    assert (how.reason, how.passed) == (reason, passed)


async def test_arguments_arrive_as_they_are_and_no_shell_reads_them() -> None:
    nasty = ["", "two words", "$(id)", "*", ";", "ü"]
    assert (await ended(Command(("/usr/bin/printf", "[%s]")), *nasty)).output == "".join(
        f"[{each}]" for each in nasty
    )


async def test_a_command_finds_next_to_nothing() -> None:
    with Path("/dev/null").open() as file, environment("SECRET", "1"):  # noqa: ASYNC230
        os.set_inheritable(file.fileno(), True)  # noqa: FBT003
        told = await ended(sh("env | sort; readlink /proc/$$/fd/0"))
        numbers = await ended(Command(("/bin/ls", "/proc/self/fd")))
    assert told.output.splitlines() == ["LANG=C.UTF-8", f"PATH={unprivileged.PATH}", "PWD=/", "/dev/null"]
    assert numbers.output.split() == ["0", "1", "2", "3"]  # the last is the directory that is listed


async def test_a_command_has_no_rights_and_cannot_gain_any() -> None:
    told = await ended(sh("cat /proc/$$/status"))
    status = dict(line.split(":\t", 1) for line in told.output.splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert {status[kind] for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert {*status["Uid"].split(), str(pwd.getpwnam(USER).pw_uid)} == {str(pwd.getpwnam(USER).pw_uid)}
    if ROOT:
        assert status["Groups"].strip() == ""


async def test_lvsd_keeps_its_own_rights() -> None:
    def rights() -> list[str]:
        status = Path("/proc/thread-self/status").read_text()
        return [line for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs", "Uid"))]

    before = rights()
    await ended(sh("exit 0"))
    assert rights() == before


@as_root
async def test_a_command_of_root_runs_as_whom_it_is_told() -> None:
    assert (await ended(sh("id -un", "daemon"))).output == "daemon\n"
    assert (await ended(sh("id -un", "root"))).output == "root\n"
    assert (await ended(sh("id -un"))).user == USER


@as_root
def test_an_lvsd_without_root_hands_on_none_of_its_capabilities(directory: Path) -> None:
    """The unit's lvsd is a user with ambient capabilities."""
    script = directory / "lvsd.py"
    script.write_text(
        "import asyncio, sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from lvsd.config.model import Command\n"
        "from lvsd.edge.commands import run\n"
        "for user in '', 'nobody', 'daemon', 'nemo':\n"
        "    command = Command(('/bin/grep', 'Cap[^B]', '/proc/self/status'), user)\n"
        "    print(asyncio.run(run(command, timeout=60)))\n"
        "print(open('/proc/self/status').read())\n"
    )
    as_nobody = (
        "/usr/bin/setpriv", "--reuid", "nobody", "--regid", "65534", "--clear-groups",
        "--inh-caps", "+net_admin", "--ambient-caps", "+net_admin",
    )  # fmt: skip
    tried = subprocess.run([*as_nobody, sys.executable, "-c", ""], check=False, cwd="/")  # noqa: S603
    if tried.returncode:
        pytest.skip("no capabilities to hand on, or an interpreter that is closed to others")
    ran = subprocess.run(  # noqa: S603
        [*as_nobody, sys.executable, "-P", str(script)],
        check=False, capture_output=True, text=True, timeout=60, cwd="/",
    )  # fmt: skip
    own, same, other, nobody, *status = ran.stdout.splitlines()
    none = "".join(f"Cap{kind}:\\t{'0' * 16}\\n" for kind in ("Inh", "Prm", "Eff", "Amb"))
    assert f"status=0, output='{none}', problem='', user='nobody'" in own
    assert same == own
    assert "status=None, output='', problem='only root can run it as daemon, and lvsd is nobody'" in other
    assert "problem='there is no user nemo on this host'" in nobody
    assert "CapAmb:\t0000000000001000" in status


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (("/no/such/program",), "/no/such/program does not exist"),
        (("nosuchprogram",), "nosuchprogram does not exist"),
        (("/proc/version",), "/proc/version cannot be started: Permission denied"),
        (("/etc",), "/etc does not exist"),
        (("/bin/true", "\0"), "/bin/true cannot be started: embedded null byte"),
    ],
)
async def test_what_cannot_be_run_says_why(argv: tuple[str, ...], problem: str) -> None:
    assert await ended(Command(argv)) == Ended(None, "", problem, USER)


async def test_a_script_without_its_interpreter_says_so(directory: Path) -> None:
    script = directory / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert (await ended(Command((str(script),)))).problem == (
        f"{script} cannot be started: No such file or directory"
    )


async def test_a_user_that_is_not_there_is_named() -> None:
    told = await ended(sh("exit 0", "nemo"))
    assert told == Ended(None, "", "there is no user nemo on this host", "nemo")


async def test_a_command_that_hangs_is_ended_with_all_of_its_children(directory: Path) -> None:
    pids = directory / "pids"
    told = await ended(sh(f"sleep 600 & echo $! $$ >{pids}; echo waiting; wait"), timeout=2)
    assert told == Ended(None, "waiting\n", "timed out after 2s", USER)
    await until_gone(pids)


async def test_a_command_that_will_not_end_is_killed(directory: Path) -> None:
    pids = directory / "pids"
    told = await ended(sh(f"trap '' TERM; echo $$ >{pids}; while :; do sleep 600; done"), timeout=2)
    assert told.problem == "timed out after 2s"
    await until_gone(pids)


async def test_what_a_command_left_in_the_background_is_not_waited_for(directory: Path) -> None:
    pids = directory / "pids"
    told = await ended(sh(f"sleep 600 & echo $! >{pids}; echo started"))
    assert told == Ended(0, "started\n", "", USER)
    (pid,) = numbers_in(pids)
    os.kill(pid, 9)


async def test_a_command_that_is_broken_off_leaves_nothing(directory: Path) -> None:
    pids = directory / "pids"
    running = asyncio.create_task(ended(sh(f"sleep 600 & echo $! $$ >{pids}; wait")))
    await until(lambda: pids.exists() and len(numbers_in(pids)) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until_gone(pids)


async def test_one_that_is_broken_off_at_once_leaves_nothing_either() -> None:
    before = descriptors()
    for turns in range(4):
        running = asyncio.create_task(ended(sh("sleep 600")))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    await until(lambda: descriptors() == before and not children())


async def test_hundreds_of_runs_leave_nothing_behind() -> None:
    before = descriptors()
    for _ in range(20):
        told = await asyncio.gather(*(ended(Command(("/bin/true",))) for _ in range(5)))
        assert {each.status for each in told} == {0}
    assert descriptors() == before
    assert children() == []


async def test_a_command_that_hangs_or_floods_never_delays_the_loop() -> None:
    running = [
        asyncio.create_task(ended(sh(script), timeout=2))
        for script in ("exec yes", "exec sleep 600", "while :; do echo ill >&2; done")
    ]
    used = time.thread_time()
    await asyncio.wait(running)
    assert time.thread_time() - used < 1.0  # a third of the time at most, however slow the host
    assert [task.result().problem for task in running] == ["timed out after 2s"] * 3


async def test_a_shortage_of_lvsds_own_is_told_apart() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    await ended(sh("exit 0"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        told = await ended(sh("exit 0"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert told.local
    assert told.problem == "/bin/sh cannot be started: Too many open files"
    assert (await ended(sh("exit 0"))).passed


async def test_what_hangs_before_it_starts_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lets_go = Event()
    usual = unprivileged.spawn

    def spawn(argv: tuple[str, ...], user: str) -> unprivileged.Spawned:
        lets_go.wait()  # as for a dead file server
        return usual(argv, user)

    monkeypatch.setattr(commands, "spawn", spawn)
    true = Command(("/bin/true",))
    assert (await ended(true, timeout=0.1)).problem == "it could not be started in 0.1s"
    assert (await ended(true)).problem == "an earlier run of it hangs and cannot be killed"
    lets_go.set()
    await until(lambda: not commands._hanging)  # noqa: SLF001 - nothing else tells that it may be tried
    assert (await ended(true)).passed
    await until(lambda: not children())


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir() if each.is_symlink()}


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
