"""What lvsd does with what it cannot use: bad configurations, a full disc, a kernel that does not let it."""

from __future__ import annotations

import errno
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import pytest_asyncio
from waiting import until

from lvsd.lab.classic import VIP, classic
from lvsd.lab.director import START_WITHIN, DirectorProcess, command
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Page, Refuse
from lvsd.lab.namespaces import mount
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer
    from lvsd.lab.process import Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2 = "192.168.0.3", "192.168.0.4"
GOOD = f"""\
ipvs: {{on_stop: remove}}
checks:
  page: {{type: http, expect: ok, interval: 200ms}}
virtual_services:
  web:
    address: {VIP}:80
    check: page
    real_servers: [{RS1}, {RS2}]
"""
BOTH = {("TCP", VIP, 80): {(RS1, 80): 1, (RS2, 80): 1}}
WITHIN = 30.0
"""Seconds for a start that fails: the imports alone take three in the lab, ten on a busy machine."""


def _anchors() -> str:
    """Return nine levels of ten aliases each: a billion values, if they were made."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines) + "\n"


def _huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(100 << 20)


@dataclass(frozen=True)
class Bad:
    """A configuration that cannot be used, and what is said of it after its name."""

    make: Callable[[Path], object]
    said: str


BAD = {
    "missing": Bad(lambda _: None, ": does not exist"),
    "directory": Bad(Path.mkdir, ": is a directory, not a file"),
    "empty": Bad(Path.touch, ": is empty"),
    "binary": Bad(lambda file: file.write_bytes(bytes(range(256)) * 16), ":3:115: is not UTF-8 text"),
    "circle": Bad(
        lambda file: file.write_text(f"include: {file.name}\n"), ":1:10: include: goes round in a circle"
    ),
    "anchors": Bad(lambda file: file.write_text(_anchors()), r":6:\d+: holds more than [\d,]+ values"),
    "huge": Bad(_huge, ": is too large for a configuration: more than 16 MiB"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        yield built


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _ended(lab: Lab) -> AsyncIterator[None]:
    """One lvsd runs on a host: what a failed test leaves would fail the next ones."""
    yield
    for process in lab.hosts["vs1"].processes:
        if process.name == "lvsd":
            await process.stop(START_WITHIN)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rs1(lab: Lab) -> MisbehavingServer:
    """rs1's web server; rs2 has one that stays good."""
    await lab.hosts["rs2"].misbehave(80, Page())
    return await lab.hosts["rs1"].misbehave(80, Page())


