"""How often a draft agrees with its target on prompts it never saw.

A drafted token counts only while everything drafted before it in its round was right, so the draft's context is
always the target's own text. One forward pass over that text therefore gives every figure exactly: rounds of
any window are walked over the array of agreements.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .chat import DEFAULT_SYSTEM, STOP, chat
from .student import Student


@torch.no_grad()
def target_text(target: Path, prompts: list[str], max_new: int, batch: int = 16) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, greedy answer ids) for each prompt under the chat template, in float32, padded on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    stop = tokenizer.convert_tokens_to_ids(STOP)
    ids = [tokenizer(chat(DEFAULT_SYSTEM, p)).input_ids for p in prompts]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found: dict[int, tuple[list[int], list[int]]] = {}
    for at in range(0, len(order), batch):
        group = order[at : at + batch]
        width = max(len(ids[i]) for i in group)
        padded = torch.tensor([[stop] * (width - len(ids[i])) + ids[i] for i in group])
        mask = torch.tensor([[0] * (width - len(ids[i])) + [1] * len(ids[i]) for i in group])
        out = model.generate(
            padded, attention_mask=mask, max_new_tokens=max_new, do_sample=False, eos_token_id=stop, pad_token_id=stop
        )[:, width:]
        for i, row in zip(group, out.tolist()):
            found[i] = (ids[i], row[: row.index(stop) + 1] if stop in row else row)
        print(f"target text: {at + len(group)} of {len(order)} prompts", file=sys.stderr, flush=True)
    return [found[i] for i in range(len(ids))]


def cached_text(cache: Path, target: Path, prompts: list[str], max_new: int) -> list[tuple[list[int], list[int]]]:
    """target_text, kept in a safetensors file."""
    if not cache.exists():
        pairs = target_text(target, prompts, max_new)
        flat = torch.tensor([t for pair in pairs for part in pair for t in part], dtype=torch.int32)
        save_file({"tokens": flat, "sizes": torch.tensor([[len(p), len(a)] for p, a in pairs])}, str(cache))
    data, at, pairs = load_file(str(cache)), 0, []
    for p, a in data["sizes"].tolist():
        row = data["tokens"][at : at + p + a].tolist()
        pairs.append((row[:p], row[p:]))
        at += p + a
    return pairs


def walk(agree: list[bool], confident: list[bool], window: int) -> tuple[int, int, int]:
    """(drafted, accepted, rounds) of greedy speculation over one answer.

    The first answer token comes from the target's prefill. A round drafts up to ``window`` tokens, none past the end of
    the answer, and stops before a token it is not ``confident`` of; the target then adds one token of its own.
    """
    at, drafted, accepted, rounds = 1, 0, 0, 0
    while at < len(agree):
        sent, right, alive = 0, 0, True
        # The draft cannot know that it went wrong: past its first error its confidence is taken from the true text.
        for i in range(at, min(at + window, len(agree))):
            if not confident[i]:
                break
            sent += 1
            alive = alive and agree[i]
            right += alive
        drafted, accepted, rounds, at = drafted + sent, accepted + right, rounds + 1, at + right + 1
    return drafted, accepted, rounds


@torch.no_grad()
def measure(
    student: Student,
    pairs: list[tuple[list[int], list[int]]],
    full_head: bool = False,
    thresholds: tuple[float, ...] = (0.0, 0.3, 0.5),
) -> dict[str, Any]:
    """Agreement by rank, and drafted/accepted figures for windows 4 and 8.

    Returns ``tokens``, ``top1``..``top3`` (share of answer tokens among the draft's best 1, 2, 3), ``covered`` (share
    of tokens that the shortlist holds), and for each window and confidence threshold ``w<W>@<t>`` with ``acceptance``
    (accepted / drafted), ``drafted`` per round and ``length`` (1 + accepted / rounds).
    """
    ranks, arrays = torch.zeros(3), []
    covered = total = 0
    known = torch.zeros(student.vocab, dtype=torch.bool)
    known[student.shortlist.long()] = True
    for prompt, answer in pairs:
        ids = torch.tensor(prompt + answer)
        logits = student.logits(student.states(ids[None, :-1])[0, len(prompt) - 1 :], full_head)
        value, index = logits.float().log_softmax(-1).topk(3)
        best = index if full_head else student.shortlist.long()[index]
        hit = best == ids[len(prompt) :, None]
        ranks += hit.cumsum(1).sum(0)
        total += len(answer)
        covered += int(known[ids[len(prompt) :]].sum())
        arrays.append((hit[:, 0].tolist(), value[:, 0].exp()))
    result: dict[str, Any] = {"tokens": total, "covered": covered / total}
    result |= {f"top{k + 1}": float(ranks[k]) / total for k in range(3)}
    for window in (4, 8):
        for threshold in thresholds:
            d, a, r = map(sum, zip(*(walk(hit, (p >= threshold).tolist(), window) for hit, p in arrays)))
            result[f"w{window}@{threshold}"] = {"acceptance": a / max(d, 1), "drafted": d / r, "length": 1 + a / r}
    return result


@torch.no_grad()
def milliseconds(student: Student, prompt: list[int], count: int, full_head: bool) -> float:
    """Median milliseconds for one drafted token at batch 1 with a growing cache, after one warm-up of the prompt."""
    times, cache = [], None
    ids = torch.tensor([prompt])
    for _ in range(count + 1):
        start = time.perf_counter()
        states, cache = student.step(ids, cache)
        best = int(student.logits(states[0, -1:], full_head).argmax())
        ids = torch.tensor([[best if full_head else int(student.shortlist[best])]])
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times[1:])[count // 2]
