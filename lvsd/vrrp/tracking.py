"""What is known of a tracked command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvsd.health.verdict import Health, Verdict, observe

if TYPE_CHECKING:
    from lvsd.config.model import TrackedCommand


def judge(health: Health, command: TrackedCommand, *, passed: bool) -> Health:
    """Fold one run into the verdict: the first decides at once, then `rise` and `fall` count.

    Nobody is hurt by a first verdict that is wrong: an instance that knows nothing is not master.
    """
    if health.verdict is Verdict.UNKNOWN:
        return Health(Verdict.UP if passed else Verdict.DOWN)
    return observe(health, command, passed=passed)
