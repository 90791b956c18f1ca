"""The Llama forward against transformers, and the kernels against other code generations of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend_models import ODD, SMALL, write_model

from reference_nodes.backends.base import BadRequest, CacheFull, ContextFull, TreeRequest, UnsupportedModel
from reference_nodes.backends.hf_files import read_config, read_weights
from reference_nodes.backends.kernels import Shape, compile_forward, pack, padded
from reference_nodes.backends.loading import load_target
from reference_nodes.models_store import ModelError, ModelFiles, locate

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def our_logits(path: Path, tokens: list[int]) -> np.ndarray:
    target = load_target(ModelFiles("llama", "model", path), cache_tokens=2048)
    rows = target.score([TreeRequest("s", tokens[:1], tokens[1:], range(len(tokens) - 1))])[0]
    return np.stack([rows.row(j) for j in range(len(tokens))])


def their_logits(path: Path, tokens: list[int]) -> np.ndarray:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        (SMALL, {}),
        (ODD, {}),
        (SMALL, {"rope_parameters": LLAMA3}),
        (ODD, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}}),
    ],
    ids=["small", "odd", "llama3 rope", "linear rope"],
)
def test_logits_agree_with_transformers(tmp_path: Path, shape: dict[str, int], changes: dict[str, Any]) -> None:
    path = write_model(tmp_path, shape, seed=5, **changes)
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, shape["vocab"], 150)]
    ours, theirs = our_logits(path, tokens), their_logits(path, tokens)
    assert np.abs(theirs).max() > 5  # the comparison below means something
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.99


@pytest.mark.model
def test_smollm2_logits_agree_with_transformers() -> None:
    try:
        path = locate("smollm2").path
    except ModelError as error:
        pytest.skip(f"needs the SmolLM2 weights: {error}")
    assert path is not None
    from reference_nodes.backends.tokens import Text

    tokens = Text(path).encode_chat([{"role": "user", "content": "Explain how a bicycle stays upright."}])
    tokens += [int(t) for t in np.random.default_rng(0).integers(0, 49152, 40)]
    ours, theirs = our_logits(path, tokens), their_logits(path, tokens)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    assert (ours.argmax(1) == theirs.argmax(1)).all()


def test_a_padded_head_is_cut_to_the_real_vocabulary(tmp_path: Path) -> None:
    path = write_model(tmp_path, SMALL, vocab=500)
    target = load_target(ModelFiles("llama", "model", path), cache_tokens=64)
    assert target.vocab_size == 500
    assert target.score([TreeRequest("s", [1])])[0].row(0).shape == (500,)
    with pytest.raises(BadRequest, match=r"outside 0\.\.499"):
        target.score([TreeRequest("s", [505])])


def test_a_tokenizer_larger_than_its_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="600 entries but the model only 512"):
        load_target(ModelFiles("llama", "model", write_model(tmp_path, SMALL, vocab=600)))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 13, 64])
def test_product_is_an_fma_chain_over_k(rows: int) -> None:
    """Every element equals the chain computed with exact products in float64, rounded once per step."""
    rng = np.random.default_rng(rows)
    depth, columns = 24, 70
    bits = rng.integers(0x3C00, 0x4100, (columns, depth)).astype(np.uint16)
    weight = (bits.astype(np.uint32) << 16).view(np.float32)
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    # With few bits in x and narrow exponents, a product plus a float32 is exact in float64: rounding
    # that to float32 is then the single rounding of a fused step.
    x = (np.round(x * 256) / 256).astype(np.float32)
    expected = np.zeros((rows, columns), np.float32)
    for k in range(depth):
        exact = x[:, k : k + 1].astype(np.float64) * weight[:, k].astype(np.float64) + expected
        expected = exact.astype(np.float32)
    packed, out = pack(bits), np.empty((rows, padded(columns)), np.float32)
    gemm = compile_forward(Shape(1, 8, 1, 1, 16, 8, 1e-5)).function("gemm")
    groups = padded(columns) // 64
    gemm(x.ctypes.data, depth, rows, packed.ctypes.data, depth, groups, out.ctypes.data, padded(columns), 0)
    assert np.array_equal(out[:, :columns], expected)


def test_bits_do_not_depend_on_the_code_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels compiled for a CPU without vector FMA give the same bits: the order is ours."""
    from reference_nodes.backends import llama

    path = write_model(tmp_path, ODD, seed=7)
    tokens = [int(t) for t in np.random.default_rng(1).integers(0, ODD["vocab"], 40)]
    native = our_logits(path, tokens)
    monkeypatch.setattr(llama, "compile_forward", lambda shape: compile_forward(shape, cpu="", features=""))
    assert np.array_equal(our_logits(path, tokens).view(np.uint32), native.view(np.uint32))


