"""Train the draft: match the target's distribution over the shortlist, and its final hidden states."""

from __future__ import annotations

import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .checkpoint import build_shortlist, load_draft, save_draft
from .data import Batch, Rows
from .evaluate import evaluation_rows, measure, student_guesses
from .lexicon import token_ids
from .prompts import load_prompts
from .student import Student, draft_config, initial_state, rounded


@dataclass(frozen=True)
class Plan:
    """What a training run does; every field is a flag of ``train``."""

    steps: int = 4000
    minutes: float = 60.0
    tokens: int = 1536
    rate: float = 1e-3
    warm: int = 60
    decay: float = 0.05
    hard: float = 0.3
    match: float = 1.0
    average: float = 0.99
    classes: int = 8192
    round_from: float = 0.6
    seed: int = 1


def losses(student: Student, batch: Batch, head: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of the loss, and the agreement on answer tokens. ``head`` [K, hidden]: embeddings of frequent tokens.

    ``soft``: KL from the target's distribution to the draft's over these tokens. ``hard``: cross entropy with the
    target's first choice. ``match``: squared distance of the final hidden states, relative to the target's.
    """
    states = student.states(batch.trunk)
    with torch.no_grad():
        goal = F.linear(batch.hidden[batch.answer], head).log_softmax(-1)
        best, chance = goal.argmax(-1), goal.exp()
    guess = F.linear(states[batch.answer], head).log_softmax(-1)
    gap = (states[batch.text] - batch.hidden[batch.text]).pow(2).sum(-1)
    return {
        "soft": (chance * (goal - guess)).sum(-1).mean(),
        "hard": F.nll_loss(guess, best),
        "match": (gap / batch.hidden[batch.text].pow(2).sum(-1).clamp_min(1e-6)).mean(),
        "agree": (guess.argmax(-1) == best).float().mean().detach(),
    }


def rate_at(plan: Plan, step: int, progress: float) -> float:
    """Learning rate: linear warm-up, then a cosine over ``progress`` (0..1) down to a fiftieth."""
    floor = 0.02
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return plan.rate * min(1.0, (step + 1) / plan.warm) * cosine


class Trainer:
    """AdamW over the draft's own tensors, with a moving average of the weights that is what gets saved.

    From ``plan.round_from`` of the way on, losses and gradients are those of the weights as they are served, in four
    bits, and the updates go to the exact ones (straight through).
    """

    def __init__(self, student: Student, head: torch.Tensor, plan: Plan) -> None:
        self.student, self.head, self.plan, self.step = student, head, plan, 0
        plain = [p for p in student.parameters() if p.dim() == 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": student.matrices(), "weight_decay": plan.decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=plan.rate,
            betas=(0.9, 0.98),
        )
        self.average = {n: t.clone() for n, t in student.own_state().items()}

    def train_step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One update; returns the parts of the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.plan, self.step, progress)
        self.optimiser.zero_grad(set_to_none=True)
        with served_weights(self.student) if progress >= self.plan.round_from else nullcontext():
            parts = losses(self.student, batch, self.head)
            loss = parts["soft"] + self.plan.hard * parts["hard"] + self.plan.match * parts["match"]
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        # A young average forgets faster, or the first weights would weigh on it for long.
        keep = min(self.plan.average, self.step / (self.step + 10))
        with torch.no_grad():
            for n, t in self.student.own_state().items():
                self.average[n].lerp_(t, 1 - keep)
        return {n: float(p.detach()) for n, p in parts.items()}


@contextmanager
def served_weights(student: Student) -> Iterator[None]:
    """Within the context the matrices hold what a node computes with."""
    exact = [p.data for p in student.matrices()]
    for p in student.matrices():
        p.data = rounded(p.data)
    try:
        yield
    finally:
        for p, value in zip(student.matrices(), exact):
            p.data = value


def averaged(trainer: Trainer) -> Student:
    """A student that holds the averaged weights, as they are served."""
    copy = Student(trainer.student.config, trainer.student.trunk)
    copy.load_own(trainer.average)
    for p in copy.matrices():
        p.data = rounded(p.data)
    return copy.eval()


def _everyday(target: Path) -> list[int]:
    from transformers import AutoTokenizer

    return token_ids(AutoTokenizer.from_pretrained(target))


@dataclass(frozen=True)
class Files:
    """What a run reads and writes."""

    target: Path  # directory of the target
    gguf: Path  # the target's GGUF file, whose hash goes into the config
    shards: list[Path]  # folders
    out: Path  # the draft's directory
    measure: list[Path]  # prompt files to measure each checkpoint on
    text: Path  # folder that caches the target's answers to those
    start: Path | None = None  # go on from this draft's weights


def run(
    files: Files, trunk: int, layers: list[int], shortlist: int, header: int, every: float, plan: Plan, few: int
) -> None:
    """Train until ``plan.steps`` or ``plan.minutes``, whichever comes first; save and measure every ``every`` minutes.

    The draft is the target's first ``trunk`` layers and layers of its own that start from the target's ``layers``. New
    shards that appear in the folders are taken in between epochs. ``start`` continues from a saved draft's weights
    (its config and shortlist are kept); the optimiser starts afresh. ``few``: prompts of each file to measure on.
    """
    torch.manual_seed(plan.seed)
    rng = random.Random(plan.seed)
    rows = Rows(files.shards, trunk, header)
    rows.refresh()
    embedding, state = initial_state(files.target, trunk, layers)
    counts, everyday = rows.counts(len(embedding)), [0, 1, 2, *_everyday(files.target)]
    config = draft_config(files.target, trunk + len(layers))
    if files.start:
        config, saved, short = load_draft(files.start)
        state = {n: t.float() for n, t in saved.items()}
    else:
        short = build_shortlist(counts, shortlist, everyday)
    student = Student(config, trunk)
    student.load_own(state)
    # The most frequent tokens stand in for the whole shortlist: the states are matched as well, so the rest follows.
    frequent = build_shortlist(counts, min(plan.classes, len(embedding)))
    digest = hashlib.sha256(files.gguf.read_bytes()).hexdigest()
    texts = {
        path.stem: evaluation_rows(files.text, files.target, path.stem, load_prompts(path), 128, trunk)[:few]
        for path in files.measure
    }
    trainer = Trainer(student, embedding[frequent.long()].contiguous(), plan)
    began = saved_at = time.monotonic()
    seen, mean = 0, dict[str, float]()

    def checkpoint() -> None:
        model = averaged(trainer)
        save_draft(
            files.out, config, trunk, trainer.average, short, target="SmolLM2-135M-Instruct", target_sha256=digest
        )
        for name, some in texts.items():
            result = measure(some, student_guesses(model, embedding[short.long()], short, some))
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
            if time.monotonic() - saved_at > 60 * every:
                checkpoint()
                saved_at = time.monotonic()
            if progress() >= 1:
                break
    checkpoint()
