"""What figures are drawn from: results of sweeps, reports of runs, rows of requests, or a scenario that is run now."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reference_nodes.simulator.plan.plots import point_name, short
from reference_nodes.simulator.plan.plots_runs import LATENCIES, curve_of, curves_of, mean_of
from reference_nodes.simulator.plan.report import Report
from reference_nodes.simulator.plan.results import Point, Results
from reference_nodes.simulator.plan.schema import ScenarioError

Curves = dict[str, list[tuple[float, float]]]


@dataclass(slots=True)
class Source:
    """What can be drawn, by the name that its line or bar gets."""

    results: Results | None = None
    """of a sweep over at least one key"""
    runs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """figures of reports"""
    curves: dict[str, Curves] = field(default_factory=dict)
    """distributions by latency, of runs and of rows"""
    limits: dict[str, float] = field(default_factory=dict)
    """the SLO that all of them share, seconds by latency"""


def read_source(path: Path, where: Sequence[str] = ()) -> Source:
    """A file that ``dsdp sim sweep --out``, ``dsdp sim run --json`` or ``dsdp sim run --rows`` wrote.

    :param where: ``key=value`` each: the points of a sweep that are meant.

    Raises ScenarioError for any other file, and for a ``where`` that names no point.
    """
    if path.suffix in (".csv", ".parquet"):
        return Source(curves={path.stem: _rows(path)})
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError("", f"cannot be read: {error.strerror or error}", str(path)) from None
    except ValueError as error:
        raise ScenarioError("", f"is no JSON: {error}", str(path)) from None
    if isinstance(body, dict) and "latency" in body and "speculation" in body:
        return _run(path.stem, body, body.get("settings", {}).get("slo", {}), str(path))
    try:
        return of_results(only(Results.from_json(body, str(path)), where))
    except ScenarioError as error:
        if isinstance(body, dict) and "format" in body:
            raise
        text = "is neither a report (`dsdp sim run FILE --json`) nor a sweep (`dsdp sim sweep FILE --out X.json`)"
        raise ScenarioError("", text, error.file) from None


def only(results: Results, where: Sequence[str]) -> Results:
    """The points of a sweep at which keys have given values, ``key=value`` each; an axis with one value left is gone.

    Raises ScenarioError where there is no such key or value.
    """
    for each in where:
        key, _, value = (part.strip() for part in each.partition("="))
        axis = next((axis for axis in results.axes if axis.key == key), None)
        if axis is None:
            known = ", ".join(axis.key for axis in results.axes) or "nothing"
            raise ScenarioError("--where", f"{each}: swept was {known}")
        found = [known for known in axis.values if value in (known, short(known)) or _equal(value, known)]
        if not found:
            text = f"{each}: {key} took {', '.join(map(short, axis.values))}"
            raise ScenarioError("--where", text)
        points = tuple(
            Point({name: at for name, at in point.at.items() if name != key}, point.runs)
            for point in results.points
            if point.at[key] == found[0]
        )
        axes = tuple(other for other in results.axes if other is not axis)
        results = replace(results, axes=axes, points=points, settings=(*results.settings, f"{key}={found[0]}"))
    return results


def _equal(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def of_results(results: Results) -> Source:
    """The points of a sweep, each with its seeds taken together."""
    keys = [axis.key for axis in results.axes]
    runs = {
        point_name(keys, [point.at[key] for key in keys]) or results.scenario: mean_of(
            [run.figures for run in point.runs]
        )
        for point in results.points
    }
    return Source(results if keys else None, runs, {name: curves_of(figures) for name, figures in runs.items()})


def of_report(report: Report) -> Source:
    """A run of this moment."""
    slo = report.scenario.slo
    return _run(report.scenario.name, report.figures, {"ttft": slo.ttft, "tpot": slo.tpot}, "")


def joined(sources: Iterable[tuple[str, Source]]) -> Source:
    """Several (name of the file, source) as one. What has the same name in two gets the file's before it.

    Raises ScenarioError for a sweep beside anything else: its axes are its own.
    """
    listed = list(sources)
    if len(listed) == 1:
        return listed[0][1]
    whole = Source(limits=listed[0][1].limits)
    names = [name for _, source in listed for name in source.curves]
    for file, source in listed:
        if source.results is not None:
            raise ScenarioError("", "the figures of a sweep are drawn by themselves: name one file", file)
        for name, curves in source.curves.items():
            unique = name
            if names.count(name) > 1:
                unique = Path(file).name if name == Path(file).stem else f"{Path(file).stem}: {name}"
            if unique in whole.curves:
                raise ScenarioError("", f"two sources are called {unique}; give one of the files another name", file)
            whole.curves[unique] = curves
            if name in source.runs:
                whole.runs[unique] = source.runs[name]
        if source.limits != whole.limits:
            whole.limits = {}
    return whole


def _run(name: str, figures: Mapping[str, Any], slo: Mapping[str, float], file: str) -> Source:
    if any("quantiles" not in sketch for sketch in figures["latency"].values()):
        raise ScenarioError("latency", "has no quantiles; it is of an earlier version: run it again", file)
    runs = {name: figures}
    without = figures.get("faults", {}).get("without")
    if without is not None:
        runs = {"with faults": figures, "without": without}
    return Source(None, runs, {each: curves_of(given) for each, given in runs.items()}, dict(slo))


def _rows(path: Path) -> Curves:
    columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    out: Curves = {}
    for name in LATENCIES.keys() & columns.keys():
        pairs = zip(columns["status"], columns[name])
        values = [value for status, value in pairs if status == "done" and value not in ("", None)]
        try:
            out[name] = curve_of((float(value), 1.0) for value in values)
        except ValueError as error:
            raise ScenarioError(name, str(error), str(path)) from None
    return out


def _csv(path: Path) -> dict[str, Sequence[Any]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file)) or [[]]
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError("", f"cannot be read: {error}", str(path)) from None
    if not {"status", "ttft", "tpot", "e2e"} <= set(head):
        text = "has no columns status, ttft, tpot and e2e; write it with `dsdp sim run FILE --rows X.csv`"
        raise ScenarioError("", text, str(path))
    short = [number for number, line in enumerate(lines, start=2) if len(line) != len(head)]
    if short:
        raise ScenarioError(f"line {short[0]}", f"has not {len(head)} columns", str(path))
    return dict(zip(head, zip(*lines))) if lines else dict.fromkeys(head, ())


def _parquet(path: Path) -> dict[str, Sequence[Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise ScenarioError("", "Parquet needs pyarrow: pip install 'dsdp[parquet]'", str(path)) from None
    try:
        return read_table(path, columns=["status", "ttft", "tpot", "e2e"]).to_pydict()
    except (OSError, ArrowException) as error:
        raise ScenarioError("", f"cannot be read: {error}", str(path)) from None
