"""Which of several nodes gets the next session: leaders choose a verifier so, clients and balancers a leader.

A router sees what its caller knows, and draws from the caller's entropy: it has none of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could take the session, as far as the caller knows; zero where it knows nothing."""

    sessions: int = 0
    """that it has from this caller, or in all where the caller can see that"""
    queue: float = 0.0
    """seconds that a request waited there lately"""
    forward: float = 0.0
    """seconds of a forward there lately"""
    rtt: float = 0.0
    """seconds there and back"""


class Router(Protocol):
    def choose(self, candidates: Sequence[Candidate], draw: float) -> int:
        """Index of one of ``candidates``, of which there is at least one.

        :param draw: uniform in [0, 1).
        """
        ...


@dataclass(frozen=True, slots=True)
class RandomRouter:
    """Any of them."""

    def choose(self, candidates: Sequence[Candidate], draw: float) -> int:
        return min(int(draw * len(candidates)), len(candidates) - 1)


@dataclass(slots=True)
class RoundRobin:
    """One after the other. Where many callers route each for itself, each begins somewhere else, or they would herd."""

    turn: int | None = None

    def choose(self, candidates: Sequence[Candidate], draw: float) -> int:
        if self.turn is None:
            self.turn = RandomRouter().choose(candidates, draw)
        chosen = self.turn % len(candidates)
        self.turn = chosen + 1
        return chosen


@dataclass(frozen=True, slots=True)
class ShortestQueue:
    """Join the shortest queue: fewest sessions; among equals the first."""

    def choose(self, candidates: Sequence[Candidate], draw: float) -> int:
        return min(range(len(candidates)), key=lambda index: candidates[index].sessions)


@dataclass(slots=True)
class Goodput:
    """Where a session is likely to get its tokens fastest: a round there takes link, queue and forward.

    Sessions share a forward, but not without limit: ``share`` says how much longer it takes with each one more.
    """

    share: float = 0.05

    def choose(self, candidates: Sequence[Candidate], draw: float) -> int:
        def round_time(candidate: Candidate) -> float:
            return candidate.rtt + candidate.queue + candidate.forward * (1.0 + self.share * candidate.sessions)

        # Where nothing is known yet, the number of sessions decides.
        keys = [(round_time(candidate), candidate.sessions) for candidate in candidates]
        return min(range(len(candidates)), key=lambda index: keys[index])
