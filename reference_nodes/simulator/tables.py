"""TM-1 behind the executors' interface, remembered: a choice is computed once in a process, whoever asks for it.

The results are those of :mod:`reference_nodes.executors` on :mod:`reference_nodes.backends.tm1`; a test compares them.
"""

from __future__ import annotations

from functools import lru_cache

from dsdproto.errors import LocalError
from dsdproto.roles.work import Child, DraftDone, DraftWork, ExpandItem, ScoreItem, VerifyDone, VerifyWork, Walked
from dsdproto.sampling import MARGIN_MAX, CoupledSampler, SamplingParameters
from dsdproto.sampling.walk import tree_children
from dsdproto.testmodel import TestModel, advance, context_of
from dsdproto.wire.messages import Contract, Sampling


@lru_cache(maxsize=1 << 8)
def _sampler(temperature: int, top_k: int, top_p: int, seed: int) -> CoupledSampler:
    return CoupledSampler(SamplingParameters(temperature, top_k, top_p), seed)


def sampler_of(sampling: Sampling) -> CoupledSampler:
    return _sampler(sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed)


@lru_cache(maxsize=1 << 17)
def _choice(model: TestModel, sampler: CoupledSampler, context: int, position: int) -> tuple[int, int]:
    logits, ids = model.candidates(context)
    return sampler.choose(logits, position, ids)


@lru_cache(maxsize=1 << 16)
def _children(
    model: TestModel, sampler: CoupledSampler, context: int, position: int, width: int
) -> tuple[Child, ...]:
    logits, ids = model.candidates(context)
    return tuple(Child(ranked.token, ranked.cost) for ranked in sampler.ranked(logits, position, width, ids))


@lru_cache(maxsize=1 << 14)
def _context(prefix: tuple[int, ...]) -> int:
    return context_of(prefix)


class TableVerifier:
    """:class:`VerifyWork` on TM-1."""

    def __init__(self, model: TestModel) -> None:
        self.model = model

    def run(self, work: VerifyWork) -> VerifyDone:
        walks = tuple(self._walk(item) for item in work.score)
        rows = sum(1 + len(item.tokens) for item in work.score)
        return VerifyDone(walks, work.prefill and len(work.prefill.prefix), rows, 0.0)

    def _walk(self, item: ScoreItem) -> Walked:
        sampler = sampler_of(item.sampling)
        children = tree_children(item.tokens, item.parents)
        context, position = _context(item.prefix), len(item.prefix)
        node, tokens, margin = 0, [], MARGIN_MAX
        while True:
            token, gap = _choice(self.model, sampler, context, position + len(tokens))
            tokens.append(token)
            margin = min(margin, gap)
            child = children[node].get(token)
            if child is not None:
                node = child
            if child is None or token in item.stop_tokens or len(tokens) == item.limit:
                return Walked(node, tuple(tokens), margin)
            context = advance(context, token)


class TableDrafter:
    """:class:`DraftWork` on TM-1."""

    def __init__(self, model: TestModel) -> None:
        self.model = model

    def run(self, work: DraftWork) -> DraftDone:
        return DraftDone(tuple(self._expand(item) for item in work.expand), 0.0)

    def _expand(self, item: ExpandItem) -> tuple[tuple[Child, ...], ...]:
        sampler = sampler_of(item.sampling)
        contexts, depths = [_context(item.prefix)], [0]
        for token, parent in zip(item.tokens, item.parents):
            contexts.append(advance(contexts[parent], token))
            depths.append(depths[parent] + 1)
        return tuple(
            _children(self.model, sampler, contexts[node], len(item.prefix) + depths[node], item.width)
            for node in item.nodes
        )


LONGEST = 60
"""Tokens of the longest stream that is compared."""


def alone(contract: Contract, model: TestModel) -> tuple[int, ...]:
    """The target alone, one token at a time, from test model and sampler directly: what every stream must equal.

    Raises LocalError for more than :data:`LONGEST` tokens or for stop tokens.
    """
    if contract.max_tokens > LONGEST or contract.stop_tokens:
        raise LocalError(f"only streams of up to {LONGEST} tokens without stop tokens are compared")
    return _alone(contract.prompt, contract.sampling, model.target)[: contract.max_tokens]


@lru_cache(maxsize=1 << 10)
def _alone(prompt: tuple[int, ...], sampling: Sampling, model: TestModel) -> tuple[int, ...]:
    sampler = CoupledSampler(SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p), sampling.seed)
    context, position, out = context_of(prompt), len(prompt), []
    for _ in range(LONGEST):
        token = sampler.choose(model.row(context), position + len(out)).token
        out.append(token)
        context = advance(context, token)
    return tuple(out)
