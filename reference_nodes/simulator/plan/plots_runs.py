"""Figures of runs: where drafts went, distributions of latencies, courses over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reference_nodes.simulator.plan.schema import ScenarioError
from reference_nodes.simulator.plan.style import COLOURS, GREY, add_legend, few_lines, from_zero, look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]
"""of a report"""

# ---------------------------------------------------------------- where drafts went

CAUSES = {
    "wrong": ("wrong: off the verified path", COLOURS[1], "//"),
    "orphan": ("orphan: its base was unknown", COLOURS[4], ".."),
    "late": ("late: came after its verification", COLOURS[3], "\\\\"),
    "stale": ("stale: its position had passed", COLOURS[5], "xx"),
    "duplicate": ("duplicate: another draft had it", COLOURS[0], "--"),
    "too_deep": ("too deep: too far ahead", COLOURS[7], "++"),
    "evicted": ("evicted: the tree was full", GREY, "oo"),
    "unverified": ("unverified: the answer ended", "#888888", "||"),
}
"""Label, colour and hatch of each cause (SPEC.md, registry "waste causes"): the same in every figure."""
ACCEPTED = ("accepted", COLOURS[2], "")


def waste(rows: Mapping[str, Figures], width: str = "page") -> Figure:
    """A bar for each of ``rows`` (name -> figures of a report): shares of all drafted tokens, accepted first.

    Raises ScenarioError where nothing was drafted.
    """
    parts: list[dict[str, float]] = []
    for figures in rows.values():
        speculation = figures["speculation"]
        share = speculation["acceptance_of_drafted"]
        wasted = {cause: part or 0.0 for cause, part in speculation["waste"].items()}
        parts.append({} if share is None else {"accepted": share} | wasted)
    if not any(parts):
        raise ScenarioError("", "no draft token of an answer that ended: there is no waste to draw")
    shown = [cause for cause in ("accepted", *CAUSES) if cause == "accepted" or any(part.get(cause) for part in parts)]
    legend = 0.2 * -(-len(shown) // (2 if width == "page" else 1))
    figure, (axis,) = new_figure(1, width, 0.65 + legend + 0.27 * len(rows))
    left = [0.0] * len(parts)
    for cause in shown:
        shares = [100.0 * part.get(cause, 0.0) for part in parts]
        text, colour, hatch = ACCEPTED if cause == "accepted" else CAUSES[cause]
        axis.barh(
            range(len(parts)), shares, left=left, height=0.7, label=text,
            color=colour, hatch=hatch, edgecolor="white", linewidth=0.4,
        )  # fmt: skip
        left = [start + share for start, share in zip(left, shares)]
    axis.set_yticks(range(len(parts)), list(rows))
    axis.set_ylim(len(parts) - 0.4, -0.6)
    axis.grid(False, axis="y")
    axis.set_xlim(0, max(100.0, *left))
    axis.set_xlabel("share of drafted tokens (%)")
    add_legend(figure, axis, 2)
    return figure


def mean_of(found: Sequence[Figures]) -> Figures:
    """What these figures draw, of several seeds as one: means of shares and windows, distributions pooled.

    A single report is itself.
    """
    if len(found) == 1:
        return found[0]
    known = [each["speculation"] for each in found if each["speculation"]["acceptance_of_drafted"] is not None]
    causes = dict.fromkeys(cause for each in known for cause in each["waste"])
    series = [each["series"] for each in found if each.get("series")]
    return {
        "speculation": {
            "acceptance_of_drafted": _mean([each["acceptance_of_drafted"] for each in known]),
            "waste": {cause: _mean([each["waste"].get(cause) or 0.0 for each in known]) for cause in causes},
        },
        "latency": {name: {"pooled": pooled(each["latency"][name] for each in found)} for name in LATENCIES},
        "series": _mean_series(series) if len(series) == len(found) else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_series(series: Sequence[Figures]) -> Figures | None:
    if len({each["width"] for each in series}) > 1:
        return None
    length = max(len(each["done"]) for each in series)
    names = [name for name, values in series[0].items() if isinstance(values, list)]
    means = {
        name: [_mean([each[name][i] for each in series if i < len(each[name])]) for i in range(length)]
        for name in names
    }
    return {"width": series[0]["width"]} | means


# ---------------------------------------------------------------- distributions

Curve = Sequence[tuple[float, float]]
"""(seconds, share of all values up to it), upwards"""
LATENCIES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "end-to-end latency"}
USUAL = ("ttft", "tpot", "e2e")
WIDE = 20.0
"""A distribution that spans more than this factor gets a logarithmic axis."""
LONG = 10.0
"""Seconds from which on a latency is not said in milliseconds."""


def curve_of(values: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The distribution function of weighted values, ``(seconds, weight)`` each in any order."""
    ordered = sorted(values)
    whole = sum(weight for _, weight in ordered)
    curve, below = [], 0.0
    for value, weight in ordered:
        below += weight
        curve.append((value, below / whole))
    return curve


def pooled(sketches: Iterable[Figures]) -> list[tuple[float, float]]:
    """One distribution out of the sketches of several runs, each counting as often as it has values."""
    weighted: list[tuple[float, float]] = []
    for sketch in sketches:
        # The smallest value is where the curve begins; each further percentile stands for a hundredth.
        steps = (sketch.get("quantiles") or [])[1:]
        weighted += [(value, sketch["count"] / len(steps)) for value in steps]
    return curve_of(weighted)


