"""What a verifier's key/value memory holds, in tokens. What does not fit is thrown out and computed again later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class KvMemory:
    """Positions that are computed, by session, least recently used first.

    :param capacity: tokens in all; 0: no limit. A single session larger than that is kept all the same: it runs alone.
    """

    __slots__ = ("_held", "capacity", "evicted", "evictions", "highest", "used")

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.used = 0
        self.highest = 0
        self.evictions = 0
        self.evicted = 0
        """tokens"""
        self._held: OrderedDict[Hashable, int] = OrderedDict()

    def held(self, session: Hashable) -> int:
        """Positions of a session that need not be computed."""
        return self._held.get(session, 0)

    def keep(self, session: Hashable, positions: int) -> None:
        """A job leaves a session with so many positions computed; others may have to go for it."""
        self.used += positions - self._held.get(session, 0)
        self._held[session] = positions
        self._held.move_to_end(session)
        if self.used > self.highest:
            self.highest = self.used
        while self.capacity and self.used > self.capacity and len(self._held) > 1:
            _, freed = self._held.popitem(last=False)
            self.used -= freed
            self.evictions += 1
            self.evicted += freed

    def forget(self, session: Hashable) -> None:
        """A session is over."""
        self.used -= self._held.pop(session, 0)
