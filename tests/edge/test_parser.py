"""Configurations parsed by the real process."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from lvsd.edge import parser, parser_process
from lvsd.edge.loader import load_config
from lvsd.edge.parser import Parser
from lvsd.edge.parser_process import ParserProcess
from lvsd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lvsd.config.frames import Loaded

MIB = 1024 * 1024
SERVICE = "  s{0}: {{address: '192.0.2.1:{0}', check: c, real_servers: [198.51.100.1, 198.51.100.2]}}\n"
BASE_MEMORY = 64 * MIB
"""What a child needs for a configuration of one line, and then some."""


def many_services(count: int) -> str:
    services = "".join(SERVICE.format(number) for number in range(1, count + 1))
    return f"checks: {{c: {{type: tcp}}}}\nvirtual_services:\n{services}"


async def load(path: Path | str) -> Loaded:
    parser = Parser()
    try:
        return await parser.load(str(path))
    finally:
        parser.close()


async def mistakes_of(path: Path | str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        await load(path)
    return [str(mistake).removeprefix(str(path)) for mistake in caught.value.mistakes]


async def test_child_and_this_process_read_the_same(tmp_path: Path) -> None:
    path = tmp_path / "lvsd.yaml"
    path.write_text(many_services(3))
    config, notes = load_config(str(path))
    loaded = await load(str(path))
    assert loaded.config() == config
    assert loaded.notes == notes
    assert loaded.files == (str(path),)


async def test_mistakes_come_from_the_child_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "lvsd.yaml"
    path.write_text("log: {levle: info}\nvirtual_services: {}\n")
    assert await mistakes_of(path) == [":1:7: log.levle: is no setting; did you mean 'level'?"]


async def test_equal_services_have_equal_digests_in_every_child(tmp_path: Path) -> None:
    path = tmp_path / "lvsd.yaml"
    text = many_services(20).replace(
        "check: c,", "check: c, scheduler: mh, scheduler_flags: [mh-port, mh-fallback],", 5
    )
    path.write_text(text)
    first = await load(str(path))
    path.write_text(f"{text}  added: {{address: '192.0.2.2:80', real_servers: []}}\n")
    second = await load(str(path))
    changed = {name for name, blob in second.services.items() if first.services.get(name) != blob}
    assert changed == {"added"}


async def test_reading_thousands_of_services_does_not_hold_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "lvsd.yaml"
    path.write_text(many_services(2000))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    loaded = await load(str(path))
    counting.cancel()
    size = sum(len(blob.packed) for blob in loaded.services.values())
    assert len(loaded.services) == 2000
    assert turns > size / parser.CHUNK


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, ": does not exist"),
        (lambda path: path.mkdir(), ": is a directory, not a file"),
        (lambda path: path.write_bytes(b""), ": is empty: there is nothing to configure from"),
        (lambda path: path.write_bytes(bytes(4096)), ":1:1: is not text: control character U+0000"),
        (os.mkfifo, ": is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), ": is not a regular file"),
        (lambda path: path.symlink_to(path), ": cannot be read: Too many levels of symbolic links"),
    ],
    ids=["missing", "directory", "empty", "binary", "fifo", "device", "link-to-itself"],
)
async def test_what_is_no_configuration_file_is_said_so(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "lvsd.yaml"
    make(path)
    assert await mistakes_of(path) == [message]


@dataclass
class Ended:
    """What a child took."""

    status: int
    cpu: float
    memory: int
    stdout: str


MEASURE = """
import os, sys
from lvsd.edge import parser_process
import lvsd.config.load
child = os.fork()
if child == 0:
    os._exit(parser_process.answer(sys.argv[1], 1))
_, status, usage = os.wait4(child, 0)
cpu = usage.ru_utime + usage.ru_stime
print(os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss * 1024, file=sys.stderr)
"""
"""What the process does for a request, in a small one that measures it."""


def child(path: Path) -> Ended:
    """Parse `path` in a child, and measure it."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True)  # noqa: S603
    status, cpu, memory = ended.stderr.split()
    return Ended(int(status), float(cpu), int(memory), ended.stdout)


