"""Runs a scenario at every point of a grid and with several seeds; on all cores, and nothing twice.

::

    results = sweep("edge-cloud", [axis_of("link.rtt=0.01,0.03"), axis_of("window.size=1:8")], repeat=3, jobs=2)
    results.write(Path("out.json"))

Every point meets the same seeds, so the same requests and the same luck: differences between points are sharper than
the spread within one suggests.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reference_nodes.simulator.plan.axes import Axis, grid
from reference_nodes.simulator.plan.cache import Cache, key_of, source_digest
from reference_nodes.simulator.plan.loader import load
from reference_nodes.simulator.plan.results import Point, Results, Run
from reference_nodes.simulator.plan.run import run
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.schema import ScenarioError

Progress = Callable[[int, int, int], None]
"""``(runs done, runs in all, of the done ones out of the cache)``"""


@dataclass(frozen=True, slots=True)
class Task:
    """One run to do: ``number`` is its place among all."""

    number: int
    point: int
    scenario: Scenario
    seed: int
    key: str


def sweep(
    source: str | Path,
    axes: Sequence[Axis],
    settings: Iterable[str] = (),
    *,
    seed: int | None = None,
    repeat: int = 1,
    jobs: int = 1,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> Results:
    """Run ``source`` (a file, or a name of the gallery) at every point of the grid.

    :param settings: ``key=value`` each, laid over the file at every point.
    :param seed: of the first repetition, then counted upwards; None: the scenario's.
    :param repeat: runs at each point.
    :param jobs: processes; 1 is this one.
    :param cache: what it has is not run again; None: run all.

    All points are read and checked before the first run begins. Raises ScenarioError.
    """
    if repeat < 1 or jobs < 1:
        raise ScenarioError(
            "", f"{repeat} repetitions in {jobs} processes: at least one of each is needed", str(source)
        )
    settings = list(settings)
    cache = cache or Cache(None)
    points, tasks = [], []
    for at in grid(axes):
        scenario = load(source, [*settings, *(f"{key}={value}" for key, value in at.items())])
        first = scenario.seed if seed is None else seed
        for each in range(first, first + repeat):
            tasks.append(Task(len(tasks), len(points), replace(scenario, seed=each), each, key_of(scenario, each)))
        points.append(Point(at))
    outcomes: dict[int, Run] = {}
    cached = 0
    for task, outcome, fresh in _outcomes(tasks, cache, jobs):
        outcomes[task.number] = Run(task.seed, outcome["digest"], outcome["figures"])
        cached += not fresh
        if progress is not None:
            progress(len(outcomes), len(tasks), cached)
    for task in tasks:
        points[task.point].runs.append(outcomes[task.number])
    name = load(source, settings).name
    return Results(name, tuple(settings), tuple(axes), tuple(points), source_digest())


def _outcomes(tasks: list[Task], cache: Cache, jobs: int) -> Iterator[tuple[Task, dict[str, Any], bool]]:
    """(task, outcome, whether it was run now), in the order in which they are known."""
    to_run = []
    for task in tasks:
        kept = cache.get(task.key)
        if kept is None:
            to_run.append(task)
        else:
            yield task, kept, False
    for task, outcome in _run_all(to_run, min(jobs, len(to_run))):
        # Kept at once: a sweep that is broken off goes on where it was.
        cache.put(task.key, outcome)
        yield task, outcome, True


def _run_all(tasks: list[Task], jobs: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    if jobs <= 1:
        yield from map(_one, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_one, tasks)


def _one(task: Task) -> tuple[Task, dict[str, Any]]:
    report = run(task.scenario)
    return task, {"digest": report.digest, "figures": report.figures}
