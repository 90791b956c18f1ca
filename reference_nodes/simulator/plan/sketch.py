"""Quantiles of any number of values in a fixed amount of memory.

Values are counted in bins whose limits grow by 1 % each: a quantile is off by at most half a percent of itself, however
many values there were (as in DDSketch: Masson, Rim, Lee 2019).
"""

from __future__ import annotations

from math import exp, floor, log

GROWTH = 1.01
_STEP = log(GROWTH)
SMALLEST = 1e-7
"""Everything up to it counts as 0."""


class Tally:
    """Whole numbers that do not vary much, each counted by itself."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, value: int) -> None:
        counts = self.counts
        counts[value] = counts.get(value, 0) + 1

    @property
    def mean(self) -> float | None:
        """None without values."""
        total = sum(self.counts.values())
        return sum(value * times for value, times in self.counts.items()) / total if total else None

    def quantile(self, share: float) -> int | None:
        """The smallest value that at least ``share`` of all values do not exceed; None without values."""
        need, seen = share * sum(self.counts.values()), 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= need:
                return value
        return None


class Sketch:
    """Mean, extremes and quantiles of values that are not negative."""

    __slots__ = ("_bins", "count", "largest", "smallest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.smallest = float("inf")
        self.largest = 0.0
        self._bins: dict[int, int] = {}

    def add(self, value: float, times: int = 1) -> None:
        self.count += times
        self.total += value * times
        if value < self.smallest:
            self.smallest = value
        if value > self.largest:
            self.largest = value
        index = floor(log(value) / _STEP) if value > SMALLEST else -(1 << 20)
        self._bins[index] = self._bins.get(index, 0) + times

    @property
    def mean(self) -> float | None:
        """None without values."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The smallest value that at least ``share`` of all values do not exceed; None without values."""
        if not self.count:
            return None
        need, seen = share * self.count, 0
        for index in sorted(self._bins):
            seen += self._bins[index]
            if seen >= need:
                middle = exp((index + 0.5) * _STEP) if index > -(1 << 20) else 0.0
                return min(max(middle, self.smallest), self.largest)
        return self.largest

    def quantiles(self, parts: int = 100) -> list[float]:
        """The distribution in ``parts`` steps: smallest, 1/parts, 2/parts, ..., largest; empty without values."""
        if not self.count:
            return []
        found, seen, place = [self.smallest], 0, 1
        for index in sorted(self._bins):
            seen += self._bins[index]
            middle = exp((index + 0.5) * _STEP) if index > -(1 << 20) else 0.0
            while place < parts and seen * parts >= place * self.count:
                found.append(min(max(middle, self.smallest), self.largest))
                place += 1
        return [*found, self.largest]

    def as_json(self) -> dict[str, float | int | list[float] | None]:
        """Count, mean, p50, p95, p99, smallest and largest, and the percentiles from 0 to 100."""
        return {
            "count": self.count,
            "mean": self.mean,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "min": self.smallest if self.count else None,
            "max": self.largest if self.count else None,
            "quantiles": self.quantiles(),
        }
