"""Runs the cells of the paper's grid. What they come to against each other: :mod:`.compare`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from reference_nodes.simulator.plan.paper import inputs
from reference_nodes.simulator.plan.paper.setting import (
    BATCHERS,
    POLICIES,
    ROUTERS,
    Cell,
    Scale,
    scenario_of,
)
from reference_nodes.simulator.plan.report import Report
from reference_nodes.simulator.plan.run import run

Progress = Callable[[int, int, str], None]
"""``(cells done, cells in all, the one that ended)``"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell came to. Tokens a second, seconds, shares."""

    throughput: float
    goodput: float
    """tokens a second of answers within the SLO"""
    tpot: float
    ttft: float
    acceptance: float | None
    tokens_per_round: float
    nodes_per_round: float
    sessions_per_forward: float
    verifiers_busy: float
    drafters_busy: float
    done: int
    digest: str
    cpu: float
    """seconds that the run took here; not part of what it found"""

    @property
    def speed(self) -> float:
        """Tokens a second that one reader sees."""
        return 1.0 / self.tpot


class PaperError(ValueError):
    """A cell that says nothing: not one answer ended while it counted."""


def result_of(report: Report, label: str, cpu: float = 0.0) -> Result:
    """The figures of a cell. Raises PaperError."""
    tpot, ttft = report["latency.tpot.mean"], report["latency.ttft.mean"]
    if not tpot:
        text = f"{label}: no answer ended within {report['counted.seconds']:g} counted seconds; simulate longer"
        raise PaperError(text)
    return Result(
        throughput=report["throughput.tokens_per_second"],
        goodput=report["throughput.goodput_tokens_per_second"],
        tpot=tpot,
        ttft=ttft,
        acceptance=report["speculation.acceptance"],
        tokens_per_round=report["speculation.tokens_per_round"],
        nodes_per_round=report["speculation.nodes_per_round"],
        sessions_per_forward=report["verifiers.sessions_per_forward"],
        verifiers_busy=report["verifiers.utilisation"],
        drafters_busy=report["drafters.utilisation"] or 0.0,
        done=report["requests.done"],
        digest=report.digest,
        cpu=cpu,
    )


# ---------------------------------------------------------------- which cells


def main_grid(quick: bool) -> list[Cell]:
    """Fleet x RTT x policy; the target alone once for each fleet: a link only delays its first token."""
    first, last = inputs.RTTS[0], inputs.RTTS[-1]
    return [
        Cell(drafters, rtt, policy)
        for drafters in inputs.DRAFTERS
        for rtt in inputs.RTTS
        for policy in POLICIES
        if (policy != "alone" or rtt == first)
        and not (quick and rtt == last != first and drafters == inputs.DRAFTERS[-1] != inputs.DRAFTERS[0])
    ]


def far_grid(quick: bool) -> list[Cell]:
    """80 ms away. --quick takes the target alone from the main grid."""
    cells = [Cell(inputs.DRAFTERS[0], inputs.FAR, policy) for policy in ("static4", "awc", "ours")]
    return cells if quick else [Cell(inputs.DRAFTERS[0], inputs.FAR, "alone"), *cells]


def serving_grid(quick: bool) -> list[Cell]:
    """Routers x batchers, at the first fleet and RTT."""
    return [
        Cell(inputs.DRAFTERS[0], inputs.RTTS[0], policy, router, batcher)
        for policy in (("ours",) if quick else ("static4", "awc", "ours"))
        for router in ROUTERS
        for batcher in BATCHERS
        if not quick or batcher == "fifo" or router == "shortest-queue"
    ]


def grid(quick: bool) -> list[Cell]:
    """Every cell once, in a fixed order."""
    return list(dict.fromkeys([*main_grid(quick), *far_grid(quick), *serving_grid(quick)]))


# ---------------------------------------------------------------- running


def run_cell(cell: Cell, scale: Scale, seed: int) -> Result:
    """Simulate one cell. Raises PaperError."""
    began = time.process_time()
    report = run(scenario_of(cell, scale, seed))
    return result_of(report, cell.label, time.process_time() - began)


def run_cells(
    cells: Sequence[Cell], scale: Scale, seed: int, jobs: int = 1, progress: Progress | None = None
) -> dict[Cell, Result]:
    """All cells, in ``jobs`` processes. The outcome does not depend on their number. Raises PaperError."""
    found: dict[Cell, Result] = {}
    for cell, result in _outcomes(cells, scale, seed, jobs):
        found[cell] = result
        if progress is not None:
            progress(len(found), len(cells), cell.label)
    return {cell: found[cell] for cell in cells}


def _outcomes(cells: Sequence[Cell], scale: Scale, seed: int, jobs: int) -> Iterator[tuple[Cell, Result]]:
    if jobs <= 1:
        for cell in cells:
            yield cell, run_cell(cell, scale, seed)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run_cell, cell, scale, seed): cell for cell in cells}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
