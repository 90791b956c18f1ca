"""A Llama-family drafter: the same engine as the target, a head over a shortlist of ids."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from .base import Candidates, ExpandRequest
from .engine import Engine, Tree
from .llama import Head, Llama


class LlamaDraft:
    """A drafting model (see `DraftBackend`). Computes only the nodes to expand and their ancestors."""

    def __init__(
        self,
        name: str,
        model: Llama,
        head: Head,
        vocab_size: int,
        shortlist: np.ndarray | None,
        max_rows: int = 256,
    ) -> None:
        """`shortlist`: int32 [K] ascending ids that the head's columns stand for, or None for all."""
        self.name, self.vocab_size, self.max_context = name, vocab_size, model.max_context
        self._engine, self._head, self._shortlist = Engine(model, vocab_size, max_rows), head, shortlist
        self.counters = self._engine.counters

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """Candidates for each requested node, one forward and one head product for all."""
        trees = [Tree(r.key, r.prefix, r.tokens, r.parents, r.nodes) for r in requests]
        states = self._engine.hidden_states(trees)
        count = self.vocab_size if self._shortlist is None else len(self._shortlist)
        logits = self._head.logits(np.concatenate(states))[:, :count]
        self.counters.head_rows += len(logits)
        rows = iter(logits)
        return [[Candidates(self._shortlist, next(rows)) for _ in r.nodes] for r in requests]

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._engine.release(key)
