"""What machines did over time: their running sums, looked at once a window."""

from __future__ import annotations

from reference_nodes.simulator.plan.measure import Meter, Window
from reference_nodes.simulator.plan.series import Series
from reference_nodes.simulator.plan.world import PlanWorld

SUMS = ("rounds", "nodes", "accepted", "verifiers", "drafters", "messages", "bytes")
"""Fields of a window over time, in the order of :meth:`Sampler._now`."""


class Sampler:
    """Adds to each window of ``series`` by how much the sums of a run grew in it.

    The sums begin anew when the warm-up ends; :meth:`take` has to be called right before that.
    """

    def __init__(self, series: Series, meter: Meter, world: PlanWorld, horizon: float) -> None:
        self._series, self._meter, self._world, self._horizon = series, meter, world, horizon
        self._width = series.width
        self._last = 0.0
        self._window: Window = meter.window
        self._before: tuple[float, ...] = (0,) * len(SUMS)

    def begin(self) -> None:
        """Look once a window from now on."""
        self._arm(1)

    def take(self) -> None:
        """What was added since the last time belongs to the time since then."""
        now = self._now()
        if self._meter.window is not self._window:
            self._window, self._before = self._meter.window, (0,) * len(SUMS)
        span = self._series.at((self._last + self._world.now) / 2.0)
        for name, value, before in zip(SUMS, now, self._before):
            setattr(span, name, getattr(span, name) + value - before)
        self._before, self._last = now, self._world.now

    def _arm(self, number: int) -> None:
        at = number * self._width
        if at < self._horizon:
            self._world.at(at, self._tick, number)

    def _tick(self, number: int) -> None:
        self.take()
        self._arm(number + 1)

    def _now(self) -> tuple[float, ...]:
        verified, drafted, traffic = self._meter.window.verified, self._meter.window.drafted, self._world.traffic
        return (
            verified.rounds, verified.nodes, verified.accepted, verified.busy, drafted.busy,
            traffic.messages, traffic.bytes,
        )  # fmt: skip
