"""What the draft trie speaks of: proposals and their fates (SPEC.md, "Leader"). Re-exported by `dsdproto.trie`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dsdproto.errors import LocalError
from dsdproto.prefix import DIGEST_SIZE, SHORT_SIZE, TOKEN_MAX

# Whoever drafts, by any name that is hashable and stable: a node id, a label.
Source = bytes | str | int
COST_MAX = 255


class TrieError(LocalError, ValueError):
    """A proposal or commit that is malformed in itself (a late or wrong one is only waste)."""


class Waste(StrEnum):
    """Why a drafted token was not used."""

    STALE = "stale"  # its position was committed before the proposal arrived
    WRONG = "wrong"  # off the committed path
    LATE = "late"  # right, but grafted too late to be verified: the target produced it itself
    DUPLICATE = "duplicate"  # another proposal had brought it already
    TOO_DEEP = "too_deep"  # further ahead of the root than the bound
    EVICTED = "evicted"  # the trie was full and it was among the least likely
    ORPHAN = "orphan"  # its base was unknown and never came, or too many were waiting
    UNVERIFIED = "unverified"  # the session ended first


# Tokens by (source, cause).
Tally = Counter[tuple[Source, Waste]]


class GraftResult(NamedTuple):
    """What a graft did. added: tokens of this proposal that became nodes; parked: tokens put aside until
    their base is known; revived: tokens of parked proposals that became nodes because of it; waste: all
    that it caused; nodes[n]: id of the live node that holds tokens[n], None where there is none.
    """

    added: int
    parked: int
    revived: int
    waste: Tally
    nodes: tuple[int | None, ...]


class CommitResult(NamedTuple):
    """What a commit did. origins[n]: the sources of tokens[n], owner first; () for the target's own."""

    origins: tuple[tuple[Source, ...], ...]
    accepted: Counter[Source]
    waste: Tally
    revived: int


class Subtree(NamedTuple):
    """A draft to verify: parents[n] 0 is the base, j the j-th token; nodes: trie node ids."""

    position: int
    digest: bytes
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    nodes: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Node:
    """One drafted token below the root. digest: of the prefix that ends with it; position: its length."""

    id: int
    token: int
    position: int
    digest: bytes
    parent: Node | None
    cost: int
    sources: list[Source]
    children: dict[int, Node] = field(default_factory=dict)


class Proposal(NamedTuple):
    """A checked proposal; parents as in `Subtree`; the digest is short."""

    position: int
    digest: bytes
    tokens: Sequence[int]
    parents: Sequence[int]
    source: Source
    costs: Sequence[int]


def check_token(token: int) -> None:
    if not isinstance(token, int) or not 0 <= token <= TOKEN_MAX:
        raise TrieError(f"token {token!r} is not an integer in 0..{TOKEN_MAX}")


def check_proposal(
    position: int, digest: bytes, tokens: Sequence[int], parents: Sequence[int], costs: Sequence[int]
) -> None:
    if position < 0:
        raise TrieError(f"base position {position} is negative")
    if len(digest) not in (SHORT_SIZE, DIGEST_SIZE):
        raise TrieError(f"base digest of {len(digest)} bytes: expected {SHORT_SIZE} or {DIGEST_SIZE}")
    if not len(tokens) == len(parents) == len(costs):
        raise TrieError(f"{len(tokens)} tokens, {len(parents)} parents, {len(costs)} costs: give as many")
    for n, (token, parent, cost) in enumerate(zip(tokens, parents, costs)):
        check_token(token)
        if not 0 <= parent <= n:
            raise TrieError(f"token {n + 1} has parent {parent}: parents come first, and 0 is the base")
        if not 0 <= cost <= COST_MAX:
            raise TrieError(f"token {n + 1} has cost {cost}: must be in 0..{COST_MAX}")
