"""What a verification costs: seconds = a + b * rows, fitted to what verdicts report.

Taking the time of a forward as constant makes a window controller run away: wider windows look free.
"""

from __future__ import annotations

from dataclasses import dataclass

FORGET = 0.97
PRIOR_ROWS = (1.0, 33.0)
PRIOR_SECONDS = (0.020, 0.045)
PRIOR_WEIGHT = 0.05
"""The prior only breaks ties until a handful of measurements are in."""


@dataclass(slots=True)
class CostModel:
    """Exponentially weighted least squares of seconds on rows; a weak prior defines it from the start."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """One forward of ``rows`` rows took ``seconds``."""
        self.n = self.n * FORGET + 1.0
        self.x = self.x * FORGET + rows
        self.y = self.y * FORGET + seconds
        self.xx = self.xx * FORGET + rows * rows
        self.xy = self.xy * FORGET + rows * seconds

    def _fit(self) -> tuple[float, float]:
        scale = self.y / self.n / PRIOR_SECONDS[0] if self.n else 1.0
        n, x, y, xx, xy = self.n, self.x, self.y, self.xx, self.xy
        for rows, seconds in zip(PRIOR_ROWS, PRIOR_SECONDS):
            n += PRIOR_WEIGHT
            x += PRIOR_WEIGHT * rows
            y += PRIOR_WEIGHT * seconds * scale
            xx += PRIOR_WEIGHT * rows * rows
            xy += PRIOR_WEIGHT * rows * seconds * scale
        b = max((n * xy - x * y) / max(n * xx - x * x, 1e-12), 0.0)
        return max((y - b * x) / n, 1e-9), b

    def seconds(self, rows: int) -> float:
        """Predicted duration of a forward with ``rows`` rows."""
        a, b = self._fit()
        return a + b * rows
