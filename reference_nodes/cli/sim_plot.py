"""``dsdp sim plot``: figures of sweeps and runs, as one would put them into a paper."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_nodes.cli.options import UsageError, add_command, add_json, add_settings, count
from reference_nodes.cli.output import say
from reference_nodes.cli.sim_plan import TimeProgress
from reference_nodes.simulator.plan.schema import ScenarioError

if TYPE_CHECKING:
    from reference_nodes.simulator.plan.sources import Source

KINDS = {
    "over": "a figure of the report over a swept parameter",
    "latency": "distributions of latencies",
    "waste": "what became of draft tokens",
    "course": "throughput, load and latencies over time",
}
WINDOWS = 60
"""Over time, where a scenario that is run for its figures does not say how wide they are."""


def add(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "plot",
        _plot,
        "figures for a paper, out of a sweep, runs, or a scenario",
        "Draw what `dsdp sim sweep --out X.json`, `dsdp sim run --json` or `dsdp sim run --rows` wrote, or run a "
        "scenario and draw that. Several runs are drawn beside each other. Bands are 95 % confidence intervals of the "
        "mean over seeds. Needs matplotlib: pip install 'dsdp[plots]'.",
        "dsdp sim plot rtt.json --out figures/rtt\n"
        "dsdp sim plot rtt.json --figure over --x link.rtt --show latency.tpot.p95 --out tpot.pdf\n"
        "dsdp sim plot flaky-home --figure course --show tokens_per_second,ttft --format svg\n"
        "dsdp sim plot rtt.json --where link.rtt=0.08 --figure latency\n"
        "dsdp sim plot before.json after.json --figure latency --show ttft,itl --width column",
    )
    parser.add_argument(
        "sources", nargs="+", metavar="FILE", help="results (.json, .csv, .parquet), or a scenario: a file, or a name"
    )
    what = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    parser.add_argument("--figure", choices=tuple(KINDS), default=None, help=f"{what} (default: all that can be drawn)")
    parser.add_argument("--x", default=None, metavar="KEY", help="of over: along which key of the sweep")
    parser.add_argument(
        "--show",
        default="",
        metavar="NAMES",
        help="what to draw, a panel each, with commas between them; over: figures by their path in the report "
        "(latency.tpot.p95), latency: ttft, tpot, itl, e2e, course: names of the report's series",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only the points of a sweep at which a swept key has this value; may be repeated",
    )
    parser.add_argument(
        "--out", "-o", type=Path, default=None, metavar="NAME", help="NAME.pdf and so on (default: after the source)"
    )
    parser.add_argument(
        "--format", type=formats, default=None, metavar="KINDS", help="of pdf, svg, png, with commas (default: pdf,png)"
    )
    parser.add_argument("--width", choices=("page", "column"), default="page", help="of the figure (default: page)")
    add_settings(parser, "a scenario that is run now")
    parser.add_argument("--duration", type=float, default=None, metavar="SECONDS", help="of such a scenario")
    parser.add_argument("--seed", type=count(0), default=None, metavar="N", help="of such a scenario")
    add_json(parser, "print the names of the files as JSON")


def formats(text: str) -> tuple[str, ...]:
    """An argparse type."""
    from reference_nodes.simulator.plan.style import FORMATS

    kinds = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    if not kinds or not set(kinds) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {', '.join(FORMATS)}, with commas between them")
    return kinds


def _plot(args: argparse.Namespace) -> int:
    from reference_nodes.simulator.plan.sources import joined
    from reference_nodes.simulator.plan.style import save, styled

    stem, kinds = _target(args)
    if args.show and args.figure is None:
        raise UsageError("--show belongs to one figure: name it, as --figure over")
    if args.x is not None and args.figure not in (None, "over"):
        raise UsageError(f"--x belongs to --figure over, not to {args.figure}")
    written: list[Path] = []
    with styled():
        source = joined([(name, _source(args, name)) for name in args.sources])
        makers = _makers(args, source)
        if args.figure is not None and args.figure not in makers:
            raise ScenarioError("", f"no figure {args.figure!r} in {', '.join(args.sources)}: {_why_not(args.figure)}")
        wanted = [args.figure] if args.figure else list(makers)
        for name in wanted:
            try:
                figure = makers[name]()
            except ScenarioError as error:
                if args.figure is not None or len(wanted) == 1:
                    raise
                say(f"no figure {name!r}: {error}")
                continue
            written += save(figure, stem if len(wanted) == 1 else stem.with_name(f"{stem.name}-{name}"), kinds)
    if args.json:
        print(json.dumps({"files": [str(path) for path in written]}))
    else:
        print("\n".join(map(str, written)) or "nothing to draw")
    return 0 if written else 1


def _target(args: argparse.Namespace) -> tuple[Path, tuple[str, ...]]:
    """(path without the ending, formats)."""
    from reference_nodes.simulator.plan.style import FORMATS

    stem = args.out or Path(Path(args.sources[0]).stem)
    kinds = args.format
    ending = stem.suffix[1:].lower()
    if ending in FORMATS:
        if kinds is not None and kinds != (ending,):
            raise UsageError(f"--out {args.out} says {ending}, and --format {','.join(kinds)}: give one of them")
        stem, kinds = stem.with_suffix(""), (ending,)
    if not stem.absolute().parent.is_dir():
        raise UsageError(f"--out {args.out}: there is no directory {stem.absolute().parent}")
    return stem, kinds or ("pdf", "png")


def _source(args: argparse.Namespace, name: str) -> Source:
    from reference_nodes.simulator.plan.loader import load
    from reference_nodes.simulator.plan.run import run
    from reference_nodes.simulator.plan.sources import of_report, read_source

    path = Path(name)
    if path.suffix in (".json", ".csv", ".parquet"):
        if args.settings or args.seed is not None or args.duration is not None:
            raise UsageError(f"--set, --seed and --duration are for scenarios that are run now; {name} holds results")
        return read_source(path, args.where)
    if args.where:
        raise UsageError(f"--where picks points of a sweep, and {name} is a scenario")
    settings = list(args.settings)
    if args.duration is not None:
        settings.append(f"duration={args.duration}")
    scenario = load(name, settings)
    if not scenario.series:
        scenario = replace(scenario, series=(scenario.duration + scenario.drain) / WINDOWS)
    progress = TimeProgress(sys.stderr)
    report = run(scenario, seed=args.seed, progress=progress)
    progress.end()
    return of_report(report)


def _makers(args: argparse.Namespace, source: Source) -> dict[str, Callable[[], Any]]:
    """What can be drawn of a source, by name."""
    from reference_nodes.simulator.plan import plots, plots_runs

    shown = tuple(part.strip() for part in args.show.split(",") if part.strip())
    makers: dict[str, Callable[[], Any]] = {}
    results = source.results
    if results is not None:
        makers["over"] = lambda: plots.over(results, shown or plots.SHOWN, args.x, args.width)
    if source.curves:
        usual = plots_runs.USUAL
        makers["latency"] = lambda: plots_runs.distributions(source.curves, shown or usual, source.limits, args.width)
    if source.runs:
        makers["waste"] = lambda: plots_runs.waste(source.runs, args.width)
    if args.figure == "course" or any(figures.get("series") for figures in source.runs.values()):
        makers["course"] = lambda: plots_runs.courses(source.runs, shown or plots_runs.PANELS, args.width)
    return makers


def _why_not(figure: str) -> str:
    if figure == "over":
        return "it needs a sweep over at least one key (`dsdp sim sweep FILE --over KEY=VALUES --out X.json`)"
    return "rows of requests have latencies only; give the report (`dsdp sim run FILE --json`)"
