"""Figures over time in a bounded number of windows: where there are too many, each becomes twice as wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reference_nodes.simulator.plan.row import Row

MOST = 1024
"""Windows."""


@dataclass(slots=True)
class Span:
    """One window."""

    arrived: int = 0
    tokens: int = 0
    done: int = 0
    lost: int = 0
    """requests refused or failed"""
    ttft: float = 0.0
    """sum over the requests that were done"""
    tpot: float = 0.0
    with_tpot: int = 0

    def ended(self, row: Row) -> None:
        """A request came to its end in this window."""
        if row.status != "done":
            self.lost += 1
            return
        self.done += 1
        self.ttft += row.ttft or 0.0
        if row.tpot is not None:
            self.tpot += row.tpot
            self.with_tpot += 1

    def add(self, other: Span) -> None:
        self.arrived += other.arrived
        self.tokens += other.tokens
        self.done += other.done
        self.lost += other.lost
        self.ttft += other.ttft
        self.tpot += other.tpot
        self.with_tpot += other.with_tpot


class Series:
    """Windows of ``width`` seconds, from time 0 on."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.spans: list[Span] = []

    def at(self, now: float) -> Span:
        """The window of a moment."""
        index = int(now / self.width)
        while index >= MOST:
            self._widen()
            index = int(now / self.width)
        while index >= len(self.spans):
            self.spans.append(Span())
        return self.spans[index]

    def _widen(self) -> None:
        self.width *= 2.0
        wide: list[Span] = []
        for index, span in enumerate(self.spans):
            if index % 2 == 0:
                wide.append(span)
            else:
                wide[-1].add(span)
        self.spans = wide

    def as_json(self) -> dict[str, Any]:
        """Lists of equal length; None where a window has no request to speak of."""
        spans, width = self.spans, self.width
        return {
            "width": width,
            "arrived": [span.arrived for span in spans],
            "done": [span.done for span in spans],
            "lost": [span.lost for span in spans],
            "tokens_per_second": [span.tokens / width for span in spans],
            "ttft": [span.ttft / span.done if span.done else None for span in spans],
            "tpot": [span.tpot / span.with_tpot if span.with_tpot else None for span in spans],
        }
