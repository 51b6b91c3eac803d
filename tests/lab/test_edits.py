"""What a reload does to rows, beside what `lvsd plan` had said, and what it leaves alone.

One network and one lvsd serve all tests of this file; each begins with BASE in force and both servers up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from tables import Watch, kernel, told
from waiting import until

from lvsd.lab.classic import CLIENT, REAL_SERVERS, VIP, classic
from lvsd.lab.director import DirectorProcess, command
from lvsd.lab.lab import Lab
from lvsd.lab.misbehaving import Echo, Page, Refuse
from lvsd.lab.table import weights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lvsd.lab.machine import Machine
    from lvsd.lab.misbehaving import MisbehavingServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

RS1, RS2, RS3 = "192.168.0.3", "192.168.0.4", "192.168.0.5"
VIP2 = "192.168.0.102"
WWW, OTHER, TALK = ("TCP", VIP, 80), ("TCP", VIP, 81), ("TCP", VIP, 7)
EXPIRE = Path("/proc/sys/net/ipv4/vs/expire_nodest_conn")
BASE = f"""\
include: conf.d/*.yaml
director:
  name: vs1
  addresses:
    - {{address: {VIP}/24, interface: eth0, label: "eth0:101"}}
ipvs: {{reconcile: 1s}}
checks:
  web: {{type: http, interval: 500ms, fast_interval: 100ms}}
virtual_services:
  www:
    address: {VIP}:80
    scheduler: wrr
    forward: dr
    check: web
    real_servers:
      - rs1
      - {{address: rs2, weight: 2}}
  other:
    address: {VIP}:81
    check: web
    real_servers: [rs1, rs2]
  talk:
    address: {VIP}:7
    check: none
    real_servers: [rs1, rs2]
"""
ROWS = {
    WWW: {(RS1, 80): 1, (RS2, 80): 2},
    OTHER: {(RS1, 81): 1, (RS2, 81): 1},
    TALK: {(RS1, 7): 1, (RS2, 7): 1},
}


@dataclass(frozen=True)
class Site:
    """All that is running; `servers` by host and port."""

    lab: Lab
    director: DirectorProcess
    servers: dict[tuple[str, int], MisbehavingServer]
    in_force: list[str]

    @property
    def vs1(self) -> Machine:
        """The director's host."""
        return self.lab.hosts["vs1"]

    @property
    def included(self) -> Path:
        """The directory that BASE includes."""
        return self.director.config.parent / "conf.d"

    async def rows(self) -> dict[tuple[str, str, int], dict[tuple[str, int], int]]:
        """Return the weights in the kernel's table."""
        return weights(await self.vs1.read_table())

    async def shows(self, rows: dict[tuple[str, str, int], dict[tuple[str, int], int]]) -> None:
        """Wait until the table has just these rows."""
        await until(lambda: self._has(rows))

    async def reload(self, text: str) -> None:
        """Bring `text` into force, to the end."""
        after = self.director.seq
        loaded = await self.director.reload(text)
        assert loaded["event"] == "config.loaded", loaded
        await self.director.saw("snapshot.end", after=after)
        self.in_force[:] = [text]

    def moves(self, after: int) -> list[tuple[str, str, str]]:
        """Return what was done to rows: the event, the virtual service's address, the real server."""
        return [
            (record["event"], record["address"], record.get("server", ""))
            for record in self.director.lines()
            if record["seq"] > after and record["event"].startswith(("service.", "server."))
        ]

    async def plan(self, text: str) -> Plan:
        """Return what `lvsd plan` says of `text`."""
        file = self.director.config.with_name("planned.yaml")
        file.write_text(text)
        done = await self.vs1.run(command("plan", "--detailed-exitcode", "-c", str(file)), check=False)
        return Plan(done.status, done.output.splitlines())

    async def _has(self, rows: dict[tuple[str, str, int], dict[tuple[str, int], int]]) -> bool:
        return await self.rows() == rows


@dataclass(frozen=True)
class Plan:
    """What `lvsd plan` said."""

    status: int
    lines: list[str]

    @property
    def moves(self) -> list[tuple[str, str, str]]:
        """Return the changes in the words of the log: see `Site.moves`."""
        found = [_CHANGE.match(line) for line in self.lines if not line.startswith("#")]
        return [(_EVENTS[each[1]], each[2], each[3] or "") for each in found if each]

    @property
    def waiting(self) -> list[str]:
        """Return who is said to join after a first probe."""
        return [
            line.split()[2] for line in self.lines if line.endswith("joins when its first probe has passed")
        ]


_CHANGE = re.compile(r"ipvsadm (-\w) -t (\S+)(?: -r (\S+))?")
_EVENTS = {
    "-A": "service.added", "-E": "service.edited", "-D": "service.removed",
    "-a": "server.added", "-e": "server.edited", "-d": "server.removed",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with Lab(classic(services=False)) as built:
        # A client's port may have been used in an earlier test, for a row that is gone.
        await built.hosts["vs1"].do(EXPIRE.write_text, "1")
        yield built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(lab: Lab) -> Site:
    servers = {
        (host, port): await lab.hosts[host].misbehave(port, Echo() if port == 7 else Page(f"{host}\n"))
        for host in REAL_SERVERS
        for port in (80, 81, 7)
    }
    director = await DirectorProcess.start(lab.hosts["vs1"], BASE)
    return Site(lab, director, servers, [BASE])


@pytest_asyncio.fixture(loop_scope="module")
async def site(running: Site) -> Site:
    """Return the site as every test finds it."""
    running.included.mkdir(exist_ok=True)
    for host in REAL_SERVERS:
        await running.servers[host, 80].behave(Page(f"{host}\n"))
    if running.in_force != [BASE]:
        await running.reload(BASE)
    running.director.config.write_text(BASE)
    await running.shows(ROWS)
    return running


@dataclass(frozen=True)
class Edit:
    """A change of BASE, and what it does to rows, in order."""

    old: str
    new: str
    moves: list[tuple[str, str, str]]


_NEW_SERVICE = f"""\
  new:
    address: {VIP}:82
    check: none
    real_servers: [rs1]
  talk:
"""
_WHOLE_TALK = BASE[BASE.index("  talk:") :]
EDITS = {
    "nothing": Edit("# ", "# ", []),
    "a weight": Edit(
        "- rs1\n", "- {address: rs1, weight: 5}\n", [("server.edited", f"{VIP}:80", f"{RS1}:80")]
    ),
    "the weight 0": Edit("weight: 2", "weight: 0", [("server.edited", f"{VIP}:80", f"{RS2}:80")]),
    "the scheduler": Edit("scheduler: wrr", "scheduler: sh", [("service.edited", f"{VIP}:80", "")]),
    "persistence": Edit("forward: dr", "persistence: 5m", [("service.edited", f"{VIP}:80", "")]),
    "a check": Edit("type: http,", "type: http, path: /other,", []),
    "a check's type": Edit("check: web\n    real_servers:\n", "check: {type: tcp}\n    real_servers:\n", []),
    "the forwarding method": Edit(
        "forward: dr",
        "forward: tun",
        [("server.edited", f"{VIP}:80", f"{RS1}:80"), ("server.edited", f"{VIP}:80", f"{RS2}:80")],
    ),
    "one server more": Edit("- rs1\n", "- rs1\n      - rs3\n", [("server.added", f"{VIP}:80", f"{RS3}:80")]),
    "one server less": Edit("      - rs1\n", "", [("server.removed", f"{VIP}:80", f"{RS1}:80")]),
    "one server for another": Edit(
        "      - rs1\n",
        "      - rs3\n",
        [("server.removed", f"{VIP}:80", f"{RS1}:80"), ("server.added", f"{VIP}:80", f"{RS3}:80")],
    ),
    "another VIP": Edit(
        f"{VIP}:80",
        f"{VIP2}:80",
        [
            ("service.added", f"{VIP2}:80", ""),
            ("server.added", f"{VIP2}:80", f"{RS1}:80"),
            ("server.added", f"{VIP2}:80", f"{RS2}:80"),
            ("service.removed", f"{VIP}:80", ""),
        ],
    ),
    "another name": Edit("  www:", "  web:", []),
    "one service more": Edit(
        "  talk:\n",
        _NEW_SERVICE,
        [("service.added", f"{VIP}:82", ""), ("server.added", f"{VIP}:82", f"{RS1}:82")],
    ),
    "one service less": Edit(_WHOLE_TALK, "", [("service.removed", f"{VIP}:7", "")]),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
async def test_a_reload_moves_the_rows_that_differ_as_plan_had_said(site: Site, edit: Edit) -> None:
    text = BASE.replace(edit.old, edit.new)
    planned = await site.plan(text)
    after = site.director.seq
    async with Watch(site.vs1) as watch:
        await site.reload(text)
        await until(lambda: _enough(site, after, len(edit.moves)))
    assert sorted(site.moves(after)) == sorted(edit.moves)
    # What waits for a probe is told in its own line; all else is told as it then happened, in its order.
    later = [move for move in edit.moves if move[0] == "server.added" and move[2] in planned.waiting]
    assert planned.moves == [move for move in site.moves(after) if move not in later]
    assert planned.lines[-1] == f"# {len(planned.moves)} change{'' if len(planned.moves) == 1 else 's'}"
    assert planned.status == (2 if planned.moves else 0)
    moved = {address for _, address, _ in edit.moves}
    for key, rows in ROWS.items():
        if f"{key[1]}:{key[2]}" not in moved:
            assert watch.of(key) == [rows]
    assert kernel(await site.vs1.read_table()) == told(site.director.state())


async def test_a_service_that_is_moved_is_served_at_every_step(site: Site) -> None:
    async with Watch(site.vs1) as watch:
        await site.reload(BASE.replace(f"{VIP}:80", f"{VIP2}:80"))
        await until(lambda: _gone(site, WWW))
    assert all(table.get(WWW) or table.get(("TCP", VIP2, 80)) for table in watch.seen)


async def test_plan_counts_the_connections_that_a_removal_would_cut(site: Site) -> None:
    client = site.lab.hosts[CLIENT]
    async with await client.connect(VIP, 7) as first, await client.connect(VIP, 7) as second:
        assert [await first.exchange("one"), await second.exchange("two")] == ["one", "two"]
        planned = await site.plan(BASE.replace(_WHOLE_TALK, ""))
        assert planned.lines[0] == f"ipvsadm -D -t {VIP}:7    # 2 active and 0 inactive connections"
        talk = _WHOLE_TALK.replace("[rs1, rs2]", "[rs2]")
        planned = await site.plan(BASE.replace(_WHOLE_TALK, talk))
        removal = f"ipvsadm -d -t {VIP}:7 -r {RS1}:7    # 1 active and 0 inactive connections"
        assert planned.lines[0] == removal
        assert await first.exchange("still") == "still"


MISTAKES = {
    "a weight below 0": ("weight: 2", "weight: -1", 17),
    "a VIP given twice": (f"{VIP}:81", f"{VIP}:80", 19),
    "an include that is missing": ("conf.d/*.yaml", "missing.yaml", 1),
    "a tab": ("    scheduler", "\tscheduler", 12),
    "a log that cannot be written": ("ipvs:", "log: {file: /nowhere/lvsd.log}\nipvs:", None),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
async def test_a_broken_file_changes_nothing_and_the_line_is_named(
    site: Site, mistake: tuple[str, str, int | None]
) -> None:
    old, new, line = mistake
    after = site.director.seq
    before = site.director.state().to_json()
    async with Watch(site.vs1) as watch:
        told_so = await site.director.reload(BASE.replace(old, new, 1))
    assert told_so["event"] == "config.rejected"
    assert told_so["level"] == "error"
    assert told_so["count"] == len(told_so["mistakes"]) >= 1
    place = f"{site.director.config}:" if line is None else f"{site.director.config}:{line}:"
    assert told_so["mistakes"][0].startswith(place), told_so["mistakes"]
    assert watch.seen == [ROWS]
    assert [each["event"] for each in site.director.lines() if each["seq"] > after] == ["config.rejected"]
    now = site.director.state().to_json()
    assert {**now, "seq": 0, "at": ""} == {**before, "seq": 0, "at": ""}


async def test_a_missing_file_changes_nothing(site: Site) -> None:
    site.director.config.unlink()
    told_so = await site.director.reload()
    assert told_so["event"] == "config.rejected"
    assert told_so["mistakes"] == [f"{site.director.config}: does not exist"]
    assert await site.rows() == ROWS


async def test_a_dead_server_stays_out_whatever_a_reload_changes(site: Site) -> None:
    out = {**ROWS, WWW: {(RS2, 80): 2}}
    await site.servers["rs1", 80].behave(Refuse())
    await site.shows(out)
    after = site.director.seq
    text = BASE
    async with Watch(site.vs1) as watch:
        for old, new in (
            ("interval: 500ms,", "interval: 500ms, timeout: 2s,"),
            ("forward: dr", "forward: tun"),
            ("  www:", "  renamed:"),
            ("type: http,", "type: tcp,"),
            ("fast_interval: 100ms", "fast_interval: 100ms, rise: 5, fall: 5"),
            ("scheduler: wrr", "scheduler: wlc"),
            ("      - rs1\n", "      - {address: rs1, weight: 9}\n"),
            ("check: web\n    real_servers:\n", "initial: up\n    check: web\n    real_servers:\n"),
        ):
            assert old in text
            text = text.replace(old, new)
            await site.reload(text)
    assert all((RS1, 80) not in rows for rows in watch.of(WWW) if rows is not None)
    assert None not in watch.of(WWW)
    assert site.director.found("server.added", after=after) == []
    await site.servers["rs1", 80].behave(Page("rs1\n"))
    await site.shows({**ROWS, WWW: {(RS1, 80): 9, (RS2, 80): 2}})


async def test_included_files_come_and_go_with_reloads(site: Site) -> None:
    more = f"virtual_services: {{more: {{address: '{VIP}:90', check: none, real_servers: [rs3]}}}}\n"
    file = site.included / "more.yaml"
    file.write_text(more)
    await site.reload(BASE)
    await site.shows({**ROWS, ("TCP", VIP, 90): {(RS3, 90): 1}})
    file.write_text(more.replace("rs3", "{address: rs3, wieght: 2}"))
    told_so = await site.director.reload()
    assert told_so["event"] == "config.rejected"
    assert told_so["mistakes"][0].startswith(f"{file}:1:")
    assert "did you mean `weight`?" in told_so["mistakes"][0] or "weight" in told_so["mistakes"][0]
    file.unlink()
    await site.reload(BASE)
    await site.shows(ROWS)


async def _enough(site: Site, after: int, least: int) -> bool:
    return len(site.moves(after)) >= least


async def _gone(site: Site, key: tuple[str, str, int]) -> bool:
    return key not in await site.rows()
