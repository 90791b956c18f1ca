"""How likely is a draft node to be what the target says? Learned from verdicts, per drafter and score.

A drafter's own score is its opinion; whether it deserves belief shows only in what the target said whenever the
parent of a node was on the accepted path. Those trials are exact under coupled verification: accepted or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log2

BUCKETS = 12
PRIOR_WEIGHT = 6.0
"""Trials that a drafter's own opinion is worth."""
FORGET = 0.995
"""Weight that a bucket's past keeps at each new trial, so that a changed drafter is noticed."""
UNSCORED = 16
"""Score of a node that came without one: probability 1/2."""


def probability_of(score: int) -> float:
    """The drafter's own estimate: 2**(-score/16)."""
    return 2.0 ** (-score / 16)


def _bucket(score: int) -> int:
    # Fine where it matters (likely nodes), coarse beyond 1/16.
    return min(score // 6, BUCKETS - 1)


@dataclass(slots=True)
class AcceptanceEstimator:
    """Acceptance of one drafter's nodes, given that their parent was accepted."""

    hits: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    trials: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)

    def observe(self, score: int, accepted: bool) -> None:
        """One trial: the node's parent was on the target's path, and the node was or was not."""
        b = _bucket(score)
        self.hits[b] = self.hits[b] * FORGET + accepted
        self.trials[b] = self.trials[b] * FORGET + 1.0

    def probability(self, score: int) -> float:
        """Estimated acceptance probability of a node with this score, in (0, 1)."""
        b = _bucket(score)
        prior = probability_of(score)
        estimate = (self.hits[b] + PRIOR_WEIGHT * prior) / (self.trials[b] + PRIOR_WEIGHT)
        return min(max(estimate, 1e-4), 0.9999)

    def cost(self, score: int) -> int:
        """The probability in the trie's units: -16 log2 p, u8."""
        return min(round(-16 * log2(self.probability(score))), 255)
