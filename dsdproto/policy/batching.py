"""Which sessions share the next forward pass (SPEC.md, clause V-7: fairness)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

PREFILL_CHUNK = 64
"""Positions of one session's prefix that may be computed beside everybody's verification."""


class Waiting(Protocol):
    """A session as the batcher sees it."""

    key: Hashable
    @property
    def rows(self) -> int:
        """Rows that its pending request needs: its tree, the prefix end, and what is missing of the prefix."""
        ...

    @property
    def context(self) -> int:
        """Positions of its prefix."""
        ...


class Batching(Protocol):
    def form(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Choose from ``waiting`` (oldest first) what runs together; never nothing of something."""
        ...


@dataclass(frozen=True, slots=True)
class Fifo:
    """Oldest first, as many as fit; the first always goes, so that nothing starves.

    Each session has at most one request waiting (clause V-3), so first in, first out is round robin between sessions.
    """

    max_rows: int

    def form(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """Choose from ``waiting`` (oldest first) what runs together."""
        batch: list[Waiting] = []
        rows = 0
        for item in waiting:
            if batch and rows + item.rows > self.max_rows:
                break
            batch.append(item)
            rows += item.rows
        return batch


@dataclass(frozen=True, slots=True)
class LengthAware:
    """Prefixes of like length together: a forward over a padded batch takes as long as its longest member.

    The oldest request always goes, so that nothing starves, and says which lengths go along.

    :param spread: largest ratio of two prefixes in a batch.
    """

    max_rows: int
    spread: float = 2.0

    def form(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        if not waiting:
            return []
        least, most = waiting[0].context / self.spread, waiting[0].context * self.spread
        return Fifo(self.max_rows).form([item for item in waiting if least <= item.context <= most])


@dataclass(slots=True)
class Fair:
    """Who has had the fewest rows so far goes first, the older one among equals.

    A session that is new, or was away for long, counts as having had as little as the least of those who wait: neither
    does it pay for others' past, nor can it take all from them.
    """

    max_rows: int
    remembered: int = 1024
    """sessions whose share is kept"""
    served: dict[Hashable, int] = field(default_factory=dict)

    def form(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        if not waiting:
            return []
        least = min((self.served[item.key] for item in waiting if item.key in self.served), default=0)
        share = {item.key: max(self.served.pop(item.key, least), least) for item in waiting}
        batch = Fifo(self.max_rows).form(sorted(waiting, key=lambda item: share[item.key]))
        for item in batch:
            share[item.key] += item.rows
        self.served |= share
        while len(self.served) > self.remembered:
            del self.served[next(iter(self.served))]
        return batch


def next_prefill(candidates: Iterable[Hashable], last: Hashable | None) -> Hashable | None:
    """Round robin: the candidate after ``last``, in their given order."""
    order = list(candidates)
    if not order:
        return None
    if last in order:
        return order[(order.index(last) + 1) % len(order)]
    return order[0]
