"""Configurations loaded by a real child process, and this host's names."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import pytest

from lvsd.config.source import Unreadable
from lvsd.edge import loader
from lvsd.edge.loader import Files, load, load_config
from lvsd.edge.names import SystemNames, resolve
from lvsd.errors import ConfigError
from lvsd.model import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1024 * 1024
SERVICE = "  s{0}: {{address: '192.0.2.1:{0}', check: c, real_servers: [198.51.100.1, 198.51.100.2]}}\n"
BASE_MEMORY = 64 * MIB
"""What a child needs for a configuration of one line, and then some."""


def many_services(count: int) -> str:
    services = "".join(SERVICE.format(number) for number in range(1, count + 1))
    return f"checks: {{c: {{type: tcp}}}}\nvirtual_services:\n{services}"


async def mistakes_of(path: Path | str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        await load(str(path))
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
    assert turns > size / loader.CHUNK


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


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Run as a user who may read little."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("as_nobody")
def test_file_that_may_not_be_read_is_said_so() -> None:
    with pytest.raises(Unreadable, match=r"^may not be read by this user \(id \d+\)$"):
        Files().read("/proc/1/mem" if os.geteuid() else "/etc/shadow")


@dataclass
class Ended:
    """What a child took."""

    status: int
    cpu: float
    memory: int
    stdout: str


MEASURE = """
import os, sys
command = [sys.executable, "-P", "-m", "lvsd.edge.loader", sys.argv[1]]
_, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
cpu = usage.ru_utime + usage.ru_stime
print(os.waitstatus_to_exitcode(status), cpu, usage.ru_maxrss * 1024, file=sys.stderr)
"""
"""A small parent: of its memory at the fork, the kernel holds the child to account."""


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


async def test_child_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lvsd.yaml"
    path.write_text(many_services(1))
    monkeypatch.setattr(loader, "TIME_LIMIT", 0.01)
    began = perf_counter()
    assert await mistakes_of(path) == [": could not be read within 0 s"]
    assert perf_counter() - began < 5


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("kill -9 $$", "was killed, perhaps because this host is short of memory"),
        ("kill -XCPU $$", "took more than 60 s"),
        ("kill -ABRT $$", "was killed by signal 6"),
        ("exit 7", "ended with status 7"),
        ("printf H", "ended with status 0"),
        ("echo nonsense that is no frame", "ended with status 0"),
        (r"printf 'W\000\000\000\000E\000\000\000\000'", "ended with status 0"),
    ],
)
async def test_child_that_dies_is_a_mistake_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\nulimit -c 0\n{program}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    (mistake,) = await mistakes_of("f")
    assert mistake == f": could not be read: the process that parses it {message}"


async def test_child_that_cannot_be_started_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    (mistake,) = await mistakes_of("f")
    assert mistake.endswith("the process that parses it cannot be started: No such file or directory")


async def test_cancelled_load_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_memory_that_runs_out_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def run_out(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr(loader, "load_config", run_out)
    monkeypatch.setattr(loader, "_confine", lambda: None)
    assert loader.main("f") == 0
    assert b"needs more than 2 GiB of memory to read" in capfdbinary.readouterr().out


def test_child_does_without_asyncio_and_the_daemon_without_pydantic() -> None:
    def modules(code: str) -> set[str]:
        command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())  # noqa: S603

    daemon = modules("import lvsd.edge.loader, lvsd.config.model")
    assert not {"pydantic", "yaml", "asyncio"} & daemon
    parsing = modules("import lvsd.edge.loader, lvsd.config.load")
    assert {"pydantic", "yaml"} <= parsing
    assert not {"asyncio", "structlog", "aiohttp", "pyroute2"} & parsing


def look_up(answers: dict[tuple[str, int], list[str]]) -> Callable[..., list[object]]:
    """Return a getaddrinfo that knows `answers`."""

    def getaddrinfo(name: str, port: None, *, family: int, type: int) -> list[object]:  # noqa: A002
        found = answers.get((name, 4 if family == socket.AF_INET else 6))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, type, 6, "", (address, port)) for address in found]

    return getaddrinfo


def test_name_with_many_addresses_always_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for order in (["192.0.2.9", "192.0.2.7", "127.0.1.1"], ["127.0.1.1", "192.0.2.7", "192.0.2.9"]):
        monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): order}))
        assert resolve({("rs1", 4)}) == {("rs1", 4): Address.parse("192.0.2.7")}


def test_name_that_does_not_resolve_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): ["192.0.2.1"]}))
    assert resolve({("rs1", 4), ("rs1", 6), ("rs9", 4)}) == {("rs1", 4): Address.parse("192.0.2.1")}
    assert resolve(set()) == {}


def test_names_prefer_the_ip_version_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {("both", 4): ["192.0.2.1"], ("both", 6): ["2001:db8::1"], ("four", 4): ["192.0.2.4"]}
    monkeypatch.setattr(socket, "getaddrinfo", look_up(answers))
    names = SystemNames()
    assert str(names.address("both", 6)) == "2001:db8::1"
    assert str(names.address("both", 4)) == "192.0.2.1"
    assert str(names.address("four", 6)) == "192.0.2.4"
    assert names.address("nobody", 4) is None


def test_each_name_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SystemNames()
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs1", 4): ["192.0.2.1"]}))
    names.prefetch([("rs1", 4), ("rs9", 4)])
    monkeypatch.setattr(socket, "getaddrinfo", look_up({}))
    assert str(names.address("rs1", 4)) == "192.0.2.1"
    monkeypatch.setattr(socket, "getaddrinfo", look_up({("rs9", 4): ["192.0.2.9"]}))
    assert names.address("rs9", 4) is None


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "\u00fc" * 80, ""])
def test_impossible_names_do_not_resolve(name: str) -> None:
    assert SystemNames().address(name, 4) is None or name == ""


@pytest.mark.parametrize(("name", "port"), [("www", 80), ("http", 80), ("telnet", 23), ("nonesuch", None)])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_well_known_ports_have_names_even_without_etc_services(
    monkeypatch: pytest.MonkeyPatch, name: str, port: int | None, protocol: str
) -> None:
    assert SystemNames().port(name, protocol) == port

    def knows_none(name: str, protocol: str) -> int:
        raise OSError(name, protocol)

    monkeypatch.setattr(socket, "getservbyname", knows_none)
    assert SystemNames().port(name, protocol) == port


def test_hosts_file_is_heeded() -> None:
    assert SystemNames().address("localhost", 4) == Address.parse("127.0.0.1")
