"""Target and drafter without a language model: what they would say follows from the position and the luck.

The target's tokens are even numbers, a function of the position. A drafter's guess below a true prefix is the target's
token where the acceptance process says so, and an odd number otherwise; below a wrong guess everything is wrong. So a
prefix is true exactly if its last token is even, and nobody has to compare prefixes. Session number and prompt length
travel in the sampling seed of the contract (:func:`seed_of`), as the roles hand it on to every job.
"""

from __future__ import annotations

from functools import lru_cache

from dsdproto.roles.work import Child, ExpandItem, ScoreItem, Walked
from dsdproto.sampling import MARGIN_MAX
from reference_nodes.simulator.plan.acceptance import Process

VOCABULARY = 1 << 16
PROMPT_BITS = 24


def seed_of(session: int, prompt_tokens: int) -> int:
    """The sampling seed of a session's contract: u64, session number and prompt length."""
    return session << PROMPT_BITS | prompt_tokens


def token_at(position: int) -> int:
    """What the target says at a position: even, below VOCABULARY."""
    return (position * 0x9E3779B1 >> 7) & 0xFFFE


def prompt_of(tokens: int) -> tuple[int, ...]:
    """A prompt of that many tokens."""
    return tuple(map(token_at, range(tokens)))


def walk(item: ScoreItem) -> tuple[Walked, int]:
    """The target's walk down a tree, as executors report it, and how many nodes it accepted."""
    position, limit = len(item.prefix), item.limit
    node = length = 0
    wanted = token_at(position)
    # A parent comes before its children, so one pass finds the whole path.
    for number, token in enumerate(item.tokens, start=1):
        if token == wanted and item.parents[number - 1] == node:
            node = number
            length += 1
            if length == limit:
                break
            wanted = token_at(position + length)
    count = length if length == limit else length + 1
    return Walked(node, tuple(map(token_at, range(position, position + count))), MARGIN_MAX), length


@lru_cache(maxsize=1 << 14)
def _choices(true: int | None, at: int, position: int, model: int, scores: tuple[int, ...]) -> tuple[Child, ...]:
    """Choices below a prefix: the token ``true`` at place ``at``, odd ones at the others."""
    wrong = position * 40 + model * 7
    return tuple(
        Child(true if rank == at and true is not None else ((wrong + rank) * 2 + 1) & 0xFFFF, score)
        for rank, score in enumerate(scores)
    )


class DraftOracle:
    """One draft model. Nodes with the same model guess the same: a second one of them finds nothing new.

    :param model: its number; different models make different mistakes.
    """

    def __init__(self, process: Process, model: int) -> None:
        self._rank_at = process.rank_at
        self._model = model

    def expand(self, item: ExpandItem) -> tuple[tuple[Child, ...], ...]:
        """Children of each of ``item.nodes``, likeliest first."""
        session, answered = item.sampling.seed >> PROMPT_BITS, len(item.prefix)
        prompt = item.sampling.seed & ((1 << PROMPT_BITS) - 1)
        out = []
        for node in item.nodes:
            depth, above = 0, node
            while above:
                depth += 1
                above = item.parents[above - 1]
            position = answered + depth
            rank, scores = self._rank_at(session, position - prompt)
            last = item.tokens[node - 1] if node else item.prefix[-1]
            true = token_at(position) if last % 2 == 0 else None
            out.append(_choices(true, rank, position, self._model, scores[: item.width]))
        return tuple(out)
