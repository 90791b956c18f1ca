"""Which of a drafter's guesses the target says, position by position, without either model.

``rank_at(session, position)`` gives the place of the target's token among the drafter's choices (0 is its first, NONE:
not among them) and the scores that the drafter reports for its choices. A function of (seed, model, session, position)
alone: two runs that differ in their policies meet the same luck.
"""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Protocol

from reference_nodes.simulator.plan.luck import key_of, uniform
from reference_nodes.simulator.plan.records import RecordedProcess
from reference_nodes.simulator.plan.scenario import Acceptance, Iid, Markov

NONE = 255
"""The target's token is not among the drafter's choices."""
WIDTH = 3
"""Choices that a drafter is taken to have where the process says less of them."""


class Process(Protocol):
    def rank_at(self, session: int, position: int) -> tuple[int, tuple[int, ...]]:
        """(place of the target's token among the choices or NONE, scores of the choices).

        :param position: of the token in the answer, the first is 0.
        """
        ...


def scores_of(rates: tuple[float, ...]) -> tuple[int, ...]:
    """What a drafter that knows these rates reports: -16 log2 p as u8; for at least :data:`WIDTH` choices."""
    padded = rates + (0.0,) * (WIDTH - len(rates))
    return tuple(min(255, round(-16 * log2(rate))) if rate > 0.0 else 255 for rate in padded)


def bounds_of(rates: tuple[float, ...]) -> tuple[float, ...]:
    """Running sums."""
    total, bounds = 0.0, []
    for rate in rates:
        total += rate
        bounds.append(total)
    return tuple(bounds)


class IidProcess:
    def __init__(self, rates: tuple[float, ...], key: int) -> None:
        self._key = key
        self._first = rates[0]
        self._bounds = bounds_of(rates)
        self._scores = scores_of(rates)

    def rank_at(self, session: int, position: int) -> tuple[int, tuple[int, ...]]:
        u = uniform(self._key, session, position)
        if u < self._first:
            return 0, self._scores
        for rank, bound in enumerate(self._bounds):
            if u < bound:
                return rank, self._scores
        return NONE, self._scores


class MarkovProcess:
    """Good and bad stretches. The state at a position is found by looking back to the last number that sets it whatever
    it was before: such a number comes with chance ``worsens + improves`` at each position."""

    def __init__(self, given: Markov, key: int) -> None:
        self._states_key = key ^ 0x5DEECE66D
        self._worsens, self._improves = given.worsens, given.improves
        self._good = IidProcess(given.good, key)
        self._bad = IidProcess(given.bad, key)

    def is_good(self, session: int, position: int) -> bool:
        """Whether a position is in a good stretch."""
        worsens, stays = self._worsens, 1.0 - self._improves
        while position > 0:
            u = uniform(self._states_key, session, position)
            if u < worsens:
                return False
            if u >= stays:
                return True
            position -= 1
        share = self._improves / (self._worsens + self._improves)
        return uniform(self._states_key, session, 0) < share

    def rank_at(self, session: int, position: int) -> tuple[int, tuple[int, ...]]:
        return (self._good if self.is_good(session, position) else self._bad).rank_at(session, position)


def process_of(given: Acceptance, name: str, seed: int, folder: Path) -> Process:
    """The process of a draft model. Raises ScenarioError for a record file that cannot be used."""
    key = key_of("acceptance", seed, name)
    if isinstance(given, Iid):
        return IidProcess(given.rates, key)
    if isinstance(given, Markov):
        return MarkovProcess(given, key)
    return RecordedProcess(given, key, folder, f"acceptance.{name}")
