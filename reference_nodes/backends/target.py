"""The target: scores every node of many sessions' draft trees in one forward, with bits that depend on
the path alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from .base import NumericProfile, Rows, TreeRequest
from .engine import Engine, Tree
from .kernels import KERNEL_CLASS, TILE_ROWS
from .llama import Head, Llama


class LazyRows:
    """The logits of one tree. A verification walk visits one path of it, so the head runs only for rows
    in demand: the row asked for together with those that the walk may ask for next, as many as cost
    little more than one.
    """

    def __init__(self, target: LlamaTarget, hidden: np.ndarray, parents: Sequence[int]) -> None:
        self._target, self._hidden = target, hidden
        self._children: list[list[int]] = [[] for _ in range(len(hidden))]
        for i, parent in enumerate(parents):
            self._children[parent].append(i + 1)
        self._done: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._hidden)

    def row(self, node: int) -> np.ndarray:
        """float32 [vocab_size], read-only."""
        if node not in self._done:
            batch = self._likely_next(node)
            logits = self._target.head_logits(self._hidden[batch])
            logits.flags.writeable = False
            self._done.update(zip(batch, logits))
        return self._done[node]

    def _likely_next(self, node: int) -> list[int]:
        """`node` and nodes below it, nearest first, first-born children before later ones."""
        batch, layer = [node], [node]
        while layer and len(batch) < TILE_ROWS:
            layer = [child for parent in layer for child in self._children[parent]]
            batch += [child for child in layer if child not in self._done]
        return batch[:TILE_ROWS]


class LlamaTarget:
    """A Llama-family target (see `TargetBackend`)."""

    def __init__(self, name: str, model: Llama, head: Head, vocab_size: int, weights: str, max_rows: int = 256) -> None:
        """`head` covers at least `vocab_size` ids; `weights` is the hex digest of the weights in use."""
        self.name, self.vocab_size, self.max_context, self.max_rows = (
            name,
            vocab_size,
            model.max_context,
            max_rows,
        )
        self.profile = NumericProfile(weights, "bf16 weights, f32 arithmetic and cache", KERNEL_CLASS)
        self._engine, self._head = Engine(model, vocab_size, max_rows), head
        self.counters = self._engine.counters

    @property
    def free_slots(self) -> int:
        """Cache slots that no session holds."""
        return self._engine.free_slots

    def cached(self, key: Hashable, prefix: Sequence[int]) -> int:
        """How many leading positions of `prefix` are computed already."""
        return self._engine.cached(key, prefix)

    def prefill(self, key: Hashable, prefix: Sequence[int], budget: int) -> int:
        """Compute at most `budget` more positions of `prefix`; returns how many are now computed."""
        return self._engine.prefill(key, prefix, budget)

    def score(self, requests: Sequence[TreeRequest]) -> list[Rows]:
        """One forward for all requests; the head runs when rows are read."""
        trees = [Tree(r.key, r.prefix, r.tokens, r.parents, range(len(r.tokens) + 1)) for r in requests]
        states = self._engine.hidden_states(trees)
        return [LazyRows(self, hidden, r.parents) for r, hidden in zip(requests, states)]

    def head_logits(self, hidden: np.ndarray) -> np.ndarray:
        """float32 [rows, hidden] -> float32 [rows, vocab_size]."""
        self.counters.head_rows += len(hidden)
        return self._head.logits(hidden)[:, : self.vocab_size]

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._engine.release(key)
