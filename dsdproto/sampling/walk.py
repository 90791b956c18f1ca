"""Walks a draft tree with the target's own choices (SPEC S-SAMP-12): the whole of lossless verification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dsdproto.errors import LocalError
from dsdproto.sampling.coupled import MARGIN_MAX, CoupledSampler, Row


class TreeError(LocalError, ValueError):
    """Tokens and parents that do not describe a draft tree."""


class Walk(NamedTuple):
    """What one verification commits.

    Nodes are numbered from 1 in the order of their tokens; 0 is the base. accepted: the nodes on the path,
    first one first; tokens: their tokens, then the target's own token unless the walk ended on an accepted
    one; margin: the smallest of all choices; stopped: by a stop token.
    """

    accepted: tuple[int, ...]
    tokens: tuple[int, ...]
    margin: int
    stopped: bool


def tree_children(tokens: Sequence[int], parents: Sequence[int]) -> list[dict[int, int]]:
    """For the base (0) and every node (1 and up), a map from token to child.

    parents[n], the parent of node n + 1, is an earlier node or 0. Raises TreeError for anything else, and for
    siblings with equal tokens.
    """
    if len(tokens) != len(parents):
        raise TreeError(f"{len(tokens)} tokens but {len(parents)} parents")
    children: list[dict[int, int]] = [{} for _ in range(len(tokens) + 1)]
    for node, (token, parent) in enumerate(zip(tokens, parents), 1):
        if not 0 <= parent < node:
            raise TreeError(f"node {node} has parent {parent}: parents come first, and 0 is the base")
        if children[parent].setdefault(token, node) != node:
            raise TreeError(f"nodes {children[parent][token]} and {node} are siblings with token {token}")
    return children


def walk(
    tokens: Sequence[int],
    parents: Sequence[int],
    row_of: Callable[[int], tuple[Row, Sequence[int] | None]],
    sampler: CoupledSampler,
    position: int,
    limit: int,
    stop: Sequence[int] = (),
) -> Walk:
    """Descends from the base while a child carries the target's own choice.

    row_of(n) gives the target's row *after* node n (0: after the base) as the pair (logits, ids) that
    `CoupledSampler.choose` takes, ids None for a dense row; it is asked only for nodes on the path. position:
    of the first token after the base. limit: most tokens to commit, at least 1. stop: token ids that end the
    stream; the stop token itself is committed.
    """
    if limit < 1:
        raise TreeError(f"limit {limit}: a walk commits at least one token")
    children = tree_children(tokens, parents)
    accepted: list[int] = []
    committed: list[int] = []
    margin = MARGIN_MAX
    node = 0
    while True:
        logits, ids = row_of(node)
        choice = sampler.choose(logits, position + len(committed), ids)
        committed.append(choice.token)
        margin = min(margin, choice.margin)
        child = children[node].get(choice.token)
        if child is not None:
            accepted.append(child)
        stopped = choice.token in stop
        if child is None or stopped or len(committed) == limit:
            return Walk(tuple(accepted), tuple(committed), margin, stopped)
        node = child