async def test_a_bad_configuration_ends_the_start_and_is_named(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    for name, bad in BAD.items():
        file = vs1.directory / f"{name}.yaml"
        bad.make(file)
        ended = await vs1.run(command("run", "-c", str(file)), timeout=WITHIN, check=False)
        assert ended.status == 1, (name, ended)
        assert re.search(re.escape(str(file)) + bad.said, ended.output), (name, ended)
        assert "Traceback" not in ended.output, (name, ended)
        assert len(ended.output) < 2000, (name, ended)
    assert await vs1.read_table() == {}


@pytest.mark.usefixtures("rs1")
async def test_a_bad_configuration_is_rejected_by_a_reload_and_the_running_one_stays(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    director = await DirectorProcess.start(vs1, GOOD)
    await until(lambda: _shows(vs1, BOTH))
    for name, bad in BAD.items():
        director.config.unlink()
        bad.make(director.config)
        answer = await director.reload()
        assert answer["event"] == "config.rejected", name
        said = "\n".join(answer["mistakes"])
        assert re.search(re.escape(str(director.config)) + bad.said, said), (name, said)
        _clear(director.config)
        director.config.touch()
        assert weights(await vs1.read_table()) == BOTH
    assert director.found("server.removed") == []
    assert director.found("service.removed") == []
    assert (await director.reload(GOOD))["event"] == "config.loaded"
    assert weights(await vs1.read_table()) == BOTH
    await director.stop()


async def test_a_log_in_a_directory_that_is_missing_ends_the_start_and_says_so(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    file = vs1.directory / "nowhere.yaml"
    file.write_text("log: {file: /nowhere/lvsd.log}\n" + GOOD)
    ended = await vs1.run(command("run", "-c", str(file)), timeout=WITHIN, check=False)
    assert ended.status == 1
    message = "log.file: cannot write to /nowhere/lvsd.log: No such file or directory"
    assert re.search(f"{re.escape(str(file))}.*: {message}", ended.output), ended.output


async def test_a_full_disc_stops_no_failover_and_tears_no_line(lab: Lab, rs1: MisbehavingServer) -> None:
    vs1 = lab.hosts["vs1"]
    process, log = await _on_a_small_disc(vs1, "8m")
    await until(lambda: _shows(vs1, BOTH), START_WITHIN)
    ballast = log.with_name("ballast")
    await vs1.do(_fill, ballast)
    await process.saw(f"the log cannot be written to {log}: No space left on device", 60.0)
    await rs1.behave(Refuse())
    await until(lambda: _shows(vs1, {("TCP", VIP, 80): {(RS2, 80): 1}}))
    await rs1.behave(Page())
    await until(lambda: _shows(vs1, BOTH))
    await vs1.do(ballast.unlink)
    await until(lambda: _tells(vs1, log, f'"event":"server.removed".*"{RS1}:80"'))
    process.terminate()
    assert await process.wait(START_WITHIN) == 0
    lines = [orjson.loads(line) for line in await vs1.do(_lines, log)]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["event"] == "director.stopped"


@pytest.mark.usefixtures("rs1")
async def test_a_log_that_filled_its_disc_is_let_go_when_it_is_deleted(lab: Lab) -> None:
    """rm and SIGHUP: the disc stays full for as long as lvsd holds the file that was deleted."""
    vs1 = lab.hosts["vs1"]
    process, log = await _on_a_small_disc(vs1, "16k")
    await process.saw(f"the log cannot be written to {log}: No space left on device", 60.0)
    await vs1.do(log.unlink)
    process.signal(signal.SIGHUP)
    await until(lambda: _tells(vs1, log, '"event":"'))
    for line in await vs1.do(_lines, log):
        orjson.loads(line)
    process.terminate()
    assert await process.wait(START_WITHIN) == 0


async def test_a_start_without_the_right_names_the_capability(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    file = vs1.directory / "rights.yaml"
    file.write_text(GOOD)
    without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    ended = await vs1.run([*without, *command("run", "-c", str(file))], timeout=WITHIN, check=False)
    assert ended.status == 1, ended.output
    assert "CAP_NET_ADMIN" in ended.output
    assert "Traceback" not in ended.output


async def test_a_start_without_the_ipvs_module_says_how_to_load_it(lab: Lab) -> None:
    vs1 = lab.hosts["vs1"]
    file = vs1.directory / "module.yaml"
    file.write_text(GOOD)
    await vs1.run(["ipvsadm", "-C"])  # a row keeps its scheduler in use
    loads = _loads_modules("/bin/false")  # else the kernel loads it for whoever asks
    try:
        modules = _ipvs_modules()
        removed = await vs1.run(["/sbin/rmmod", *modules], check=False)
        if not modules or removed.status != 0:
            pytest.skip(f"ip_vs cannot be unloaded: {removed.output.strip() or 'it is no module here'}")
        ended = await vs1.run(command("run", "-c", str(file)), timeout=WITHIN, check=False)
    finally:
        _loads_modules(loads)
        await vs1.run([loads, "ip_vs"])
    assert ended.status == 1, ended.output
    assert "modprobe ip_vs" in ended.output
    assert "Traceback" not in ended.output


async def _on_a_small_disc(machine: Machine, size: str) -> tuple[Process, Path]:
    """Start lvsd with a debug log on a file system of its own; return it and the log."""
    disc, file = machine.directory / f"disc-{size}", machine.directory / f"disc-{size}.yaml"
    disc.mkdir()
    await machine.do(mount, "tmpfs", str(disc), "tmpfs", options=f"size={size}")
    log = disc / "lvsd.log"
    file.write_text(f"log: {{level: debug, format: json, file: {log}}}\n" + GOOD)
    return await machine.start(command("run", "-c", str(file)), name="lvsd"), log


async def _shows(machine: Machine, wanted: object) -> bool:
    return weights(await machine.read_table()) == wanted


async def _tells(machine: Machine, log: Path, pattern: str) -> bool:
    return re.search(pattern, "\n".join(await machine.do(_lines, log))) is not None


def _lines(log: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return log.read_text().splitlines()
    return []


def _loads_modules(helper: str) -> str:
    """Let the kernel load modules with another program; return the one before."""
    file = Path("/proc/sys/kernel/modprobe")
    before = file.read_text().strip()
    file.write_text(helper)
    return before


def _ipvs_modules() -> list[str]:
    """Return IPVS and its schedulers, as they can be unloaded: what nothing else needs comes first."""
    loaded = [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()]
    return sorted((name for name in loaded if name.startswith("ip_vs")), key=len, reverse=True)


def _fill(file: Path) -> None:
    """Write to a file until the disc is full."""
    with file.open("wb", buffering=0) as opened:
        try:
            while True:
                opened.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def _clear(file: Path) -> None:
    if file.is_dir():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)
