"""``dsdp sim sweep FILE --over key=values``: a scenario at every point of a grid."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from reference_nodes.cli.options import UsageError, add_command, add_json, add_settings, count
from reference_nodes.simulator.progress import EVERY, duration


class RunsProgress:
    """``progress(runs done, runs in all, of them out of the cache)`` on one line of stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._began = self._last = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int, cached: int) -> None:
        now = time.monotonic()
        if now - self._last < EVERY[self._terminal]:
            return
        self._last, self._shown = now, True
        fresh = done - cached
        left = f", {duration((now - self._began) / fresh * (total - done))} left" if fresh else ""
        text = f"{done} of {total} runs{f', {cached} of them known' if cached else ''}{left}"
        if self._terminal:
            bar = "#" * (30 * done // total)
            text = f"\r\x1b[K[{bar:<30}] {text}"
        self._stream.write(text if self._terminal else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def add(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "sweep",
        _sweep,
        "a scenario file at every point of a grid, with several seeds",
        "Run a scenario with every combination of the values given, each with several seeds if asked for. All points "
        "meet the same seeds. What was run before, with this very program, is not run again.",
        "dsdp sim sweep edge-cloud --over link.rtt=0.01,0.03,0.08 --repeat 3 --out rtt.json\n"
        "dsdp sim sweep lan-laptops --set window.kind=static --over window.size=0:8 --out windows.csv\n"
        'dsdp sim sweep my.toml --over \'window={kind="static", size=4},{kind="adaptive"}\' --repeat 5',
    )
    parser.add_argument("scenario", metavar="FILE", help="a scenario file, or a name from `dsdp sim list`")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="values separated by commas, or first:last or first:last:step (the last included); may be repeated",
    )
    add_settings(parser, "the file at every point")
    parser.add_argument("--duration", type=float, default=None, metavar="SECONDS", help="in place of the file's")
    parser.add_argument("--seed", type=count(0), default=None, metavar="N", help="the first one (default: the file's)")
    parser.add_argument("--repeat", type=count(1), default=1, metavar="N", help="seeds at each point (default: 1)")
    parser.add_argument(
        "--jobs",
        type=count(1, 1025),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each core)",
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="FILE", help="write all figures: .csv, or .json for `dsdp sim plot`"
    )
    parser.add_argument(
        "--show",
        action="append",
        default=[],
        metavar="FIGURE",
        help="a column of the table, by its path in the report, for example latency.tpot.p95; may be repeated",
    )
    parser.add_argument("--no-cache", action="store_true", help="run everything anew, and keep nothing")
    add_json(parser, "print everything as one JSON object instead of a table")


def _sweep(args: argparse.Namespace) -> int:
    from reference_nodes.simulator.plan.axes import axis_of
    from reference_nodes.simulator.plan.cache import Cache, directory
    from reference_nodes.simulator.plan.results import SHOWN, table
    from reference_nodes.simulator.plan.sweep import sweep

    if not args.over and args.repeat == 1:
        raise UsageError("nothing to sweep over: give --over key=values, or --repeat N for several seeds")
    if args.out is not None and args.out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {args.out}: the name ends in .csv or .json")
    if args.out is not None and not args.out.absolute().parent.is_dir():
        raise UsageError(f"--out {args.out}: there is no directory {args.out.absolute().parent}")
    settings = list(args.settings)
    if args.duration is not None:
        settings.append(f"duration={args.duration}")
    progress = RunsProgress(sys.stderr)
    try:
        results = sweep(
            args.scenario,
            [axis_of(text) for text in args.over],
            settings,
            seed=args.seed,
            repeat=args.repeat,
            jobs=args.jobs,
            cache=Cache(None if args.no_cache else directory()),
            progress=progress,
        )
    finally:
        progress.end()
    if args.out is not None:
        results.write(args.out)
    print(json.dumps(results.as_json()) if args.json else table(results, args.show or SHOWN))
    return 0
