"""What a verification costs, learned from what verdicts report: a line a + b * rows, bent where measurements bend it.

Taking the time of a forward as constant makes a window controller run away: wider windows look free. A line alone
misses that the first few rows often are free (memory-bound) and the later ones are not, and both decide the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FORGET = 0.98
"""Weight that the past keeps at each new measurement."""
PRIOR_ROWS = (1.0, 33.0)
PRIOR_SECONDS = (0.020, 0.060)
PRIOR_WEIGHT = 0.05
"""The prior only breaks ties until a handful of measurements are in."""
QUEUE_GAIN = 0.1
LINE_WEIGHT = 3.0
"""Measurements of one row count that the line is worth there."""
CROWD_GAIN = 0.02
PRICE_STEP = 0.003
"""Share of a forward by which the price of a row moves with each verdict, at most."""
PRICE_QUEUE = 0.1
"""Queue, as a share of a forward, at which the price of a row stays what it is."""
PRICE_MOST = 2.0
"""Forwards that a row may come to cost, in the price of a queue."""


@dataclass(slots=True)
class CostModel:
    """Exponentially weighted least squares of seconds on rows, and a mean for each row count seen lately."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    seen: dict[int, tuple[float, float]] = field(default_factory=dict)
    """rows -> (weight, weighted sum of seconds)"""
    queue: float = 0.0
    """seconds that requests waited there, smoothed"""
    crowd: float = 0.0
    """share of the verifier that others have, 0 to 1: of the rows of a forward, and of the time that requests wait"""
    price: float = 0.0
    """seconds that a row takes from the other sessions"""

    @property
    def forward(self) -> float:
        """Seconds of a forward, on average; 0: none was seen."""
        return self.y / self.n if self.n else 0.0

    def shared(self, own: int, rows: int, queue: float, compute: float) -> None:
        """One request, with ``own`` of the ``rows`` rows of its forward, waited ``queue`` seconds for it.

        While requests queue, a row that is verified in vain delays everybody, and the queue says by how much only to
        all together. So its price goes up while there is a queue and down while there is none, as the congestion price
        of a network link does (Low and Lapsley 1999, "Optimization flow control").
        """
        self.queue += QUEUE_GAIN * (queue - self.queue)
        if compute <= 0.0:
            return
        mine = min(own / max(rows, 1), 1.0) * compute / (compute + queue)
        self.crowd += CROWD_GAIN * (1.0 - mine - self.crowd)
        step = PRICE_STEP * compute * (min(queue / compute, 1.0) - PRICE_QUEUE)
        self.price = min(max(self.price + step, 0.0), PRICE_MOST * compute)

    def observe(self, rows: int, seconds: float) -> None:
        """One forward of ``rows`` rows took ``seconds``."""
        self.n = self.n * FORGET + 1.0
        self.x = self.x * FORGET + rows
        self.y = self.y * FORGET + seconds
        self.xx = self.xx * FORGET + rows * rows
        self.xy = self.xy * FORGET + rows * seconds
        faded = {count: (w * FORGET, s * FORGET) for count, (w, s) in self.seen.items() if w > 0.01}
        weight, total = faded.get(rows, (0.0, 0.0))
        faded[rows] = (weight + 1.0, total + seconds)
        self.seen = faded

    def _line(self) -> tuple[float, float]:
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

    def curve(self, most: int) -> list[float]:
        """Predicted seconds of forwards with 0, 1, ..., ``most`` rows; more rows never cost less."""
        a, b = self._line()
        curve = [a]
        for rows in range(1, most + 1):
            weight, total = self.seen.get(rows, (0.0, 0.0))
            guess = (total + LINE_WEIGHT * (a + b * rows)) / (weight + LINE_WEIGHT)
            curve.append(max(guess, curve[-1] if rows > 1 else guess))
        return curve
