"""Sets the cells of the paper's grid against each other, and against what the paper claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reference_nodes.simulator.plan.paper import inputs
from reference_nodes.simulator.plan.paper.paper import Result, far_grid, main_grid
from reference_nodes.simulator.plan.paper.setting import FULL, POLICIES, QUICK, Cell

FIGURES = ("throughput", "goodput", "tpot", "ttft", "speed")


def ratio(one: Result, other: Result, figure: str) -> float | None:
    """``figure`` of one over that of the other; None where there is nothing to divide by."""
    below = getattr(other, figure)
    return getattr(one, figure) / below if below else None


def ratios(results: dict[Cell, Result], cell: Cell) -> dict[str, float | None]:
    """A cell over window 4, over AWC and over the target alone, where these were run."""
    out: dict[str, float | None] = {}
    for over in ("static4", "awc", "alone"):
        other = partner(results, cell, over)
        if other is not None and over != cell.policy:
            out |= {f"{figure}_over_{over}": ratio(results[cell], results[other], figure) for figure in FIGURES}
    return out


def partner(results: dict[Cell, Result], cell: Cell, policy: str) -> Cell | None:
    """The cell that differs in the policy alone."""
    rtts = [cell.rtt]
    if policy == "alone":
        rtts += inputs.RTTS
    for rtt in rtts:
        other = Cell(cell.drafters, rtt, policy, cell.router, cell.batcher)
        if other in results:
            return other
    return None


def outcome(results: dict[Cell, Result], quick: bool, seed: int) -> dict[str, Any]:
    """Everything, as plain JSON. At the top: each policy's ratios over the main grid."""
    near = [cell for cell in main_grid(quick) if cell in results]
    far = [cell for cell in far_grid(quick) if cell in results]
    body: dict[str, Any] = {"quick": quick, "seed": seed, "scale": _scale(quick)}
    for over in ("static4", "awc", "alone"):
        for figure in FIGURES:
            found = {policy: _total(results, near, policy, over, figure) for policy in POLICIES if policy != over}
            body[f"{figure}_over_{over}"] = {policy: value for policy, value in found.items() if value is not None}
    body["at_80_ms"] = {cell.policy: ratios(results, cell) for cell in far}
    body["claims"] = claims(results, quick)
    body["cells"] = [_cell(results, cell) for cell in results]
    return body


def _scale(quick: bool) -> dict[str, Any]:
    scale = QUICK if quick else FULL
    return {"targets": scale.targets, "seconds": scale.seconds, "warmup": scale.warmup}


def _total(results: dict[Cell, Result], cells: list[Cell], policy: str, over: str, figure: str) -> float | None:
    """Sum over sum: a cell where the other has next to nothing must not decide alone."""
    own = other = 0.0
    for cell in cells:
        beside = partner(results, cell, over)
        if cell.policy == policy and beside is not None:
            own += getattr(results[cell], figure)
            other += getattr(results[beside], figure)
    return own / other if other else None


def _cell(results: dict[Cell, Result], cell: Cell) -> dict[str, Any]:
    result = results[cell]
    names = {"drafters": cell.drafters, "rtt": cell.rtt, "policy": cell.policy}
    names |= {"router": cell.router, "batcher": cell.batcher}
    figures = {name: getattr(result, name) for name in Result.__slots__ if name != "cpu"}
    return names | figures | ratios(results, cell)


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim or an aim, and what was seen: the range over the grid."""

    text: str
    wanted: str
    lowest: float
    highest: float
    agrees: str
    """``yes``, ``no``, or ``in part`` where only some cells agree"""


def judged(results: dict[Cell, Result], quick: bool) -> list[Judged]:
    """The paper's claims, then this project's aims."""
    near = [cell for cell in main_grid(quick) if cell in results]
    far = [cell for cell in far_grid(quick) if cell in results]
    out = []
    for claim in inputs.CLAIMS:
        seen = _seen(results, near, claim.policy, f"{claim.figure}_over_{claim.over}")
        wanted = f"{claim.low:.2f} to {claim.high:.4g}"
        out += _judge(claim.text, wanted, seen, [claim.low <= value <= claim.high for value in seen])
    for aim in inputs.AIMS:
        seen = _seen(results, far if aim.far else near, "ours", f"{aim.figure}_over_{aim.over}")
        out += _judge(aim.text, f"{aim.least:.2f} or more", seen, [value >= aim.least for value in seen])
    return out


def claims(results: dict[Cell, Result], quick: bool) -> list[dict[str, Any]]:
    """:func:`judged` as plain JSON."""
    return [{name: getattr(each, name) for name in Judged.__slots__} for each in judged(results, quick)]


def _seen(results: dict[Cell, Result], cells: list[Cell], policy: str, key: str) -> list[float]:
    values = [ratios(results, cell).get(key) for cell in cells if cell.policy == policy]
    return [value for value in values if value is not None]


def _judge(text: str, wanted: str, seen: list[float], right: list[bool]) -> list[Judged]:
    if not seen:
        return []
    agrees = "yes" if all(right) else "in part" if any(right) else "no"
    return [Judged(text, wanted, min(seen), max(seen), agrees)]
