"""``dsdp bench``: identity, speed, wire, failover, commit, simulator and fidelity."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reference_nodes.cli import fidelity_command
from reference_nodes.cli.options import add_command, add_json, add_settings, count, read_prompts
from reference_nodes.cli.runner import run_trio

PROMPTS = 10
TOKENS = 64
SCENARIOS = ("lan-laptops", "edge-cloud", "datacentre", "flaky-home")
"""Of the planner's gallery: those that run in well under a minute."""


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "bench",
        None,
        "measure: identity, speed, wire, failover, commit, simulator, fidelity",
        "Seven measurements. Progress is on stderr; --json prints one object.",
        "dsdp bench identity --prompts questions.jsonl\n"
        "dsdp bench speed --prompts questions.jsonl --json\n"
        "dsdp bench wire\n"
        "dsdp bench failover --runs 30\n"
        "dsdp bench commit\n"
        "dsdp bench simulator\n"
        "dsdp bench fidelity --quick",
    )
    kinds = parser.add_subparsers(dest="bench", metavar="WHAT", required=True)
    identity = add_command(
        kinds,
        "identity",
        _identity,
        "is every stream bit for bit that of the target alone?",
        "Compare the streams of many settings (no drafter, one, three of different kinds; chains and trees; four "
        "sessions "
        "sharing the verifier; greedy and T = 0.8) with the target decoding alone in this process, one token at a "
        "time. "
        "Beside it: transformers' assisted generation against transformers' own plain greedy decoding. "
        "Exit code 1 if any stream differs.",
        "dsdp bench identity --prompts questions.jsonl\n"
        "dsdp bench identity --prompts questions.jsonl --max-prompts 0 --json     all prompts",
    )
    speed = add_command(
        kinds,
        "speed",
        _speed,
        "tokens per second with and without drafters, beside transformers",
        "For each prompt, in turn: the target alone (its backend, and through DSDP), DSDP with one and with two "
        "drafters over "
        "loopback TLS, transformers plain, with prompt lookup, and with our draft as assistant. One thread per "
        "process.",
        "dsdp bench speed --prompts questions.jsonl\ndsdp bench speed --prompts questions.jsonl --max-prompts 20 "
        "--json",
    )
    for kind in (identity, speed):
        kind.add_argument(
            "--prompts", type=Path, required=True, metavar="FILE.jsonl", help='one {"prompt": "..."} a line'
        )
        kind.add_argument(
            "--max-prompts", type=count(0), default=PROMPTS, metavar="N", help="0: all (default: %(default)s)"
        )
        kind.add_argument(
            "--max-tokens", type=count(1), default=TOKENS, metavar="N", help="of each answer (default: %(default)s)"
        )
        kind.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
        kind.add_argument(
            "--drafters",
            default="3" if kind is identity else "2",
            metavar="N|NAMES",
            help="draft models (default: %(default)s of the usual ones)",
        )
        kind.add_argument("--no-transformers", action="store_true", help="leave transformers out")
        add_json(kind)
    speed.add_argument(
        "--transformers-threads",
        type=count(1, 1025),
        default=1,
        metavar="N",
        help="threads for transformers (default: 1)",
    )
    identity.add_argument("--seed", type=count(0), default=1, metavar="S", help="of the noise at T = 0.8 (default: 1)")
    wire = add_command(
        kinds,
        "wire",
        _wire,
        "bytes per committed token and time per round, without a model",
        "What a round costs on a drafter's link: DSDP's bytes and time at 80 % and at full agreement (TM-1, chains of "
        "8), beside the "
        "same exchange as ZMQ + pickle, as HTTP + JSON, and beside a bare TLS echo of the same bytes.",
        "dsdp bench wire\ndsdp bench wire --rounds 2000 --json",
    )
    wire.add_argument(
        "--rounds", type=count(1), default=400, metavar="N", help="in each repetition (default: %(default)s)"
    )
    wire.add_argument(
        "--repeat", type=count(1), default=9, metavar="N", help="repetitions, in turn (default: %(default)s)"
    )
    add_json(wire)
    _add_quorum(kinds)
    _add_simulator(kinds)
    fidelity_command.add(kinds)


