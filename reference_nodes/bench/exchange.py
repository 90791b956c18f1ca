"""What travels in the wire benchmark: the rounds of one session between a leader and a drafter, worked out beforehand.

TM-1 plays target and drafter, so who agrees where is independent from position to position, and both ends know it
without asking a model while the clock runs. In each round the drafter proposes one chain of 8 below the committed
prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dsdproto.registry import CommitProfile, Method
from dsdproto.sampling import CoupledSampler, SamplingParameters
from dsdproto.testmodel import TestModel, advance, context_of
from dsdproto.wire.messages import Contract, Sampling

WINDOW = 8
VOCABULARY = 49152
"""As large as SmolLM2's, so that token ids take as many bytes as theirs."""
SEED = 7
PROMPT = tuple(range(4, 36))
SESSION = bytes(range(16))
SCORE = 5
"""Of each draft node: 2**(-5/16) is about 0.8."""


@dataclass(frozen=True, slots=True)
class Round:
    position: int
    """length of the prefix below which the chain hangs"""
    chain: tuple[int, ...]
    accepted: int
    token: int
    """the target's own, after the accepted ones"""

    @property
    def committed(self) -> tuple[int, ...]:
        return (*self.chain[: self.accepted], self.token)


def contract() -> Contract:
    """Of the benchmark's session: greedy, no end."""
    return Contract(
        prompt=PROMPT,
        sampling=Sampling(method=int(Method.COUPLED), temperature=0, top_k=0, top_p=65536, seed=SEED),
        max_tokens=1 << 24,
        stop_tokens=(),
        vocabulary_size=VOCABULARY,
        vocabulary_digest=bytes(32),
        model="",
        commit_profile=int(CommitProfile.SOLO),
    )


@cache
def rounds(count: int, agreement: float) -> tuple[Round, ...]:
    """The first ``count`` rounds of the session; the drafter agrees with the target in ``agreement`` of all rows."""
    target = TestModel(vocabulary=VOCABULARY, seed=SEED)
    drafter = TestModel(vocabulary=VOCABULARY, seed=SEED, agreement_q16=round(agreement * 65536), drafter=1)
    sampler = CoupledSampler(SamplingParameters(), SEED)

    def choose(model: TestModel, context: int, position: int) -> int:
        logits, ids = model.candidates(context)
        return sampler.choose(logits, position, ids).token

    done: list[Round] = []
    position, context = len(PROMPT), context_of(PROMPT)
    for _ in range(count):
        chain: list[int] = []
        draft = context
        for ahead in range(WINDOW):
            chain.append(choose(drafter, draft, position + ahead))
            draft = advance(draft, chain[-1])
        accepted = 0
        own = choose(target, context, position)
        while accepted < WINDOW and own == chain[accepted]:
            context = advance(context, own)
            accepted += 1
            own = choose(target, context, position + accepted)
        context = advance(context, own)
        done.append(Round(position, tuple(chain), accepted, own))
        position += accepted + 1
    return tuple(done)


def tokens_in(played: tuple[Round, ...]) -> int:
    """Committed tokens of these rounds."""
    return sum(len(item.committed) for item in played)
