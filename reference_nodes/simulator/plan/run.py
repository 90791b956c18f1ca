"""Runs a scenario: ``run(load("lan-laptops"))["throughput.tokens_per_second"]``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from reference_nodes.simulator.plan.checks import check
from reference_nodes.simulator.plan.driver import Drive, row_of
from reference_nodes.simulator.plan.fleet import Fleet
from reference_nodes.simulator.plan.measure import Meter, Row
from reference_nodes.simulator.plan.report import Report, figures_of
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.workload import Workload

Progress = Callable[[float, float], None]
"""``(seconds simulated, seconds in all)``, now and then"""
BETWEEN_PROGRESS = 4096
"""Events."""


def run(
    scenario: Scenario,
    *,
    seed: int | None = None,
    on_row: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Simulate a scenario from its beginning to its end. The same scenario and seed give the same report.

    :param seed: in place of the scenario's.
    :param on_row: given each request as it ends, and what is unfinished at the end.

    Raises ScenarioError.
    """
    scenario = scenario if seed is None else replace(scenario, seed=seed)
    check(scenario)
    began = time.perf_counter()
    meter = Meter(scenario.slo)
    fleet = Fleet(scenario, scenario.seed, meter)
    fleet.build()
    drive = Drive(fleet, Workload(scenario, scenario.seed, fleet.recorded), meter, on_row)
    world = fleet.world
    horizon, counted = scenario.duration + scenario.drain, scenario.duration
    if scenario.warmup:
        world.at(scenario.warmup, begin_counting, fleet)
    steps = 0
    while world.heap and not drive.idle:
        if world.heap[0][0] > horizon:
            break
        world.step()
        steps += 1
        if progress is not None and steps % BETWEEN_PROGRESS == 0:
            progress(world.now, horizon)
    # Throughput is not divided by time in which there was nothing left to do.
    end = min(counted, meter.last_end) if drive.idle and meter.last_end > meter.window.began else counted
    if on_row is not None:
        for ask in drive.live.values():
            on_row(row_of(ask, "unfinished", "", horizon, None))
    traffic = world.traffic
    network = {
        "messages": traffic.messages,
        "bytes": traffic.bytes,
        "all_messages": world.all_messages,
        "events": world.events,
    }
    figures = figures_of(meter, end, fleet.slots(), network)
    return Report(scenario, scenario.seed, figures, time.perf_counter() - began)


def begin_counting(fleet: Fleet) -> None:
    """The warm-up is over."""
    fleet.meter.begin(fleet.world.now)
    fleet.world.begin_counting()
