"""A profile as a function: seconds of any step, between the cells that were measured.

Linear in rows, then in sessions, then in the length of the context; beyond the largest cell the last slope goes on,
below the smallest nothing gets cheaper. More rows never take less time: where noise says otherwise, neighbours are
pooled (isotonic regression), which also halves the noise.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence

from reference_nodes.profile.document import Prefill, Profile, Step

Point = tuple[float, float]


class Table:
    """Step times of one profile.

    :param scale: of all times.
    :param spread: draw from the measured deciles; otherwise every step takes its median.
    """

    def __init__(self, profile: Profile, scale: float = 1.0, spread: bool = True) -> None:
        self.profile = profile
        self.message = profile.own("message")
        """seconds that a message takes from the step during which it comes in"""
        self._overhead, self._session = profile.own("overhead"), profile.own("session")
        self._scale = scale
        self._surface = _Surface(profile.steps)
        self._prefill = _Prefills(profile.prefill)
        self._low, self._high = _spread(profile.steps) if spread else (1.0, 1.0)
        self.slowdown = _slowdown(profile.steps, profile.beside_steps)
        """how many times as long a typical step takes while the other model computes beside it; 1: not measured"""
        self._beside = _Surface(profile.beside_steps) if profile.beside_steps else None

    def seconds(
        self,
        rows: int,
        sessions: int,
        context_tokens: int,
        prefill_positions: int,
        luck: Callable[[], float],
        beyond: int = 0,
    ) -> float:
        """Seconds of one forward with nothing beside it.

        :param rows: verifier: for each session 1 and its draft nodes; drafter: nodes expanded; 0: a prefill alone.
        :param context_tokens: lengths of the prefixes of all sessions, added up.
        :param prefill_positions: of prompts, computed in the same job.
        :param luck: gives uniform numbers.
        :param beyond: of ``rows``, missing positions of prefixes: no logits are wanted there, as in a prompt.
        """
        took = self._surface.seconds(rows, sessions, context_tokens / sessions) if sessions else 0.0
        if beyond:
            scored = self._surface.seconds(rows - beyond, sessions, context_tokens / sessions)
            took = min(took, scored + self._prefill.seconds(beyond, 0.0))
        if prefill_positions:
            prefill = self._prefill.seconds(prefill_positions, 0.0 if sessions else context_tokens - prefill_positions)
            # A drafter's prompt is part of the forward that expands its end, a verifier's a forward of its own.
            shared = self._surface.seconds(1, 1, prefill_positions) if self.profile.role == "drafter" else 0.0
            took += max(prefill - shared, 0.0)
        if self._low != self._high:
            took *= self._factor(luck())
        return took * self._scale

    def between(self, sessions: int) -> float:
        """Seconds of the node around a step of so many sessions; not part of what the step reports."""
        return self._overhead + self._session * sessions

    def slowdown_of(self, rows: int, sessions: int, context_tokens: int) -> float:
        """How many times as long such a step takes while the other model computes on the same machine, at least 1.

        Few rows wait for memory, which two models share, and many for the processor, which each has to itself.
        """
        if self._beside is None or not sessions:
            return self.slowdown
        alone = self._surface.seconds(rows, sessions, context_tokens / sessions)
        beside = self._beside.seconds(rows, sessions, context_tokens / sessions)
        return max(beside / alone, 1.0) if alone else self.slowdown

    def _factor(self, u: float) -> float:
        """Quantile ``u`` of a step's time relative to its median, straight through the measured deciles."""
        if u < 0.5:
            return 1.0 - (1.0 - self._low) * (0.5 - u) / 0.4
        return 1.0 + (self._high - 1.0) * (u - 0.5) / 0.4


class _Surface:
    """Medians by sessions and context, each a curve over rows."""

    def __init__(self, steps: Sequence[Step]) -> None:
        cells: dict[int, dict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
        for step in sorted(steps, key=lambda step: step.rows):
            cells[step.sessions][step.context].append((step.rows, step.seconds[1]))
        self._curves = {
            sessions: {context: rising(points) for context, points in sorted(by_context.items())}
            for sessions, by_context in sorted(cells.items())
        }

    def seconds(self, rows: float, sessions: float, context: float) -> float:
        points = []
        for count, by_context in self._curves.items():
            along = [(length, at(curve, rows)) for length, curve in by_context.items()]
            points.append((float(count), at(along, context, grow=True)))
        return at(points, sessions, grow=True)


class _Prefills:
    """Seconds by positions and context. Without a measurement a prompt costs nothing."""

    def __init__(self, parts: Sequence[Prefill]) -> None:
        by_context: dict[int, list[Point]] = defaultdict(list)
        for part in sorted(parts, key=lambda part: part.positions):
            by_context[part.context].append((part.positions, part.seconds[1]))
        # Nothing takes no time: with one measured length, others are in proportion.
        self._curves = {context: [(0.0, 0.0), *rising(points)] for context, points in sorted(by_context.items())}

    def seconds(self, positions: float, context: float) -> float:
        if not self._curves:
            return 0.0
        return at([(length, at(curve, positions)) for length, curve in self._curves.items()], context, grow=True)


def at(points: Sequence[tuple[float, float]], x: float, grow: bool = False) -> float:
    """Linear interpolation; below the first point its value, beyond the last the last slope, never a falling one.

    :param points: by ascending x, at least one.
    :param grow: beyond the last point only a slope over the whole range is trusted: neighbouring cells are noisy.
    """
    if len(points) == 1 or x <= points[0][0]:
        return points[0][1]
    place = bisect_right([point[0] for point in points], x)
    if place == len(points):
        (x0, y0), (x1, y1) = points[0 if grow else -2], points[-1]
        return y1 + max((y1 - y0) / (x1 - x0), 0.0) * (x - x1)
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def rising(points: Sequence[Point]) -> list[Point]:
    """The closest values that never fall (pool adjacent violators): same x, at least one point."""
    pools: list[tuple[float, int]] = []
    for _, value in points:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    values = [value for value, count in pools for _ in range(count)]
    return [(x, value) for (x, _), value in zip(points, values)]


def _spread(steps: Sequence[Step]) -> tuple[float, float]:
    """q10 and q90 relative to the median, of a typical cell that was measured often enough to have them."""
    told = [step for step in steps if step.n >= 5 and step.seconds[1] > 0]
    if not told:
        return 1.0, 1.0
    low = statistics.median(step.seconds[0] / step.seconds[1] for step in told)
    return low, statistics.median(step.seconds[2] / step.seconds[1] for step in told)


def _slowdown(alone: Sequence[Step], beside: Sequence[Step]) -> float:
    known = {(step.rows, step.sessions, step.context): step.seconds[1] for step in alone}
    ratios = [
        step.seconds[1] / known[cell]
        for step in beside
        if known.get(cell := (step.rows, step.sessions, step.context), 0.0) > 0.0
    ]
    return max(statistics.median(ratios), 1.0) if ratios else 1.0
