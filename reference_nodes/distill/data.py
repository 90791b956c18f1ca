"""Training rows from shards, in batches of about equal length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open


@dataclass(frozen=True)
class Batch:
    """Right-padded rows: ``trunk`` and ``hidden`` [B, T, H] float32; ``answer`` and ``text`` [B, T] bool.

    ``trunk[:, j]`` and ``hidden[:, j]`` are the trunk's output and the target's final state at token j, which predict
    token j + 1. ``answer`` marks the positions that predict an answer token, ``text`` all positions after the system
    prompt whose state is to be matched.
    """

    trunk: torch.Tensor
    hidden: torch.Tensor
    answer: torch.Tensor
    text: torch.Tensor


@dataclass(frozen=True)
class TrainingRow:
    """One row of a shard; states in float16 [n, hidden]."""

    tokens: torch.Tensor
    hidden: torch.Tensor
    trunk: torch.Tensor
    prompt: int


class Rows:
    """All rows of the shards seen so far; ``refresh`` takes in new shards.

    Every ``every``-th shard is kept apart for validation: it is what a ``held`` instance reads.
    """

    def __init__(self, folders: list[Path], trunk: int, header: int, every: int = 20, held: bool = False) -> None:
        """``trunk``: which tap of the shards to read. ``header``: tokens of the system prompt."""
        self.folders, self.trunk, self.header, self.every, self.held = folders, trunk, header, every, held
        self.rows: list[TrainingRow] = []
        self._seen: set[Path] = set()

    def refresh(self) -> int:
        """Read the shards that appeared since the last call; returns the number of rows now held.

        Raises ValueError for a shard that was written without this trunk's tap.
        """
        for folder in self.folders:
            for path in sorted(folder.glob("shard-*.safetensors")):
                number = int(path.stem.split("-")[1])
                if path in self._seen or (number % self.every == 0) != self.held:
                    continue
                self._seen.add(path)
                self._read(path)
        return len(self.rows)

    def _read(self, path: Path) -> None:
        with safe_open(str(path), "pt") as f:
            if (tap := f"tap{self.trunk}") not in f.keys():  # noqa: SIM118 - not a dict
                raise ValueError(f"{path} has no {tap}: generate with --taps {self.trunk}, or train another trunk")
            tokens, hidden, trunk = f.get_tensor("tokens"), f.get_tensor("hidden"), f.get_tensor(tap)
            lengths, prompts = f.get_tensor("lengths").tolist(), f.get_tensor("prompts").tolist()
        start = 0
        for length, prompt in zip(lengths, prompts):
            part = slice(start, start + length)
            self.rows.append(TrainingRow(tokens[part], hidden[part], trunk[part], prompt))
            start += length

    def answer_tokens(self) -> int:
        """How many answer tokens the rows hold."""
        return sum(len(r.tokens) - r.prompt for r in self.rows)

    def counts(self, vocab: int) -> torch.Tensor:
        """How often each token occurs: answers count fully, the prompts' tokens a tenth."""
        total = torch.zeros(vocab, dtype=torch.double)
        for row in self.rows:
            total += torch.bincount(row.tokens[row.prompt :].long(), minlength=vocab)
            total += 0.1 * torch.bincount(row.tokens[: row.prompt].long(), minlength=vocab)
        return total

    def _batch(self, picked: list[int]) -> Batch:
        rows = [self.rows[i] for i in picked]
        size = max(len(r.tokens) for r in rows) - 1
        trunk = torch.zeros(len(rows), size, rows[0].hidden.shape[1])
        hidden = torch.zeros_like(trunk)
        answer = torch.zeros(len(rows), size, dtype=torch.bool)
        text = torch.zeros(len(rows), size, dtype=torch.bool)
        for b, row in enumerate(rows):
            n = len(row.tokens) - 1
            trunk[b, :n] = row.trunk[:-1]
            hidden[b, :n] = row.hidden[:-1]
            answer[b, row.prompt - 1 : n] = True
            text[b, min(self.header, n) : n] = True
        return Batch(trunk, hidden, answer, text)

    def epoch(self, rng: random.Random, tokens: int) -> Iterator[Batch]:
        """Every row once, in shuffled batches of about ``tokens`` tokens, rows of similar length together."""
        order = sorted(range(len(self.rows)), key=lambda i: len(self.rows[i].tokens) + 12 * rng.random())
        groups: list[list[int]] = [[]]
        for i in order:
            if groups[-1] and (len(groups[-1]) + 1) * len(self.rows[i].tokens) > tokens:
                groups.append([])
            groups[-1].append(i)
        rng.shuffle(groups)
        for group in groups:
            yield self._batch(group)
