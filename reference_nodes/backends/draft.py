"""A Llama-family drafter: the same engine as the target, a head over few ids or in two steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from .base import Candidates, ExpandRequest
from .engine import Engine, Tree
from .hf_files import from_bf16
from .llama import Head, Llama

CandidatesOf = Callable[[np.ndarray], list[Candidates]]
"""From hidden states, float32 [rows, hidden], to each row's candidates."""


class PlainHead:
    """Every id of the head is a candidate."""

    def __init__(self, head: Head, ids: np.ndarray | None) -> None:
        """`ids`: int32 [K] ascending, what the head's columns stand for; None for 0, 1, ..."""
        self._head, self._ids = head, ids

    def __call__(self, hidden: np.ndarray) -> list[Candidates]:
        return [Candidates(self._ids, row) for row in self._head.logits(hidden)]


SAMPLED = 16  # every 16th logit tells where about the best ones begin


def best_ids(row: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` largest elements of a float32 row: int32 [count], ascending.

    A partition of the whole row takes four times as long as one of those above a bound that a sample suggests.
    """
    rank = 3 * count // (2 * SAMPLED)
    some = np.arange(len(row), dtype=np.int32)
    if rank and rank < len(row) // SAMPLED:
        above = np.flatnonzero(row >= np.partition(row[::SAMPLED], -rank)[-rank])
        some = above.astype(np.int32) if len(above) >= count else some
    if len(some) > count:
        some = some[np.argpartition(row[some], -count)[-count:]]
    some.sort()
    return some


class TwoStepHead:
    """A rough head picks the candidates, the exact weights score the best of them again.

    The rough head's error moves near ties; sampling noise reaches far down the list, where an error doesn't matter.
    """

    CANDIDATES, EXACT = 1024, 96

    def __init__(self, rough: Head, weight: np.ndarray) -> None:
        """`weight`: bfloat16 bits [ids, hidden], of which `rough` is a copy."""
        self._rough, self._weight = rough, np.asarray(weight)  # indexing a mapped file's array is slow

    def __call__(self, hidden: np.ndarray) -> list[Candidates]:
        return [self._pick(state, row) for state, row in zip(hidden, self._rough.logits(hidden))]

    def _pick(self, state: np.ndarray, row: np.ndarray) -> Candidates:
        ids = best_ids(row, min(self.CANDIDATES, len(row)))
        logits = row[ids]
        best = np.argpartition(logits, -min(self.EXACT, len(ids)))[-self.EXACT :]
        logits[best] = from_bf16(self._weight[ids[best]]) @ state
        return Candidates(ids, logits)


class LlamaDraft:
    """A drafting model (see `DraftBackend`). Computes only the nodes to expand and their ancestors."""

    def __init__(self, name: str, model: Llama, head: CandidatesOf, vocab_size: int, max_rows: int = 256) -> None:
        self.name, self.vocab_size, self.max_context = name, vocab_size, model.max_context
        self._engine, self._head = Engine(model, vocab_size, max_rows), head
        self.counters = self._engine.counters

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """Candidates for each requested node, one forward and one head product for all."""
        trees = [Tree(r.key, r.prefix, r.tokens, r.parents, r.nodes) for r in requests]
        states = np.concatenate(self._engine.hidden_states(trees))
        self.counters.head_rows += len(states)
        candidates = iter(self._head(states))
        return [[next(candidates) for _ in r.nodes] for r in requests]

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._engine.release(key)
