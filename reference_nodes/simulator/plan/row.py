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
    e2e: float | None
    attempts: int
    rounds: int | None
    accepted: int | None
    reason: str
