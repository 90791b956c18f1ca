"""How much slower than alone everything on this machine is now, as far as this process can tell.

A step has five seconds because a node that works answers in a fraction of one. Where ten processes want two cores, that
fraction is multiplied, for the testee as for the suite. Linux says how long a thread was ready to run and had to wait;
beside how long it ran that is a factor, and every limit of time is stretched by it (:meth:`Trial.seconds`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

SCHEDULED = Path("/proc/self/schedstat")
"""Of the main thread: nanoseconds that it ran, nanoseconds that it waited for a core, how often it ran."""
EVERY = 0.25
"""Seconds between two looks."""
WINDOW = 15.0
"""Seconds that one look counts: load comes and goes, and what was asked a moment ago is still being answered."""
ENOUGH = 0.01
"""Seconds of computing without which a look says nothing."""
MOST = 12.0

Reading = tuple[float, float]
"""Seconds that this process ran, and that it waited."""


def read() -> Reading | None:
    """None: this system does not say."""
    try:
        ran, waited = SCHEDULED.read_text().split()[:2]
    except (OSError, ValueError):
        return None
    return int(ran) / 1e9, int(waited) / 1e9


class Slowness:
    """:param clock: monotonic seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, reading: Callable[[], Reading | None] = read
    ) -> None:
        self._clock, self._reading = clock, reading
        self._looked = clock()
        self._last = reading()
        self._found: deque[tuple[float, float]] = deque()

    def factor(self) -> float:
        """1.0 on a machine with room, up to :data:`MOST`: the worst of the last seconds."""
        now = self._clock()
        if self._last is not None and now - self._looked >= EVERY:
            self._look(now)
        while self._found and self._found[0][0] < now - WINDOW:
            self._found.popleft()
        return min(MOST, max((factor for _, factor in self._found), default=1.0))

    def _look(self, now: float) -> None:
        fresh = self._reading()
        assert self._last is not None
        if fresh is None:
            return
        ran, waited = fresh[0] - self._last[0], fresh[1] - self._last[1]
        if ran + waited >= ENOUGH:
            self._found.append((now, (ran + waited) / max(ran, ENOUGH / 2)))
            self._last, self._looked = fresh, now
