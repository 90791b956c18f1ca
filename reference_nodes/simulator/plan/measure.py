"""What a run comes to, as clients see it and as the machines' owners do. Nothing here grows with simulated time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dsdproto.roles.leader_session import WASTE_CAUSES
from dsdproto.wire.messages import Stats
from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.scenario import Slo
from reference_nodes.simulator.plan.series import Series
from reference_nodes.simulator.plan.sketch import Sketch, Tally


@dataclass(slots=True)
class Count:
    """Requests, over the whole run: every one that arrived ends as one of the others."""

    arrived: int = 0
    done: int = 0
    refused: int = 0
    failed: int = 0
    retried: int = 0
    """attempts after a first one"""
    resumed: int = 0
    """streams that went on at another node"""
    reasons: Counter[str] = field(default_factory=Counter)
    """why requests were refused or failed"""

    @property
    def unfinished(self) -> int:
        return self.arrived - self.done - self.refused - self.failed


@dataclass(slots=True)
class Verified:
    """What verifiers did."""

    forwards: int = 0
    """with at least one session"""
    rounds: int = 0
    """verdicts"""
    with_drafts: int = 0
    nodes: int = 0
    accepted: int = 0
    tokens: int = 0
    prefill: int = 0
    """prompt positions"""
    beyond: int = 0
    """prefix positions computed with a score: short prompts, and what had been thrown out of memory"""
    evictions: int = 0
    """sessions thrown out of memory"""
    busy: float = 0.0
    sessions: Tally = field(default_factory=Tally)
    """in a forward"""
    rows: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Drafted:
    """What drafters did."""

    forwards: int = 0
    expanded: int = 0
    busy: float = 0.0


@dataclass(slots=True)
class Window:
    """What happened while it counted."""

    began: float = 0.0
    tokens: int = 0
    done: int = 0
    good: int = 0
    """done within the SLO"""
    good_tokens: int = 0
    ttft: Sketch = field(default_factory=Sketch)
    tpot: Sketch = field(default_factory=Sketch)
    itl: Sketch = field(default_factory=Sketch)
    e2e: Sketch = field(default_factory=Sketch)
    verified: Verified = field(default_factory=Verified)
    drafted: Drafted = field(default_factory=Drafted)
    stats: Counter[str] = field(default_factory=Counter)
    """of the streams that ended, from END"""
    waste: Counter[str] = field(default_factory=Counter)


class Meter:
    """Everybody who takes part reports here.

    :param series: width of the windows over time, seconds; 0: none.
    :param on_row: given each request as it ends, with what its leader counted.
    """

    def __init__(self, slo: Slo, series: float = 0.0, on_row: Callable[[Row], None] | None = None) -> None:
        self.slo = slo
        self._on_row = on_row
        self.series = Series(series) if series else None
        self.count = Count()
        self.window = Window()
        self.last_end = 0.0
        """when the last request ended"""

    def begin(self, now: float) -> None:
        """The warm-up is over: what happened so far does not count."""
        self.window = Window(began=now)

    def arrived(self, now: float) -> None:
        """A client has a request."""
        self.count.arrived += 1
        if self.series is not None:
            self.series.at(now).arrived += 1

    def block(self, tokens: int, gap: float | None, now: float) -> None:
        """A client got tokens, ``gap`` seconds after the ones before; None: they are its first."""
        self.window.tokens += tokens
        if self.series is not None:
            self.series.at(now).tokens += tokens
        if gap is not None:
            self.window.itl.add(gap)
            if self.series is not None:
                self.series.at(now).gap(gap)

    def ended(self, row: Row, now: float, stats: Stats | None) -> None:
        """A request came to its end."""
        count, window = self.count, self.window
        self.last_end = now
        good = row.status == "done" and self._is_good(row)
        if self.series is not None:
            self.series.at(now).ended(row, good)
        if self._on_row is not None:
            self._on_row(replace(row, within_slo=good if row.status == "done" else None, **counts_of(stats)))
        match row.status:
            case "done":
                count.done += 1
            case "refused":
                count.refused += 1
            case _:
                count.failed += 1
        if row.status != "done":
            count.reasons[row.reason] += 1
            return
        assert row.ttft is not None and row.e2e is not None
        window.done += 1
        window.ttft.add(row.ttft)
        window.e2e.add(row.e2e)
        if row.tpot is not None:
            window.tpot.add(row.tpot)
        if good:
            window.good += 1
            window.good_tokens += row.tokens
        if stats is not None:
            window.stats["rounds"] += stats.rounds
            window.stats["drafted"] += stats.drafted
            window.stats["verified"] += stats.verified
            window.stats["accepted"] += stats.accepted
            for cause, tokens in zip(WASTE_CAUSES, stats.waste):
                window.waste[cause.value] += tokens

    def _is_good(self, row: Row) -> bool:
        slo, ttft, tpot = self.slo, row.ttft or 0.0, row.tpot or 0.0
        return not (slo.ttft and ttft > slo.ttft) and not (slo.tpot and tpot > slo.tpot)


def counts_of(stats: Stats | None) -> dict[str, int]:
    """A leader's figures of one stream, by column of :class:`Row`."""
    if stats is None:
        return {}
    waste = {cause.value: tokens for cause, tokens in zip(WASTE_CAUSES, stats.waste)}
    return {"drafted": stats.drafted, "verified": stats.verified} | waste
