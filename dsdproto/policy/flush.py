"""When a drafter sends what it has: bytes against waiting.

A PROPOSE costs some fifty bytes besides its tokens, so nodes are worth collecting. But a node that arrives after the
leader chose what to verify next came too late. The leader chooses at each ADVANCE, and these come at a steady pace, so
the drafter sends early when the leader has nothing of its drafts left, and else just before the next ADVANCE is due.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 4
"""Nodes in the first message after the leader ran out of this drafter's drafts."""
EARLY = 0.75
"""Fraction of the usual time between two ADVANCE messages after which what is there is sent."""
GAIN = 0.25


@dataclass(slots=True)
class FlushPolicy:
    """Pace estimator and decision of one session; times in seconds."""

    last: float
    round: float | None = None

    def advanced(self, now: float) -> None:
        """An ADVANCE moved the prefix."""
        took = now - self.last
        self.round = took if self.round is None else self.round + GAIN * (took - self.round)
        self.last = now

    def due(self, unsent: int, sent: int, window: int, more: bool, now: float) -> float:
        """When to send ``unsent`` waiting nodes; at or before ``now`` means at once.

        :param sent: nodes sent before that still hang below the prefix.
        :param more: the drafter is going to add nodes by itself.
        """
        hungry = sent == 0
        if unsent >= (min(FIRST, window) if hungry else window) or not more:
            return now
        if self.round is None:
            return now
        return self.last + EARLY * self.round
