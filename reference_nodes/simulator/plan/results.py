"""What a sweep came to: a JSON file with everything, CSV with a line for each run, a table with spreads over seeds."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Self, TextIO

from reference_nodes.simulator.plan.axes import Axis
from reference_nodes.simulator.plan.schema import ScenarioError, nearest

FORMAT = "dsdp-sweep"
VERSION = 1
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131)
"""0.975 quantiles of Student's t for 1 to 15 degrees of freedom; beyond that 1.96 + 2.5/n is within 0.3 %."""


@dataclass(frozen=True, slots=True)
class Run:
    seed: int
    digest: str
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """One place of the grid."""

    at: dict[str, str]
    """value by key of the axes, as it was written"""
    runs: list[Run] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the seeds of a point."""

    mean: float
    low: float
    high: float
    half: float
    """half the width of the mean's 95 % confidence interval; 0 for one run"""
    count: int


@dataclass(frozen=True, slots=True)
class Results:
    scenario: str
    settings: tuple[str, ...]
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    source: str
    """digest of the program that made them"""

    def spread(self, point: Point, path: str) -> Spread | None:
        """A figure at a point, by its path (``"latency.tpot.p95"``); None where no run has one.

        Raises ScenarioError for a path that no run has.
        """
        values = [value for run in point.runs if (value := figure(run.figures, path)) is not None]
        if not values:
            return None
        half = 0.0
        if len(values) > 1:
            half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
        return Spread(fmean(values), min(values), max(values), half, len(values))

    # ------------------------------------------------------------ files

    def as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "v": VERSION,
            "scenario": self.scenario,
            "settings": list(self.settings),
            "source": self.source,
            "axes": [{"key": axis.key, "values": list(axis.values)} for axis in self.axes],
            "points": [
                {
                    "at": point.at,
                    "runs": [{"seed": run.seed, "digest": run.digest, "figures": run.figures} for run in point.runs],
                }
                for point in self.points
            ],
        }

    @classmethod
    def from_json(cls, body: Any, file: str = "") -> Self:
        """The inverse of :meth:`as_json`. Raises ScenarioError."""
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise ScenarioError(
                "", "is no result of a sweep; write one with `dsdp sim sweep ... --out FILE.json`", file
            )
        if body.get("v") != VERSION:
            raise ScenarioError("v", f"version {body.get('v')!r} is not known, only {VERSION}: sweep again", file)
        try:
            axes = tuple(Axis(axis["key"], tuple(axis["values"])) for axis in body["axes"])
            points = tuple(
                Point(dict(point["at"]), [Run(run["seed"], run["digest"], run["figures"]) for run in point["runs"]])
                for point in body["points"]
            )
            return cls(body["scenario"], tuple(body["settings"]), axes, points, body["source"])
        except (KeyError, TypeError) as error:
            raise ScenarioError("", f"is damaged: {error!r} is missing or of the wrong kind", file) from None

    def write(self, path: Path) -> None:
        """As CSV if the name ends so, else as JSON. Raises OSError."""
        with path.open("w", newline="", encoding="utf-8") as file:
            if path.suffix == ".csv":
                self.write_csv(file)
            else:
                json.dump(self.as_json(), file, separators=(",", ":"))
                file.write("\n")

    def write_csv(self, file: TextIO) -> None:
        """A line for each run: the axes, the seed, every figure that is a number."""
        keys = [axis.key for axis in self.axes]
        flat = [(point, run, dict(numbers(run.figures))) for point in self.points for run in point.runs]
        names = list(dict.fromkeys(name for _, _, figures in flat for name in figures))
        writer = csv.writer(file)
        writer.writerow([*keys, "seed", "digest", *names])
        for point, run, figures in flat:
            row = [*(point.at[key] for key in keys), run.seed, run.digest]
            writer.writerow([*row, *("" if figures.get(name) is None else figures[name] for name in names)])


def read_results(path: Path) -> Results:
    """Raises ScenarioError for a file that is no result of a sweep."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError("", f"cannot be read: {error.strerror or error}", str(path)) from None
    except ValueError as error:
        raise ScenarioError("", f"is no JSON: {error}", str(path)) from None
    return Results.from_json(body, str(path))


# ---------------------------------------------------------------- figures


def student(freedom: int) -> float:
    """0.975 quantile of Student's t."""
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96 + 2.5 / freedom


def numbers(figures: dict[str, Any], above: str = "") -> Iterator[tuple[str, float | None]]:
    """(path, value) of all figures that are numbers or None; lists are left out."""
    for name, value in figures.items():
        path = f"{above}{name}"
        if isinstance(value, dict):
            yield from numbers(value, f"{path}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield path, value


def figure(figures: dict[str, Any], path: str) -> float | None:
    """A figure by its path. Raises ScenarioError with the closest path that there is."""
    known = dict(numbers(figures))
    if path in known:
        return known[path]
    hint = nearest(path, list(known))
    parts = path.split(".")
    below = [name for name in known if name.split(".")[: len(parts)] == parts]
    if below:
        hint = f"; below it are {', '.join(name[len(path) + 1 :] for name in below[:12])}"
    raise ScenarioError(path, f"is no figure of a report{hint}")


# ---------------------------------------------------------------- for people

SHOWN = ("throughput.tokens_per_second", "latency.tpot.mean", "latency.ttft.p95", "speculation.tokens_per_round")


def table(results: Results, shown: Sequence[str] = SHOWN) -> str:
    """A line for each point; where there are several seeds, with the half width of the 95 % interval."""
    heads = [axis.key for axis in results.axes] + [label(path) for path in shown]
    lines = [heads]
    for point in results.points:
        cells = [point.at[axis.key] for axis in results.axes]
        for path in shown:
            spread = results.spread(point, path)
            cells.append("-" if spread is None else _cell(spread, scale_of(path)))
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def label(path: str) -> str:
    """A figure's short name, with its unit."""
    known = {
        "throughput.tokens_per_second": "tokens/s",
        "throughput.requests_per_second": "requests/s",
        "throughput.goodput_tokens_per_second": "good tokens/s",
        "throughput.goodput_requests_per_second": "good requests/s",
        "speculation.tokens_per_round": "tokens/round",
        "speculation.acceptance": "acceptance",
    }
    if path in known:
        return known[path]
    area, _, rest = path.partition(".")
    if area == "latency":
        name, _, which = rest.partition(".")
        return f"{name.upper()} {which} (ms)" if which != "count" else f"{name.upper()} count"
    return path


def scale_of(path: str) -> float:
    """Latencies are said in milliseconds."""
    return 1e3 if path.startswith("latency.") and not path.endswith(".count") else 1.0


def _cell(spread: Spread, scale: float) -> str:
    mean = f"{spread.mean * scale:.4g}"
    return mean if spread.count == 1 else f"{mean} ±{spread.half * scale:.2g}"
