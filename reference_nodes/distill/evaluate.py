"""How often a draft agrees with its target on prompts it never saw.

A drafted token counts only while everything drafted before it in its round was right, so the draft's context is
always the target's own text. One forward pass over that text therefore gives every figure exactly: rounds of
any window are walked over the array of agreements.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reference_nodes.backends.base import DraftBackend, ExpandRequest

from .data import Rows, TrainingRow
from .generate import answer_all
from .student import Student

BEST = 3


@dataclass(frozen=True)
class Guess:
    """A draft's opinion on one answer of n tokens: its best ids [n, 3], best first, and the first one's probability."""

    best: np.ndarray
    confidence: np.ndarray


def evaluation_rows(
    folder: Path, target: Path, name: str, prompts: list[str], max_new: int, trunk: int
) -> list[TrainingRow]:
    """The target's greedy answers to the prompts, kept as a shard in ``folder`` per name, length and trunk."""
    path = folder / f"{name}-{max_new}-tap{trunk}" / "shard-00000.safetensors"
    if not path.exists():
        answer_all(path, target, prompts, max_new, trunk)
    rows = Rows([path.parent], trunk, 0, held=True)
    rows.refresh()
    return rows.rows


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
def student_guesses(
    student: Student, head: torch.Tensor, ids: torch.Tensor, rows: Sequence[TrainingRow]
) -> list[Guess]:
    """Guesses of the draft under training, in float32. ``head`` [K, hidden] are the embeddings of ``ids`` [K]."""
    found = []
    for row in rows:
        states = student.states(row.trunk[None, :-1].float())[0, row.prompt - 1 :]
        value, index = torch.nn.functional.linear(states, head).log_softmax(-1).topk(BEST)
        found.append(Guess(ids[index].numpy(), value[:, 0].exp().numpy()))
    return found


def served_guesses(draft: DraftBackend, rows: Sequence[TrainingRow]) -> list[Guess]:
    """Guesses of a draft as nodes serve it."""
    found = []
    for row in rows:
        tokens = row.tokens.tolist()
        prompt, answer = tokens[: row.prompt], tokens[row.prompt : -1]
        chain = range(len(answer))
        request = ExpandRequest("text", prompt, answer, list(chain), list(range(len(answer) + 1)))
        best, confidence = [], []
        for c in draft.expand([request])[0]:
            order = np.argpartition(c.logits, -BEST)[-BEST:]
            order = order[np.argsort(-c.logits[order], kind="stable")]
            best.append(order if c.ids is None else c.ids[order])
            confidence.append(1 / np.exp(c.logits - c.logits[order[0]]).sum())
        draft.release("text")
        found.append(Guess(np.array(best), np.array(confidence)))
    return found


def measure(
    rows: Sequence[TrainingRow], guesses: Iterable[Guess], thresholds: tuple[float, ...] = (0.0, 0.3, 0.5)
) -> dict[str, Any]:
    """Agreement by rank, and drafted/accepted figures for windows 4 and 8.

    Returns ``tokens``, ``top1``..``top3`` (share of answer tokens among the draft's best 1, 2, 3), and for each window
    and confidence threshold ``w<W>@<t>`` with ``acceptance`` (accepted / drafted), ``drafted`` per round and
    ``length`` (1 + accepted / rounds).
    """
    ranks, total, arrays = np.zeros(BEST), 0, []
    for row, guess in zip(rows, guesses, strict=True):
        hit = guess.best == row.tokens[row.prompt :].numpy()[:, None]
        ranks += hit.cumsum(1).sum(0)
        total += len(hit)
        arrays.append((hit[:, 0].tolist(), guess.confidence))
    result: dict[str, Any] = {"tokens": total}
    result |= {f"top{k + 1}": round(float(ranks[k]) / total, 4) for k in range(BEST)}
    for window in (4, 8):
        for threshold in thresholds:
            d, a, r = map(sum, zip(*(walk(hit, (p >= threshold).tolist(), window) for hit, p in arrays)))
            result[f"w{window}@{threshold}"] = {
                "acceptance": round(a / max(d, 1), 4),
                "drafted": round(d / r, 3),
                "length": round(1 + a / r, 3),
            }
    return result


def milliseconds(draft: DraftBackend, prompt: list[int], count: int) -> float:
    """Median milliseconds for one drafted token as nodes serve it: the prompt computed, then a growing chain."""
    times, chain = [], []
    for n in range(count + 1):
        start = time.perf_counter()
        (found,) = draft.expand([ExpandRequest("timing", prompt, list(chain), list(range(n)), [n])])[0]
        best = int(found.logits.argmax())
        chain.append(best if found.ids is None else int(found.ids[best]))
        times.append(time.perf_counter() - start)
    draft.release("timing")
    return 1000 * sorted(times[1:])[count // 2]
