"""Small random Llama models on disk, made from a visible seed; shared by the backend tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from reference_nodes.backends.gguf_files import write_safetensors
from reference_nodes.backends.hf_files import bf16_bits

SMALL = {
    "layers": 4,
    "hidden": 128,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 32,
    "intermediate": 352,
    "vocab": 512,
}
ODD = {
    "layers": 3,
    "hidden": 72,
    "heads": 3,
    "kv_heads": 3,
    "head_dim": 48,
    "intermediate": 200,
    "vocab": 331,
}


def config_of(shape: dict[str, int], **changes: Any) -> dict[str, Any]:
    """config.json for a shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape["vocab"],
        "num_hidden_layers": shape["layers"],
        "hidden_size": shape["hidden"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["head_dim"],
        "intermediate_size": shape["intermediate"],
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        **changes,
    }


def random_weights(shape: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Tensors as bfloat16 bits, scaled so that attention and the head are far from uniform."""
    rng = np.random.default_rng(seed)
    hidden, wide = shape["hidden"], shape["intermediate"]
    q, kv = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]

    def matrix(rows: int, columns: int, gain: float = 1.0) -> np.ndarray:
        return bf16_bits(rng.standard_normal((rows, columns)) * gain / np.sqrt(columns))

    def norm() -> np.ndarray:
        return bf16_bits(1 + 0.2 * rng.standard_normal(hidden))

    weights = {"model.embed_tokens.weight": matrix(shape["vocab"], hidden, 5.0), "model.norm.weight": norm()}
    for layer in range(shape["layers"]):
        p = f"model.layers.{layer}."
        weights |= {
            p + "input_layernorm.weight": norm(),
            p + "post_attention_layernorm.weight": norm(),
            p + "self_attn.q_proj.weight": matrix(q, hidden, 2.0),
            p + "self_attn.k_proj.weight": matrix(kv, hidden, 2.0),
            p + "self_attn.v_proj.weight": matrix(kv, hidden),
            p + "self_attn.o_proj.weight": matrix(hidden, q),
            p + "mlp.gate_proj.weight": matrix(wide, hidden),
            p + "mlp.up_proj.weight": matrix(wide, hidden),
            p + "mlp.down_proj.weight": matrix(hidden, wide),
        }
    return weights


def write_model(
    directory: Path, shape: dict[str, int], seed: int = 1, vocab: int | None = None, **changes: Any
) -> Path:
    """A model directory; its tokenizer has `vocab` entries (default: as many as the embedding has rows)."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config_of(shape, **changes)))
    write_safetensors(directory / "model.safetensors", random_weights(shape, seed))
    entries = {f"t{i}": i for i in range(shape["vocab"] if vocab is None else vocab)}
    tokenizer = {"model": {"type": "WordLevel", "vocab": entries, "unk_token": "t0"}, "added_tokens": []}
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    return directory
