"""``dsdp demo``: a whole cluster on this machine, a text being sped up, and the proof that it is the same text."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reference_nodes.cli.options import Prompt, add_command, add_json, add_sampling, count, read_prompts, sampling_of
from reference_nodes.cli.output import Painter, Progress, figures, say
from reference_nodes.cli.runner import run_trio

PROMPT = "Explain step by step how to find the average of the numbers 12, 15 and 21."


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "demo",
        run,
        "a cluster on this machine: watch a model being sped up",
        "Start a target node and draft nodes as processes on this machine. They find each other by multicast DNS on "
        "the loopback "
        "interface and speak over mutual TLS. The text streams, coloured by who proposed each token; then the target "
        "runs "
        "alone, in turn with the drafters, and both texts are compared. The model is fetched first if it is not here.",
        "dsdp demo\n"
        'dsdp demo --prompt "Why is the sky blue?" --temperature 0.8 --seed 3\n'
        "dsdp demo --drafters 1\n"
        "dsdp demo --drafters smollm2-draft,ngram,ngram:3-1 --json\n"
        "dsdp demo --model tm-1:v=4096,s=7        the test model: no weights",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", default=PROMPT, help="the question (default: %(default)r)")
    what.add_argument("--prompts", type=Path, metavar="FILE.jsonl", help='many, one {"prompt": "..."} a line')
    parser.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
    parser.add_argument(
        "--drafters",
        default="2",
        metavar="N|NAMES",
        help="how many draft nodes, or their models, separated by commas (default: %(default)s)",
    )
    add_sampling(parser, max_tokens=128)
    parser.add_argument(
        "--repeat",
        type=count(1, 1000),
        metavar="N",
        help="measurements of each prompt with and without drafters (default: 3; with --prompts 1)",
    )
    parser.add_argument("--raw", action="store_true", help="prompts as they are, without the model's chat template")
    parser.add_argument("--no-mdns", action="store_true", help="give the nodes each other's addresses instead")
    parser.add_argument(
        "--logs",
        type=Path,
        metavar="DIR",
        help="keep the nodes' logs here (default: a temporary directory, removed if all went well)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from reference_nodes.cli.local import check_models, draft_names, usual_drafters

    sampling_of(args)
    drafters = draft_names(args.drafters, args.model)
    prompts = read_prompts(args.prompts) if args.prompts else [Prompt(args.prompt)]
    args.questions = [dataclasses.replace(prompt, raw=args.raw) for prompt in prompts]
    ensure_model(args.model)
    check_models(args.model, drafters)
    if args.drafters.isdigit() and drafters != usual_drafters(args.model)[: len(drafters)] and len(drafters) <= 3:
        say(f"note: a draft model that belongs to {args.model} is missing here; drafting with {', '.join(drafters)}")
    with log_directory(args.logs) as logs:
        return run_trio(_demo, args, drafters, logs)


@contextlib.contextmanager
def log_directory(wanted: Path | None) -> Iterator[Path]:
    """``wanted``, or a temporary directory that stays if an error comes out of the block."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    logs = Path(tempfile.mkdtemp(prefix="dsdp-logs-"))
    try:
        yield logs
    except KeyboardInterrupt:
        shutil.rmtree(logs, ignore_errors=True)
        raise
    shutil.rmtree(logs, ignore_errors=True)


def ensure_model(name: str) -> None:
    """Fetch a model that can be fetched, with a progress bar on stderr. Raises ModelError."""
    from reference_nodes.models_store import PULLABLE, pull

    if name in PULLABLE:
        progress = Progress()
        try:
            pull(name, progress)
        finally:
            progress.finish()


async def _demo(args: argparse.Namespace, drafters: list[str], logs: Path) -> int:
    from reference_nodes.cli.demo import Demo
    from reference_nodes.cli.local import members_for, met_text, open_local
    from reference_nodes.cli.texts import Vocabulary

    painter = Painter()
    vocabulary = Vocabulary(args.model)
    members = members_for(args.model, drafters)
    async with open_local(args.model, members, say, logs=logs, mdns=not args.no_mdns) as cluster:
        if not args.json:
            met = f"{len(members) + 1} node processes, met {met_text(cluster)}, linked over mutual TLS 1.3"
            print(f"\n{painter.bold('DSDP demo')}: {met}")
            rows = {"target": f"{args.model} at {cluster.target.address}"}
            rows |= {child.name: f"{name} at {child.address}" for child, name in zip(cluster.drafters, drafters)}
            print(figures(rows))
        demo = Demo(args, cluster, vocabulary, painter, len(drafters))
        await demo.warm_up()
        for prompt in args.questions:
            await demo.measure(prompt)
        report = demo.report(drafters)
        for child in cluster.lost:
            say(str(child.fault("ended on its own during the demo; the text does not depend on it")))
    if args.json:
        print(json.dumps(report))
    else:
        print("\n" + demo.text(report))
    return 0 if report["identical"] else 1
