"""``dsdp bench``: identity, speed and wire."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reference_nodes.cli.options import add_command, add_json, count, read_prompts
from reference_nodes.cli.runner import run_trio

PROMPTS = 10
TOKENS = 64


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "bench",
        None,
        "measure: identity, speed, wire",
        "Three measurements. Progress is on stderr; --json prints one object.",
        "dsdp bench identity --prompts questions.jsonl\n"
        "dsdp bench speed --prompts questions.jsonl --json\n"
        "dsdp bench wire",
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
