"""Why a probe ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LONGEST_REASON = 200
"""Letters of a reason that are kept: it stands in every line and snapshot that tells of the server."""


class Ended(StrEnum):
    """How a probe came out. LOCAL is the director's own fault and says nothing about the real server."""

    PASSED = "passed"
    FAILED = "failed"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one probe; `reason` is what the operator reads: `HTTP 200`, `connection refused`."""

    ended: Ended
    reason: str

    def __post_init__(self) -> None:
        if len(self.reason) > LONGEST_REASON:
            object.__setattr__(self, "reason", f"{self.reason[: LONGEST_REASON - 1]}…")

    @classmethod
    def passed(cls, reason: str) -> Outcome:
        """Return the outcome of a probe that found the server in order."""
        return cls(Ended.PASSED, reason)

    @classmethod
    def failed(cls, reason: str) -> Outcome:
        """Return the outcome of a probe that the server failed."""
        return cls(Ended.FAILED, reason)

    @classmethod
    def local(cls, reason: str) -> Outcome:
        """Return the outcome of a probe that the director itself could not make."""
        return cls(Ended.LOCAL, reason)
