"""Let the target answer the prompts, and keep its tokens and its final hidden states as training shards."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .chat import STOP, chat
from .engine import BulkLlama, Row, generate


def batches(records: list[dict[str, str]], tokenizer: Any, rows: int, seed: int) -> list[list[list[int]]]:
    """Batches of ``rows`` prompts (token ids) of the same length, in an order fixed by ``seed``.

    What does not fill a batch of its length is left out, so a large pool loses little.
    """
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    # Rows with the same system prompt lie together: the engine computes a batch's common beginning once.
    texts = [chat(r["system"], r["prompt"]) for r in sorted(records, key=lambda r: r["system"])]
    for ids in tokenizer(texts).input_ids:
        by_length[len(ids)].append(ids)
    found = [
        group[i : i + rows] for _, group in sorted(by_length.items()) for i in range(0, len(group) - rows + 1, rows)
    ]
    random.Random(seed).shuffle(found)
    return found


def save_shard(path: Path, rows: list[Row], prompt: int) -> None:
    """Write one shard: ``tokens`` int32 and ``hidden`` float16, all rows end to end; ``lengths``; ``prompt`` length."""
    part = path.with_suffix(".part")
    save_file(
        {
            "tokens": torch.cat([r.tokens for r in rows]).int(),
            "hidden": torch.cat([r.hidden for r in rows]),
            "lengths": torch.tensor([len(r.tokens) for r in rows], dtype=torch.int32),
            "prompt": torch.tensor([prompt], dtype=torch.int32),
        },
        str(part),
    )
    os.replace(part, path)


def run(
    target: Path,
    prompts: Path,
    out: Path,
    rows: int,
    max_new: int,
    seed: int,
    part: int,
    parts: int,
    warm_share: float,
    minutes: float,
) -> None:
    """Write shards ``shard-NNNNN.safetensors`` for this part's batches until the time is up.

    Shards that exist are skipped, so a stopped run can go on. ``warm_share`` of the batches are sampled at
    temperature 0.8, the others are greedy. Several processes share the work by ``part`` of ``parts``.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target)
    model = BulkLlama(target)
    stop = tokenizer.convert_tokens_to_ids(STOP)
    records = [json.loads(line) for line in prompts.read_text().splitlines()]
    work = batches(records, tokenizer, rows, seed)
    out.mkdir(parents=True, exist_ok=True)
    started, made = time.monotonic(), 0
    for n in range(part, len(work), parts):
        path = out / f"shard-{n:05d}.safetensors"
        if path.exists():
            continue
        if time.monotonic() - started > 60 * minutes:
            break
        draw = random.Random(f"{seed}/{n}")
        temperature = 0.8 if draw.random() < warm_share else 0.0
        generator = torch.Generator().manual_seed(draw.getrandbits(62))
        ids = torch.tensor(work[n])
        answered = generate(model, ids, max_new, stop, temperature, generator, min_rows=rows // 6)
        save_shard(path, answered, ids.shape[1])
        made += sum(len(r.tokens) - ids.shape[1] for r in answered)
        rate = made / (time.monotonic() - started)
        print(
            f"shard {n} of {len(work)} (T={temperature}): {made} answer tokens, {rate:.0f}/s",
            file=sys.stderr,
            flush=True,
        )
