"""The shipped unit under a real systemd as process 1."""

from __future__ import annotations

import gzip
import os
import pwd
import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
import pytest
from installed import (
    BOTH_UP,
    CONFIG,
    CONFIG_TEXT,
    LOG,
    NOTIFIED,
    OWN_VIP,
    ROOT,
    RS1,
    RS2,
    SHIPPED,
    STATE,
    VIP,
    VRRP,
    WWW,
    Weights,
    events,
    install,
    journal,
    last_moment,
    main_pid,
    make_notify_command,
    messages,
    page,
    run,
    show,
    status,
    table,
    until,
    vips,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND_SERVICE = """\
  other:
    address: 192.168.0.101:8080
    forward: nat
    scheduler: wlc
    check: none
    real_servers: [{address: 192.168.0.3:80, weight: 3}]
"""
WITH_SECOND = {**BOTH_UP, ("TCP", VIP, 8080): {(RS1, 80): 3}}
BROKEN = CONFIG_TEXT.replace("scheduler: rr", "scheduler: rrr")
BROKEN_LINE = BROKEN.splitlines().index("    scheduler: rrr") + 1
MANY = [f"192.168.0.{number}" for number in range(100, 200) if number != 101]
WITH_MANY = f"""\
{CONFIG_TEXT}
  many: {{address: "192.168.0.101:8081", forward: nat, check: none, real_servers: {MANY}}}
ipvs: {{reconcile: 500ms}}
log: {{file: {LOG}}}
"""
WITH_MANY_ROWS = {**BOTH_UP, ("TCP", VIP, 8081): {(server, 8081): 1 for server in MANY}}
ROTATIONS = 4
REMOVE_ON_STOP = f"{CONFIG_TEXT}ipvs: {{on_stop: remove}}\n"
SHARED = CONFIG_TEXT.replace(OWN_VIP, "") + VRRP
VIPS = [("eth0", f"{VIP}/24", "eth0:101")]
SHORT_STOP = Path("/run/systemd/system/lvsd.service.d/short.conf")
START_WITHIN = 120.0
"""Seconds for a start in the lab, where the imports alone take three."""


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    install()
    run("systemctl", "start", "web@rs1", "web@rs2")


@pytest.fixture(autouse=True)
def _running(_installed: None) -> None:
    """Before each test lvsd runs with its first configuration, and both servers are up."""
    if CONFIG.read_text() != CONFIG_TEXT or show("SubState") != ["running"]:
        CONFIG.write_text(CONFIG_TEXT)
        run("systemctl", "reload-or-restart", "lvsd")
    until(lambda: table() == BOTH_UP)
    until(lambda: show("StatusText") == ["1 of 1 virtual services and 2 of 2 real servers up"])


def test_the_unit_is_free_of_mistakes() -> None:
    assert run("systemd-analyze", "verify", "/etc/systemd/system/lvsd.service") == ""


def test_the_exposure_is_at_most_two() -> None:
    told = run("systemd-analyze", "security", "--no-pager", "lvsd.service")
    overall = re.search(r"Overall exposure level for lvsd.service: ([0-9.]+)", told)
    assert overall is not None
    assert float(overall[1]) <= 2.0, told


def test_the_start_is_over_when_the_director_is_ready() -> None:
    assert show("ActiveState", "SubState", "Result") == ["active", "running", "success"]
    (ready,) = [each for each in _this_run() if each["event"] == "director.ready"]
    active_at = run("systemctl", "show", "lvsd", "--property=ActiveEnterTimestamp", "--timestamp=us+utc")
    assert f"{active_at.split()[1]}T{active_at.split()[2]}Z" >= ready["ts"]
    assert sorted(page() for _ in range(2)) == ["I am rs1\n", "I am rs2\n"]


def test_it_has_its_own_user_and_just_two_capabilities() -> None:
    told = dict(line.split(":\t") for line in Path(f"/proc/{main_pid()}/status").read_text().splitlines())
    wanted = (1 << 12) | (1 << 13)  # CAP_NET_ADMIN and CAP_NET_RAW of linux/capability.h
    assert {int(told[each], 16) for each in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {wanted}
    assert set(told["Uid"].split()) == {str(pwd.getpwnam("lvsd").pw_uid)}
    assert told["NoNewPrivs"] == "1"
    assert told["Seccomp"] == "2"
    assert show("OOMScoreAdjust", "LimitNOFILE", "CPUWeight") == ["-800", "65536", "500"]


def test_without_its_capability_it_says_what_it_lacks() -> None:
    bare = [
        "env",
        "RUNTIME_DIRECTORY=/tmp/bare",
        "setpriv",
        "--reuid=lvsd",
        "--regid=lvsd",
        "--clear-groups",
        "--bounding-set=-all",
    ]
    told = run(*bare, "lvsd", "run", check=False)
    assert "CAP_NET_ADMIN" in told
    assert "Traceback" not in told


def test_the_sysctls_and_modules_are_the_kernels() -> None:
    for line in (SHIPPED / "sysctl.d/lvsd.conf").read_text().splitlines():
        if line and not line.startswith("#"):
            name, value = line.split(" = ")
            assert Path("/proc/sys", name.replace(".", "/")).read_text().split() == value.split()
    for line in (SHIPPED / "modules-load.d/lvsd.conf").read_text().splitlines():
        assert line.startswith("#") or Path("/sys/module", line).is_dir()
    assert Path("/sys/module/ip_vs_rr").is_dir(), "the kernel loads schedulers itself"


def test_a_reload_puts_a_new_file_in_force() -> None:
    pid, before = main_pid(), last_moment()
    CONFIG.write_text(CONFIG_TEXT + SECOND_SERVICE)
    run("systemctl", "reload", "lvsd")
    until(lambda: table() == WITH_SECOND)
    until(lambda: show("StatusText") == ["2 of 2 virtual services and 3 of 3 real servers up"])
    assert show("ActiveState", "SubState") == ["active", "running"]
    assert [each["added"] for each in events("config.loaded", before)] == [1]
    CONFIG.write_text(CONFIG_TEXT)
    run("systemctl", "reload", "lvsd")
    until(lambda: table() == BOTH_UP)
    assert main_pid() == pid


def test_a_reload_of_a_broken_file_leaves_all_as_it_is() -> None:
    pid, before = main_pid(), last_moment()
    CONFIG.write_text(BROKEN)
    run("systemctl", "reload", "lvsd")
    (rejected,) = until(lambda: events("config.rejected", before))
    assert rejected["count"] == 1
    assert rejected["mistakes"][0].startswith(f"{CONFIG}:{BROKEN_LINE}:16: virtual_services.www.scheduler: ")
    assert [each["event"] for each in journal("--priority=err") if each["ts"] > before] == ["config.rejected"]
    assert table() == BOTH_UP
    until(lambda: "the last reload was rejected" in show("StatusText")[0])
    CONFIG.write_text(CONFIG_TEXT)
    run("systemctl", "reload", "lvsd")
    until(lambda: "rejected" not in show("StatusText")[0])
    assert show("ActiveState", "SubState") == ["active", "running"]
    assert main_pid() == pid


def test_the_log_may_be_a_file_of_its_own_directory() -> None:
    CONFIG.write_text(f"{CONFIG_TEXT}log: {{file: {LOG}}}\n")
    run("systemctl", "reload", "lvsd")
    until(lambda: LOG.exists() and b"snapshot.end" in LOG.read_bytes())
    assert (LOG.owner(), f"{LOG.stat().st_mode:o}") == ("lvsd", "100640")
    assert _weights_told() == table()


def test_logrotate_loses_no_line_and_tears_none() -> None:
    for file in LOG.parent.iterdir():
        file.unlink()
    CONFIG.write_text(WITH_MANY)
    run("systemctl", "reload", "lvsd")
    until(lambda: table() == WITH_MANY_ROWS)
    with Repeated(lambda: run("ipvsadm", "-C"), every=0.3) as clearings:
        for _ in range(ROTATIONS):
            until(lambda: LOG.exists() and LOG.read_bytes().count(b"\n") > len(MANY))
            run("logrotate", "--force", "--state=/run/logrotate", str(ROOT / "etc/logrotate.d/lvsd"))
    assert len(clearings.results) > ROTATIONS
    until(lambda: LOG.exists() and b"snapshot.end" in LOG.read_bytes())
    until(lambda: table() == WITH_MANY_ROWS)
    until(lambda: _weights_told() == table())
    parts = _rotated()
    assert [part.endswith(b"\n") for part in parts] == [True] * (ROTATIONS + 1)
    lines = [orjson.loads(line) for line in b"".join(parts).splitlines()]
    assert [line["seq"] for line in lines] == list(range(lines[0]["seq"], lines[-1]["seq"] + 1))
    assert (LOG.owner(), f"{LOG.stat().st_mode:o}") == ("lvsd", "100640")
    joined = Path("/run/joined.log")
    joined.write_bytes(b"".join(parts))
    assert _weights_told("--log", str(joined)) == table()


def test_it_returns_from_kill_9_and_no_row_moves() -> None:
    until(lambda: len(orjson.loads(STATE.read_bytes())["services"]) == 1)
    remembered = STATE.read_bytes()
    with Repeated(table) as tables, Repeated(page, every=0.05) as pages:
        killed_at = _kill(signal.SIGKILL)
        until(lambda: _started_at() > killed_at, START_WITHIN)
        assert _started_at() - killed_at < 4.0  # the lab's processor is busy with the two threads
        until(lambda: show("SubState") == ["running"], START_WITHIN)
        until(lambda: events("health.changed", _this_run()[0]["ts"], new="up")[1:])
    assert tables.different() == [BOTH_UP]
    assert set(pages.different()) == {"I am rs1\n", "I am rs2\n"}
    assert len(tables.results) > 100
    assert STATE.read_bytes() == remembered
    assert not _changes(_this_run())


def test_the_watchdog_ends_a_loop_that_stands_still() -> None:
    before, moment = int(show("NRestarts")[0]), last_moment()
    with Repeated(table) as tables:
        stopped_at = _kill(signal.SIGSTOP)
        until(lambda: _started_at() > stopped_at, START_WITHIN)
        assert 2.0 < _started_at() - stopped_at < 12.0
        until(lambda: show("SubState") == ["running"], START_WITHIN)
    assert int(show("NRestarts")[0]) == before + 1
    assert tables.different() == [BOTH_UP]
    assert any("Watchdog timeout" in line for line in messages("systemd"))
    assert "Fatal Python error: Aborted" in messages("lvsd"), "the stacks of its threads follow that line"
    assert events("director.started", moment)


def test_a_stop_leaves_rows_and_vips_and_a_start_adopts_them() -> None:
    moment = last_moment()
    with Repeated(table) as tables:
        run("systemctl", "stop", "lvsd")
        assert show("ActiveState", "Result") == ["inactive", "success"]
        assert [each["rows"] for each in events("director.stopped", moment)] == ["kept"]
        assert f"{VIP}/24" in run("ip", "-brief", "address", "show", "dev", "eth0")
        assert STATE.exists()
        assert STATE.parent.owner() == "lvsd"
        run("systemctl", "start", "lvsd")
    assert tables.different() == [BOTH_UP]
    assert not _changes(_this_run())


def test_a_stop_removes_what_the_configuration_says_is_to_go() -> None:
    moment = last_moment()
    CONFIG.write_text(REMOVE_ON_STOP)
    run("systemctl", "reload", "lvsd")
    until(lambda: events("config.loaded", moment))
    until(lambda: show("SubState") == ["running"])
    run("systemctl", "stop", "lvsd")
    assert show("ActiveState", "Result") == ["inactive", "success"]
    assert [each["rows"] for each in events("director.stopped", moment)] == ["removed"]
    assert table() == {}
    assert VIP not in run("ip", "-brief", "address", "show", "dev", "eth0")
    assert '"in_table": true' not in status("--json")


def test_the_journal_has_priorities_and_only_a_loss_is_a_warning() -> None:
    moment = last_moment()
    run("systemctl", "stop", "web@rs1")
    until(lambda: table() == {WWW: {(RS2, 80): 1}})
    until(lambda: show("StatusText") == ["1 of 1 virtual services and 1 of 2 real servers up"])
    run("systemctl", "start", "web@rs1")
    until(lambda: table() == BOTH_UP)
    until(lambda: events("server.added", moment))
    warnings = [each for each in journal("--priority=warning") if each["ts"] > moment]
    assert [(each["event"], each["server"], each["new"]) for each in warnings] == [
        ("health.changed", f"{RS1}:80", "down")
    ]
    told = [each["event"] for each in journal("--priority=info") if each["ts"] > moment]
    assert told == ["health.changed", "server.removed", "health.changed", "server.added"]


def test_the_status_out_of_the_journal_is_the_kernels_table() -> None:
    assert _weights_told() == table()
    moment = last_moment()
    run("systemctl", "stop", "web@rs2")
    until(lambda: table() == {WWW: {(RS1, 80): 1}})
    until(lambda: _weights_told() == table())
    assert _weights_told("--at", moment) == BOTH_UP
    text = status()
    assert "TCP  192.168.0.101:80 rr\n  -> 192.168.0.3:80 " in text
    assert re.search(r"www +192\.168\.0\.4:80 +down +no row +connection refused", text)
    run("systemctl", "start", "web@rs2")


def test_who_may_not_read_the_journal_is_told_how_to() -> None:
    stranger = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    said = run(*stranger, "lvsd", "status", check=False)
    assert "nobody has no right to read the journal" in said
    assert "usermod -aG systemd-journal nobody" in said


def test_an_invalid_file_at_the_start_is_tried_again_but_not_in_a_rush() -> None:
    CONFIG.write_text(BROKEN)
    with Repeated(table) as tables:
        assert "failed" in run("systemctl", "restart", "lvsd", check=False)
        failed_at = int(show("ExecMainExitTimestampMonotonic")[0]) / 1e6
        CONFIG.write_text(CONFIG_TEXT)
        assert any(line.startswith(f"{CONFIG}:{BROKEN_LINE}:16: ") for line in messages("lvsd"))
        until(lambda: show("SubState") == ["running"], START_WITHIN)
        assert _started_at() - failed_at > 3.0
    assert tables.different() == [BOTH_UP]


@pytest.fixture
def shared_since() -> Iterator[str]:
    """The VIP is that of a VRRP instance, and lvsd is its master; return the moment before it was started."""
    moment = last_moment()
    make_notify_command()
    CONFIG.write_text(SHARED)
    run("systemctl", "restart", "lvsd")
    until(lambda: events("vrrp.changed", moment, new="master"), START_WITHIN)
    SHORT_STOP.parent.mkdir()
    yield moment
    SHORT_STOP.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")


def test_a_master_of_vrrp_resumes_after_kill_9_and_leaves_no_vip_when_it_is_stopped_or_hangs(
    shared_since: str,
) -> None:
    assert vips() == VIPS
    until(lambda: NOTIFIED.exists() and "INSTANCE vip MASTER 150" in NOTIFIED.read_text())
    rights = dict(re.findall(r"(Uid|Cap\w+|NoNewPrivs):\t(\w+)", NOTIFIED.read_text()))
    assert rights.pop("Uid") == str(pwd.getpwnam("lvsd").pw_uid)
    assert int(rights.pop("NoNewPrivs")) == 1
    assert {int(rights[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
    moment = last_moment()
    with Repeated(vips) as found, Repeated(page, every=0.05) as pages:
        killed_at = _kill(signal.SIGKILL)
        until(lambda: _started_at() > killed_at, START_WITHIN)
        resumed = until(lambda: events("vrrp.changed", moment, new="master"), START_WITHIN)
        until(lambda: show("SubState") == ["running"], START_WITHIN)
    assert found.different() == [VIPS]
    assert set(pages.different()) == {"I am rs1\n", "I am rs2\n"}
    assert [each["old"] for each in resumed] == ["initialize"]

    run("systemctl", "stop", "lvsd")
    assert show("ActiveState", "Result") == ["inactive", "success"]
    assert vips() == []
    assert NOTIFIED.read_text().splitlines()[-1] == "INSTANCE vip STOP 150"
    assert not [each for each in journal("--priority=warning") if each["ts"] > shared_since]

    # As one that hangs does not hear SIGTERM; a stopped one would: systemd sends SIGCONT as well.
    SHORT_STOP.write_text("[Service]\nTimeoutStopSec=5s\nKillSignal=SIGURG\n")
    moment = last_moment()
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "lvsd")
    until(lambda: events("vrrp.changed", moment, new="master"), START_WITHIN)
    assert vips() == VIPS
    run("systemctl", "stop", "lvsd")
    assert show("ActiveState", "Result") == ["failed", "timeout"]
    assert vips() == []
    assert f"{VIP}/24 removed from eth0" in messages("lvsd")


class Repeated:
    """Calls `ask` again and again in a thread of its own, and keeps what came of it."""

    def __init__(self, ask: Callable[[], Any], every: float = 0.01) -> None:
        self.results: list[Any] = []
        self._ask = ask
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10.0)

    def different(self) -> list[Any]:
        """Return each result once, in the order they first came."""
        found: list[Any] = []
        for result in self.results:
            if result not in found:
                found.append(result)
        return found

    def _repeat(self) -> None:
        while not self._over.wait(self._every):
            try:
                self.results.append(self._ask())
            except OSError as error:
                self.results.append(f"{error!r}")


def _kill(number: signal.Signals) -> float:
    """Send a signal to lvsd; return when, in seconds since the boot."""
    pid = main_pid()
    now = time.monotonic()
    os.kill(pid, number)
    return now


def _started_at() -> float:
    return int(show("ExecMainStartTimestampMonotonic")[0]) / 1e6


def _this_run() -> list[dict[str, Any]]:
    """Return the lines of the latest run."""
    lines = journal()
    return [each for each in lines if each["run"] == lines[-1]["run"]]


def _changes(lines: list[dict[str, Any]]) -> list[str]:
    """Return the changes of the table and of VIPs among the lines; what is adopted is none."""
    kinds = ("server.", "service.", "address.")
    return [each["event"] for each in lines if each["event"].startswith(kinds) and each["cause"] != "adopted"]


def _rotated() -> list[bytes]:
    """Return what the log's files hold, the oldest first; all but the last two are compressed."""
    old = [LOG.with_name(f"{LOG.name}.{number}.gz") for number in range(ROTATIONS, 1, -1)]
    new = [LOG.with_name(f"{LOG.name}.1"), LOG]
    return [gzip.decompress(file.read_bytes()) for file in old] + [file.read_bytes() for file in new]


def _weights_told(*words: str) -> Weights:
    """Return the table that `lvsd status --json` tells."""
    told = orjson.loads(status("--json", *words))
    assert told["complete"]
    return {
        ("TCP", *_place(service["address"])): {
            _place(server): row["weight"]
            for server, row in service["real_servers"].items()
            if row["in_table"]
        }
        for service in told["virtual_services"].values()
        if service["in_table"]
    }


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
