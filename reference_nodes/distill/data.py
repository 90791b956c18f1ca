"""Training rows from shards, in batches of about equal length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file


@dataclass(frozen=True)
class Batch:
    """Right-padded rows: ``ids`` [B, T]; ``hidden`` [B, T, H] float32; ``answer`` and ``text`` [B, T] bool.

    ``hidden[:, j]`` is the target's state that predicts token j + 1. ``answer`` marks the positions that predict an
    answer token, ``text`` all positions after the system prompt whose state is to be matched.
    """

    ids: torch.Tensor
    hidden: torch.Tensor
    answer: torch.Tensor
    text: torch.Tensor


class Rows:
    """All rows of the shards seen so far; ``refresh`` takes in new shards.

    ``hold`` shards (every 20th, say) can be kept apart for validation with ``every`` and ``held``.
    """

    def __init__(self, folders: list[Path], header: int, every: int = 20, held: bool = False) -> None:
        self.folders, self.header, self.every, self.held = folders, header, every, held
        self.rows: list[tuple[torch.Tensor, torch.Tensor, int]] = []
        self._seen: set[Path] = set()

    def refresh(self) -> int:
        """Read the shards that appeared since the last call; returns the number of rows now held."""
        for folder in self.folders:
            for path in sorted(folder.glob("shard-*.safetensors")):
                number = int(path.stem.split("-")[1])
                if path in self._seen or (number % self.every == 0) != self.held:
                    continue
                self._seen.add(path)
                shard, start = load_file(str(path)), 0
                for length in shard["lengths"].tolist():
                    stop = start + length
                    self.rows.append((shard["tokens"][start:stop], shard["hidden"][start:stop], int(shard["prompt"])))
                    start = stop
        return len(self.rows)

    def answer_tokens(self) -> int:
        """How many answer tokens the rows hold."""
        return sum(len(t) - p for t, _, p in self.rows)

    def counts(self, vocab: int) -> torch.Tensor:
        """How often each token occurs: answers count fully, the prompts' tokens a tenth."""
        total = torch.zeros(vocab, dtype=torch.double)
        for tokens, _, prompt in self.rows:
            total += torch.bincount(tokens[prompt:].long(), minlength=vocab)
            total += 0.1 * torch.bincount(tokens[:prompt].long(), minlength=vocab)
        return total

    def _batch(self, picked: list[int]) -> Batch:
        rows = [self.rows[i] for i in picked]
        size = max(len(t) for t, _, _ in rows) - 1
        ids = torch.zeros(len(rows), size, dtype=torch.long)
        hidden = torch.zeros(len(rows), size, rows[0][1].shape[1])
        answer = torch.zeros(len(rows), size, dtype=torch.bool)
        text = torch.zeros(len(rows), size, dtype=torch.bool)
        for b, (tokens, states, prompt) in enumerate(rows):
            n = len(tokens) - 1
            ids[b, :n] = tokens[:-1]
            hidden[b, :n] = states[:-1]
            answer[b, prompt - 1 : n] = True
            text[b, min(self.header, n) : n] = True
        return Batch(ids, hidden, answer, text)

    def epoch(self, rng: random.Random, tokens: int) -> Iterator[Batch]:
        """Every row once, in shuffled batches of about ``tokens`` tokens, rows of similar length together."""
        order = sorted(range(len(self.rows)), key=lambda i: len(self.rows[i][0]) + 12 * rng.random())
        groups: list[list[int]] = [[]]
        for i in order:
            if groups[-1] and (len(groups[-1]) + 1) * len(self.rows[i][0]) > tokens:
                groups.append([])
            groups[-1].append(i)
        rng.shuffle(groups)
        for group in groups:
            yield self._batch(group)
