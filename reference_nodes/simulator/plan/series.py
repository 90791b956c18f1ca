"""Figures over time in a bounded number of windows: where there are too many, each becomes twice as wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from reference_nodes.simulator.plan.row import Row

MOST = 1024
"""Windows."""


@dataclass(slots=True)
class Span:
    """One window: sums."""

    arrived: int = 0
    tokens: int = 0
    done: int = 0
    lost: int = 0
    """requests refused or failed"""
    good: int = 0
    """requests done within the SLO"""
    ttft: float = 0.0
    """over the requests that were done, as ``tpot`` and ``e2e``"""
    tpot: float = 0.0
    with_tpot: int = 0
    e2e: float = 0.0
    itl: float = 0.0
    gaps: int = 0
    rounds: int = 0
    nodes: int = 0
    """draft tokens that were verified"""
    accepted: int = 0
    verifiers: float = 0.0
    """seconds that they computed"""
    drafters: float = 0.0
    messages: int = 0
    bytes: int = 0

    def ended(self, row: Row, good: bool = False) -> None:
        """A request came to its end in this window."""
        if row.status != "done":
            self.lost += 1
            return
        self.done += 1
        self.good += good
        self.ttft += row.ttft or 0.0
        self.e2e += row.e2e or 0.0
        if row.tpot is not None:
            self.tpot += row.tpot
            self.with_tpot += 1

    def gap(self, seconds: float) -> None:
        """A client waited so long between two blocks."""
        self.itl += seconds
        self.gaps += 1

    def add(self, other: Span) -> None:
        """Take another's sums in."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


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

    def as_json(self, slots: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Lists of equal length; None where a window has nothing to divide by.

        :param slots: of all verifiers and all drafters, by role; without them nothing is said of utilisation.
        """
        spans, width = self.spans, self.width
        slots = slots or {}
        inside, open_at_end = 0, []
        for span in spans:
            inside += span.arrived - span.done - span.lost
            open_at_end.append(inside)
        return {
            "width": width,
            "arrived": [span.arrived for span in spans],
            "done": [span.done for span in spans],
            "lost": [span.lost for span in spans],
            "good": [span.good for span in spans],
            "open": open_at_end,
            "tokens_per_second": [span.tokens / width for span in spans],
            "ttft": _means(spans, "ttft", "done"),
            "tpot": _means(spans, "tpot", "with_tpot"),
            "itl": _means(spans, "itl", "gaps"),
            "e2e": _means(spans, "e2e", "done"),
            "acceptance": _means(spans, "accepted", "nodes"),
            "nodes_per_round": _means(spans, "nodes", "rounds"),
            "verifier_utilisation": _used(spans, "verifiers", width * slots.get("verifier", 0)),
            "drafter_utilisation": _used(spans, "drafters", width * slots.get("drafter", 0)),
            "messages": [span.messages for span in spans],
            "bytes": [span.bytes for span in spans],
        }


def _means(spans: Sequence[Span], total: str, count: str) -> list[float | None]:
    return [getattr(span, total) / getattr(span, count) if getattr(span, count) else None for span in spans]


def _used(spans: Sequence[Span], busy: str, available: float) -> list[float | None]:
    # A forward counts where it begins, so that a window may have more of it than it has seconds.
    return [min(1.0, getattr(span, busy) / available) if available else None for span in spans]