def curves_of(figures: Figures) -> dict[str, list[tuple[float, float]]]:
    """A report's distributions by latency."""
    return {name: sketch.get("pooled") or pooled([sketch]) for name, sketch in figures["latency"].items()}


def distributions(
    curves: Mapping[str, Mapping[str, Curve]],
    shown: Sequence[str] = USUAL,
    limits: Mapping[str, float] | None = None,
    width: str = "page",
) -> Figure:
    """Distribution functions of latencies, a panel for each of ``shown`` and a line for each of ``curves``.

    :param limits: of an SLO, seconds by latency; drawn where above 0.

    Raises ScenarioError where there are too many lines, or nothing to draw.
    """
    few_lines(len(curves))
    for name in shown:
        if name not in LATENCIES:
            raise ScenarioError("--show", f"{name} has no distribution; there are {', '.join(LATENCIES)}")
        if not any(row.get(name) for row in curves.values()):
            raise ScenarioError("--show", f"{name}: there is no value to draw")
    figure, axes = new_figure(len(shown), width, 2.2)
    for axis, name in zip(axes, shown):
        ends = [value for known in curves.values() for value, _ in known.get(name) or () if value > 0.0]
        unit, scale = ("s", 1.0) if ends and max(ends) >= LONG else ("ms", 1e3)
        for index, (row, known) in enumerate(curves.items()):
            curve = known.get(name) or []
            at = [scale * value for value, _ in curve]
            shares = [share for _, share in curve]
            axis.step(at[:1] + at, [0.0] * len(at[:1]) + shares, label=row, where="post", **_line(index))
        if ends and max(ends) / min(ends) > WIDE:
            axis.set_xscale("log")
        limit = scale * (limits or {}).get(name, 0.0)
        low, high = axis.get_xlim()
        # A limit far beyond all values would squeeze them.
        if limit and limit <= high + (high - low):
            axis.axvline(limit, color="#777777", linewidth=0.9, zorder=1)
            style = {"ha": "right", "color": "#555555", "fontsize": 7}
            axis.annotate("SLO", (limit, 0.04), xytext=(-2, 0), textcoords="offset points", **style)
        axis.set_xlabel(f"{LATENCIES[name]} ({unit})")
        axis.set_yticks([0.0, 0.25, 0.5, 0.75, 0.95], ["0", "0.25", "0.5", "0.75", "0.95"])
        axis.set_ylim(0, 1.01)
    axes[0].set_ylabel("share of blocks" if shown[0] == "itl" else "share of requests")
    if len(curves) > 1:
        add_legend(figure, axes[0])
    return figure


# ---------------------------------------------------------------- over time

COURSES = {
    "tokens_per_second": ("tokens/s", 1.0),
    "tpot": ("TPOT, mean (ms)", 1e3),
    "ttft": ("TTFT, mean (ms)", 1e3),
    "itl": ("ITL, mean (ms)", 1e3),
    "e2e": ("latency, mean (s)", 1.0),
    "arrived": ("requests that came", 1.0),
    "done": ("requests done", 1.0),
    "good": ("requests within the SLO", 1.0),
    "lost": ("lost requests", 1.0),
    "open": ("open requests", 1.0),
    "acceptance": ("acceptance (%)", 100.0),
    "nodes_per_round": ("drafts verified/round", 1.0),
    "verifier_utilisation": ("verifiers busy (%)", 100.0),
    "drafter_utilisation": ("drafters busy (%)", 100.0),
    "messages": ("messages/s", 1.0),
    "bytes": ("kB/s", 1e-3),
}
"""Label and scale of each series."""
RATES = ("messages", "bytes")
PANELS = ("tokens_per_second", "open", "ttft", "tpot")


def courses(runs: Mapping[str, Figures], shown: Sequence[str] = PANELS, width: str = "page") -> Figure:
    """Figures over time from the ``series`` of reports: a panel for each of ``shown``, a line for each of ``runs``.

    Raises ScenarioError where there are too many lines, or a report without a series.
    """
    few_lines(len(runs))
    for name, figures in runs.items():
        if not figures.get("series"):
            raise ScenarioError("", f"{name} has no figures over time; run it with --set series=1 (seconds a window)")
    for name in shown:
        if name not in COURSES:
            raise ScenarioError("--show", f"{name} is not known over time; there are {', '.join(COURSES)}")
    figure, axes = new_figure(len(shown), width, 1.6)
    end = max(len(figures["series"]["done"]) * figures["series"]["width"] for figures in runs.values())
    for axis, name in zip(axes, shown):
        text, scale = COURSES[name]
        for index, (run, figures) in enumerate(runs.items()):
            series = figures["series"]
            factor = scale / series["width"] if name in RATES else scale
            # The line goes on over windows in which nothing ended; the markers say where something did.
            known = [(number, value) for number, value in enumerate(series[name]) if value is not None]
            at = [(number + 0.5) * series["width"] for number, _ in known]
            marker = {"marker": "." if len(known) <= 100 else "", "markersize": 3.5}
            axis.plot(at, [value * factor for _, value in known], label=run, **(_line(index) | marker))
        axis.set_ylabel(text)
        axis.set_xlim(0.0, end)
        from_zero(axis)
        if axis.get_subplotspec().is_last_row():
            axis.set_xlabel("simulated time (s)")
    if len(runs) > 1:
        add_legend(figure, axes[0])
    return figure


def _line(index: int) -> dict[str, Any]:
    return look(index) | {"marker": "", "linewidth": 1.2}
