"""An actor: state that one handler at a time may touch, a bounded mailbox in front of it, and timers inside it.

Nobody else touches the state. Handlers are synchronous, so whoever brings an item while the mailbox is empty calls the
handler right there and saves two task switches; else the item waits behind those that came before. When the mailbox is
full, putters wait: a link's reader then reads no further and TCP tells the peer. Waiting putters are served first come,
first served, so a peer that floods takes one turn like everybody else.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")

MAILBOX = 256
BURST = 64
"""Items handled before other tasks get a turn."""


class Timers:
    """Keyed deadlines; setting a key again replaces its deadline."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, int] = {}
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Hashable, at: float) -> None:
        """Fire ``key`` at time ``at`` (seconds)."""
        number = next(self._count)
        self._live[key] = number
        heapq.heappush(self._heap, (at, number, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._live):
            # Replaced deadlines leave their old entries behind; far ones would pile up.
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def cancel(self, key: Hashable) -> None:
        """Forget ``key``; unknown keys are fine."""
        self._live.pop(key, None)

    def next(self) -> float:
        """The earliest deadline, or infinity."""
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> list[Hashable]:
        """Take out the keys whose time has come, in the order of their deadlines."""
        keys = []
        while self.next() <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._live[key]
            keys.append(key)
        return keys


class Actor(Generic[T]):
    """Calls ``handle(item)`` for each item and ``fire(key)`` for each due timer, one after the other.

    An exception from either ends :meth:`run`, which raises it; then every :meth:`put` raises
    :class:`trio.BrokenResourceError`.
    """

    def __init__(self, handle: Callable[[T], None], fire: Callable[[Hashable], None], capacity: int = MAILBOX) -> None:
        self._handle = handle
        self._fire = fire
        self._send, self._receive = trio.open_memory_channel[T](capacity)
        self._soon: deque[T] = deque()
        self._nap: trio.CancelScope | None = None
        """what the task sleeps in while there is nothing to do"""
        self._fault: Exception | None = None
        """of a handler that was called in a putter's task"""
        self.timers = Timers()

    @property
    def waiting(self) -> int:
        """Items in the mailbox."""
        return self._receive.statistics().current_buffer_used

    async def put(self, item: T) -> None:
        """Hand over ``item``; waits while the mailbox is full. Not always a checkpoint.

        Raises :class:`trio.BrokenResourceError` when the actor has ended.
        """
        if not self.take(item):
            await self._send.send(item)

    def take(self, item: T) -> bool:
        """Handle ``item`` now, if the actor runs and has nothing else to do; else it is not taken."""
        nap = self._nap
        if nap is None or self._soon or nap.cancel_called:
            return False
        try:
            self._handle(item)
            self._fire_due()
        except Exception as fault:
            self._fault = fault
            nap.cancel()
            return True
        if self._soon:
            nap.cancel()
        elif self.timers.next() < nap.deadline:
            # The other way round the task only wakes up early, and sleeps again.
            nap.deadline = self.timers.next()
        return True

    def put_own(self, item: T) -> None:
        """For the handlers themselves: take ``item`` after other tasks had a turn. The caller bounds how many."""
        self._soon.append(item)

    async def run(self) -> None:
        """The task. Never returns by itself."""
        with self._receive:
            while True:
                more = self._drain()
                if self._soon:
                    await trio.lowlevel.checkpoint()
                    self._handle(self._soon.popleft())
                elif more:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._sleep()

    async def _sleep(self) -> None:
        """Until there is something to do; the mailbox is empty. Meanwhile putters may call the handlers."""
        with trio.CancelScope(deadline=self.timers.next()) as self._nap:
            try:
                item = await self._receive.receive()
            finally:
                self._nap = None
            self._handle(item)
        if self._fault is not None:
            raise self._fault

    def _drain(self) -> bool:
        """What is waiting already goes in one burst: the messages it causes then share one TLS record per link.

        Returns whether there may be more.
        """
        for _ in range(BURST):
            self._fire_due()
            try:
                item = self._receive.receive_nowait()
            except trio.WouldBlock:
                return False
            self._handle(item)
        return True

    def _fire_due(self) -> None:
        for key in self.timers.due(trio.current_time()):
            self._fire(key)