def laughs() -> str:
    rows = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)]
    return "a0: &a0 [x, x, x]\n" + "".join(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(), "holds more than 1,000,000 values"),
        ("a: " + "[" * 5_000_000, "is nested more than 20 deep"),
        ("a: 1\n" * 1_000_000, "is given twice"),
        ("x: " + "y" * 15_000_000 + "\nvirtual_services: {}", "is no setting"),
        ("include: lvsd.yaml\nvirtual_services: {}", "goes round in a circle"),
        ("LVS_TYPE=VS_DR\n" * 500_000, "is given twice"),
        ("- " * 5_000_000, "must be a mapping"),
    ],
    ids=["laughs", "nested", "repeated", "long", "circle", "lvs.conf", "list"],
)
def test_hostile_file_is_refused_soon_and_in_little_memory(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lvsd.yaml"
    path.write_text(text)
    ended = child(path)
    assert message in ended.stdout
    assert ended.status == 0
    assert ended.cpu < 2
    assert ended.memory < BASE_MEMORY + 16 * len(text)


def test_a_hundred_megabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "lvsd.yaml"
    with path.open("wb") as file:
        file.truncate(100 * MIB)
    ended = child(path)
    assert "is too large for a configuration: more than 16 MiB" in ended.stdout
    assert ended.cpu < 2
    assert ended.memory < BASE_MEMORY


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "lvsd.yaml"
    path.write_text(many_services(1))
    return path


async def test_one_process_serves_request_after_request(valid: Path) -> None:
    parser = Parser()
    process = pid_of(parser, await parser.load(str(valid)))
    write(valid, "")
    with pytest.raises(ConfigError):
        await parser.load(str(valid))
    write(valid, many_services(2))
    loaded = await parser.load(str(valid))
    assert len(loaded.services) == 2
    assert pid_of(parser, loaded) == process
    parser.close()
    assert not exists(process)


async def test_a_process_begun_before_serves_the_first_load(valid: Path) -> None:
    begun = ParserProcess(str(valid))
    parser = Parser(begun)
    assert pid_of(parser, await parser.load(str(valid))) == begun.pid
    assert pid_of(parser, await parser.load(str(valid))) == begun.pid
    parser.close()


async def test_a_process_that_ended_meanwhile_is_replaced(valid: Path) -> None:
    parser = Parser()
    first = pid_of(parser, await parser.load(str(valid)))
    os.kill(first, 9)
    second = pid_of(parser, await parser.load(str(valid)))
    assert second != first
    os.kill(second, 9)
    await gone(second)  # noticed while nothing is loaded, too: no zombie stays
    await parser.load(str(valid))
    parser.close()


async def test_the_process_leaves_when_nobody_asks_any_more(valid: Path) -> None:
    code = "from lvsd.edge import parser_process as p; p.STAYS = 0.1; p.main()"
    command = [sys.executable, "-P", "-c", code]
    begun = ParserProcess(str(valid), command)
    parser = Parser(begun)
    await parser.load(str(valid))
    await gone(begun.pid)
    assert len((await parser.load(str(valid))).services) == 1
    parser.close()


async def test_the_process_ends_with_the_daemon(valid: Path) -> None:
    code = "import sys; from lvsd.edge.parser_process import ParserProcess as P; print(P(sys.argv[1]).pid)"
    command = [sys.executable, "-c", code, str(valid)]
    daemon = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await daemon.communicate()
    await gone(int(told))


async def test_signals_for_the_daemon_do_not_end_the_process(valid: Path) -> None:
    parser = Parser()
    process = pid_of(parser, await parser.load(str(valid)))
    for number in (1, 10):
        os.kill(process, number)
    assert pid_of(parser, await parser.load(str(valid))) == process
    parser.close()


def test_signals_for_the_daemon_do_not_end_a_process_that_only_begins() -> None:
    process = ParserProcess("f", ["/bin/sleep", "60"])
    for number in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(process.pid, number)
    assert process.end() == -signal.SIGKILL


@pytest.mark.parametrize("fails", ["socketpair", "send_fds"])
def test_a_process_that_cannot_be_asked_is_ended(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    pids: list[int] = []
    spawn, socketpair = parser_process._spawn, socket.socketpair  # noqa: SLF001 - to know which process it is

    def run_out(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def spawn_and_run_out(control: int, command: list[str]) -> int:
        pids.append(spawn(control, command))
        monkeypatch.setattr(socket, fails, run_out)
        return pids[0]

    monkeypatch.setattr(parser_process, "_spawn", spawn_and_run_out)
    with pytest.raises(OSError, match="Too many open files"):
        ParserProcess("f")
    monkeypatch.setattr(socket, "socketpair", socketpair)
    assert [exists(pid) for pid in pids] == [False]


def test_a_supervisor_that_ignores_sigchld_is_no_trouble(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-m', 'lvsd', 'run', '-c', sys.argv[1]])"
    )
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, "/missing.yaml"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
    )
    assert (ended.stderr, ended.returncode) == ("/missing.yaml: does not exist\n", 1)


async def test_a_file_that_takes_too_long_is_given_up(valid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "TIME_LIMIT", 0.01)
    began = perf_counter()
    assert await mistakes_of(valid) == [": could not be read: it took more than 0 s"]
    assert perf_counter() - began < 30


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("kill -9 $$", "was killed, perhaps because this host is short of memory"),
        ("kill -XCPU $$", "took more than 60 s"),
        ("kill -ABRT $$", "was killed by signal 6"),
        ("exit 7", "ended with status 7"),
        ("true", "ended with status 0"),
    ],
)
async def test_a_process_that_dies_is_a_mistake_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\nulimit -c 0\n{program}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    (mistake,) = await mistakes_of("f")
    assert mistake == f": could not be read: the process that parses it {message}"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("os.kill(os.getpid(), 9)", "was killed, perhaps because this host is short of memory"),
        ("os._exit(7)", "ended with status 7"),
        ("sys.exit(7)", "ended with status 1"),
        ("os.write(d, b'H')", "ended with status 0"),
        ("os.write(d, b'no frame at all')", "ended with status 0"),
        ("os.write(d, b'W\\0\\0\\0\\0E\\0\\0\\0\\0')", "ended with status 0"),
    ],
)
async def test_a_child_that_dies_is_a_mistake_and_the_process_goes_on(
    valid: Path, statement: str, message: str
) -> None:
    code = f"""if True:
        import os, sys
        from lvsd.edge import parser_process as p
        right = p.answer
        def answer(path, d):
            if path != "f":
                return right(path, d)
            {statement}
            return 0
        p.answer = answer
        p.main()
    """
    begun = ParserProcess("f", [sys.executable, "-P", "-c", code])
    parser = Parser(begun)
    with pytest.raises(ConfigError) as caught:
        await parser.load("f")
    assert str(caught.value.mistakes[0]) == f"f: could not be read: the process that parses it {message}"
    assert pid_of(parser, await parser.load(str(valid))) == begun.pid
    parser.close()


