"""What is known of a tracked command, and when it runs next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.health.verdict import Health, Verdict, observe

if TYPE_CHECKING:
    from lvsd.config.model import TrackedCommand
    from lvsd.model import Seconds


def judge(health: Health, command: TrackedCommand, *, passed: bool) -> Health:
    """Fold one run into the verdict: the first decides at once, then `rise` and `fall` count.

    Nobody is hurt by a first verdict that is wrong: an instance that knows nothing is not master.
    """
    if health.verdict is Verdict.UNKNOWN:
        return Health(Verdict.UP if passed else Verdict.DOWN)
    return observe(health, command, passed=passed)  # type: ignore[arg-type] # it reads rise and fall alone


def next_run_at(command: TrackedCommand, due_at: Seconds, now: Seconds) -> Seconds:
    """Return when to run again after a run that was due at `due_at`.

    Counted from when it was due; where that has passed while it ran, that turn is left out.
    """
    at = due_at + command.interval
    return at if at > now else now + (command.interval - (now - due_at) % command.interval)
