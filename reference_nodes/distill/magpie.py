"""User turns written by the target itself (Magpie, arXiv 2406.08464): let it continue an empty user turn."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from .chat import STOP, SYSTEMS, user_header
from .engine import BulkLlama, generate


def sample_turns(
    target: Path, rounds: int, rows: int, seed: int, temperature: float = 0.7, max_new: int = 72
) -> list[dict[str, str]]:
    """Sample ``rounds`` batches of ``rows`` turns; keep those that the target ended by itself, once each.

    Returns records with keys ``prompt``, ``kind`` ("magpie-<system>") and ``system``.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target)
    model = BulkLlama(target)
    stop = tokenizer.convert_tokens_to_ids(STOP)
    generator = torch.Generator().manual_seed(seed)
    names = ["default", "maths", "python", "default", "plain", "writer"]
    seen: dict[str, dict[str, str]] = {}
    for n in range(rounds):
        name = names[n % len(names)]
        header = tokenizer(user_header(SYSTEMS[name]), return_tensors="pt").input_ids
        batch = generate(model, header.repeat(rows, 1), max_new, stop, temperature, generator, min_rows=rows // 6)
        for row in batch:
            text = tokenizer.decode(row.tokens[header.shape[1] : -1], skip_special_tokens=True).strip()
            if row.finished and len(text.split()) >= 4:
                seen.setdefault(text, {"prompt": text, "kind": f"magpie-{name}", "system": SYSTEMS[name]})
        print(f"magpie: round {n + 1}/{rounds}, {len(seen)} turns", file=sys.stderr, flush=True)
    return list(seen.values())