async def test_a_process_that_cannot_be_started_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (mistake,) = await mistakes_of("f")
    assert mistake.endswith("the process that parses it cannot be started: No such file or directory")


async def test_a_load_that_is_broken_off_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "python"
    os.mkfifo(tmp_path / "pid")
    stand_in.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    loading = asyncio.create_task(load("f"))
    pid = int(await asyncio.to_thread((tmp_path / "pid").read_text))
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not exists(pid)


def test_memory_that_runs_out_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr(parser_process, "load_config", run_out)
    monkeypatch.setattr(parser_process, "_confine", lambda: None)
    receiving, sending = os.pipe()
    assert parser_process.answer("f", sending) == 0
    with os.fdopen(receiving, "rb") as out:
        assert b"needs more than 2 GiB of memory to read" in out.read()


def test_the_process_does_without_asyncio_and_the_daemon_without_pydantic() -> None:
    def modules(code: str) -> set[str]:
        command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())  # noqa: S603

    assert not {"pydantic", "yaml"} & modules("import lvsd.edge.run")
    process = modules("import lvsd.edge.parser_process, lvsd.config.load")
    assert {"pydantic", "yaml"} <= process
    assert not {"asyncio", "structlog", "aiohttp", "pyroute2"} & process


def pid_of(parser: Parser, _: Loaded) -> int:
    process = parser._process  # noqa: SLF001 - which one it is shows nowhere else
    assert process is not None
    return process.pid


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while exists(pid):  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
