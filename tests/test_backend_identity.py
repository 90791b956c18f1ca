"""The promise of a target: a node's logits are a function of its path alone, bit for bit.

A campaign drives several sessions at once through random trees, prefill chunks, batch mates, commits,
rollbacks and releases, on a cache small enough to evict, and compares every row with
one-token-at-a-time decoding alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_models import ODD, SMALL, write_model

from reference_nodes.backends.base import CacheFull, TargetBackend, TreeRequest
from reference_nodes.backends.loading import load_target
from reference_nodes.backends.target import LlamaTarget
from reference_nodes.models_store import ModelError, ModelFiles, locate


class Alone:
    """Decodes one token at a time in a session of its own: one row in every forward."""

    def __init__(self, target: TargetBackend) -> None:
        self._target = target
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        self.rows = 0

    def logits(self, path: tuple[int, ...]) -> np.ndarray:
        if path not in self._known:
            for length in range(1, len(path) + 1):
                rows = self._target.score([TreeRequest("alone", path[:length])])[0]
            self._known[path] = rows.row(0)
            self.rows += 1
        return self._known[path]


def random_tree(rng: np.random.Generator, vocab: int, largest: int) -> tuple[list[int], list[int]]:
    size = int(rng.integers(0, largest + 1))
    chain = rng.random() < 0.3
    parents = [i if chain else int(rng.integers(0, i + 1)) for i in range(size)]
    return [int(t) for t in rng.integers(0, vocab, size)], parents


def path_of(prefix: list[int], tokens: list[int], parents: list[int], node: int) -> tuple[int, ...]:
    tail: list[int] = []
    while node:
        tail.append(tokens[node - 1])
        node = parents[node - 1]
    return (*prefix, *reversed(tail))


def campaign(
    target: LlamaTarget, reference: TargetBackend, seed: int, rounds: int, largest: int = 12, longest: int = 150
) -> int:
    """Trees have up to `largest` tokens, prefixes about `longest`. Returns the number of rows compared, all equal."""
    rng = np.random.default_rng(seed)
    alone = Alone(reference)
    sessions: dict[int, list[int]] = {}
    compared, slots = 0, target.free_slots
    for _ in range(rounds):
        for key in range(4):
            if key not in sessions or len(sessions[key]) > longest or rng.random() < 0.03:
                target.release(key)
                sessions[key] = [int(t) for t in rng.integers(0, target.vocab_size, rng.integers(1, 70))]
            if rng.random() < 0.3:
                have = target.cached(key, sessions[key])
                now = target.prefill(key, sessions[key], int(rng.integers(0, 30)))
                assert have <= now == target.cached(key, sessions[key])
        keys = [int(k) for k in rng.permutation(4)[: rng.integers(1, 5)]]
        trees = {key: random_tree(rng, target.vocab_size, largest) for key in keys}
        requests = [TreeRequest(key, sessions[key], *trees[key]) for key in keys]
        try:
            scored = target.score(requests)
        except CacheFull:  # the batch is too much for a small cache: then one by one
            scored = [target.score([request])[0] for request in requests]
        for key, rows in zip(keys, scored):
            tokens, parents = trees[key]
            assert len(rows) == 1 + len(tokens)
            for node in rng.permutation(len(rows)):
                path = path_of(sessions[key], tokens, parents, int(node))
                row = rows.row(int(node))
                assert row.dtype == np.float32 and row.shape == (target.vocab_size,)
                assert np.array_equal(row.view(np.uint32), alone.logits(path).view(np.uint32)), (path, node)
                compared += 1
            action = rng.random()
            if action < 0.7:  # commit one path and one more token
                sessions[key] = [*path_of(sessions[key], tokens, parents, int(rng.integers(0, len(rows)))), 1]
            elif action < 0.8:  # roll back
                sessions[key] = sessions[key][: int(rng.integers(1, len(sessions[key]) + 1))]
            elif action < 0.85:
                target.release(key)
    target.release("never seen")
    for key in range(4):
        target.release(key)
    assert target.free_slots == slots  # no slot was lost or given back twice
    return compared


@pytest.mark.parametrize("shape", [SMALL, ODD], ids=["small", "odd"])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_row_equals_decoding_alone(tmp_path: Path, shape: dict[str, int], seed: int) -> None:
    files = ModelFiles("llama", "random", write_model(tmp_path, shape))
    target = load_target(files, cache_tokens=180)
    assert campaign(target, load_target(files), seed, rounds=12, longest=90) > 100
    assert target.counters.evictions > 0  # four sessions don't fit this cache


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(20))
def test_every_row_equals_decoding_alone_at_length(tmp_path: Path, seed: int) -> None:
    files = ModelFiles("llama", "random", write_model(tmp_path, ODD if seed % 2 else SMALL, seed))
    target = load_target(files, cache_tokens=[300, 1000, 20000][seed % 3])
    assert campaign(target, load_target(files), seed, rounds=60, largest=32) > 1000


@pytest.fixture(scope="module")
def smollm2() -> ModelFiles:
    try:
        return locate("smollm2")
    except ModelError as error:
        pytest.skip(f"needs the SmolLM2 weights: {error}")


@pytest.mark.model
def test_smollm2_rows_equal_decoding_alone(smollm2: ModelFiles) -> None:
    target = load_target(smollm2, cache_tokens=300)
    assert campaign(target, load_target(smollm2), seed=3, rounds=4, largest=8) > 25


@pytest.mark.model
@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_smollm2_rows_equal_decoding_alone_at_length(smollm2: ModelFiles, seed: int) -> None:
    target = load_target(smollm2, cache_tokens=1500)
    assert campaign(target, load_target(smollm2), seed, rounds=25, largest=32, longest=500) > 500
