"""Why a VRRP instance is as it is, in words: what `lvsd explain INSTANCE` prints."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lvsd.errors import LvsdError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lvsd.state import State


def explain(state: State, instance: str) -> str:
    """Return who is master of `instance` and why; raise LvsdError where the log tells of no such instance."""
    told = state.vrrp.get(instance)
    if told is None:
        close = get_close_matches(instance, state.vrrp, n=1)
        known = f"; did you mean {close[0]!r}?" if close else f": it knows {_listed(state.vrrp)}"
        message = f"the log tells of no VRRP instance {instance!r}{known}"
        raise LvsdError(message)
    return "\n".join(map(printable, _lines(state, instance, told)))


def _lines(state: State, instance: str, told: dict[str, Any]) -> Iterator[str]:
    stopped = "" if state.running else ", and was stopped since"
    since = f"since {told['since']}{stopped}"
    yield f"{instance} is {told['state']} on {state.director} {since}: {told['reason']}."
    if told["state"] == "master":
        yield f"So {state.director} holds {', '.join(told['addresses'])}."
    elif told["master"]:
        yield f"The last master that it heard is {told['master']}, who holds {', '.join(told['addresses'])}."
    else:
        yield f"It has heard no master, who would hold {', '.join(told['addresses'])}."
    yield f"Its priority is {told['priority']}."
    for tracked, reason in told["failing"].items():
        yield f"It needs {tracked}, which is not well: {reason.removeprefix(f'{tracked}: ')}."
    if not state.complete:
        yield "The log has a gap; what it does not say since is missing here until its next snapshot."


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(names) or "none"
