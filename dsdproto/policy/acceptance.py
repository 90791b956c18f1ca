"""How likely is a draft node to be what the target says? Learned from verdicts, per drafter and score.

A drafter's own score is its opinion; whether it deserves belief shows only in what the target said whenever the
parent of a node was on the accepted path. Those trials are exact under coupled verification: accepted or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log2

BUCKETS = 12
PRIOR_WEIGHT = 6.0
"""Trials that a drafter's own opinion is worth."""
FORGET = 0.995
"""Weight that a bucket's past keeps at each new trial, so that a changed drafter is noticed."""
UNSCORED = 16
"""Score of a node that came without one: probability 1/2."""


def probability_of(score: float) -> float:
    """The drafter's own estimate: 2**(-score/16)."""
    return 2.0 ** (-score / 16)


def _bucket(score: int) -> int:
    # Fine where it matters (likely nodes), coarse beyond 1/16.
    return min(score // 6, BUCKETS - 1)


TRUSTS = (8.0, 4.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.06, 0.03)
"""Powers of an opinion to choose from: 1 believes it, less finds it too modest, more too bold."""
DOUBT = 0.5
"""Trials by which a power must explain the outcomes better for each factor e that it is away from 1."""


_EXPECTED = tuple(tuple(probability_of(score * trust) for trust in TRUSTS) for score in range(256))
"""by score: what each power makes of it"""
_DOUBTS = tuple(DOUBT * abs(log(trust)) for trust in TRUSTS)


@dataclass(slots=True)
class _Record:
    """Outcomes of one kind of node, by score, and what each power would have expected in all."""

    hits: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    trials: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    total: float = 0.0
    expected: list[float] = field(default_factory=lambda: [0.0] * len(TRUSTS))
    costs: dict[int, int] = field(default_factory=dict)
    """what :meth:`cost` came to since the last trial: the same few scores are asked for again and again"""
    _trust: float | None = 1.0

    def observe(self, score: int, accepted: bool) -> None:
        b = _bucket(score)
        self.hits[b] = self.hits[b] * FORGET + accepted
        self.trials[b] = self.trials[b] * FORGET + 1.0
        self.total = self.total * FORGET + accepted
        self.expected = [before * FORGET + more for before, more in zip(self.expected, _EXPECTED[score])]
        self.costs = {}
        self._trust = None

    @property
    def trust(self) -> float:
        """The power that explains the outcomes best; found when it is asked for, as trials come several at a time."""
        if self._trust is None:
            total = self.total
            wrong = [abs(expected - total) + doubt for expected, doubt in zip(self.expected, _DOUBTS)]
            self._trust = TRUSTS[wrong.index(min(wrong))]
        return self._trust

    def probability(self, score: int) -> float:
        b = _bucket(score)
        prior = probability_of(score * self.trust)
        known = (self.hits[b] + PRIOR_WEIGHT * prior) / (self.trials[b] + PRIOR_WEIGHT)
        return min(max(known, 1e-4), 0.9999)

    def cost(self, score: int) -> int:
        cost = self.costs.get(score)
        if cost is None:
            cost = self.costs[score] = min(round(-16 * log2(self.probability(score))), 255)
        return cost


@dataclass(slots=True)
class AcceptanceEstimator:
    """Acceptance of one drafter's nodes, given that their parent was accepted.

    First choices and others are different kinds: a drafter that is nearly the target is right with a first choice that
    it holds for a guess, and wrong with a second one that it holds for as likely.
    """

    first: _Record = field(default_factory=_Record)
    others: _Record = field(default_factory=_Record)

    def observe(self, score: int, accepted: bool, first: bool) -> None:
        """One trial: the node's parent was on the target's path, and the node was or was not.

        :param first: it was the drafter's first choice below its parent.
        """
        (self.first if first else self.others).observe(score, accepted)

    def probability(self, score: int, first: bool) -> float:
        """Estimated acceptance probability of a node with this score, in (0, 1)."""
        return (self.first if first else self.others).probability(score)

    def cost(self, score: int, first: bool) -> int:
        """The probability in the trie's units: -16 log2 p, u8."""
        return (self.first if first else self.others).cost(score)
