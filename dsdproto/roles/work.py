"""What machines ask of a model: plain values that a backend executor runs away from the event loop.

The executor owns models and threads; a machine owns meaning. In the simulator the executor is a table of durations.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from dsdproto.wire.messages import Sampling

# ---------------------------------------------------------------- verifier


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """Walk the target down one session's tree (section "Sampling", clause S-SAMP-12)."""

    session: Hashable
    prefix: tuple[int, ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    """``parents[i]``: 0 is the prefix, j the j-th node"""
    sampling: Sampling
    stop_tokens: tuple[int, ...]
    limit: int
    """tokens that the stream may still grow by, at least 1"""


@dataclass(frozen=True, slots=True)
class PrefillItem:
    """Compute up to ``budget`` more positions of a prefix, so that a later score is short."""

    session: Hashable
    prefix: tuple[int, ...]
    budget: int


@dataclass(frozen=True, slots=True)
class VerifyWork:
    """One forward pass for several sessions, at most one prefill chunk, and sessions to forget first."""

    score: tuple[ScoreItem, ...]
    prefill: PrefillItem | None
    release: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Walked:
    """Result of one ScoreItem: the accepted path, then the target's own token."""

    accepted: int
    """number of the deepest accepted node, 0: none"""
    tokens: tuple[int, ...]
    """all new tokens, the target's own last one included; 1 or more"""
    margin: int
    """smallest margin of the walk, u32, saturating"""


@dataclass(frozen=True, slots=True)
class VerifyDone:
    """Result of VerifyWork. An item that failed has its error text in place of a :class:`Walked`."""

    walks: tuple[Walked | str, ...]
    prefilled: int | str | None
    """positions of the prefill item's prefix that are computed now"""
    rows: int
    seconds: float
    """duration of the forward that scored the items"""


# ---------------------------------------------------------------- drafter


@dataclass(frozen=True, slots=True)
class ExpandItem:
    """Propose children for some nodes of a draft tree; nodes as in :class:`ScoreItem`."""

    session: Hashable
    prefix: tuple[int, ...]
    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    nodes: tuple[int, ...]
    sampling: Sampling
    width: int


@dataclass(frozen=True, slots=True)
class DraftWork:
    expand: tuple[ExpandItem, ...]
    release: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Child:
    token: int
    score: int
    """u8, -16 log2 of the estimated probability that the target chooses it after its parent"""


@dataclass(frozen=True, slots=True)
class DraftDone:
    """For each item, for each of its nodes: children, most likely first. A failed item has its error text instead."""

    children: tuple[tuple[tuple[Child, ...], ...] | str, ...]
    seconds: float
