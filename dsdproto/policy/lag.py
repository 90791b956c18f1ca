"""How long a drafter takes from ADVANCE to a proposal that is of use, and what such a proposal brings."""

from __future__ import annotations

from dataclasses import dataclass

GAIN = 0.2
SLOW_GAIN = 0.1
PATIENCE = 2.0
"""A drafter that takes longer than this many times its usual lag is not waited for any more in this round."""
GIVE_UP = 3
"""Rounds in vain in a row after which a drafter is not waited for, until it answers again."""
STARTING_LAG = 0.02
STARTING_YIELD = 1.5


@dataclass(slots=True)
class LagEstimator:
    """One drafter of one session; seconds and tokens."""

    lag: float = STARTING_LAG
    tokens: float = STARTING_YIELD
    since: float | None = None
    """when the last ADVANCE was sent, until a useful proposal answers it"""
    last: float | None = None
    """of this round, once there is an answer"""
    missed: int = 0
    """rounds in a row in which waiting was in vain"""

    def asked(self, now: float | None) -> None:
        """An ADVANCE was sent at ``now``; None: drafts were at hand already, so nothing is waited for."""
        self.since, self.last = now, None

    def answered(self, now: float) -> None:
        """The first useful nodes since the last ADVANCE arrived."""
        if self.since is None:
            return
        self.last = now - self.since
        self.lag += GAIN * (self.last - self.lag)
        self.since = None
        self.missed = 0

    def brought(self, tokens: float) -> None:
        """Accepted nodes of a round in which this drafter's nodes were verified."""
        self.tokens += SLOW_GAIN * (tokens - self.tokens)

    def gave_up(self) -> None:
        """Waiting for this drafter was in vain; its lag counts double for the next decision."""
        self.missed += 1
        self.lag *= 2.0

    def remaining(self, now: float) -> float | None:
        """Seconds until a proposal may be expected; None if it is not worth expecting."""
        if self.since is None or self.missed >= GIVE_UP:
            return None
        elapsed = now - self.since
        if elapsed >= PATIENCE * self.lag:
            return None
        return max(self.lag - elapsed, self.lag * 0.1)

    def patience(self, now: float) -> float:
        """Seconds after which waiting is in vain."""
        assert self.since is not None
        return max(PATIENCE * self.lag - (now - self.since), 0.0)
