"""Train the draft: match the target's distribution over the shortlist, and its final hidden states."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .checkpoint import build_shortlist, load_draft, save_draft
from .data import Batch, Rows
from .evaluate import cached_text, measure
from .lexicon import token_ids
from .student import Student, draft_config, initial_state


@dataclass(frozen=True)
class Plan:
    """What a training run does; every field is a flag of ``train``."""

    steps: int = 4000
    minutes: float = 60.0
    tokens: int = 2048
    rate: float = 1e-3
    warm: int = 60
    decay: float = 0.05
    hard: float = 0.3
    match: float = 1.0
    average: float = 0.99
    seed: int = 1


def losses(student: Student, batch: Batch, plan: Plan) -> dict[str, torch.Tensor]:
    """The parts of the loss, and the agreement on answer tokens.

    ``soft``: KL from the target's distribution to the draft's over the shortlist. ``hard``: cross entropy with the
    target's first choice. ``match``: squared distance of the final hidden states, relative to the target's.
    """
    states = student.states(batch.ids)
    teacher = batch.hidden[batch.answer]
    with torch.no_grad():
        goal = student.logits(teacher)
        best, goal = goal.argmax(-1), goal.softmax(-1)
    logits = student.logits(states[batch.answer]).log_softmax(-1)
    soft = -(goal * logits).sum(-1).mean()
    with torch.no_grad():
        entropy = -(goal * goal.clamp_min(1e-12).log()).sum(-1).mean()
    gap = (states[batch.text] - batch.hidden[batch.text]).pow(2).sum(-1)
    return {
        "soft": soft - entropy,
        "hard": F.nll_loss(logits, best),
        "match": (gap / batch.hidden[batch.text].pow(2).sum(-1).clamp_min(1e-6)).mean(),
        "agree": (logits.argmax(-1) == best).float().mean().detach(),
    }


def rate_at(plan: Plan, step: int, progress: float) -> float:
    """Learning rate: linear warm-up, then a cosine over ``progress`` (0..1) down to a fiftieth."""
    floor = 0.02
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return plan.rate * min(1.0, (step + 1) / plan.warm) * cosine


class Trainer:
    """AdamW over the draft's own tensors, with a moving average of the weights that is what gets saved."""

    def __init__(self, student: Student, plan: Plan) -> None:
        self.student, self.plan, self.step = student, plan, 0
        decayed = [p for p in student.parameters() if p.requires_grad and p.dim() > 1]
        plain = [p for p in student.parameters() if p.requires_grad and p.dim() == 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": plan.decay}, {"params": plain, "weight_decay": 0.0}],
            lr=plan.rate,
            betas=(0.9, 0.98),
        )
        self.average = {n: t.clone() for n, t in student.own_state().items()}

    def train_step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One update; returns the parts of the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.plan, self.step, progress)
        parts = losses(self.student, batch, self.plan)
        loss = parts["soft"] + self.plan.hard * parts["hard"] + self.plan.match * parts["match"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.step += 1
        # A young average forgets faster, or the first weights would weigh on it for long.
        keep = min(self.plan.average, self.step / (self.step + 10))
        with torch.no_grad():
            for n, t in self.student.own_state().items():
                self.average[n].lerp_(t, 1 - keep)
        return {n: float(p.detach()) for n, p in parts.items()}


def averaged(trainer: Trainer, embedding: torch.Tensor) -> Student:
    """A student that holds the averaged weights."""
    copy = Student(trainer.student.config, embedding, trainer.student.shortlist)
    copy.load_own(trainer.average)
    return copy.eval()


def _everyday(target: Path) -> list[int]:
    from transformers import AutoTokenizer

    return token_ids(AutoTokenizer.from_pretrained(target))


def run(
    target: Path,
    gguf: Path,
    shards: list[Path],
    out: Path,
    layers: list[int],
    ffn: int,
    shortlist: int,
    header: int,
    every: float,
    measure_on: dict[str, tuple[Path, list[str]]],
    plan: Plan,
    shortlist_from: Path | None = None,
    start: Path | None = None,
) -> None:
    """Train until ``plan.steps`` or ``plan.minutes``, whichever comes first; save and measure every ``every`` minutes.

    New shards that appear in the folders are taken in between epochs. ``start`` continues from a saved draft's weights
    (its config and shortlist are kept); the optimiser starts afresh.
    """
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    rows = Rows(shards, header)
    rows.refresh()
    if start:
        config, state, short = load_draft(start)
        config.pop("dsdp_draft")
        embedding, _ = initial_state(target, [], 0)
        state = {n: t.float() for n, t in state.items()}
    else:
        config = draft_config(target, len(layers), ffn)
        embedding, state = initial_state(target, layers, ffn)
        if shortlist_from:
            short = load_draft(shortlist_from)[2]
        else:
            short = build_shortlist(rows.counts(len(embedding)), shortlist, [0, 1, 2, *_everyday(target)])
    student = Student(config, embedding, short)
    student.load_own(state)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    trainer, began, saved, seen = Trainer(student, plan), time.monotonic(), time.monotonic(), 0
    mean: dict[str, float] = {}

    def checkpoint() -> None:
        model = averaged(trainer, embedding)
        save_draft(out, config, model.own_state(), short, target="SmolLM2-135M-Instruct", target_sha256=digest)
        for name, (cache, prompts) in measure_on.items():
            result = measure(model, cached_text(cache, target, prompts, 128))
            print(f"  {name}: " + json.dumps(result), file=sys.stderr, flush=True)

    def progress() -> float:
        return max(trainer.step / plan.steps, (time.monotonic() - began) / (60 * plan.minutes))

    while progress() < 1:
        rows.refresh()
        print(f"{len(rows.rows)} rows, {rows.answer_tokens()} answer tokens", file=sys.stderr, flush=True)
        for batch in rows.epoch(rng, plan.tokens):
            parts = trainer.train_step(batch, progress())
            seen += int(batch.answer.sum())
            mean = {n: 0.97 * mean.get(n, v) + 0.03 * v for n, v in parts.items()}
            if trainer.step % 25 == 0:
                figures = " ".join(f"{n} {v:.3f}" for n, v in mean.items())
                pace = seen / (time.monotonic() - began)
                print(
                    f"step {trainer.step}: {figures}; {seen} answer tokens, {pace:.0f}/s", file=sys.stderr, flush=True
                )
            if time.monotonic() - saved > 60 * every:
                checkpoint()
                saved = time.monotonic()
            if progress() >= 1:
                break
    checkpoint()
