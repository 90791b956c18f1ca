"""Measures a grid: every cell in turn, over and over, so that whatever else the machine does hits all cells alike."""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from reference_nodes.profile.document import Prefill, Profile, Step
from reference_nodes.profile.grid import Grid
from reference_nodes.profile.steps import Stepper

Report = Callable[[str, int, int], None]
"""Takes a stage, how much of it is done, and of how much."""
Cell = tuple[str, tuple[int, ...]]
STRIDE = 7
"""Cells by which a round begins later than the one before."""


class Beside(Protocol):
    """Another model that computes or stands still."""

    model: str

    def switch(self, on: bool) -> None: ...


class Sampler:
    """Samples of a grid, alone and beside another model. Rounds may lie as far apart as the caller likes."""

    def __init__(self, stepper: Stepper, grid: Grid, neighbour: Beside | None = None) -> None:
        self.stepper = stepper
        self.grid = grid
        self.neighbour = neighbour
        self._rounds = 0
        self._samples: dict[tuple[bool, Cell], list[float]] = defaultdict(list)
        self._cells: list[Cell] = [("step", cell) for cell in grid.steps]
        self._cells += [("prefill", cell) for cell in grid.prefills]

    @property
    def cells(self) -> int:
        """Measurements of one round."""
        return len(self._cells) * (1 if self.neighbour is None else 2)

    def warm_up(self, report: Report = lambda stage, done, total: None) -> None:
        """Build every prefix and take every kind of step once, unrecorded. Raises BackendError."""
        for number, (kind, cell) in enumerate(self._cells):
            report("warming up", number, len(self._cells))
            self._take(kind, cell)

    def round(self, report: Callable[[int], None] = lambda done: None) -> None:
        """One sample of each cell, alone and then beside. Raises BackendError, ProfileError."""
        done = 0
        collecting = gc.isenabled()
        gc.disable()  # a collection in one cell out of forty says nothing of that cell
        try:
            for busy in (False,) if self.neighbour is None else (False, True):
                if self.neighbour is not None:
                    self.neighbour.switch(busy)
                # The first step after something else had the processor's caches is no typical one.
                self._take(*self._cells[-1])
                # Each round begins elsewhere: no cell always comes after the same one.
                start = self._rounds * STRIDE % len(self._cells)
                for kind, cell in self._cells[start:] + self._cells[:start]:
                    self._samples[busy, (kind, cell)].append(self._take(kind, cell))
                    done += 1
                    report(done)
            self._rounds += 1
        finally:
            if self.neighbour is not None:
                self.neighbour.switch(False)
            if collecting:
                gc.enable()

    def _take(self, kind: str, cell: tuple[int, ...]) -> float:
        if kind == "step":
            rows, sessions, context = cell
            return self.stepper.step(rows, sessions, context)
        positions, context = cell
        return self.stepper.prefill(positions, context)

    def profile(self, node: dict[str, float], threads: int = 1) -> Profile:
        """What was measured so far; at least one round."""
        beside = self.neighbour is not None
        return Profile(
            role=self.stepper.role,
            model=self.stepper.model,
            machine=machine(threads),
            steps=self._steps(False),
            prefill=self._prefills(False),
            node=node,
            beside_model=self.neighbour.model if self.neighbour is not None else "",
            beside_steps=self._steps(True) if beside else (),
            beside_prefill=self._prefills(True) if beside else (),
        )

    def _steps(self, busy: bool) -> tuple[Step, ...]:
        return tuple(
            Step(*cell, quantiles(samples), len(samples))
            for cell in self.grid.steps
            if (samples := self._samples[busy, ("step", cell)])
        )

    def _prefills(self, busy: bool) -> tuple[Prefill, ...]:
        return tuple(
            Prefill(*cell, quantiles(samples), len(samples))
            for cell in self.grid.prefills
            if (samples := self._samples[busy, ("prefill", cell)])
        )


def measure(sampler: Sampler, report: Report) -> None:
    """As many rounds as the grid says. Raises BackendError, ProfileError."""
    sampler.warm_up(report)
    total = sampler.grid.repeat * sampler.cells
    what = f"{sampler.stepper.role} {sampler.stepper.model}"
    for number in range(sampler.grid.repeat):
        sampler.round(lambda done, before=number * sampler.cells: report(what, before + done, total))
    report(what, total, total)


def quantiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """q10, median and q90 of at least one sample, to the microsecond."""
    if len(samples) == 1:
        only = round(samples[0], 6)
        return only, only, only
    tenths = statistics.quantiles(samples, n=10, method="inclusive")
    return round(tenths[0], 6), round(statistics.median(samples), 6), round(tenths[-1], 6)


def machine(threads: int) -> dict[str, Any]:
    """What the times depend on."""
    return {"cpu": cpu_name(), "cores": os.cpu_count() or 1, "threads": threads, "system": platform.system()}


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name for itself, or its architecture."""
    try:
        lines = info.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
