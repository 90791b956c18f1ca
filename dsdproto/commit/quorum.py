"""Arithmetic of views and majorities; no state (SPEC.md, clauses Q-2, Q-34, Q-41)."""

from __future__ import annotations

from collections.abc import Iterable


def majority(n: int) -> int:
    """The smallest number of voters that any two such sets of ``n`` share a member of: f + 1 of 2f + 1."""
    return n // 2 + 1


def leader_of(view: int, n: int) -> int:
    """Number in the group of the voter whose node leads ``view`` (clause Q-2)."""
    return view % n


def distance(promised: int, number: int, n: int) -> int:
    """How many turns after the leader of ``promised`` voter ``number`` comes: 1..n (clause Q-41)."""
    return (number - leader_of(promised, n) - 1) % n + 1


def next_view(promised: int, number: int, n: int) -> int:
    """The smallest view above ``promised`` that voter ``number`` leads."""
    return promised + distance(promised, number, n)


def reached_by_majority(heights: Iterable[int], n: int) -> int:
    """The largest height that a majority of ``n`` has reached; voters that are not listed stand at 0 (clause Q-34)."""
    ordered = sorted(heights, reverse=True)
    return ordered[majority(n) - 1] if len(ordered) >= majority(n) else 0
