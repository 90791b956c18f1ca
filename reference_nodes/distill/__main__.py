"""Command line: ``python -m reference_nodes.distill target|prompts|generate|train|evaluate --help``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from .train import Plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference_nodes.distill", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    verbs = parser.add_subparsers(dest="verb", required=True)

    u = verbs.add_parser("target", help="unpack a GGUF file into the directory that the other verbs read")
    u.add_argument("--gguf", type=Path, required=True)
    u.add_argument("--out", type=Path, required=True)

    p = verbs.add_parser("prompts", help="make the pool of training prompts")
    p.add_argument("--out", type=Path, required=True, help="JSON-lines file to write")
    p.add_argument("--count", type=int, default=40000, help="templated prompts to draw; repeats are dropped")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--evaluation", type=Path, nargs="*", default=[], help="prompt files that must stay unseen")

    g = verbs.add_parser("generate", help="let the target answer the prompts")
    g.add_argument(
        "--target", type=Path, required=True, help="directory with config.json, model.safetensors, tokenizer"
    )
    g.add_argument("--prompts", type=Path, required=True)
    g.add_argument("--out", type=Path, required=True, help="folder of shards; shards found there are kept")
    g.add_argument("--taps", type=int, nargs="*", default=[], help="also keep the residual stream after these layers")
    g.add_argument("--size", type=int, default=96, help="prompts in a shard")
    g.add_argument("--count", type=int, default=20000, help="prompts at most")
    g.add_argument("--lanes", type=int, default=32, help="rows written at once")
    g.add_argument("--max-new", type=int, default=160)
    g.add_argument("--seed", type=int, default=1)
    g.add_argument("--warm-share", type=float, default=0.15, help="share of answers sampled at T=0.8")
    g.add_argument("--magpie-share", type=float, default=0.2, help="share of prompts that the target writes itself")
    g.add_argument("--evaluation", type=Path, nargs="*", default=[], help="prompt files that must stay unseen")
    g.add_argument("--minutes", type=float, default=600)

    t = verbs.add_parser("train", help="train the draft on the shards")
    t.add_argument("--target", type=Path, required=True)
    t.add_argument("--gguf", type=Path, required=True, help="the target's GGUF file, whose hash goes into the config")
    t.add_argument("--shards", type=Path, nargs="+", required=True)
    t.add_argument("--out", type=Path, required=True, help="draft directory to write")
    t.add_argument("--trunk", type=int, required=True, help="layers of the target that the draft runs as they are")
    t.add_argument("--layers", type=int, nargs="+", default=[28, 29], help="target layers to start its own layers from")
    t.add_argument("--shortlist", type=int, default=16384)
    t.add_argument("--start", type=Path, help="go on from this draft's weights")
    t.add_argument("--header", type=int, default=24, help="tokens of the system prompt, not matched")
    t.add_argument("--every", type=float, default=8, help="minutes between checkpoints")
    t.add_argument("--measure", type=Path, nargs="*", default=[], help="prompt files to measure each checkpoint on")
    t.add_argument("--few", type=int, default=40, help="prompts of each file to measure a checkpoint on")
    t.add_argument("--text", type=Path, default=Path("."), help="folder that caches the target's text for --measure")
    for field in fields(Plan):
        t.add_argument(f"--{field.name}", type=type(field.default), default=field.default)

    e = verbs.add_parser("evaluate", help="measure a draft, as nodes serve it, on prompts it never saw")
    e.add_argument("--target", type=Path, required=True)
    e.add_argument("--draft", type=Path, required=True)
    e.add_argument("--measure", type=Path, nargs="+", required=True)
    e.add_argument("--text", type=Path, default=Path("."), help="folder that caches the target's text")
    e.add_argument("--max-new", type=int, default=128)
    return parser


def _target(a: argparse.Namespace) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, file = a.gguf.resolve().parent, a.gguf.name
    try:
        # Without `dequantize` the weights stay packed and cannot be saved.
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
    except ValueError as error:
        if "accelerate" not in str(error):
            raise
        raise SystemExit(
            "transformers reads GGUF files only where 'accelerate' is installed: pip install accelerate"
        ) from error
    model.save_pretrained(a.out)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(a.out)
    print(f"{a.out}: bfloat16 weights and tokenizer", file=sys.stderr)


def _prompts(a: argparse.Namespace) -> None:
    from .prompts import load_prompts, pool

    evaluation = [text for path in a.evaluation for text in load_prompts(path)]
    records = pool(a.count, a.seed, evaluation)
    a.out.write_text("".join(json.dumps(r) + "\n" for r in records))
    print(f"{len(records)} prompts in {a.out}", file=sys.stderr)


def _train(a: argparse.Namespace) -> None:
    from .train import Files, run

    files = Files(a.target, a.gguf, a.shards, a.out, a.measure, a.text, a.start)
    plan = Plan(**{field.name: getattr(a, field.name) for field in fields(Plan)})
    run(files, a.trunk, a.layers, a.shortlist, a.header, a.every, plan, a.few)


def _evaluate(a: argparse.Namespace) -> None:
    from reference_nodes.backends.loading import load_draft
    from reference_nodes.models_store import ModelFiles

    from .checkpoint import trunk_of
    from .evaluate import evaluation_rows, measure, milliseconds, served_guesses
    from .prompts import load_prompts

    draft = load_draft(ModelFiles("draft", a.draft.name, a.draft), ModelFiles("llama", a.target.name, a.target))
    trunk = trunk_of(json.loads((a.draft / "config.json").read_text()))
    for path in a.measure:
        rows = evaluation_rows(a.text, a.target, path.stem, load_prompts(path), a.max_new, trunk)
        print(json.dumps({"prompts": path.stem, **measure(rows, served_guesses(draft, rows))}), flush=True)
    prompt = rows[0].tokens[: rows[0].prompt].tolist()
    print(json.dumps({"ms_per_drafted_token": round(milliseconds(draft, prompt, 100), 2)}))


def main(argv: list[str] | None = None) -> None:
    """Run one verb."""
    a = _parser().parse_args(argv)
    import torch

    torch.set_num_threads(a.threads)
    if a.verb == "target":
        _target(a)
    elif a.verb == "prompts":
        _prompts(a)
    elif a.verb == "generate":
        from .generate import run
        from .writer import Limits

        run(
            a.target,
            a.prompts,
            a.out,
            a.taps,
            a.size,
            a.count,
            Limits(answer=a.max_new),
            a.seed,
            a.warm_share,
            a.magpie_share,
            a.evaluation,
            a.lanes,
            a.minutes,
        )
    elif a.verb == "train":
        _train(a)
    else:
        _evaluate(a)


if __name__ == "__main__":
    main()
