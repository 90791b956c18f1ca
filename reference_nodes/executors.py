"""Runs the work that role machines ask for on a model. Synchronous: the host calls it in a worker thread.

An item that fails gets its error text in place of a result and disturbs no other: a batch that a backend refuses
is run again item by item.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

from dsdproto.errors import LocalError
from dsdproto.roles.work import (
    Child,
    DraftDone,
    DraftWork,
    ExpandItem,
    PrefillItem,
    ScoreItem,
    VerifyDone,
    VerifyWork,
    Walked,
)
from dsdproto.sampling import CoupledSampler, SamplingParameters, walk
from dsdproto.wire.messages import Sampling
from reference_nodes.backends.base import (
    BackendError,
    Candidates,
    DraftBackend,
    ExpandRequest,
    Rows,
    TargetBackend,
    TreeRequest,
)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Executor(Protocol):
    """What a host needs: ``run(work) -> result``, called for one piece of work at a time."""

    inline: bool
    """the work is so short that a thread switch would cost more: run it in the core task"""

    def run(self, work: Any) -> Any: ...


class Samplers:
    """The coupled sampler of each session, made once."""

    def __init__(self) -> None:
        self._samplers: dict[Hashable, tuple[Sampling, CoupledSampler]] = {}

    def get(self, session: Hashable, sampling: Sampling) -> CoupledSampler:
        known = self._samplers.get(session)
        if known is None or known[0] != sampling:
            parameters = SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p)
            known = self._samplers[session] = (sampling, CoupledSampler(parameters, sampling.seed))
        return known[1]

    def forget(self, session: Hashable) -> None:
        self._samplers.pop(session, None)

    def __len__(self) -> int:
        return len(self._samplers)


class VerifyExecutor:
    """:class:`VerifyWork` on a target model: release, prefill, one forward for all items, a walk for each."""

    def __init__(self, backend: TargetBackend, *, inline: bool = False) -> None:
        self.backend = backend
        self.inline = inline
        self._samplers = Samplers()

    def run(self, work: VerifyWork) -> VerifyDone:
        """Never raises for what one item asks for; see :class:`VerifyDone`."""
        for key in work.release:
            self.backend.release(key)
            self._samplers.forget(key)
        prefilled = None if work.prefill is None else self._prefill(work.prefill)
        rows = sum(self._rows(item) for item in work.score)
        begin = time.perf_counter()
        scored = _each(work.score, self._score)
        walks = tuple(
            answer if isinstance(answer, str) else self._walk(item, answer) for item, answer in zip(work.score, scored)
        )
        return VerifyDone(walks, prefilled, rows, time.perf_counter() - begin)

    def _prefill(self, item: PrefillItem) -> int | str:
        try:
            return self.backend.prefill(item.session, item.prefix, item.budget)
        except BackendError as error:
            return f"prefill of {len(item.prefix)} positions: {error}"

    def _rows(self, item: ScoreItem) -> int:
        missing = len(item.prefix) - self.backend.cached(item.session, item.prefix)
        return max(missing, 1) + len(item.tokens)

    def _score(self, items: Sequence[ScoreItem]) -> list[Rows]:
        return self.backend.score([TreeRequest(i.session, i.prefix, i.tokens, i.parents) for i in items])

    def _walk(self, item: ScoreItem, rows: Rows) -> Walked | str:
        sampler = self._samplers.get(item.session, item.sampling)
        try:
            done = walk(
                item.tokens,
                item.parents,
                lambda node: (rows.row(node), None),
                sampler,
                len(item.prefix),
                item.limit,
                item.stop_tokens,
            )
        except (LocalError, BackendError) as error:
            return f"walk from position {len(item.prefix)}: {error}"
        return Walked(done.accepted[-1] if done.accepted else 0, done.tokens, done.margin)


class DraftExecutor:
    """:class:`DraftWork` on a draft model: one forward for all, then the session's noise ranks the candidates."""

    def __init__(self, backend: DraftBackend, *, inline: bool = False) -> None:
        self.backend = backend
        self.inline = inline
        self._samplers = Samplers()

    def run(self, work: DraftWork) -> DraftDone:
        """Never raises for what one item asks for; see :class:`DraftDone`."""
        for key in work.release:
            self.backend.release(key)
            self._samplers.forget(key)
        begin = time.perf_counter()
        expanded = _each(work.expand, self._expand)
        children = tuple(
            answer if isinstance(answer, str) else self._rank(item, answer)
            for item, answer in zip(work.expand, expanded)
        )
        return DraftDone(children, time.perf_counter() - begin)

    def _expand(self, items: Sequence[ExpandItem]) -> list[list[Candidates]]:
        return self.backend.expand([ExpandRequest(i.session, i.prefix, i.tokens, i.parents, i.nodes) for i in items])

    def _rank(self, item: ExpandItem, candidates: Sequence[Candidates]) -> tuple[tuple[Child, ...], ...] | str:
        sampler = self._samplers.get(item.session, item.sampling)
        depths = [0]
        for parent in item.parents:
            depths.append(depths[parent] + 1)
        answer = []
        for node, found in zip(item.nodes, candidates, strict=True):
            position = len(item.prefix) + depths[node]
            if not len(found.logits):
                answer.append(())
                continue
            try:
                ranked = sampler.ranked(found.logits, position, item.width, found.ids)
            except LocalError as error:
                return f"ranking at position {position}: {error}"
            answer.append(tuple(Child(choice.token, choice.cost) for choice in ranked))
        return tuple(answer)


def _each(items: Sequence[Item], together: Callable[[Sequence[Item]], list[Answer]]) -> list[Answer | str]:
    """Answers in order. Where a backend refuses all for one item's fault, each item is asked for alone."""
    if not items:
        return []
    try:
        return list(together(items))
    except BackendError as error:
        if len(items) == 1:
            return [str(error)]
    return [_each([item], together)[0] for item in items]
