"""TM-1 as what role machines ask of a model: walks of a target, children of a drafter (SPEC.md, 17 and 18)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from dsdproto.registry import Role
from dsdproto.roles.work import Child, DraftDone, DraftWork, VerifyDone, VerifyWork, Walked
from dsdproto.sampling import CoupledSampler, SamplingParameters, walk
from dsdproto.testmodel import TestModel, context_of
from dsdproto.wire.messages import ModelOffer, Sampling


def profile_text(model: TestModel) -> str:
    """Clause S-16."""
    return f"weights=none\ndtype=integers\nkernels=tm-1 {model.name}\nthreads=any\n"


def vocabulary_digest(size: int) -> bytes:
    """Clause S-11, of TM-1."""
    entries = (str(token).encode() for token in range(size))
    return sha256(b"".join(len(entry).to_bytes(4, "big") + entry for entry in entries)).digest()


def offer(model: TestModel, role: Role, max_context: int) -> ModelOffer:
    """What HELLO says of a model."""
    text = profile_text(model) if role is Role.VERIFIER else None
    return ModelOffer(
        role=int(role),
        name=model.name,
        vocabulary_size=model.vocabulary,
        vocabulary_digest=vocabulary_digest(model.vocabulary),
        max_context=max_context,
        profile=None if text is None else sha256(text.encode()).digest(),
        profile_text=text,
    )


def sampler(sampling: Sampling) -> CoupledSampler:
    return CoupledSampler(SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p), sampling.seed)


def paths(tokens: tuple[int, ...], parents: tuple[int, ...]) -> list[tuple[int, ...]]:
    """For the base and each node the tokens below the base."""
    out: list[tuple[int, ...]] = [()]
    for token, parent in zip(tokens, parents, strict=True):
        out.append((*out[parent], token))
    return out


def verify(model: TestModel, work: VerifyWork, seconds: float) -> VerifyDone:
    walks = []
    for item in work.score:
        below = paths(item.tokens, item.parents)

        def row(node: int, below: list[tuple[int, ...]] = below, prefix: tuple[int, ...] = item.prefix) -> Any:
            return model.candidates(context_of(prefix + below[node]))

        rule = sampler(item.sampling)
        done = walk(item.tokens, item.parents, row, rule, len(item.prefix), item.limit, item.stop_tokens)
        walks.append(Walked(done.accepted[-1] if done.accepted else 0, done.tokens, done.margin))
    prefilled = None if work.prefill is None else len(work.prefill.prefix)
    return VerifyDone(tuple(walks), prefilled, sum(1 + len(item.tokens) for item in work.score), seconds)


def draft(model: TestModel, work: DraftWork, seconds: float) -> DraftDone:
    out = []
    for item in work.expand:
        below = paths(item.tokens, item.parents)
        children = []
        for node in item.nodes:
            prefix = item.prefix + below[node]
            logits, ids = model.candidates(context_of(prefix))
            ranked = sampler(item.sampling).ranked(logits, len(prefix), item.width, ids)
            children.append(tuple(Child(each.token, each.cost) for each in ranked))
        out.append(tuple(children))
    return DraftDone(tuple(out), seconds)
