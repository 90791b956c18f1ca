"""A Llama-family drafter: the same engine as the target, another head."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from .base import Candidates, ExpandRequest
from .engine import Engine, Tree
from .heads import CandidatesOf, Met
from .llama import Llama


class LlamaDraft:
    """A drafting model (see `DraftBackend`). Computes only the nodes to expand and their ancestors."""

    def __init__(self, name: str, model: Llama, head: CandidatesOf, vocab_size: int, max_rows: int = 256) -> None:
        self.name, self.vocab_size, self.max_context = name, vocab_size, model.max_context
        self._engine, self._head = Engine(model, vocab_size, max_rows), head
        self._met: dict[Hashable, Met] = {}
        self.counters = self._engine.counters

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """Candidates for each requested node, one forward and one head product for all."""
        trees = [Tree(r.key, r.prefix, r.tokens, r.parents, r.nodes) for r in requests]
        states = np.concatenate(self._engine.hidden_states(trees))
        self.counters.head_rows += len(states)
        met = [self._met.setdefault(r.key, Met()).follow(r.prefix) for r in requests]
        candidates = iter(self._head(states, [ids for r, ids in zip(requests, met) for _ in r.nodes]))
        return [[next(candidates) for _ in r.nodes] for r in requests]

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._met.pop(key, None)
        self._engine.release(key)
