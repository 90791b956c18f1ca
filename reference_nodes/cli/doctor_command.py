"""``dsdp doctor``: says why no peer is visible."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from reference_nodes.cli.options import add_command, add_json, add_node, address, home_of
from reference_nodes.cli.output import Painter, say
from reference_nodes.cli.runner import run_trio

MARKS = {
    "ok": ("ok", "\x1b[32m"),
    "info": ("--", "\x1b[2m"),
    "warning": ("??", "\x1b[33m"),
    "error": ("!!", "\x1b[31m"),
}


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "doctor",
        run,
        "say why no peer is visible",
        "Try each step from this machine's identity and interfaces to a peer's answer, and say for each what was found "
        "and what to do. "
        "Changes nothing. Exit code 1 if something is wrong.",
        "dsdp doctor\ndsdp doctor --interface eth0\ndsdp doctor --peer 192.168.1.5:7171",
    )
    add_node(parser)
    parser.add_argument(
        "--peer", action="append", default=[], type=address, metavar="HOST:PORT", help="a node that should be reachable"
    )
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="IF",
        help="interface to look at (default: those a node would use)",
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="how long to listen (default: %(default)s)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    return run_trio(_diagnose, args)


async def _diagnose(args: argparse.Namespace) -> int:
    from reference_nodes.diagnose import Severity, diagnose
    from reference_nodes.node import parse_address

    if not args.json:
        say(f"listening for about {2 * args.seconds:g} s ...")
    findings = await diagnose(
        home_of(args),
        args.name,
        interfaces=args.interface,
        peers=[parse_address(peer) for peer in args.peer],
        seconds=args.seconds,
    )
    wrong = sum(finding.severity is Severity.ERROR for finding in findings)
    if args.json:
        print(json.dumps({"findings": [dataclasses.asdict(finding) for finding in findings], "errors": wrong}))
        return 1 if wrong else 0
    painter = Painter()
    for finding in findings:
        mark, colour = MARKS[finding.severity.value]
        print(f"{painter.paint(mark, colour)}  {finding.text}")
        if finding.advice:
            print(f"    {finding.advice}")
    return 1 if wrong else 0