def _add_quorum(kinds: Any) -> None:
    """The two that need a cluster of voters."""
    failover = add_command(
        kinds,
        "failover",
        _failover,
        "what a client sees when a machine dies in the middle of its stream",
        "Three nodes that lead, verify and vote, two drafters and a client, on loopback over TLS. In each run a node "
        "is killed (kill -9) or stopped (SIGSTOP) in mid-stream; afterwards it comes back with its journal. "
        "Reports how long the stream stood still, and tokens lost, repeated and changed against the target alone. Exit "
        "code 1 if there are any.",
        "dsdp bench failover --runs 30 --json\ndsdp bench failover --fault stop-leader --model tm-1:v=4096,s=7",
    )
    failover.add_argument(
        "--runs", type=count(1), default=30, metavar="N", help="streams with one fault each (default: %(default)s)"
    )
    failover.add_argument(
        "--fault",
        choices=("kill-leader", "stop-leader", "kill-follower", "stop-follower"),
        default="kill-leader",
        help="which node, and how (default: %(default)s)",
    )
    failover.add_argument(
        "--patience", type=float, default=30.0, metavar="SECONDS", help="of the client (default: %(default)s)"
    )
    commit = add_command(
        kinds,
        "commit",
        _commit,
        "tokens per second under quorum beside solo",
        "Each prompt in turn under both commit profiles, on the same leader of a cluster of three voters on loopback; "
        "ratios are taken prompt by prompt.",
        "dsdp bench commit --repeat 5 --json",
    )
    commit.add_argument(
        "--repeat", type=count(1), default=5, metavar="N", help="pairs for each prompt (default: %(default)s)"
    )
    for kind in (failover, commit):
        kind.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
        kind.add_argument(
            "--drafters",
            default="2",
            metavar="N|NAMES",
            help="draft models, 0 for none (default: %(default)s of the usual ones)",
        )
        kind.add_argument(
            "--prompts", type=Path, metavar="FILE.jsonl", help='one {"prompt": "..."} a line (default: three)'
        )
        kind.add_argument(
            "--max-tokens", type=count(8), default=96, metavar="N", help="of each answer (default: %(default)s)"
        )
        kind.add_argument(
            "--temperature", "-t", type=float, default=0.0, metavar="T", help="0 is greedy (default: %(default)s)"
        )
        kind.add_argument(
            "--seed", type=count(0), default=1, metavar="S", help="of noise and of faults (default: %(default)s)"
        )
        add_json(kind)


def _add_simulator(kinds: Any) -> None:
    simulator = add_command(
        kinds,
        "simulator",
        _simulator,
        "protocol messages that the planning simulator handles per second of processor time",
        "Each scenario is run as often as asked, in turn, on one core and without the codec. Messages between roles of "
        "one node do not count.",
        "dsdp bench simulator --json\ndsdp bench simulator campus --repeat 1",
    )
    simulator.add_argument(
        "scenarios",
        nargs="*",
        default=list(SCENARIOS),
        metavar="SCENARIO",
        help=f"of the gallery, or files (default: {', '.join(SCENARIOS)})",
    )
    add_settings(simulator, "each file")
    simulator.add_argument(
        "--repeat", type=count(1), default=3, metavar="N", help="runs of each, in turn (default: %(default)s)"
    )
    add_json(simulator)


def _identity(args: argparse.Namespace) -> int:
    from reference_nodes.bench.identity import bench_identity, identity_text
    from reference_nodes.cli.demo_command import ensure_model, log_directory

    prompts = read_prompts(args.prompts, args.max_prompts)
    ensure_model(args.model)
    with log_directory(None) as logs:
        report = run_trio(bench_identity, args, prompts, logs)
    print(json.dumps(report) if args.json else identity_text(report))
    return 0 if report["identical_fraction"] == 1.0 else 1


def _speed(args: argparse.Namespace) -> int:
    from reference_nodes.bench.speed import bench_speed, speed_text
    from reference_nodes.cli.demo_command import ensure_model, log_directory

    prompts = read_prompts(args.prompts, args.max_prompts)
    ensure_model(args.model)
    with log_directory(None) as logs:
        report = run_trio(bench_speed, args, prompts, logs)
    print(json.dumps(report) if args.json else speed_text(report))
    return 0


def _wire(args: argparse.Namespace) -> int:
    from reference_nodes.bench.wire import bench_wire, wire_text

    report = run_trio(bench_wire, args.rounds, args.repeat)
    print(json.dumps(report) if args.json else wire_text(report))
    return 0


def _failover(args: argparse.Namespace) -> int:
    from reference_nodes.bench.failover import PROMPTS as USUAL
    from reference_nodes.bench.failover import bench_failover, failover_text
    from reference_nodes.cli.demo_command import ensure_model, log_directory

    prompts = read_prompts(args.prompts) if args.prompts else list(USUAL)
    ensure_model(args.model)
    with log_directory(None) as logs:
        report = run_trio(bench_failover, args, prompts, logs)
    print(json.dumps(report) if args.json else failover_text(report))
    return 1 if report["lost"] or report["repeated"] or report["changed"] or report["failed"] else 0


def _commit(args: argparse.Namespace) -> int:
    from reference_nodes.bench.commit import bench_commit, commit_text
    from reference_nodes.bench.failover import PROMPTS as USUAL
    from reference_nodes.cli.demo_command import ensure_model, log_directory

    prompts = read_prompts(args.prompts) if args.prompts else list(USUAL)
    ensure_model(args.model)
    with log_directory(None) as logs:
        report = run_trio(bench_commit, args, prompts, logs)
    print(json.dumps(report) if args.json else commit_text(report))
    return 0 if report["same_text"] == report["pairs"] else 1


def _simulator(args: argparse.Namespace) -> int:
    from reference_nodes.bench.simulator import bench_simulator, simulator_text

    report = bench_simulator(args.scenarios, args.settings, args.repeat)
    print(json.dumps(report) if args.json else simulator_text(report))
    return 0
