"""``dsdp sim``: the simulators. Scenario files to plan with; swarms of seeds, charts, planted bugs, a small case."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from typing import Any

from reference_nodes.cli import sim_explore, sim_paper, sim_plan, sim_plot, sim_sweep
from reference_nodes.cli.options import UsageError, add_command, add_json, count
from reference_nodes.simulator.examples import EXAMPLES, example_chart, page
from reference_nodes.simulator.mutants import MUTANTS, planted
from reference_nodes.simulator.progress import SwarmProgress
from reference_nodes.simulator.report import explain, mutant_table
from reference_nodes.simulator.runner import run
from reference_nodes.simulator.scenario import draw
from reference_nodes.simulator.shrink import shrink
from reference_nodes.simulator.swarm import Swarm, sweep

SHOWN = 3
"""Violations that are explained with a chart."""
LINES = 60
MUTANT_SEEDS = 10_000


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "sim",
        None,
        "the simulators: plan a deployment, or look for faults in the protocol",
        "Runs the protocol's own state machines on a virtual clock. With a scenario file they plan: how fast will "
        "these devices, links and policies be? With a seed they are put on a network where everything goes wrong.",
        "dsdp sim list\ndsdp sim run edge-cloud --set link.rtt=0.08\ndsdp sim swarm --seeds 1-100000 --jobs 2\n"
        "dsdp sim run --seed 7 --chart\ndsdp sim chart leader-crash\ndsdp sim mutants",
    )
    kinds = parser.add_subparsers(dest="sim", metavar="WHAT", required=True)
    _add_swarm(kinds)
    _add_run(kinds)
    sim_plan.add_list(kinds)
    sim_plan.add_keys(kinds)
    sim_sweep.add(kinds)
    sim_plot.add(kinds)
    sim_paper.add(kinds)
    charts = add_command(
        kinds,
        "chart",
        _chart,
        "one of the charts of the specification",
        "Print the sequence chart of a normal case, of the crash of a leader or of a partition.",
        "dsdp sim chart normal\ndsdp sim chart partition",
    )
    charts.add_argument("example", choices=(*EXAMPLES, "all"), help="all: a page with all of them, in Markdown")
    mutants = add_command(
        kinds,
        "mutants",
        _mutants,
        "planted bugs: which check catches which, after how many seeds",
        "Take one rule after the other out of the commit machines and run the swarm until a check notices. Exit code 1 "
        "if a bug goes unnoticed.",
        "dsdp sim mutants\ndsdp sim mutants --only minority-commits,block-is-not-stored --json",
    )
    mutants.add_argument(
        "--seeds", type=count(1), default=MUTANT_SEEDS, metavar="N", help="seeds 1 to N (default: %(default)s)"
    )
    mutants.add_argument("--only", default="", metavar="NAMES", help="these, with commas between them")
    _add_jobs(mutants)
    add_json(mutants)
    sim_explore.add(kinds)


def _add_swarm(kinds: Any) -> None:
    swarm = add_command(
        kinds,
        "swarm",
        _swarm,
        "many seeds, each a cluster in trouble",
        "Run many scenarios. In phase 1 everything may go wrong and no rule of safety may break; in phase 2 a majority "
        "is well and the stream must come to its end. Progress is on stderr. A violation is printed with its seed and "
        "a sequence chart. Exit code 1 if there is any.",
        "dsdp sim swarm --seeds 1-100000\ndsdp sim swarm --seeds 1-2000 --check-determinism --json",
    )
    swarm.add_argument(
        "--seeds", type=seed_range, default=range(1, 1001), metavar="FIRST-LAST", help="(default: 1-1000)"
    )
    _add_jobs(swarm)
    swarm.add_argument("--stop-after", type=count(1), default=None, metavar="K", help="end after K violations")
    swarm.add_argument(
        "--check-determinism", action="store_true", help="run each seed twice and compare all that happened"
    )
    _add_mutant(swarm)
    add_json(swarm)


def _add_run(kinds: Any) -> None:
    one = add_command(
        kinds,
        "run",
        _run,
        "one scenario file, or one seed of the swarm",
        "Run a scenario file and print what it comes to: latencies, throughput, acceptance, utilisation. Without a "
        "file, run the scenario of one seed of the swarm and say what it was made of; exit code 1 for a violation.",
        "dsdp sim run lan-laptops\ndsdp sim run my.toml --set window.kind=static --set window.size=4 --rows out.csv\n"
        "dsdp sim run --seed 7 --chart\ndsdp sim run --seed 7 --chart --last 40\n"
        "dsdp sim run --seed 1 --mutant minority-commits --shrink --chart",
    )
    sim_plan.add_options(one)
    one.add_argument("--seed", type=count(0), default=None, metavar="N", help="of the swarm, or in place of the file's")
    one.add_argument("--chart", action="store_true", help="print the sequence chart")
    one.add_argument("--last", type=count(1), default=None, metavar="K", help="only its last K lines")
    one.add_argument(
        "--shrink", action="store_true", help="look for the smallest scenario that breaks the same rule"
    )
    _add_mutant(one)
    add_json(one)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=count(1, 1025),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each core)",
    )


def _add_mutant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mutant", choices=tuple(MUTANTS), default=None, metavar="NAME", help="with a planted bug")


def seed_range(text: str) -> range:
    """``FIRST-LAST``, both included, or one seed. Raises ArgumentTypeError."""
    first, dash, last = text.partition("-")
    try:
        start, end = int(first), int(last if dash else first)
    except ValueError:
        start, end = 1, 0
    if not 0 <= start <= end:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; one is 1-1000")
    return range(start, end + 1)


# ---------------------------------------------------------------- commands


def _swarm(args: argparse.Namespace) -> int:
    with SwarmProgress(sys.stderr) as progress:
        swarm = sweep(
            args.seeds,
            jobs=args.jobs,
            mutant=args.mutant,
            check_determinism=args.check_determinism,
            stop_after=args.stop_after,
            progress=progress,
        )
    if args.json:
        print(json.dumps(swarm.as_json()))
    else:
        print(_summary(swarm))
        for found in swarm.found[:SHOWN]:
            print(explain(found.seed, mutant=args.mutant, last=LINES))
    return 1 if swarm.found else 0


def _summary(swarm: Swarm) -> str:
    figures = ", ".join(f"{name} in {number}" for name, number in sorted(swarm.runs_with.items()))
    lines = [
        f"{swarm.seeds} seeds, {len(swarm.found)} violations, {swarm.events} events, "
        f"{swarm.seeds / swarm.seconds:.0f} seeds/s",
        f"of these runs: {figures}",
    ]
    lines += [f"seed {found.seed}: {found.check}: {found.text.splitlines()[0]}" for found in swarm.found]
    return "\n".join(lines)


def _run(args: argparse.Namespace) -> int:
    if args.scenario is not None:
        if args.chart or args.shrink or args.mutant or args.last:
            raise UsageError("--chart, --last, --shrink and --mutant belong to seeds of the swarm, not to files")
        return sim_plan.run_scenario(args)
    if args.settings or args.rows or args.over_time or args.duration is not None:
        raise UsageError("--set, --rows, --over-time and --duration need a scenario file; `dsdp sim list` names some")
    if args.seed is None:
        raise UsageError("name a scenario file (`dsdp sim list` names some), or a seed of the swarm: --seed 7")
    if args.json and args.chart:
        raise UsageError("--json prints one object, --chart a chart: choose one")
    with planted(args.mutant) if args.mutant else nullcontext():
        outcome = run(draw(args.seed))
        if args.shrink:
            outcome = shrink(outcome)
    violation = outcome.violation
    if args.json:
        body = {
            "seed": args.seed,
            "violation": None if violation is None else {"check": violation.check, "text": violation.text},
            "digest": outcome.digest(),
            "events": outcome.events,
            "seconds": round(outcome.seconds, 6),
        }
        print(json.dumps(body))
    else:
        print(explain(args.seed, outcome=outcome, last=args.last, with_chart=args.chart))
    return 0 if violation is None else 1


def _chart(args: argparse.Namespace) -> int:
    print(page() if args.example == "all" else example_chart(args.example), end="")
    return 0


def _mutants(args: argparse.Namespace) -> int:
    names = [name.strip() for name in args.only.split(",") if name.strip()] or list(MUTANTS)
    unknown = [name for name in names if name not in MUTANTS]
    if unknown:
        raise UsageError(f"no mutant {unknown[0]!r}; there are {', '.join(MUTANTS)}")
    results: dict[str, Swarm] = {}
    for number, name in enumerate(names, start=1):
        with SwarmProgress(sys.stderr, f"{name} ({number} of {len(names)})") as progress:
            results[name] = sweep(
                range(1, args.seeds + 1), jobs=args.jobs, mutant=name, stop_after=1, progress=progress
            )
    if args.json:
        rows = [
            {
                "mutant": name,
                "clause": MUTANTS[name].breaks,
                "text": MUTANTS[name].text,
                "check": swarm.found[0].check if swarm.found else None,
                "seeds": swarm.found[0].seed if swarm.found else swarm.seeds,
            }
            for name, swarm in results.items()
        ]
        print(json.dumps({"mutants": len(rows), "caught": sum(row["check"] is not None for row in rows), "rows": rows}))
    else:
        print(mutant_table(results), end="")
    return 0 if all(swarm.found for swarm in results.values()) else 1

