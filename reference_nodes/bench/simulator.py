"""How fast the planning simulator is: protocol messages per second of processor time, on one core, without the codec.

Each scenario is run as often as asked, in turn, so that what else the machine does meets all of them alike; processor
time leaves out what others use. Messages between roles of one node (a leader and its own verifier) do not count,
although they are as much work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reference_nodes.bench.spread import spread, spread_text
from reference_nodes.simulator.plan.loader import load
from reference_nodes.simulator.plan.report import Report
from reference_nodes.simulator.plan.run import run
from reference_nodes.simulator.plan.scenario import Scenario


def bench_simulator(names: Sequence[str], settings: Sequence[str], repeat: int) -> dict[str, Any]:
    """Run scenarios of the gallery, or files. Raises ScenarioError.

    :param settings: ``key=value`` over every one of them, as for ``dsdp sim run``.
    :param repeat: runs of each.
    """
    scenarios = {name: load(name, settings) for name in names}
    runs: dict[str, list[Report]] = {name: [] for name in scenarios}
    for _ in range(repeat):
        for name, scenario in scenarios.items():
            runs[name].append(run(scenario, paired=False))
    return {"repeat": repeat, "scenarios": {name: _figures(scenarios[name], runs[name]) for name in scenarios}}


def _figures(scenario: Scenario, runs: list[Report]) -> dict[str, Any]:
    network = runs[0].figures["network"]
    messages, events = network["all_messages"], network["events"]
    return {
        "digest": runs[0].digest,
        "simulated_seconds": scenario.duration,
        "messages": messages,
        "events": events,
        "messages_per_second": spread([messages / report.cpu for report in runs], 0),
        "events_per_second": spread([events / report.cpu for report in runs], 0),
        "cpu_seconds": spread([report.cpu for report in runs], 2),
        "wall_seconds": spread([report.wall for report in runs], 2),
    }


def simulator_text(report: dict[str, Any]) -> str:
    """For people."""
    lines = [f"per second of processor time, median and quartiles of {report['repeat']} runs in turn"]
    for name, found in report["scenarios"].items():
        lines.append(
            f"{name}: {spread_text(found['messages_per_second'])} messages/s, "
            f"{spread_text(found['events_per_second'])} events/s; {found['messages']} messages, "
            f"{found['simulated_seconds']:g} s simulated in {spread_text(found['wall_seconds'], ' s')}"
        )
    return "\n".join(lines)
