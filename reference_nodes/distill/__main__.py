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
    p.add_argument("--extra", type=Path, nargs="*", default=[], help="files of prompts from an earlier --magpie run")
    p.add_argument("--magpie", type=int, default=0, metavar="ROUNDS", help="also let the target write user turns")
    p.add_argument("--rows", type=int, default=128, help="turns per Magpie round")
    p.add_argument("--target", type=Path, help="target directory (for --magpie)")

    g = verbs.add_parser("generate", help="let the target answer the prompts")
    g.add_argument(
        "--target", type=Path, required=True, help="directory with config.json, model.safetensors, tokenizer"
    )
    g.add_argument("--prompts", type=Path, required=True)
    g.add_argument("--out", type=Path, required=True, help="folder of shards; shards found there are kept")
    g.add_argument("--rows", type=int, default=96)
    g.add_argument("--max-new", type=int, default=144)
    g.add_argument("--seed", type=int, default=1)
    g.add_argument("--part", type=int, default=0)
    g.add_argument("--parts", type=int, default=1)
    g.add_argument("--warm-share", type=float, default=0.15, help="share of batches sampled at T=0.8")
    g.add_argument("--minutes", type=float, default=60)

    t = verbs.add_parser("train", help="train the draft on the shards")
    t.add_argument("--target", type=Path, required=True)
    t.add_argument("--gguf", type=Path, required=True, help="the target's GGUF file, whose hash goes into the config")
    t.add_argument("--shards", type=Path, nargs="+", required=True)
    t.add_argument("--out", type=Path, required=True, help="draft directory to write")
    t.add_argument("--layers", type=int, nargs="+", default=[0, 29], help="target layers to start from")
    t.add_argument("--ffn", type=int, default=1536, help="feed-forward units to keep per layer")
    t.add_argument("--shortlist", type=int, default=8192)
    t.add_argument("--shortlist-from", type=Path, help="take the shortlist of this draft instead of counting")
    t.add_argument("--start", type=Path, help="go on from this draft's weights")
    t.add_argument("--header", type=int, default=24, help="tokens of the system prompt, not matched")
    t.add_argument("--every", type=float, default=8, help="minutes between checkpoints")
    t.add_argument("--measure", type=Path, nargs="*", default=[], help="prompt files to measure each checkpoint on")
    t.add_argument("--text", type=Path, default=Path("."), help="folder that caches the target's text for --measure")
    for field in fields(Plan):
        t.add_argument(f"--{field.name}", type=type(field.default), default=field.default)

    e = verbs.add_parser("evaluate", help="measure a draft on prompts it never saw")
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

    extra = [json.loads(line) for path in a.extra for line in path.read_text().splitlines()]
    if a.magpie:
        from .magpie import sample_turns

        if a.target is None:
            raise SystemExit("--magpie needs --target: the target writes the turns")
        extra += sample_turns(a.target, a.magpie, a.rows, a.seed)
    evaluation = [text for path in a.evaluation for text in load_prompts(path)]
    records = pool(a.count, a.seed, evaluation, extra)
    a.out.write_text("".join(json.dumps(r) + "\n" for r in records))
    print(f"{len(records)} prompts in {a.out}", file=sys.stderr)


def _measured(files: list[Path], text: Path) -> dict[str, tuple[Path, list[str]]]:
    from .prompts import load_prompts

    return {f.stem: (text / f"text_{f.stem.removesuffix('_prompts')}.safetensors", load_prompts(f)) for f in files}


def _train(a: argparse.Namespace) -> None:
    from .train import run

    plan = Plan(**{field.name: getattr(a, field.name) for field in fields(Plan)})
    run(
        a.target,
        a.gguf,
        a.shards,
        a.out,
        a.layers,
        a.ffn,
        a.shortlist,
        a.header,
        a.every,
        _measured(a.measure, a.text),
        plan,
        a.shortlist_from,
        a.start,
    )


def _evaluate(a: argparse.Namespace) -> None:
    import torch

    from .checkpoint import load_draft
    from .evaluate import cached_text, measure, milliseconds
    from .student import Student, initial_state

    config, state, short = load_draft(a.draft)
    embedding, _ = initial_state(a.target, [], 0)
    pairs = []
    for name, (cache, prompts) in _measured(a.measure, a.text).items():
        pairs = cached_text(cache, a.target, prompts, a.max_new)
        for full in (False, True):
            student = Student(config, embedding, short).eval()
            student.load_own({n: t.float() for n, t in state.items()})
            print(
                json.dumps({"prompts": name, "head": "full" if full else "shortlist", **measure(student, pairs, full)})
            )
    for kind in (torch.float32, torch.bfloat16):
        student = Student(config, embedding.to(kind), short).eval()
        student.load_own({n: t.to(kind) for n, t in state.items()})
        for full in (False, True):
            ms = milliseconds(student, pairs[0][0], 100, full)
            print(
                json.dumps(
                    {"dtype": str(kind), "head": "full" if full else "shortlist", "ms_per_drafted_token": round(ms, 2)}
                )
            )


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

        run(a.target, a.prompts, a.out, a.rows, a.max_new, a.seed, a.part, a.parts, a.warm_share, a.minutes)
    elif a.verb == "train":
        _train(a)
    else:
        _evaluate(a)


if __name__ == "__main__":
    main()
