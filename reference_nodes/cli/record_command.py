"""``dsdp record``: what a drafter gets right, token by token, for the planning simulator."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reference_nodes.cli.options import UsageError, add_command, add_json, count, read_prompts
from reference_nodes.cli.output import Progress, figures, say
from reference_nodes.cli.prompts import USUAL

WIDTH = 3


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "record",
        run,
        "what a drafter gets right, token by token, as a file for the simulator",
        "Decode prompts on the target alone, ask the drafter at every position, and write where the target's token "
        "stood among its choices: one stream a line. A scenario names the file as its acceptance "
        '(kind = "recorded"), and `dsdp sim` then meets the luck of this very pair.',
        "dsdp record -o pair.jsonl\n"
        "dsdp record --prompts questions.jsonl --max-prompts 20 -n 128 -o pair.jsonl\n"
        "dsdp record --draft-model ngram --temperature 0.8 --seed 7 -o ngram.jsonl",
    )
    parser.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
    parser.add_argument("--draft-model", default="smollm2-draft", metavar="MODEL", help="(default: %(default)s)")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.jsonl", help='one {"prompt": "..."} a line (default: eight of our own)'
    )
    parser.add_argument("--max-prompts", type=count(0), default=0, metavar="N", help="0: all (default)")
    parser.add_argument(
        "--max-tokens", "-n", type=count(1), default=96, metavar="N", help="of each answer (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", "-t", type=float, default=0.0, metavar="T", help="0 is greedy (default: %(default)s)"
    )
    parser.add_argument("--seed", type=count(0), default=1, metavar="S", help="of the noise, where T is above 0")
    parser.add_argument(
        "--width", type=count(1, 17), default=WIDTH, metavar="N", help="choices asked for (default: %(default)s)"
    )
    parser.add_argument("--out", "-o", type=Path, required=True, metavar="FILE.jsonl", help="where to write")
    add_json(parser, "print a JSON object of figures instead of text")


def run(args: argparse.Namespace) -> int:
    from dsdproto.errors import LocalError
    from reference_nodes.bench.cluster import contracts
    from reference_nodes.cli.demo_command import ensure_model
    from reference_nodes.cli.texts import Vocabulary
    from reference_nodes.offers import load_drafter, load_verifier
    from reference_nodes.profile.record import record_stream, summary, write_records

    prompts = read_prompts(args.prompts, args.max_prompts) if args.prompts else list(USUAL)
    if not args.out.absolute().parent.is_dir():
        raise UsageError(f"--out {args.out}: the directory {args.out.absolute().parent} does not exist")
    ensure_model(args.model)
    try:
        asked = contracts(Vocabulary(args.model), prompts, args.max_tokens, args.temperature, args.seed)
    except LocalError as error:
        raise UsageError(str(error)) from error
    target, drafter = load_verifier(args.model, say), load_drafter(args.draft_model, args.model, say)
    names = (args.model, args.draft_model)
    progress = Progress()
    records = []
    for number, contract in enumerate(asked):
        progress("recording", number, len(asked))
        records.append(record_stream(target.executor, drafter.executor, contract, args.width, names))
    progress("recording", len(asked), len(asked))
    progress.finish()
    write_records(args.out, records)
    found = summary(records)
    print(json.dumps(found | {"file": str(args.out)}) if args.json else _text(found, args.out))
    return 0


def _text(found: dict[str, Any], out: Path) -> str:
    ranks = ", ".join(f"{100 * share:.1f} %" for share in found["by_rank"])
    rows = {
        "target, drafter": f"{found['target']}, {found['drafter']} at T = {found['temperature']:g}",
        "recorded": f"{found['tokens']} tokens of {found['streams']} streams",
        "first, second, ... choice right": ranks,
        "first choices right in a row": f"{found['run_length']:g} in the mean",
        "written to": str(out),
    }
    return figures(rows)
