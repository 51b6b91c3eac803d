"""The command line: what each subcommand prints, and its exit status."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stories import Teller

from lvsd.cli import main, make_parser

ROOT = Path(__file__).parents[1]
GOOD = """\
virtual_services:
  www:
    address: 192.168.0.101:80
    real_servers: [192.168.0.3, 192.168.0.4]
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "lvsd.yaml"
    file.write_text(GOOD)
    return str(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD, "1 virtual service with 2 real servers"),
        (GOOD.replace(", 192.168.0.4", ""), "1 virtual service with 1 real server"),
        ("virtual_services: {}\n", "0 virtual services with 0 real servers"),
    ],
)
def test_check_says_what_is_in_a_good_file(
    good: str, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(good).write_text(text)
    assert main(["check", good]) == 0
    assert capsys.readouterr().out == f"{good}: in order: {told}\n"


def test_what_a_file_holds_cannot_speak_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences in keys, values, names of services and of the file itself."""
    file = tmp_path / "\x1b[2J\x9b1m\udcff.yaml"
    keys = f'"\\e[31m": 1\ninclude: "\\e]0;x.yaml"\n{GOOD}    "\\x9b2J": "\\u202e"\n'
    file.write_text(f'{keys}  "\\e[2J": {{}}\nlog: {{file: "\\e"}}\n')
    assert main(["check", str(file)]) == 1
    told = "".join(capsys.readouterr())
    assert "\\x1b[2J\\x9b1m\\udcff.yaml" in told
    assert [each for each in told if not each.isprintable()] == ["\n"] * len(told.splitlines())
    file.write_text(GOOD)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.rstrip("\n").isprintable()


def test_what_convert_prints_cannot_speak_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "lvs.conf"
    source.write_text(
        "LVS_TYPE=VS_DR\nVIP=eth0:1\u202e 192.0.2.1 255.255.255.0 192.0.2.255\nSERVICE=t www rr 192.0.2.3\n"
        "SERVER_VIP_DEVICE=\u202edummy0\nNEW\u202e=1\n"
    )
    main(["convert", str(source)])
    told = "".join(capsys.readouterr())
    assert [each for each in told if not each.isprintable()] == ["\n"] * len(told.splitlines())


def test_what_a_log_holds_cannot_speak_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    line = {"ts": "2026-11-22T10:00:00.000000Z", "level": "info", "run": "\x1b[2J"}
    began = {**line, "seq": 1, "event": "snapshot.begin", "director": "\x1b]0;vs1\x07"}
    foreign = {"addresses": [{"address": "\x9b", "interface": "\u202e", "label": ""}], "foreign": ["\x1b[8m"]}
    ended = {**line, "seq": 2, "event": "snapshot.end", "part": 0, "parts": 1, **foreign}
    log.write_text(f"{json.dumps(began)}\n{json.dumps(ended)}\n")
    assert main(["status", "--log", str(log)]) == 0
    told = capsys.readouterr().out
    assert "\\x1b[8m" in told
    assert [each for each in told if not each.isprintable()] == ["\n"] * len(told.splitlines())


def test_check_says_every_mistake_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "lvsd.yaml"
    file.write_text(GOOD + "    sheduler: rr\n    forward: direct\n")
    assert main(["check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith(f"{file}:5:5: virtual_services.www.sheduler: ")
    assert "scheduler" in first
    assert second.startswith(f"{file}:6:14: virtual_services.www.forward: ")


def test_a_missing_file_is_a_failure_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "/missing/lvsd.yaml"]) == 1
    assert "/missing/lvsd.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["check"],
        ["status", "--at", "yesterday"],
        *(["history", "--since", time] for time in ("yesterday", "-1h", "1w", "h", "999999d")),
        *(["lab", "run", "--timeout", time, "true"] for time in ("-1", "0", "nan", "inf", "1e300", "soon")),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", ""],
        ["convert", ""],
        ["plan", "-c", ""],
        ["run", "-c", ""],
        ["status", "--log", ""],
        ["history", "--log", ""],
    ],
)
def test_an_empty_name_of_a_file_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "the name of a file is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("check {good} >&-", 0),
        ("check {good} <&- >&- 2>&-", 0),
        ("check /missing 2>&-", 1),
        ("check >&- 2>&-", 2),
        ("schema >&-", 0),
        ("status --log - <&-", 1),
        ("history --log - <&-", 1),
        ("run -c /missing >&-", 1),
        ("run -c /missing <&- >&- 2>&-", 1),
    ],
)
def test_standard_streams_may_be_closed(good: str, command: str, status: int, tmp_path: Path) -> None:
    ended = subprocess.run(  # noqa: S602 - a shell can close them
        f"exec '{sys.executable}' -m lvsd {command.format(good=good)}",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "RUNTIME_DIRECTORY": str(tmp_path)},
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == status


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "virtual_services" in json.loads(capsys.readouterr().out)["properties"]


def test_convert_prints_yaml_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "lvs.conf"
    source.write_text(
        "LVS_TYPE=VS_DR\nVIP=eth0:1 192.0.2.1 255.255.255.0 192.0.2.255\nSERVICE=t www rr 192.0.2.3\n"
    )
    assert main(["convert", str(source)]) == 0
    converted = tmp_path / "lvsd.yaml"
    converted.write_text(capsys.readouterr().out)
    assert main(["check", str(converted)]) == 0


def test_status_reads_a_log_at_a_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    line = {"level": "info", "run": "a", "event": "director.started", "director": "vs1"}
    log.write_text(
        "".join(
            json.dumps({**line, "ts": f"2026-11-22T1{hour}:00:00.000000Z", "seq": hour + 1}) + "\n"
            for hour in range(3)
        )
    )
    assert main(["status", "--log", str(log), "--json", "--at", "2026-11-22T11:30:00Z"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["director"], told["seq"], told["complete"]) == ("vs1", 2, False)


@pytest.mark.parametrize(
    "change", [{"address": "x"}, {"address": ":80"}, {"protocol": "icmp"}, {"protocol": "fwm"}, {"flags": 1}]
)
def test_status_tells_what_it_can_of_a_damaged_log(
    tmp_path: Path, change: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    line = {"ts": "2026-11-22T10:00:00.000000Z", "run": "a", "event": "service.added", "service": "www"}
    settings = {"scheduler": "rr", "flags": [], "persistence": None, "netmask": None, "engine": ""}
    row = {**line, **settings, "protocol": "tcp"}
    good, bad = {**row, "address": "192.0.2.1:80", "seq": 1}, {**row, "address": "192.0.2.2:80", "seq": 2}
    log.write_text(f"{json.dumps(good)}\n{json.dumps({**bad, **change})}\n")
    assert main(["status", "--log", str(log)]) == 0
    told = capsys.readouterr().out
    assert "TCP  192.0.2.1:80 rr\n" in told
    assert "\nRows that the log tells damaged:\n" in told


def test_status_says_what_a_killed_daemon_last_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    line = {"ts": "2026-11-22T10:00:00.000000Z", "seq": 1, "run": "a", "event": "director.started"}
    log.write_text(json.dumps({**line, "director": "vs1"}) + "\n")
    assert main(["status", "--log", str(log)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("vs1: running as of its last line, 2026-11-22T10:00:00.000000Z (run a, seq 1)\n")


def test_status_names_the_configured_log_that_cannot_be_read(
    tmp_path: Path, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    Path(good).write_text(f"{GOOD}log: {{file: {fifo}}}\n")
    assert main(["status", "-c", good]) == 1
    assert f"{fifo}, the configured log.file, is no file" in capsys.readouterr().err
    Path(good).write_text(f"{GOOD}log: {{fil: x}}\n")
    assert main(["status", "-c", good]) == 1
    assert "does not tell where the log is: name it with --log" in capsys.readouterr().err


STORY = Teller().tell(
    "0 start\n0 snapshot\n60 judge rs1 down\n60.2 remove rs1\n180 judge rs1 up\n300 become master"
)


@pytest.fixture
def log(tmp_path: Path) -> str:
    file = tmp_path / "log"
    file.write_bytes(b"".join(STORY.lines))
    return str(file)


def test_history_tells_a_targets_periods(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "rs1", "--log", log]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[2:] for line in told if line and line[0].startswith("2026-11-22T10")] == [
        ["www/rs1", "up", "1", "HTTP", "200"],
        ["www/rs1", "down", "-", "timed", "out"],
        ["www/rs1", "up", "-", "HTTP", "200"],
    ]
    assert told[-1][:3] == ["www/rs1", "60.000", "%"]


def test_history_tells_programs_the_same(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    between = ["--since", "2026-11-22T10:01:00Z", "--until", "2026-11-22T10:04:00Z"]
    assert main(["history", "www/rs1", "--log", log, "--json", *between]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["target"], each["availability"]) for each in told["targets"]] == [("www/rs1", 33.333)]
    assert (told["since"], told["until"]) == ("2026-11-22T10:01:00.000000Z", "2026-11-22T10:04:00.000000Z")


def test_history_takes_several_files_for_one_log(
    tmp_path: Path, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "b", tmp_path / "a.gz"]
    files[0].write_bytes(b"".join(STORY.lines[:5]))
    files[1].write_bytes(gzip.compress(b"".join(STORY.lines[5:])))
    assert main(["history", "--log", str(files[1]), "--log", str(files[0])]) == 0
    of_two = capsys.readouterr().out
    assert main(["history", "--log", log]) == 0
    assert of_two == capsys.readouterr().out


def test_history_reads_the_configured_log_with_what_it_was_rotated_to(
    tmp_path: Path, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lvsd.log.2.gz").write_bytes(gzip.compress(b"".join(STORY.lines[:7])))
    (tmp_path / "lvsd.log.1").write_bytes(b"".join(STORY.lines[7:]))
    Path(good).write_text(f"{GOOD}log: {{file: {tmp_path}/lvsd.log}}\n")
    assert main(["history", "-c", good, "vip", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["lines"], told["gaps"]) == (len(STORY.lines), 0)
    assert [period["state"] for period in told["targets"][0]["periods"]] == ["backup", "master"]


def test_history_says_what_is_close_to_an_unknown_target(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", "www/rs7", "--log", log]) == 1
    assert "nothing called 'www/rs7'; did you mean 'www/rs" in capsys.readouterr().err


def test_history_from_the_end_to_the_beginning_is_wrong_usage(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", "--log", log, "--since", "10:00", "--until", "09:00"]) == 2
    assert "--since is not before --until" in capsys.readouterr().err


@pytest.mark.parametrize(("ago", "seconds"), [("90s", 90), ("90m", 5400), ("24h", 86400), ("7d", 604800)])
def test_a_length_of_time_is_so_long_ago(ago: str, seconds: int) -> None:
    since = datetime.fromisoformat(make_parser().parse_args(["history", "--since", ago]).since)
    assert abs((datetime.now(UTC) - since).total_seconds() - seconds) < 60


def test_an_hour_alone_is_one_of_today(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    early = datetime.now().astimezone().replace(hour=0, minute=0, second=0).astimezone(UTC)
    log.write_text(
        json.dumps({"ts": f"{early:%Y-%m-%dT%H:%M:%S}.000000Z", "seq": 1, "run": "a", "event": "x"}) + "\n"
    )
    assert main(["status", "--log", str(log), "--at", "23:59", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seq"] == 1


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of all subcommands, those of subcommands too, by their names."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, inner in action.choices.items():
                found |= {
                    name: inner,
                    **{f"{name} {below}": each for below, each in subcommands(inner).items()},
                }
    return found


MANUAL = re.sub(r"\\f[BIR]", "", (ROOT / "docs/lvsd.8").read_text()).replace("\\-", "-")
COMMANDS = {"": make_parser(), **subcommands(make_parser())}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_says_what_each_argument_is(name: str) -> None:
    for action in COMMANDS[name]._actions:  # noqa: SLF001
        assert action.help or isinstance(action, argparse._SubParsersAction), action  # noqa: SLF001
        for choice in getattr(action, "_choices_actions", []):
            assert choice.help, choice


@pytest.mark.parametrize("name", [name for name in COMMANDS if " " not in name])
def test_the_help_of_every_command_tells_its_exit_status(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*name.split(), "--help"])
    assert end.value.code == 0
    assert "\nexit status: " in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_has_every_command_and_every_option(name: str) -> None:
    assert f"lvsd {name}".rstrip() in MANUAL
    for action in COMMANDS[name]._actions:  # noqa: SLF001
        for option in action.option_strings:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", MANUAL), option


def test_the_manual_has_no_option_that_is_not_there() -> None:
    known = {
        option
        for parser in COMMANDS.values()
        for action in parser._actions  # noqa: SLF001
        for option in action.option_strings
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", MANUAL)) <= known


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manual_is_set_without_a_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-wall", "-z", "docs/lvsd.8"],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stderr == ""


def test_short_commands_import_no_netlink_and_no_http() -> None:
    """Each costs 270 ms and 20 MB."""
    code = (
        "import sys, lvsd.cli, lvsd.edge.history, lvsd.edge.chronicle, lvsd.status_text\n"
        "print([name for name in ('pyroute2', 'aiohttp', 'pydantic', 'structlog') if name in sys.modules])"
    )
    out = subprocess.run(  # noqa: S603 - this very Python
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout == "[]\n"
