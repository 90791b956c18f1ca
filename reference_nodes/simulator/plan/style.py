"""How figures look: sizes of a two-column paper, readable type, colours that everybody can tell apart.

Lines differ in colour, marker and dash, so that a figure printed in grey still says what is what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_nodes.simulator.plan.schema import ScenarioError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe and Ito's (2008), the yellow replaced: it is too pale for lines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
MOST_LINES = len(COLOURS)
GREY = "#BBBBBB"
WIDTHS = {"column": 3.5, "page": 7.2}
"""Inches."""
FORMATS = ("pdf", "svg", "png")
MISSING = "figures need matplotlib: pip install 'dsdp[plots]'"

STYLE: dict[str, Any] = {
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    # Type stays type in PDF (42 is TrueType, as journals ask for), and files are the same each time.
    "pdf.fonttype": 42,
    "svg.hashsalt": "dsdp",
}


def new_figure(panels: int, width: str, height: float) -> tuple[Figure, list[Any]]:
    """A figure with that many panels, as many side by side as are readable; ``height`` in inches for each row.

    Raises ScenarioError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ScenarioError("", MISSING) from None
    columns = 1 if width == "column" else 2 if panels in (2, 4) else min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTHS[width], height * rows))
    axes = figure.subplots(rows, columns, squeeze=False)
    flat = [axis for line in axes for axis in line]
    for axis in flat[panels:]:
        axis.remove()
    return figure, flat[:panels]


def look(index: int) -> dict[str, Any]:
    """Colour, marker and dash of line number ``index``."""
    return {"color": COLOURS[index], "marker": MARKERS[index], "linestyle": DASHES[index]}


@contextmanager
def styled() -> Iterator[None]:
    """Figures that are made and written inside look like this module says. Raises ScenarioError without matplotlib."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ScenarioError("", MISSING) from None
    with rc_context(STYLE):
        yield


def few_lines(count: int) -> None:
    """Raises ScenarioError where more lines are asked for than one can tell apart."""
    if count > MOST_LINES:
        raise ScenarioError("", f"{count} lines are too many for one figure, at most {MOST_LINES}: name fewer sources")


def add_legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """Above all panels: inside one it would hide something sooner or later. Long names get a line of their own."""
    handles, names = axis.get_legend_handles_labels()
    room = int(figure.get_figwidth() * 16 / (max(map(len, names)) + 7))
    columns = max(1, min(columns, room, len(names)))
    figure.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=2.6)


def from_zero(axis: Axes) -> None:
    """The vertical axis begins at 0, and what is drawn has some air above it."""
    top = axis.dataLim.y1
    axis.set_ylim(0.0, top * 1.08 if 0.0 < top < float("inf") else 1.0)


def save(figure: Figure, stem: Path, formats: Iterable[str]) -> list[Path]:
    """Write ``stem.pdf`` and so on; returns the paths. Raises OSError."""
    written = []
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        when = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
        figure.savefig(path, format=kind, metadata=when)
        written.append(path)
    return written
