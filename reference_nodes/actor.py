"""An actor: one task that owns its state, a bounded mailbox in front of it, and timers inside it.

Nobody else touches the state; whoever has something to say puts it into the mailbox and, when that is full, waits:
a link's reader then reads no further and TCP tells the peer. Waiting putters are served first come, first served, so a
peer that floods takes one turn like everybody else.
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
    """Calls ``handle(item)`` for each item of the mailbox and ``fire(key)`` for each due timer, one after the other.

    An exception from either ends :meth:`run`; every :meth:`put` then raises :class:`trio.BrokenResourceError`.
    """

    def __init__(self, handle: Callable[[T], None], fire: Callable[[Hashable], None], capacity: int = MAILBOX) -> None:
        self._handle = handle
        self._fire = fire
        self._send, self._receive = trio.open_memory_channel[T](capacity)
        self._soon: deque[T] = deque()
        self.timers = Timers()

    @property
    def waiting(self) -> int:
        """Items in the mailbox."""
        return self._receive.statistics().current_buffer_used

    async def put(self, item: T) -> None:
        """Hand over ``item``; waits while the mailbox is full.

        Raises :class:`trio.BrokenResourceError` when the actor has ended.
        """
        await self._send.send(item)

    def put_own(self, item: T) -> None:
        """For the handlers themselves: take ``item`` after other tasks had a turn. The caller bounds how many."""
        self._soon.append(item)

    async def run(self) -> None:
        """The task. Never returns by itself."""
        with self._receive:
            while True:
                if self._soon:
                    await trio.lowlevel.checkpoint()
                    self._handle(self._soon.popleft())
                else:
                    with trio.move_on_at(self.timers.next()):
                        self._handle(await self._receive.receive())
                self._drain()

    def _drain(self) -> None:
        """What is waiting already goes in one burst: the messages it causes then share one TLS record per link."""
        for _ in range(BURST):
            for key in self.timers.due(trio.current_time()):
                self._fire(key)
            try:
                item = self._receive.receive_nowait()
            except trio.WouldBlock:
                return
            self._handle(item)
