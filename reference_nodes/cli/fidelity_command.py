"""``dsdp bench fidelity``: predicted runs beside real ones."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from reference_nodes.cli.options import UsageError, add_command, add_json, count, read_prompts
from reference_nodes.cli.prompts import USUAL
from reference_nodes.cli.runner import run_trio

RTT = (0.0, 10.0, 40.0, 80.0)
SESSIONS = (1, 4)


def add(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "fidelity",
        run,
        "does the planning simulator say what the nodes then do?",
        "Run a target and a drafter as processes on this machine, on loopback and with delay added between them, with "
        "one session and with four; predict the same runs with `dsdp sim`'s machinery from profiles, a record of "
        "acceptance and a PING; report both and the error of each figure. Profiles and live runs take turns, and each "
        "repeat has nodes of its own. It takes some twelve minutes, --quick two.",
        "dsdp bench fidelity\ndsdp bench fidelity --quick --json\n"
        "dsdp bench fidelity --rtt 0,20 --sessions 1,2 --prompts questions.jsonl --max-prompts 8 --keep results",
    )
    parser.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
    parser.add_argument("--draft-model", default="smollm2-draft", metavar="MODEL", help="(default: %(default)s)")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.jsonl", help='one {"prompt": "..."} a line (default: eight of our own)'
    )
    parser.add_argument("--max-prompts", type=count(0), default=0, metavar="N", help="0: all (default)")
    parser.add_argument("--max-tokens", "-n", type=count(2), default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--temperature", "-t", type=float, default=0.0, metavar="T", help="0 is greedy (default)")
    parser.add_argument("--seed", type=count(0), default=1, metavar="S", help="of the noise, where T is above 0")
    parser.add_argument(
        "--rtt", type=delays, default=RTT, metavar="MS,MS,...", help="delays to add (default: 0,10,40,80)"
    )
    parser.add_argument(
        "--sessions", type=several, default=SESSIONS, metavar="N,N,...", help="sessions at once (default: 1,4)"
    )
    parser.add_argument("--repeat", type=count(1), default=5, metavar="N", help="runs of each cell (default: 5)")
    parser.add_argument(
        "--profile-every", type=count(1), default=2, metavar="N", help="cells between two profiling rounds (default: 2)"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--keep", type=Path, metavar="DIR", help="leave profiles, record and live runs there")
    where.add_argument("--again", type=Path, metavar="DIR", help="measure nothing: predict anew from what --keep left")
    parser.add_argument("--quick", action="store_true", help="four prompts of 32 tokens, each cell twice")
    add_json(parser)


def delays(text: str) -> tuple[float, ...]:
    """An argparse type: milliseconds with commas between them."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0.0 <= value <= 10_000.0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: give milliseconds from 0 to 10000, as 0,10,40")
    return values


def several(text: str) -> tuple[int, ...]:
    """An argparse type: numbers of sessions."""
    parse = count(1, 65)
    return tuple(parse(part) for part in text.split(","))


def run(args: argparse.Namespace) -> int:
    from reference_nodes.bench.fidelity import bench_fidelity, fidelity_text
    from reference_nodes.cli.demo_command import ensure_model, log_directory

    prompts = read_prompts(args.prompts, args.max_prompts) if args.prompts else list(USUAL)
    if args.max_prompts:
        prompts = prompts[: args.max_prompts]
    if args.quick:
        prompts, args.max_tokens, args.repeat = prompts[:4], min(args.max_tokens, 32), min(args.repeat, 2)
    if args.keep is not None and not args.keep.is_dir():
        raise UsageError(f"--keep {args.keep}: there is no such directory")
    most = max(args.sessions)
    if args.again is None and len(prompts) < most:
        raise UsageError(f"{len(prompts)} prompts are not enough for {most} sessions at once: one each at least")
    if args.again is None:
        ensure_model(args.model)
    with log_directory(None) as logs:
        report = run_trio(bench_fidelity, args, prompts, logs)
    print(json.dumps(report) if args.json else fidelity_text(report))
    return 0
