"""``dsdp sim run FILE`` and ``dsdp sim list``: the planning simulator."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from reference_nodes.cli.options import UsageError, add_command, add_json, add_settings
from reference_nodes.simulator.plan.loader import gallery, load
from reference_nodes.simulator.plan.report import text_of
from reference_nodes.simulator.plan.rows import RowWriter, write_series
from reference_nodes.simulator.plan.run import run

WINDOWS = 100
"""Over time, where the scenario does not say how wide they are."""
REDRAW = {True: 0.2, False: 10.0}
"""Seconds between two updates, by whether the stream is a terminal."""


class TimeProgress:
    """``progress(seconds simulated, seconds in all)`` on one line of stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._began = self._last = time.monotonic()
        self._shown = False

    def __call__(self, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._last < REDRAW[self._terminal]:
            return
        self._last, self._shown = now, True
        left = (now - self._began) / max(done, 1e-9) * (total - done)
        text = f"{done:.0f} of {total:.0f} simulated seconds, {left:.0f} s left"
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def end(self) -> None:
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``dsdp sim run`` that belong to scenario files."""
    parser.add_argument(
        "scenario",
        nargs="?",
        default=None,
        metavar="FILE",
        help="a scenario file, or a name from `dsdp sim list`; without one, --seed N runs a scenario of the swarm",
    )
    add_settings(parser, "the file")
    parser.add_argument("--duration", type=float, default=None, metavar="SECONDS", help="in place of the file's")
    parser.add_argument(
        "--rows", type=Path, default=None, metavar="FILE", help="write each request as a line of CSV, or of .parquet"
    )
    parser.add_argument(
        "--over-time",
        type=Path,
        default=None,
        metavar="FILE",
        help="write each window of time as a line of CSV; its width is the scenario's `series`, or a hundredth of the "
        "run",
    )


def add_list(kinds: Any) -> None:
    listing = add_command(
        kinds,
        "list",
        _list,
        "the ready scenarios",
        "List the scenarios that come with this installation, for `dsdp sim run NAME`.",
        "dsdp sim list\ndsdp sim run edge-cloud --set link.rtt=0.08",
    )
    add_json(listing)


def add_keys(kinds: Any) -> None:
    keys = add_command(
        kinds,
        "keys",
        _keys,
        "every key of a scenario file",
        "Say what a scenario file may hold: tables, keys, units, limits and defaults, out of the schema itself.",
        "dsdp sim keys\ndsdp sim keys window\ndsdp sim keys fault --json",
    )
    keys.add_argument("table", nargs="?", default="", metavar="TABLE", help="only those of one table, as window")
    keys.add_argument("--markdown", action="store_true", help="as in the guide")
    add_json(keys)


def _keys(args: argparse.Namespace) -> int:
    from reference_nodes.simulator.plan import keys

    if args.markdown and (args.table or args.json):
        raise UsageError("--markdown prints everything: leave TABLE and --json out")
    if args.markdown:
        print(keys.markdown(), end="")
        return 0
    text = keys.text(args.table)
    if args.json:
        chosen = [asdict(section) for section in keys.sections() if args.table in section.title]
        print(json.dumps({"tables": chosen}))
    else:
        print(text)
    return 0


def run_scenario(args: argparse.Namespace) -> int:
    """``dsdp sim run FILE``."""
    for name, path in (("rows", args.rows), ("over-time", args.over_time)):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"--{name} {path}: there is no directory {path.absolute().parent}")
    settings = list(args.settings)
    if args.duration is not None:
        settings.append(f"duration={args.duration}")
    scenario = load(args.scenario, settings)
    if args.seed is not None:
        scenario = replace(scenario, seed=args.seed)
    if args.over_time is not None and not scenario.series:
        scenario = replace(scenario, series=(scenario.duration + scenario.drain) / WINDOWS)
    progress = TimeProgress(sys.stderr)
    with RowWriter(args.rows) as rows:
        report = run(scenario, on_row=rows.write if args.rows else None, progress=progress)
    progress.end()
    if args.over_time is not None:
        write_series(args.over_time, report["series"])
    print(json.dumps(report.as_json()) if args.json else text_of(report))
    return 0


def _list(args: argparse.Namespace) -> int:
    found = {name: load(path).about for name, path in gallery().items()}
    if args.json:
        print(json.dumps({"scenarios": [{"name": name, "about": about} for name, about in found.items()]}))
    else:
        width = max(map(len, found))
        print("\n".join(f"{name:<{width}}  {about}" for name, about in found.items()))
    return 0
