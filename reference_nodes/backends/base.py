"""The interface between a node and a model: one protocol for targets, one for drafters.

Every backend is synchronous and is called from one worker thread at a time. Both protocols speak of a
session's *draft tree*: a committed prefix, and draft nodes below its end. Node 0 is the prefix's end;
draft token `i` is node `i + 1`; `parents[i]` is a node number, so a tree of `n` tokens has nodes `0..n`
and a parent precedes its children. A backend keeps, per session key, whatever it has computed and
reuses what lies on the path of the next request, so a caller never speaks of caches: it names the
prefix and the tree it means now, and releases the key at the end.

The promise of a target (DESIGN.md, idea 3): the logits of a node are a function of the tokens on its
path alone, bit for bit, whatever the other nodes, the batch, the prefill chunks, or the history of the
cache. `profile` names that function: equal digests promise equal bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np


class BackendError(Exception):
    """Base of all errors that a backend raises on purpose; the text says what was wrong and what to do."""


class BadRequest(BackendError):
    """A request breaks the interface: an empty prefix, a parent after its child, a token outside the
    vocabulary.
    """


class ContextFull(BackendError):
    """A path is longer than `max_context`; the session must end (or be truncated) before this position."""


class CacheFull(BackendError):
    """One call needs more cache slots than the backend has: split the batch or give the backend more
    slots.
    """


class UnsupportedModel(BackendError):
    """The files describe a model that this backend can't run; the text names what is supported."""


@dataclass(frozen=True)
class NumericProfile:
    """What the bits of a target's logits depend on (DESIGN.md, idea 3: "numeric profile")."""

    weights: str  # hex SHA-256 of the weights in use
    dtype: str  # storage and arithmetic, for example "bf16 weights, f32 arithmetic"
    kernels: str  # kernel class: names the exact order of operations
    threads: str = "any"  # thread counts under which the bits are equal

    @property
    def text(self) -> str:
        """The canonical text, one `field=value` a line."""
        return f"weights={self.weights}\ndtype={self.dtype}\nkernels={self.kernels}\nthreads={self.threads}\n"

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of the canonical text."""
        return hashlib.sha256(self.text.encode()).digest()


@dataclass(frozen=True)
class TreeRequest:
    """Score the tree below `prefix` for the session `key`: every node, node 0 (the prefix's end)
    included.
    """

    key: Hashable
    prefix: Sequence[int]  # committed token ids, at least one
    tokens: Sequence[int] = ()  # draft token ids; token i is node i + 1
    parents: Sequence[int] = ()  # node numbers, parents[i] <= i


@dataclass(frozen=True)
class ExpandRequest:
    """Propose children for some nodes of the tree below `prefix` (fields as in `TreeRequest`)."""

    key: Hashable
    prefix: Sequence[int]
    tokens: Sequence[int] = ()
    parents: Sequence[int] = ()
    nodes: Sequence[int] = (0,)  # the node numbers to expand


@dataclass(frozen=True)
class Candidates:
    """A drafter's opinion about the token that follows one node.

    `logits[k]` scores token id `ids[k]`, or token id `k` where `ids` is None (full vocabulary). The ids
    are distinct and may be empty: the drafter has nothing to propose. The choice among them, coupled to
    the session's noise, is the caller's.
    """

    ids: np.ndarray | None  # int32 [K], ascending, or None
    logits: np.ndarray  # float32 [K]


@dataclass
class Counters:
    """What a backend did so far; for `status` and benchmarks."""

    forwards: int = 0
    rows: int = 0  # rows computed by those forwards
    head_rows: int = 0  # rows sent through the output head
    evictions: int = 0  # sessions whose cache was dropped for lack of slots


class Rows(Protocol):
    """The logits of one request's nodes, possibly computed when asked for; valid until the key's next
    request.
    """

    def __len__(self) -> int:
        """Number of nodes: 1 + the request's tokens."""
        ...

    def row(self, node: int) -> np.ndarray:
        """float32 [vocab_size], read-only: the logits of the token that follows node `node`."""
        ...


@runtime_checkable
class TargetBackend(Protocol):
    """A model that defines the output stream."""

    name: str
    vocab_size: int  # real entries; a padded head is cut
    max_context: int  # positions, draft nodes included
    max_rows: int  # rows that one forward holds; a larger call is split, never refused
    profile: NumericProfile
    counters: Counters

    def cached(self, key: Hashable, prefix: Sequence[int]) -> int:
        """How many leading positions of `prefix` are computed already. Changes nothing."""
        ...

    def prefill(self, key: Hashable, prefix: Sequence[int], budget: int) -> int:
        """Compute at most `budget` more positions of `prefix`; returns how many are now computed.

        Raises BadRequest, ContextFull, CacheFull.
        """
        ...

    def score(self, requests: Sequence[TreeRequest]) -> list[Rows]:
        """Score all nodes of all requests (distinct keys) in one forward; computes missing prefix
        positions too.

        Raises BadRequest, ContextFull, CacheFull; then nothing was computed.
        """
        ...

    def release(self, key: Hashable) -> None:
        """Forget the session. Unknown keys are fine."""
        ...


@runtime_checkable
class DraftBackend(Protocol):
    """A model, or a heuristic, that proposes. It owes nobody bit-identity, only speed."""

    name: str
    vocab_size: int
    max_context: int
    counters: Counters

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """For each request (distinct keys), for each of its `nodes`: the candidates for the next token.

        One forward for all requests. Raises BadRequest, ContextFull, CacheFull.
        """
        ...

    def release(self, key: Hashable) -> None:
        """Forget the session. Unknown keys are fine."""
        ...


def check_tree(prefix: Sequence[int], tokens: Sequence[int], parents: Sequence[int], vocab_size: int) -> None:
    """Raise BadRequest unless (prefix, tokens, parents) is a well-formed tree over the vocabulary."""
    if len(prefix) == 0:
        raise BadRequest("empty prefix: a session starts with at least one token")
    if len(tokens) != len(parents):
        raise BadRequest(f"{len(tokens)} tokens but {len(parents)} parents: there must be one parent per token")
    for i, parent in enumerate(parents):
        if not 0 <= parent <= i:
            raise BadRequest(f"parents[{i}] = {parent}: must lie in 0..{i} (a parent precedes its children)")
    for what, ids in (("prefix", prefix), ("tokens", tokens)):
        if len(ids) and not (min(ids) >= 0 and max(ids) < vocab_size):
            raise BadRequest(f"{what} has token ids outside 0..{vocab_size - 1} (min {min(ids)}, max {max(ids)})")
