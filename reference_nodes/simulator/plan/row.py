"""One request and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One request, as it ended."""

    number: int
    node: str
    leader: str
    arrived: float
    status: str
    prompt: int
    output: int
    tokens: int
    ttft: float | None
    tpot: float | None
    itl: float | None
    """between two arrivals of tokens, in the mean; several tokens may arrive at once"""
    itl_p95: float | None
    itl_max: float | None
    e2e: float | None
    attempts: int
    rounds: int | None
    accepted: int | None
    reason: str
    within_slo: bool | None = None
    """None for what did not end well"""
    drafted: int | None = None
    """tokens, of the stream; with the following as the leader counted them (SPEC.md, registry "waste causes")"""
    verified: int | None = None
    stale: int | None = None
    wrong: int | None = None
    late: int | None = None
    duplicate: int | None = None
    too_deep: int | None = None
    evicted: int | None = None
    orphan: int | None = None
    unverified: int | None = None
