"""The command `lvsd`. Each subcommand imports what it needs when it runs: none waits for another's."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd import __version__
from lvsd.errors import ConfigError, LvsdError, Mistake, Place, printable
from lvsd.lab import cli as lab

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
"""What a shell says of a command that ended by SIGINT."""

DEFAULT_FILE = "/etc/lvsd/lvsd.yaml"

EXAMPLES = """\
examples:
  lvsd check /etc/lvsd/lvsd.yaml      is the configuration right? every mistake, with its place
  lvsd plan -c lvs_dr.conf            what would change in this kernel's table
  lvsd run -c lvs_dr.conf             the daemon, in the foreground
  lvsd status                         the table and the verdicts, from the log
  lvsd status --at 03:12 --json       the same for a past moment, for a program
  lvsd convert lvs_dr.conf            configure-lvs's format to lvsd's own
  lvsd lab shell                      a prompt in a rehearsal network, on a kernel with IPVS
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return its exit status: 0 success, 1 failure, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        for mistake in error.mistakes:
            print(mistake, file=sys.stderr)
        return 1
    except LvsdError as error:
        print(f"lvsd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(printable(f"lvsd: {error.strerror}{where}"), file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lvsd",
        description="A director daemon for the Linux Virtual Server.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lvsd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="the daemon, in the foreground",
        description="SIGHUP reloads, SIGTERM and SIGINT stop, SIGUSR1 writes a snapshot to the log.",
    )
    _add_config(run)
    run.set_defaults(run=_run)

    check = commands.add_parser("check", help="validate a configuration")
    check.add_argument("file", metavar="FILE")
    check.set_defaults(run=_check)

    plan = commands.add_parser("plan", help="what run or a reload would change in this kernel's table")
    _add_config(plan)
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 2 where there are changes")
    plan.set_defaults(run=_plan)

    status = commands.add_parser("status", help="the state, folded from the log")
    _add_config(status)
    status.add_argument("--log", metavar="FILE", help="the log to read, - for standard input")
    status.add_argument("--at", metavar="TIME", type=_moment, help="2026-11-22T03:12:00, or 03:12")
    status.add_argument("--director", metavar="NAME", default="", help="whose state, in a log of several")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    convert = commands.add_parser("convert", help="another director's configuration to lvsd's own")
    convert.add_argument("file", metavar="FILE")
    convert.set_defaults(run=_convert)

    schema = commands.add_parser("schema", help="the JSON Schema of the configuration, for editors")
    schema.set_defaults(run=_schema)

    rehearsal = commands.add_parser("lab", help="a rehearsal network on a real IPVS kernel")
    lab.add_arguments(rehearsal)
    rehearsal.set_defaults(run=lab.main)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}"
    )


def _run(arguments: argparse.Namespace) -> int:
    from lvsd.edge.signals import hold_back

    hold_back()
    from lvsd.edge.parser_process import ParserProcess

    begun = ParserProcess(arguments.config)  # parses while the rest is imported
    from lvsd.edge.daemon import run

    return run(arguments.config, begun)


def _check(arguments: argparse.Namespace) -> int:
    from lvsd.edge.loader import load_config

    config, notes = load_config(arguments.file)
    for note in notes:
        print(note, file=sys.stderr)
    services = _count(len(config.services), "virtual service")
    servers = _count(sum(len(service.real_servers) for service in config.services), "real server")
    print(printable(f"{arguments.file}: in order: {services} with {servers}"))
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plan(arguments: argparse.Namespace) -> int:
    import asyncio

    from lvsd.edge.loader import load_config
    from lvsd.edge.planning import plan

    config, _ = load_config(arguments.config)
    planned = asyncio.run(plan(config))
    for line in planned.lines():
        print(line)
    if planned.trouble:
        print(f"lvsd: {planned.trouble}", file=sys.stderr)
    return 2 if arguments.detailed_exitcode and planned.count else 0


def _status(arguments: argparse.Namespace) -> int:
    from lvsd.edge.history import read_state
    from lvsd.status_text import status_text

    file = arguments.log if arguments.log is not None else _configured_log(arguments.config)
    state = read_state(file, arguments.at or "", arguments.director)
    if arguments.json:
        print(json.dumps(state.to_json(), indent=2))
    else:
        print(status_text(state))
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from lvsd.config.convert import convert
    from lvsd.edge.loader import Files

    text, notes = convert(arguments.file, Files())
    print(text, end="")
    for note in notes:
        print(note, file=sys.stderr)
    return 0


def _schema(_: argparse.Namespace) -> int:
    from lvsd.config.schema import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _configured_log(config: str) -> str:
    """Return the log file that the configuration names, nothing (the journal) where there is none."""
    from lvsd.edge.loader import load_config

    if config == DEFAULT_FILE and not Path(config).exists():
        return ""
    try:
        file = load_config(config)[0].settings.log.file
    except ConfigError as error:
        mistakes = _count(len(error.mistakes), "mistake")
        message = f"{config} has {mistakes}, so that it does not tell where the log is: name it with --log"
        raise ConfigError([*error.mistakes, Mistake(Place(config), "log", message)]) from None
    if file and Path(file).exists() and not Path(file).is_file():
        message = (
            f"{file}, the configured log.file, is no file: name a copy of what it was read into with --log"
        )
        raise LvsdError(message)
    return file


def _moment(text: str) -> str:
    """Return a moment as log lines have it; one without a zone is in local time, one without a date today."""
    if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
        text = f"{datetime.now().astimezone():%Y-%m-%d}T{text}"
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"{text!r} is no moment: write 2026-11-22T03:12:00, with Z for UTC, or 03:12 for today"
        raise argparse.ArgumentTypeError(message) from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
