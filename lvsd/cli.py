"""The command `lvsd`. Each subcommand imports what it needs when it runs: none waits for another's."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lvsd import __version__
from lvsd.errors import ConfigError, LvsdError, Mistake, Place, printable
from lvsd.lab import cli as lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lvsd.state import State

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
  lvsd history www --since 24h        what became of a virtual service, and its availability
  lvsd explain vip                    who is master of a VRRP instance, and why
  lvsd convert lvs_dr.conf            configure-lvs's format to lvsd's own
  lvsd lab shell                      a prompt in a rehearsal network, on a kernel with IPVS
"""

HISTORY = """\
Prints since when, for how long and why each target was as it was, then how much of the known time it was up,
how often that changed, and its longest outage. What the log does not tell counts as unknown: when lvsd did
not run, and from a gap to the next snapshot. The log is all files that --log names, and those of directories,
rotated and compressed ones too, in the order of what they hold; else the configuration's log.file with those
that it was rotated to, else the unit's journal. Times are UTC.
"""
HISTORY_EXAMPLES = """\
examples:
  lvsd history                                   everything, as far back as the log goes
  lvsd history www/rs1 --since 24h               a real server in one service
  lvsd history 192.168.0.3 --since 2026-11-22    a real server in all services
  lvsd history vip --log /var/log/lvsd --json    who was master, from a directory, for a program
  ssh vs2 journalctl -u lvsd -o cat | lvsd history --log -    another host's journal
"""

WHICH_LOG = (
    "The log is the file that --log names, else the configuration's log.file, else the unit's journal."
)
EXIT_STATUS = "exit status: 0 success, 1 failure (an invalid configuration included), 2 wrong usage"
PLAN_EXIT_STATUS = f"{EXIT_STATUS};\nwith --detailed-exitcode 2 where there are changes"
LAB_EXIT_STATUS = "exit status: the command's own, 1 where no lab can be had, 124 when its time is up"

SIGNALS = """\
SIGHUP reloads; a broken file changes nothing. SIGTERM and SIGINT stop: rows and VIPs stay, unless the
configuration says `ipvs.on_stop: remove`. SIGUSR1 writes a snapshot of the state to the log.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return its exit status: 0 success, 1 failure, 2 wrong usage."""
    _replace_closed_streams()
    arguments = make_parser().parse_args(argv)
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


