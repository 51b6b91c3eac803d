"""Outcomes to verdicts, and when to probe next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvsd.config.model import Check, TrackedCommand
    from lvsd.model import Seconds


class Verdict(StrEnum):
    """What is known of a real server. Unknown is neither up nor down."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict, and how many probes in a row have disagreed with it."""

    verdict: Verdict = Verdict.UNKNOWN
    dissent: int = 0

    @property
    def in_doubt(self) -> bool:
        """Whether the verdict may be about to change."""
        return self.dissent > 0


def observe(health: Health, check: Check | TrackedCommand, *, passed: bool) -> Health:
    """Fold the outcome of one probe, or of one run of a command, into the verdict.

    `rise` successes bring a server up that is down, `fall` failures take one down. One success is enough
    where nothing is known, since nothing speaks against it.
    """
    agrees = Verdict.UP if passed else Verdict.DOWN
    if health.verdict is agrees or (health.verdict is Verdict.UNKNOWN and passed):
        return Health(agrees)
    dissent = health.dissent + 1
    needed = check.rise if passed else check.fall
    return Health(agrees) if dissent >= needed else replace(health, dissent=dissent)


def next_probe_at(
    check: Check, health: Health, due_at: Seconds, now: Seconds, *, local: bool = False
) -> Seconds:
    """Return when to probe again after a probe that was due at `due_at`.

    Counted from when the probe was due, not from when it ended, so that the interval does not drift; a slot
    that has passed while the probe ran is left out. A probe that was not made (`local`) makes none more
    urgent: a director that is short of something must not be asked for more.
    """
    interval = check.fast_interval if health.in_doubt and not local else check.interval
    return next_slot(interval, due_at, now)


def next_slot(interval: Seconds, due_at: Seconds, now: Seconds) -> Seconds:
    """Return the next moment after `now`, counted in intervals from `due_at`, but for that itself."""
    at = due_at + interval
    return at if at > now else now + (interval - (now - due_at) % interval)
