"""Which sessions share the next forward pass (SPEC.md, clause V-7: fairness)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

PREFILL_CHUNK = 64
"""Positions of one session's prefix that may be computed beside everybody's verification."""


class Waiting(Protocol):
    """A session as the batcher sees it."""

    key: Hashable
    rows: int
    """rows that its pending request needs: its tree, the prefix end, and what is missing of the prefix"""


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


def next_prefill(candidates: Iterable[Hashable], last: Hashable | None) -> Hashable | None:
    """Round robin: the candidate after ``last``, in their given order."""
    order = list(candidates)
    if not order:
        return None
    if last in order:
        return order[(order.index(last) + 1) % len(order)]
    return order[0]
