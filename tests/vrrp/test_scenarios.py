"""Each file in `scenarios/` is a story of one virtual router: what happens when, and what it does about it.

    router priority=150 interval=1 source=192.0.2.1
    at 0      start                          -> backup 3.414
    at 3.414  timer                          -> master 4.414 | claim, advertise 150
    at 4.0    hear 192.0.2.3 priority=200    -> backup 7.414 | release to 192.0.2.3, ask 192.0.2.3

The number after a state is the moment of its timer: `master_down_at`, `advertise_at`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lvsd.model import Address
from lvsd.vrrp import machine
from lvsd.vrrp.machine import Advertise, Ask, Backup, Claim, Fault, Initialize, Master, Release, Router, Step
from lvsd.vrrp.packet import Advertisement

if TYPE_CHECKING:
    from lvsd.vrrp.machine import Effect, State

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))
LINE = re.compile(r"at (?P<at>[\d.]+)\s+(?P<what>.+?)\s*->\s*(?P<state>[^|]+?)(?:\s*\|\s*(?P<effects>.+))?")
NOW = 1000.0
"""No moment is 0."""


def settings(words: list[str], router: Router) -> Router:
    kinds = {"priority": int, "interval": float, "version": int, "preempt_delay": float,
             "source": Address.parse, "preempt": lambda text: text == "yes"}  # fmt: skip
    given = dict(word.split("=") for word in words)
    return replace(router, **{name: kinds[name](value) for name, value in given.items()})


def advertisement(words: list[str], router: Router) -> Advertisement:
    source, *said = words
    given = dict(word.split("=") for word in said)
    return Advertisement(
        version=router.version,
        vrid=51,
        priority=int(given["priority"]),
        interval=float(given.get("interval", router.interval)),
        addresses=(Address.parse("192.0.2.101"),),
        source=Address.parse(source),
    )


def shown(state: State) -> str:
    match state:
        case Backup(master_down_at=at):
            return f"backup {at - NOW:.3f}"
        case Master(advertise_at=at):
            return f"master {at - NOW:.3f}"
        case Initialize() | Fault():
            return type(state).__name__.lower()


def effect(done: Effect) -> str:
    match done:
        case Advertise(priority=priority):
            return f"advertise {priority}"
        case Ask(master=master):
            return f"ask {master}"
        case Claim():
            return "claim"
        case Release(to=None):
            return "release"
        case Release(to=to):
            return f"release to {to}"


def step(router: Router, state: State, what: str, now: float) -> Step:  # noqa: PLR0911 - one for each verb
    verb, *words = what.split()
    match verb:
        case "start":
            return machine.start(router, now, resuming=words == ["resuming"])
        case "timer":
            assert machine.next_timer(state) == pytest.approx(now, abs=0.001), "no timer is due then"
            return machine.fire(router, state, machine.next_timer(state))
        case "wake":
            return machine.fire(router, state, now)
        case "hear":
            return machine.hear(router, state, advertisement(words, router), now)
        case "stop":
            return machine.resign(state, Initialize())
        case "fail":
            return machine.resign(state, Fault(), heard=words != ["unheard"])
        case "step-down":
            return machine.step_down(router, state, now)
        case "take-over":
            return machine.take_over(router, now)
    raise AssertionError(what)


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_a_router_does_what_the_scenario_says(file: Path) -> None:
    router = Router(priority=100, interval=1.0, source=Address.parse("192.0.2.2"))
    state: State = Initialize()
    for number, text in enumerate(file.read_text().splitlines(), 1):
        line = text.partition("#")[0].strip()
        if not line:
            continue
        place = f"{file.name}:{number}"
        if line.startswith("router"):
            router = settings(line.split()[1:], router)
            continue
        match = LINE.fullmatch(line)
        assert match, f"{place}: cannot be read"
        now = NOW + float(match["at"])
        if match["what"].startswith("change"):
            after = settings(match["what"].split()[1:], router)
            done = Step(machine.revise(router, after, state, now))
            router = after
        else:
            done = step(router, state, match["what"], now)
        state = done.state
        told = [shown(state), *map(effect, done.effects)]
        wanted = [match["state"], *(match["effects"].split(", ") if match["effects"] else [])]
        assert told == wanted, place


def test_there_are_scenarios_for_every_arrow() -> None:
    told = "\n".join(file.read_text() for file in SCENARIOS)
    assert len(SCENARIOS) > 5
    for arrow in ("-> initialize", "-> fault", "-> backup", "-> master"):
        assert arrow in told
