"""When a drafter sends what it has: bytes against waiting.

A PROPOSE costs some fifty bytes besides its tokens, so nodes are worth collecting. But a node that arrives after the
leader chose what to verify next came too late. The leader chooses at each ADVANCE, and these come at a steady pace, so
a drafter whose drafts the leader still has sends just before the next ADVANCE is due. When the leader has none left it
waits, or does without: then a further node is worth its time only if it adds more tokens than that time is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

EARLY = 0.75
"""Fraction of the usual time between two ADVANCE messages after which what is there is sent."""
HASTE = 3.0
"""How much more a waiting leader's time counts: a node drafted during verification is not lost, only later."""
GAIN = 0.25
SHORTER_GAIN = 0.6
"""Of a round that was shorter than thought: nodes that come too late cost more than a message too many."""


@dataclass(slots=True)
class FlushPolicy:
    """Pace estimators and decision of one session; times in seconds."""

    last: float
    begun: bool = False
    round: float | None = None
    step: float = 0.0

    def advanced(self, now: float) -> None:
        """An ADVANCE moved the prefix."""
        took = now - self.last
        if self.round is not None:
            self.round += (SHORTER_GAIN if took < self.round else GAIN) * (took - self.round)
        elif self.begun:
            self.round = took
        # The first ADVANCE comes after the prompt was computed, which says nothing about a round.
        self.begun = True
        self.last = now

    def stepped(self, seconds: float) -> None:
        """Expanding some nodes took this long."""
        self.step += GAIN * (seconds - self.step) if self.step else seconds

    def due(self, unsent: int, sent: int, window: int, gain: float, prospect: float, now: float) -> float:
        """When to send ``unsent`` waiting nodes; at or before ``now`` means at once.

        :param sent: nodes sent before that still hang below the prefix.
        :param gain: expected number of the waiting nodes that the stream passes through; of no interest with ``sent``.
        :param prospect: probability that the stream passes through the next node to be expanded; 0 if there is none.
        """
        if unsent >= window or prospect == 0.0 or self.round is None:
            return now
        if sent == 0 and prospect < HASTE * (1.0 + gain) * self.step / max(self.round, 1e-9):
            return now
        return self.last + EARLY * self.round
