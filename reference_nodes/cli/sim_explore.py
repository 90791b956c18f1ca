"""``dsdp sim explore``: every interleaving of a small case of the `quorum` profile."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from typing import Any

from reference_nodes.cli.options import add_command, add_json, count
from reference_nodes.simulator.explore import explore
from reference_nodes.simulator.explore_report import Bounds, Progress, Report

HELP = {
    "blocks": "blocks of one token each; the last one ends the stream",
    "views": "views that may be taken up, 0 being the first",
    "faults": "crashes, broken links and time-outs, all together",
    "crashes": "crashes, each followed by a restart or not",
    "drops": "links that break, each to come up again or not",
    "timeouts": "times that a leader's patience ends",
    "opens": "times that a client opens the session",
}


def add(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "explore",
        _explore,
        "every order of events of three nodes, two blocks, two views",
        "Visit every state that three nodes can reach from the founding of one session, within bounds: every message, "
        "disk write, timer, crash and broken link in every order. Prints the number of states; a violation is printed "
        "with a shortest way to it. Exit code 1 for a violation. Takes minutes, and some 200 bytes of memory a state.",
        "dsdp sim explore\ndsdp sim explore --faults 0\ndsdp sim explore --faults 2 --blocks 1 --json",
    )
    for bound in fields(Bounds):
        name = f"--{bound.name.replace('_', '-')}"
        if bound.name in HELP:
            text = f"{HELP[bound.name]} (default: %(default)s)"
            parser.add_argument(name, type=count(0), default=bound.default, metavar="N", help=text)
    parser.add_argument("--verify-apart", action="store_true", help="a verdict is a step of its own")
    parser.add_argument(
        "--notice-apart", action="store_true", help="the ends of a broken link notice it one after the other"
    )
    parser.add_argument("--max-states", type=count(1), default=None, metavar="N", help="stop there, breadth first")
    add_json(parser)


def _explore(args: argparse.Namespace) -> int:
    bounds = Bounds(**{bound.name: getattr(args, bound.name) for bound in fields(Bounds)})
    with Progress(sys.stderr) as progress:
        report = explore(bounds, max_states=args.max_states, progress=progress)
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        print(_summary(report))
    return 1 if report.violations else 0


def _summary(report: Report) -> str:
    extent = "all within the bounds" if report.finished else "not all within the bounds"
    lines = [
        f"{report.states:,} states ({extent}), {report.transitions:,} transitions, up to {report.depth} steps deep, "
        f"{report.seconds:.0f} s",
        f"{report.ends:,} states in which nothing can happen any more; in {report.complete:,} the stream is complete",
        f"{len(report.violations)} violations",
    ]
    for violation in report.violations:
        lines += ["", f"{violation.check}: {violation.text}", violation.chart.rstrip()]
    return "\n".join(lines)
