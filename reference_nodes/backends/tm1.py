"""TM-1 as a backend: the integer test model behind the same interface as a real one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from dsdproto.testmodel import CONTEXT_START, ModelNameError, TestModel, advance

from .base import (
    BadRequest,
    Candidates,
    Counters,
    ExpandRequest,
    NumericProfile,
    Rows,
    TreeRequest,
    check_tree,
)

MAX_CONTEXT = 1 << 14
"""Any number would do; this one lets a test fill the context."""


class _Contexts:
    """Each session's prefix and its TM-1 context, so that a longer prefix costs only what is new."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[list[int], int]] = {}

    def cached(self, key: Hashable, prefix: Sequence[int]) -> int:
        tokens = self._known.get(key, ([], 0))[0]
        return len(tokens) if list(prefix[: len(tokens)]) == tokens else 0

    def of(self, key: Hashable, prefix: Sequence[int], budget: int | None = None) -> int:
        """The context after at most `budget` more tokens of `prefix` than are known."""
        tokens, context = self._known.get(key, ([], CONTEXT_START))
        if self.cached(key, prefix) < len(tokens):
            tokens, context = [], CONTEXT_START
        for token in prefix[len(tokens) : None if budget is None else len(tokens) + budget]:
            context = advance(context, int(token))
            tokens.append(int(token))
        self._known[key] = (tokens, context)
        return context

    def nodes(self, key: Hashable, prefix: Sequence[int], tokens: Sequence[int], parents: Sequence[int]) -> list[int]:
        """The context of every node."""
        contexts = [self.of(key, prefix)]
        for token, parent in zip(tokens, parents):
            contexts.append(advance(contexts[parent], int(token)))
        return contexts

    def release(self, key: Hashable) -> None:
        self._known.pop(key, None)


class _Tm1Rows:
    def __init__(self, model: TestModel, contexts: Sequence[int]) -> None:
        self._model, self._contexts = model, contexts

    def __len__(self) -> int:
        return len(self._contexts)

    def row(self, node: int) -> np.ndarray:
        return self._model.row(self._contexts[node])


class Tm1Target:
    """TM-1 as a target (see `TargetBackend`); a row is -inf but for its few candidates."""

    max_context = MAX_CONTEXT
    max_rows = 256

    def __init__(self, model: TestModel) -> None:
        self._model, self._contexts = model.target, _Contexts()
        self.name, self.vocab_size = self._model.name, self._model.vocabulary
        self.profile = NumericProfile("none", "integers", f"tm-1 {self.name}")
        self.counters = Counters()

    def cached(self, key: Hashable, prefix: Sequence[int]) -> int:
        """How many leading positions of `prefix` are computed already."""
        return self._contexts.cached(key, prefix)

    def prefill(self, key: Hashable, prefix: Sequence[int], budget: int) -> int:
        """Compute at most `budget` more positions of `prefix`; returns how many are now computed."""
        check_tree(prefix, (), (), self.vocab_size)
        self._contexts.of(key, prefix, budget)
        return self._contexts.cached(key, prefix)

    def score(self, requests: Sequence[TreeRequest]) -> list[Rows]:
        """Rows for every node of every request."""
        for r in requests:
            check_tree(r.prefix, r.tokens, r.parents, self.vocab_size)
        self.counters.forwards += 1
        self.counters.rows += sum(1 + len(r.tokens) for r in requests)
        return [_Tm1Rows(self._model, self._contexts.nodes(r.key, r.prefix, r.tokens, r.parents)) for r in requests]

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._contexts.release(key)


class Tm1Draft:
    """TM-1 as a drafter (see `DraftBackend`), as often right as its name says."""

    max_context = MAX_CONTEXT

    def __init__(self, model: TestModel) -> None:
        self._model, self._contexts = model, _Contexts()
        self.name, self.vocab_size = model.name, model.vocabulary
        self.counters = Counters()

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """The candidates of each requested node."""
        answers = []
        for r in requests:
            check_tree(r.prefix, r.tokens, r.parents, self.vocab_size)
            contexts = self._contexts.nodes(r.key, r.prefix, r.tokens, r.parents)
            if any(not 0 <= node < len(contexts) for node in r.nodes):
                raise BadRequest(f"nodes {list(r.nodes)}: the tree has nodes 0..{len(contexts) - 1}")
            answers.append([self._candidates(contexts[node]) for node in r.nodes])
        self.counters.forwards += 1
        self.counters.rows += sum(len(r.nodes) for r in requests)
        return answers

    def _candidates(self, context: int) -> Candidates:
        logits, ids = self._model.candidates(context)
        return Candidates(np.array(ids, np.int32), np.array(logits, np.float32))

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._contexts.release(key)


def _parse(options: str) -> TestModel:
    try:
        return TestModel.parse(f"tm-1:{options}" if options else "tm-1")
    except ModelNameError as error:
        raise BadRequest(str(error)) from error


def tm1_target(options: str = "") -> Tm1Target:
    """From what stands behind "tm-1:"; drafter keys are ignored. Raises BadRequest for a bad name."""
    return Tm1Target(_parse(options))


def tm1_draft(options: str = "") -> Tm1Draft:
    """From what stands behind "tm-1:", for example "a=52429,d=1". Raises BadRequest for a bad name."""
    return Tm1Draft(_parse(options))
