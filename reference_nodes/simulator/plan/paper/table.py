"""The comparison with the paper as a page of text."""

from __future__ import annotations

from reference_nodes.simulator.plan.paper import inputs
from reference_nodes.simulator.plan.paper.compare import judged, partner, ratio, ratios
from reference_nodes.simulator.plan.paper.paper import Result, far_grid, main_grid, serving_grid
from reference_nodes.simulator.plan.paper.setting import BATCHERS, FULL, POLICIES, QUICK, ROUTERS, Cell

_HEAD = f"{'':<34}{'tokens/s':>9}{'goodput':>9}{'TPOT':>9}{'TTFT':>9}   {'tok/round':>9}  {'over window 4':<22}over AWC"
_UNDER = f"{'':<34}{'':>9}{'':>9}{'':>9}{'':>9}   {'':>9}  {'thr.  TPOT  goodput':<22}thr.  TPOT"


def page(results: dict[Cell, Result], quick: bool, seed: int) -> str:
    """Inputs, the grid, routers and batchers, and what agrees with the paper."""
    return "\n".join(
        [
            *_inputs(quick, seed),
            *_main(results, quick),
            *_far(results, quick),
            *_serving(results, quick),
            *_claims(results, quick),
        ]
    )


def _inputs(quick: bool, seed: int) -> list[str]:
    scale = QUICK if quick else FULL
    target, draft = inputs.TARGET_DEVICE, inputs.DRAFT_DEVICE
    rates = ", ".join(f"{rate:g}" for rate in inputs.ACCEPTANCE["rates"])
    share = "" if scale.targets == inputs.TARGETS else f" ({scale.targets} targets, and so many fewer drafters)"
    return [
        f"The set-up of arXiv 2511.21669: {inputs.TARGETS} targets{share}; {scale.seconds:g} simulated seconds, of "
        f"which the first {scale.warmup:g} do not count; seed {seed}",
        "",
        "stated here  "
        f"forward {target['base'] * 1e3:g} ms + {target['per_row'] * 1e3:g} ms a row, at most {inputs.MAX_ROWS} rows; "
        f"draft token {draft['base'] * 1e3:g} ms; chance of the drafter's choices: {rates}",
        f"             prompts of about {inputs.PROMPT['median']} tokens, answers of about {inputs.OUTPUT['median']}; "
        f"each device asks again at once; SLO: first token in {inputs.SLO['ttft']:g} s, "
        f"{inputs.SLO['tpot'] * 1e3:g} ms a token",
        "",
    ]


def _main(results: dict[Cell, Result], quick: bool) -> list[str]:
    lines = [_HEAD, _UNDER]
    shown = ""
    for cell in main_grid(quick):
        if cell not in results:
            continue
        title = f"{cell.drafters} drafters, RTT {cell.rtt * 1e3:g} ms"
        if title != shown:
            lines.append(title)
            shown = title
        lines.append(_row(results, cell))
    return [*lines, ""]


def _far(results: dict[Cell, Result], quick: bool) -> list[str]:
    cells = [cell for cell in far_grid(quick) if cell in results]
    if not cells:
        return []
    lines = [f"{cells[0].drafters} drafters, RTT {inputs.FAR * 1e3:g} ms"]
    for cell in cells:
        alone = partner(results, cell, "alone")
        over = (
            "" if alone in (None, cell) else f"   over the target alone: {_ratio(results, cell, alone, 'throughput')}"
        )
        lines.append(_row(results, cell) + over)
    return [*lines, ""]


def _serving(results: dict[Cell, Result], quick: bool) -> list[str]:
    cells = [cell for cell in serving_grid(quick) if cell in results]
    if not cells:
        return []
    lines = [f"tokens/s (goodput) by router and batcher, {cells[0].drafters} drafters, RTT {cells[0].rtt * 1e3:g} ms"]
    lines.append(f"{'':<34}" + "".join(f"{name:>24}" for name in BATCHERS.values()))
    for policy in dict.fromkeys(cell.policy for cell in cells):
        for router, name in ROUTERS.items():
            row = [cell for cell in cells if (cell.policy, cell.router) == (policy, router)]
            values = [f"{results[cell].throughput:.0f} ({results[cell].goodput:.0f})" for cell in row]
            lines.append(f"  {POLICIES[policy].split(' (')[0] + ', ' + name:<32}" + "".join(f"{v:>24}" for v in values))
    return [*lines, ""]


def _claims(results: dict[Cell, Result], quick: bool) -> list[str]:
    rows = judged(results, quick)
    width = max((len(each.text) for each in rows), default=0)
    lines = [f"{'claim or aim':<{width}}  {'wanted':<14}{'seen here':<16}agrees"]
    for each in rows:
        seen = f"{each.lowest:.3f} to {each.highest:.3f}" if each.highest > each.lowest else f"{each.lowest:.3f}"
        lines.append(f"{each.text:<{width}}  {each.wanted:<14}{seen:<16}{each.agrees}")
    return lines


def _row(results: dict[Cell, Result], cell: Cell) -> str:
    result = results[cell]
    over = ratios(results, cell)
    own = [over.get(f"{name}_over_static4") for name in ("throughput", "tpot", "goodput")]
    awc = [over.get(f"{name}_over_awc") for name in ("throughput", "tpot")]
    return (
        f"  {POLICIES[cell.policy]:<32}{result.throughput:>9.0f}{result.goodput:>9.0f}{result.tpot * 1e3:>6.1f} ms"
        f"{result.ttft * 1e3:>6.0f} ms   {result.tokens_per_round:>9.2f}  {_several(own):<22}{_several(awc)}"
    ).rstrip()


def _several(values: list[float | None]) -> str:
    if all(value is None for value in values):
        return ""
    return "  ".join("   -" if value is None else f"{value:.2f}" for value in values)


def _ratio(results: dict[Cell, Result], cell: Cell, other: Cell | None, figure: str) -> str:
    value = None if other is None else ratio(results[cell], results[other], figure)
    return "-" if value is None else f"{value:.2f}"
