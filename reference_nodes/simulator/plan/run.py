"""Runs a scenario: ``run(load("lan-laptops"))["throughput.tokens_per_second"]``."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from reference_nodes.simulator.plan.checks import check
from reference_nodes.simulator.plan.driver import Drive, row_of
from reference_nodes.simulator.plan.faults import Faults
from reference_nodes.simulator.plan.fleet import Fleet
from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.report import Report, cost_of, figures_of
from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.sampler import Sampler
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.workload import Workload

Progress = Callable[[float, float], None]
"""``(seconds simulated, seconds in all)``, now and then"""


def run(
    scenario: Scenario,
    *,
    seed: int | None = None,
    on_row: Callable[[Row], None] | None = None,
    progress: Progress | None = None,
    paired: bool = True,
) -> Report:
    """Simulate a scenario from its beginning to its end. The same scenario and seed give the same report.

    :param seed: in place of the scenario's.
    :param on_row: given each request as it ends, and what is unfinished at the end.
    :param paired: a scenario with faults is run without them as well, and the report says what they cost.

    Raises ScenarioError.
    """
    scenario = scenario if seed is None else replace(scenario, seed=seed)
    check(scenario)
    began, spent = time.perf_counter(), time.process_time()
    figures = simulate(scenario, on_row, progress)
    if scenario.fault and paired:
        without = simulate(replace(scenario, fault=()), None, progress)
        figures["faults"]["without"] = without
        figures["faults"]["cost"] = cost_of(figures, without)
    wall, cpu = time.perf_counter() - began, time.process_time() - spent
    return Report(scenario, scenario.seed, figures, wall, cpu)


def simulate(
    scenario: Scenario, on_row: Callable[[Row], None] | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """One run of a checked scenario; returns its figures."""
    meter = Meter(scenario.slo, scenario.series, on_row)
    fleet = Fleet(scenario, scenario.seed, meter)
    fleet.build()
    drive = Drive(fleet, Workload(scenario, scenario.seed, fleet.recorded), meter)
    world = fleet.world
    faults = Faults(fleet, drive)
    faults.plan()
    horizon = scenario.duration + scenario.drain
    sampler = None if meter.series is None else Sampler(meter.series, meter, world, horizon)
    if scenario.warmup:
        world.at(scenario.warmup, begin_counting, fleet, sampler)
    if sampler is not None:
        sampler.begin()
    with seldom_collected():
        world.go(horizon, None if progress is None else lambda now: progress(now, horizon))
    if sampler is not None:
        sampler.take()
    # Throughput is not divided by time in which there was nothing left to do.
    end = scenario.duration
    if drive.idle and meter.last_end > meter.window.began:
        end = min(end, meter.last_end)
    if on_row is not None:
        for ask in drive.live.values():
            on_row(row_of(ask, "unfinished", "", horizon, None))
    network = {
        "messages": world.traffic.messages,
        "bytes": world.traffic.bytes,
        "all_messages": world.all_messages,
        "events": world.events,
    }
    figures = figures_of(meter, end, fleet.slots(), network)
    if scenario.fault:
        figures["faults"] = {"strikes": dict(sorted(faults.strikes.items()))}
    return figures


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Sparing the garbage collector what lives as long as the run saves a tenth of the time or more."""
    if not hasattr(gc, "freeze"):  # PyPy's collector needs no such help
        yield
        return
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def begin_counting(fleet: Fleet, sampler: Sampler | None) -> None:
    """The warm-up is over."""
    if sampler is not None:
        sampler.take()
    fleet.meter.begin(fleet.world.now)
    fleet.world.begin_counting()
