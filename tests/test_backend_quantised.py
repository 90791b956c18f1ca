"""Four-bit drafting: the packed product against plain arithmetic, and a model against its four-bit copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backend_models import ODD, SMALL, random_weights, write_model

from reference_nodes.backends.base import ExpandRequest, TreeRequest, UnsupportedModel
from reference_nodes.backends.gguf_files import write_safetensors
from reference_nodes.backends.hf_files import bf16_bits, from_bf16
from reference_nodes.backends.kernels import Shape, compile_forward, padded
from reference_nodes.backends.loading import load_draft, load_target
from reference_nodes.backends.quantised import BLOCK, pack_q4
from reference_nodes.models_store import ModelError, ModelFiles, locate

SHAPE = Shape(1, 64, 2, 1, 32, 96, 1e-5)


def four_bit_weights(rng: np.random.Generator, columns: int, depth: int) -> np.ndarray:
    """Weights that four bits hold exactly: every block has all of low, low + step, ..., low + 15 step."""
    q = np.stack([rng.permutation(np.arange(BLOCK) % 16) for _ in range(columns * depth // BLOCK)])
    step = 2.0 ** rng.integers(-3, 1, (len(q), 1))
    low = -step * rng.integers(0, 16, (len(q), 1))
    return (low + step * q).astype(np.float32).reshape(columns, depth)


def product(x: np.ndarray, weight: np.ndarray, features: str | None = None) -> np.ndarray:
    columns = padded(len(weight))
    packed, out = pack_q4(bf16_bits(weight), columns), np.empty((len(x), columns), np.float32)
    cpu = None if features is None else ""
    gemm = compile_forward(SHAPE, cpu, features, q4=True).function("gemm_q4")
    depth = x.shape[1]
    groups = columns // 64
    gemm(x.ctypes.data, depth, len(x), packed.ctypes.data, depth, groups, out.ctypes.data, columns, 0)
    return out[:, : len(weight)]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8])
def test_product_of_weights_that_fit_is_as_good_as_its_input(rows: int) -> None:
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 96)).astype(np.float32)
    x[:, :BLOCK] *= 100  # one block of large values must not cost the others their precision
    weight = four_bit_weights(rng, 70, 96)
    expected = x.astype(np.float64) @ weight.T.astype(np.float64)
    bound = np.abs(x).astype(np.float64) @ np.abs(weight).T.astype(np.float64)
    assert (np.abs(product(x, weight) - expected) <= 1e-2 * bound).all()


def test_rows_and_code_generation_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 96)).astype(np.float32)
    weight = rng.standard_normal((64, 96)).astype(np.float32)
    together = product(x, weight)
    for row in range(5):
        assert np.array_equal(product(x[row : row + 1], weight)[0], together[row])
    assert np.array_equal(product(x, weight, features=""), together)


def test_zero_rows_and_constant_weights() -> None:
    weight = np.full((64, 64), 0.5, np.float32)
    assert np.array_equal(product(np.zeros((1, 64), np.float32), weight), np.zeros((1, 64)))
    assert np.allclose(product(np.ones((1, 64), np.float32), weight), 32)


def test_a_four_bit_copy_drafts_for_its_model(tmp_path: Path) -> None:
    """The model's matrices come from four bits, as those of a quantised file do."""
    path = write_model(tmp_path / "model", SMALL)
    rng = np.random.default_rng(3)
    weights = random_weights(SMALL, 1)
    for name, value in weights.items():
        if value.ndim == 2 and "embed" not in name:
            fitting = four_bit_weights(rng, *value.shape)
            weights[name] = bf16_bits(fitting * from_bf16(value).std() / fitting.std())
    write_safetensors(path / "model.safetensors", weights)
    files = locate(f"{path}:q4")
    assert files == ModelFiles("llama", "model:q4", path, "q4")
    draft, target = load_draft(files), load_target(locate(str(path)))
    prefix = [int(t) for t in rng.integers(0, 512, 20)]
    tokens = [int(t) for t in rng.integers(0, 512, 60)]
    request = ExpandRequest("s", prefix, tokens, [0] * 60, range(61))
    rows = target.score([TreeRequest("s", prefix, tokens, [0] * 60)])[0]
    same = []
    for node, candidates in enumerate(draft.expand([request])[0]):
        assert candidates.ids is not None
        same.append(candidates.ids[candidates.logits.argmax()] == rows.row(node).argmax())
    assert np.mean(same) > 0.9


def test_what_has_no_four_bit_copy(tmp_path: Path) -> None:
    path = write_model(tmp_path / "odd", ODD)
    with pytest.raises(UnsupportedModel, match="multiples of 32: hidden_size is 72"):
        load_draft(locate(f"{path}:q4"))
    with pytest.raises(ModelError, match="only a model of weights"):
        locate("ngram:q4")
    with pytest.raises(ModelError, match="odd:q4 proposes drafts only"):
        load_target(locate(f"{path}:q4"))