def test_eviction_recomputes_the_same_bits(tmp_path: Path) -> None:
    target = load_target(ModelFiles("llama", "model", write_model(tmp_path, SMALL)), cache_tokens=100)
    rng = np.random.default_rng(2)
    a, b = ([int(t) for t in rng.integers(0, 512, 60)] for _ in range(2))
    first = target.score([TreeRequest("a", a)])[0].row(0)
    target.score([TreeRequest("b", b)])
    assert target.cached("a", a) == 0 and target.counters.evictions == 1
    assert np.array_equal(target.score([TreeRequest("a", a)])[0].row(0), first)
    with pytest.raises(CacheFull, match="split the batch"):
        target.score([TreeRequest("a", a), TreeRequest("b", b)])
    assert np.array_equal(target.score([TreeRequest("a", a)])[0].row(0), first)


def test_stale_drafts_make_room_before_sessions_do(tmp_path: Path) -> None:
    target = load_target(ModelFiles("llama", "model", write_model(tmp_path, SMALL)), cache_tokens=100)
    target.score([TreeRequest("other", [1] * 20)])
    for start in range(0, 300, 30):
        target.score([TreeRequest("s", [7, 8], range(start, start + 30), [0] * 30)])
    assert target.counters.evictions == 0
    assert target.cached("other", [1] * 20) == 20


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    target = load_target(ModelFiles("llama", "model", write_model(tmp_path, SMALL)), cache_tokens=200)
    target.score([TreeRequest("s", [1, 2, 3], [4, 5, 6], [0, 1, 0])])
    assert target.counters.rows == 6
    assert target.cached("s", [1, 2, 3, 4, 5, 9]) == 5
    target.score([TreeRequest("s", [1, 2, 3, 4], [5], [0])])
    assert target.counters.rows == 6
    target.score([TreeRequest("s", [1, 2, 3, 4, 9], [5], [0])])
    assert target.counters.rows == 8
    target.release("s")
    assert target.cached("s", [1, 2, 3]) == 0


def test_an_interrupted_forward_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ModelFiles("llama", "model", write_model(tmp_path, SMALL))
    target = load_target(files)
    expected = load_target(files).score([TreeRequest("s", [1, 2, 3])])[0].row(0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(target._engine.model, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            target.score([TreeRequest("s", [1, 2, 3])])
    assert target.cached("s", [1, 2, 3]) == 0 and target.free_slots == target._engine.model.slots
    assert np.array_equal(target.score([TreeRequest("s", [1, 2, 3])])[0].row(0), expected)


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (TreeRequest("s", []), BadRequest, "empty prefix"),
        (TreeRequest("s", [1], [2], []), BadRequest, "one parent per token"),
        (TreeRequest("s", [1], [2, 3], [0, 2]), BadRequest, r"parents\[1\] = 2"),
        (TreeRequest("s", [1], [-1], [0]), BadRequest, "outside"),
        (TreeRequest("s", [1] * 60, [1] * 5, range(5)), ContextFull, "65 positions exceeds max_context 64"),
    ],
)
def test_bad_requests(tmp_path: Path, request_: TreeRequest, error: type[Exception], says: str) -> None:
    target = load_target(ModelFiles("llama", "model", write_model(tmp_path, SMALL)), max_context=64)
    with pytest.raises(error, match=says):
        target.score([request_])
    with pytest.raises(BadRequest, match="same session key"):
        target.score([TreeRequest("s", [1]), TreeRequest("s", [2])])
    assert target.counters.rows == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM.*Supported is a Llama-family"),
        ({"attention_bias": True}, "attention_bias is set"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ({"hidden_size": 100}, "multiples of 8"),
        ({"num_attention_heads": None}, "missing or malformed"),
    ],
)
def test_unsupported_models(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        read_config(write_model(tmp_path, SMALL, **changes))


def test_broken_files(tmp_path: Path) -> None:
    path = write_model(tmp_path, SMALL)
    with pytest.raises(UnsupportedModel, match=r"tensor model\.layers\.4\.input_layernorm\.weight: missing"):
        write_model(tmp_path / "deep", SMALL, num_hidden_layers=5)
        load_target(ModelFiles("llama", "deep", tmp_path / "deep"))
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UnsupportedModel, match="truncated"):
        read_weights(path)
    weights.unlink()
    (path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModel, match="never loaded"):
        read_weights(path)
