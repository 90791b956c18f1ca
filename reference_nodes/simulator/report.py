"""What people read of a run or of a table of planted bugs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields

from reference_nodes.simulator.chart import chart
from reference_nodes.simulator.mutants import MUTANTS, planted
from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.runner import Outcome, run
from reference_nodes.simulator.scenario import CLIENT, DRAFTERS, Fault, Scenario, draw
from reference_nodes.simulator.swarm import Swarm


def explain(
    seed: int,
    *,
    mutant: str | None = None,
    outcome: Outcome | None = None,
    last: int | None = None,
    with_chart: bool = True,
) -> str:
    """Scenario, result and, if wanted, the chart of a run: of ``outcome``, else of the seed's own."""
    if outcome is None:
        with planted(mutant) if mutant else nullcontext():
            outcome = run(draw(seed))
    violation = outcome.violation
    lines = [
        f"seed {seed}: {'no violation' if violation is None else violation}",
        *_scenario(outcome.scenario),
        f"{outcome.events} events in {outcome.seconds:.3f} virtual seconds, {outcome.interruptions} interruptions, "
        f"blocks up to view {outcome.views}",
        f"digest {outcome.digest()}",
    ]
    if with_chart:
        lines += ["", chart(outcome.trace, lanes_of(outcome.scenario), last=last)]
    return "\n".join(lines)


def lanes_of(scenario: Scenario) -> tuple[str, ...]:
    return (CLIENT, *scenario.names, *DRAFTERS[: scenario.drafters])


def _scenario(scenario: Scenario) -> list[str]:
    """What differs from a plain one, and the faults."""
    plain, usual = Scenario(seed=0), Conditions()
    said = [
        f"{each.name} {_plain(getattr(scenario, each.name))}"
        for each in fields(Scenario)
        if each.name not in ("seed", "members", "faults", "conditions")
        and getattr(scenario, each.name) != getattr(plain, each.name)
    ]
    said += [
        f"{each.name} {getattr(scenario.conditions, each.name)}"
        for each in fields(Conditions)
        if getattr(scenario.conditions, each.name) != getattr(usual, each.name)
    ]
    return [f"{scenario.members} members; {', '.join(said) or 'nothing special'}", *map(_fault, scenario.faults)]


def _plain(value: object) -> object:
    return getattr(value, "value", value)


def _fault(fault: Fault) -> str:
    other = f" and {fault.other}" if fault.other else ""
    details = f", parts {fault.mask:b}" if fault.kind.value == "split" else ""
    return f"  at {fault.at:.4f}: {fault.kind.value} {fault.who}{other} for {fault.length:.4f} s{details}"


def mutant_table(results: Mapping[str, Swarm]) -> str:
    """A Markdown table: planted bug, broken clause, check that caught it, seeds that it took."""
    rows = [("planted bug", "clause", "caught by", "seeds"), ("---", "---", "---", "---:")]
    for name, swarm in results.items():
        found = swarm.found[0] if swarm.found else None
        rows.append(
            (
                name,
                MUTANTS[name].breaks,
                "**nothing**" if found is None else found.check,
                str(swarm.seeds if found is None else found.seed),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    caught = sum(bool(swarm.found) for swarm in results.values())
    return "\n".join([*lines, "", f"{caught} of {len(results)} caught"]) + "\n"