def _replace_closed_streams() -> None:
    """Put /dev/null where a standard stream is closed, so that no file or socket gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the least number that is free
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - as a standard stream is
            setattr(sys, name, os.fdopen(descriptor, mode))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="lvsd",
        description="A director daemon for the Linux Virtual Server.",
        epilog=f"{EXAMPLES}\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"lvsd {__version__}", help="print the version"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    run = _add(commands, "run", "the daemon, in the foreground", SIGNALS)
    _add_config(run)
    run.set_defaults(run=_run)

    check = _add(commands, "check", "validate a configuration", "Prints every mistake, with its place.")
    check.add_argument(
        "file", metavar="FILE", type=_file, help="the configuration: lvsd's own YAML or an lvs.conf"
    )
    check.set_defaults(run=_check)

    plan = _add(
        commands,
        "plan",
        "what run or a reload would change in this kernel",
        "Prints the commands that would do the same, in their order, and changes nothing. Needs root.",
        PLAN_EXIT_STATUS,
    )
    _add_config(plan)
    plan.add_argument("--detailed-exitcode", action="store_true", help="exit with 2 where there are changes")
    plan.set_defaults(run=_plan)

    _add_status(commands)

    withdraw = _add(
        commands,
        "withdraw",
        "take away the VIPs that a dead lvsd left on this host",
        "Those of VRRP, which another director may have by now. For the unit's ExecStopPost=; needs root.",
    )
    withdraw.set_defaults(run=_withdraw)

    convert = _add(
        commands,
        "convert",
        "another director's configuration to lvsd's own",
        "Prints the YAML on standard output, and on standard error a note for each line without equivalent.",
    )
    convert.add_argument(
        "file", metavar="FILE", type=_file, help="the other configuration: an lvs.conf of configure-lvs"
    )
    convert.set_defaults(run=_convert)

    schema = _add(commands, "schema", "the JSON Schema of the configuration, for editors")
    schema.set_defaults(run=_schema)

    rehearsal = _add(commands, "lab", "a rehearsal network on a real IPVS kernel")
    lab.add_arguments(rehearsal)
    rehearsal.epilog = f"{rehearsal.epilog}\n{LAB_EXIT_STATUS}"
    rehearsal.set_defaults(run=lab.main)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    short: str,
    long: str = "",
    exit_status: str = EXIT_STATUS,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=short,
        description=f"{short[0].upper()}{short[1:]}.\n{long}".strip(),
        epilog=exit_status,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = _add(commands, "status", "the state, folded from the log", WHICH_LOG)
    _add_log(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    _add_history(commands)

    explain = _add(commands, "explain", "who is master of a VRRP instance, and why", WHICH_LOG)
    explain.add_argument("instance", metavar="INSTANCE", help="the instance's name in the configuration")
    _add_log(explain)
    explain.set_defaults(run=_explain)


def _add_history(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    short = "what happened when, and the availability"
    history = _add(commands, "history", short, HISTORY, f"{HISTORY_EXAMPLES}\n{EXIT_STATUS}")
    targets = (
        "a real server (www/rs1, rs1, 192.168.0.3:80), a virtual service or a VRRP instance (default: all)"
    )
    history.add_argument("target", metavar="TARGET", nargs="?", default="", help=targets)
    history.add_argument(
        "--since",
        metavar="TIME",
        type=_moment_or_ago,
        help="from then on: as for --until, or 90m, 24h, 7d ago",
    )
    history.add_argument(
        "--until", metavar="TIME", type=_moment_or_ago, help="up to then: 2026-11-22T03:12:00Z, or 03:12"
    )
    _add_config(history)
    history.add_argument(
        "--log",
        metavar="FILE",
        type=_file,
        action="append",
        default=[],
        help="a log or a directory of logs, - for standard input; may be given several times",
    )
    history.add_argument("--director", metavar="NAME", default="", help="whose history, in a log of several")
    history.add_argument("--json", action="store_true", help="for programs")
    history.set_defaults(run=_history)


def _add_log(parser: argparse.ArgumentParser) -> None:
    """Add what says which log is read, up to when."""
    _add_config(parser)
    parser.add_argument("--log", metavar="FILE", type=_file, help="the log to read, - for standard input")
    parser.add_argument(
        "--at", metavar="TIME", type=_moment, help="as of then: 2026-11-22T03:12:00, with Z for UTC, or 03:12"
    )
    parser.add_argument("--director", metavar="NAME", default="", help="whose state, in a log of several")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=_file,
        default=DEFAULT_FILE,
        help=f"the configuration (default: {DEFAULT_FILE})",
    )


def _run(arguments: argparse.Namespace) -> int:
    from lvsd.edge.signals import hold_back

    hold_back()
    from lvsd.edge.parser_process import ParserProcess

    begun = ParserProcess(arguments.config)  # parses while the rest is imported
    from lvsd.edge import advertised

    advertised.repeat()
    dropped = advertised.drop_lost()
    from lvsd.edge.run import run

    run(arguments.config, begun, dropped)
    return 0


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
        print(printable(f"lvsd: {planned.trouble}"), file=sys.stderr)
    return 2 if arguments.detailed_exitcode and planned.count else 0


def _withdraw(_: argparse.Namespace) -> int:
    from lvsd.edge.withdraw import withdraw

    for line in withdraw():
        print(printable(line))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from lvsd.status_text import status_text

    state = _read_state(arguments)
    if arguments.json:
        print(json.dumps(state.to_json(), indent=2))
    else:
        print(status_text(state))
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from lvsd.edge.chronicle import Asked, Source, read_history
    from lvsd.history.text import history_text
    from lvsd.history.timeline import moment

    since, until = (None if each is None else moment(each) for each in (arguments.since, arguments.until))
    if since is not None and until is not None and since >= until:
        print("lvsd history: --since is not before --until", file=sys.stderr)
        return 2
    configured = "" if arguments.log else _configured_log(arguments.config)
    asked = Asked(arguments.target, since, until, arguments.director)
    history = read_history(Source(arguments.log, configured), asked)
    if arguments.json:
        print(json.dumps(history.to_json(), indent=2))
    else:
        print(history_text(history, colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from lvsd.explain import explain

    print(explain(_read_state(arguments), arguments.instance))
    return 0


def _read_state(arguments: argparse.Namespace) -> State:
    from lvsd.edge.history import read_state

    file = arguments.log if arguments.log is not None else _configured_log(arguments.config)
    return read_state(file, arguments.at or "", arguments.director)


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


def _file(name: str) -> str:
    """Return the name of a file, as it was given."""
    if not name:
        message = "the name of a file is missing: it is empty"
        raise argparse.ArgumentTypeError(message)
    return name


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


def _moment_or_ago(text: str) -> str:
    """Return a moment as log lines have it; `24h` was so long ago."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago is None:
        return _moment(text)
    seconds = int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]
    try:
        return _moment((datetime.now(UTC) - timedelta(seconds=seconds)).isoformat())
    except OverflowError:
        message = f"{text!r} ago is before all time"
        raise argparse.ArgumentTypeError(message) from None
