"""Where a ``Persist`` effect goes: the record is stored first, only then does what waits for it happen.

A durable journal (records on disk, synced, replayed at the start) comes with the `quorum` profile. Until then there
is :class:`MemoryJournal`, which survives nothing: under the `solo` profile a session ends with its leader anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from dsdproto.registry import Role

Record = tuple[Role, Any]
"""Whose record, and the record."""


class Journal(Protocol):
    """Stores records in order."""

    immediate: bool
    """``append`` returns at once, so the core task calls it; else a worker thread does, one call at a time"""

    def append(self, records: Sequence[Record]) -> None:
        """Store all of ``records``; they are safe when this returns. An exception ends the node."""
        ...


class MemoryJournal:
    """Keeps the last ``keep`` records in memory, for a look at what was committed. **Not durable**."""

    immediate = True

    def __init__(self, keep: int = 1024) -> None:
        self.recent: deque[Record] = deque(maxlen=keep)
        self.stored = 0

    def append(self, records: Sequence[Record]) -> None:
        self.recent.extend(records)
        self.stored += len(records)
