"""Time at which the suite itself stood still is not charged to the testee.

All live cases share one Trio loop and one process. When that process does not run, because the machine is busy or
because one case computes, answers lie unread and deadlines pass; the testee cannot help it. :class:`StallClock` is the
clock of that loop: what goes beyond :data:`TOLERATED` in one turn of the loop does not count as time, so that every
deadline, of whatever step in whatever case, moves by it. Where a case measures how *early* something comes, it asks
real time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import trio

TOLERATED = 0.05
"""Seconds: how late the loop may wake up, and how long one turn of it may take."""
NOTABLE = 0.5
"""A stall of so many seconds may have made a testee give up on the suite: it comes within a heartbeat or two of the
cases whose heartbeats are fastest."""
KEPT = 256


class StallClock(trio.abc.Clock, trio.abc.Instrument):
    """Give it to ``trio.run`` both as ``clock`` and among the ``instruments``.

    :param clock: real monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._woke = self._slept = clock()
        self._asleep = False
        self.total = 0.0
        """seconds that did not count, up to now"""
        self.longest = 0.0
        self._notable: deque[tuple[float, float]] = deque(maxlen=KEPT)
        """(when it was over in real time, seconds)"""

    def worst_since(self, begin: float) -> float:
        """The longest notable stall that ended after ``begin`` (real time); 0: none."""
        return max((seconds for end, seconds in self._notable if end > begin), default=0.0)

    def _stood_still(self, seconds: float, now: float) -> None:
        self.total += seconds
        self.longest = max(self.longest, seconds)
        if seconds >= NOTABLE:
            self._notable.append((now, seconds))

    # ------------------------------------------------------------ what Trio asks and tells

    def start_clock(self) -> None:
        self._woke = self._slept = self._clock()

    def current_time(self) -> float:
        """Never beyond what this turn of the loop may take, so that it never goes back when the turn is over."""
        now = self._clock()
        return (now if self._asleep else min(now, self._woke + TOLERATED)) - self.total

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()

    def before_io_wait(self, timeout: float) -> None:
        self._slept = self._clock()
        busy = self._slept - self._woke
        if busy > TOLERATED:
            self._stood_still(busy - TOLERATED, self._slept)
        self._asleep = True

    def after_io_wait(self, timeout: float) -> None:
        self._asleep = False
        self._woke = self._clock()
        late = self._woke - self._slept - max(0.0, timeout)
        if late > TOLERATED:
            self._stood_still(late - TOLERATED, self._woke)
