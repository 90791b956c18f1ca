"""A figure of a report over a swept parameter, and the names of a sweep's points.

Functions of this module and of :mod:`.plots_runs` return a matplotlib figure; :func:`.style.save` writes it. Call them
inside :func:`.style.styled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reference_nodes.simulator.plan.results import Point, Results, label, scale_of
from reference_nodes.simulator.plan.schema import ScenarioError
from reference_nodes.simulator.plan.style import COLOURS, MOST_LINES, add_legend, from_zero, look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("throughput.tokens_per_second", "latency.tpot.mean")
WIDE = 20.0
"""A swept parameter whose values span more than this factor gets a logarithmic axis."""
UNITS = {
    "rtt": "s", "jitter": "s", "bandwidth": "bit/s", "rate": "requests/s", "think": "s", "base": "s", "duration": "s"
}  # fmt: skip


# ---------------------------------------------------------------- sweeps


def over(results: Results, shown: Sequence[str] = SHOWN, x: str | None = None, width: str = "page") -> Figure:
    """Each of ``shown`` over the parameter ``x``, a line for each combination of the other axes.

    Bands are the mean's 95 % confidence interval over seeds. Without ``x`` the axis with the most numbers is taken.

    Raises ScenarioError where there is nothing to draw, or too many lines.
    """
    key = x or _main_axis(results)
    keys = [axis.key for axis in results.axes]
    if key not in keys:
        raise ScenarioError("--x", f"{key} was not swept; there are {', '.join(keys) or 'no axes'}")
    lines: dict[tuple[str, ...], list[Point]] = {}
    for point in results.points:
        lines.setdefault(tuple(point.at[other] for other in keys if other != key), []).append(point)
    if len(lines) > MOST_LINES:
        text = f"{len(lines)} lines are too many, at most {MOST_LINES}; put the axis with the most values on --x"
        raise ScenarioError("--x", text)
    others = [other for other in keys if other != key]
    places, names = _places([point.at[key] for point in next(iter(lines.values()))])
    figure, axes = new_figure(len(shown), width, 2.3)
    for axis, path in zip(axes, shown):
        drawn = 0
        for index, (values, points) in enumerate(lines.items()):
            spreads = [(place, results.spread(point, path)) for place, point in zip(places, points)]
            known = [(place, spread) for place, spread in spreads if spread is not None]
            drawn += len(known)
            scale = scale_of(path)
            # Names have no order and nothing between them: points side by side in place of a line.
            aside = 0.0 if names is None else (index - (len(lines) - 1) / 2.0) * min(0.1, 0.6 / len(lines))
            at = [place + aside for place, _ in known]
            means = [spread.mean * scale for _, spread in known]
            halves = [spread.half * scale for _, spread in known]
            several = any(spread.count > 1 for _, spread in known)
            style = look(index) | {"label": point_name(others, values)}
            if names is None:
                axis.plot(at, means, **style)
                if several:
                    low, high = ([mean + sign * half for mean, half in zip(means, halves)] for sign in (-1, 1))
                    axis.fill_between(at, low, high, color=COLOURS[index], alpha=0.18, linewidth=0)
            else:
                axis.errorbar(at, means, halves if several else None, **(style | {"linestyle": ""}), capsize=2.5)
        if not drawn:
            raise ScenarioError("--show", f"{path}: no run has this figure")
        axis.set_ylabel(label(path))
        from_zero(axis)
        axis.set_xlabel(key_name(key))
        if names is not None:
            axis.set_xticks(places, [name.replace(", ", ",\n") for name in names])
            axis.set_xlim(-0.5, len(names) - 0.5)
            axis.grid(False, axis="x")
        elif min(places) > 0 and max(places) / min(places) > WIDE:
            axis.set_xscale("log")
    if len(lines) > 1:
        add_legend(figure, axes[0])
    return figure


def _main_axis(results: Results) -> str:
    if not results.axes:
        raise ScenarioError("", "nothing was swept over: there is no axis to draw along")
    numeric = [axis for axis in results.axes if _places(list(axis.values))[1] is None]
    return max(numeric or results.axes, key=lambda axis: len(axis.values)).key


def _places(values: list[str]) -> tuple[list[float], list[str] | None]:
    """Where the values stand, and their names where they are no numbers."""
    try:
        return [float(value) for value in values], None
    except ValueError:
        return [float(index) for index in range(len(values))], [short(value) for value in values]


def short(value: str) -> str:
    """A value in few letters: ``{kind="static", size=4}`` is ``static, size=4``."""
    text = value.strip("{}").replace('"', "").replace("'", "").strip()
    parts = [part.strip().replace(" = ", "=") for part in text.split(",")]
    return ", ".join(part.removeprefix("kind=") for part in parts)


def key_name(key: str) -> str:
    """A swept key with its unit."""
    unit = UNITS.get(key.rpartition(".")[2])
    return f"{key} ({unit})" if unit else key


def point_name(keys: Sequence[str], values: Sequence[str]) -> str:
    """What a line or bar is called: its value of each of ``keys``."""
    pairs = [
        short(value) if value.lstrip().startswith("{") else f"{key.rpartition('.')[2]} {short(value)}"
        for key, value in zip(keys, values)
    ]
    return ", ".join(pairs)
