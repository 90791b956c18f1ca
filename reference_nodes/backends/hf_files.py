"""Reading a Hugging Face directory: config.json and *.safetensors, as bfloat16 bits, without torch and
without pickle.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .base import UnsupportedModel

SUPPORTED = "a Llama-family model: architectures [LlamaForCausalLM], silu, no biases, rope default, linear or llama3"


@dataclass(frozen=True)
class LlamaConfig:
    """What the forward needs from config.json."""

    vocab_rows: int  # rows of the embedding, padding included
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    eps: float
    max_positions: int
    tied: bool
    rope: Mapping[str, Any]  # rope_type, rope_theta and the type's own parameters


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; raises UnsupportedModel where there is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{path}: holds {type(value).__name__}, expected a JSON object")
    return value


def read_config(directory: Path) -> LlamaConfig:
    """Parse and judge `directory`/config.json. Raises UnsupportedModel naming the field and what is
    supported.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise UnsupportedModel(f"{directory}: no config.json; expected a Hugging Face model directory")
    return parse_config(read_json(path), str(path))


def parse_config(raw: Mapping[str, Any], where: str) -> LlamaConfig:
    """`read_config` for a parsed object."""

    def refuse(what: str) -> UnsupportedModel:
        return UnsupportedModel(f"{where}: {what}. Supported is {SUPPORTED}")

    architectures = raw.get("architectures") or []
    if architectures != ["LlamaForCausalLM"] and not (not architectures and raw.get("model_type") == "llama"):
        raise refuse(f"architectures is {architectures}, model_type is {raw.get('model_type')!r}")
    if raw.get("hidden_act", "silu") != "silu":
        raise refuse(f"hidden_act is {raw['hidden_act']!r}")
    for flag in ("attention_bias", "mlp_bias"):
        if raw.get(flag):
            raise refuse(f"{flag} is set")
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", raw.get("rope_theta", 10000.0))
    if rope["rope_type"] not in ("default", "linear", "llama3"):
        raise refuse(f"rope_type is {rope['rope_type']!r}")
    try:
        heads = int(raw["num_attention_heads"])
        config = LlamaConfig(
            vocab_rows=int(raw["vocab_size"]),
            layers=int(raw["num_hidden_layers"]),
            hidden=int(raw["hidden_size"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or int(raw["hidden_size"]) // heads),
            intermediate=int(raw["intermediate_size"]),
            eps=float(raw.get("rms_norm_eps", 1e-6)),
            max_positions=int(raw.get("max_position_embeddings", 2048)),
            tied=bool(raw.get("tie_word_embeddings", False)),
            rope=rope,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise refuse(f"missing or malformed field ({type(error).__name__}: {error})") from error
    if config.hidden % 8 or config.intermediate % 8 or config.head_dim % 16 or config.heads % config.kv_heads:
        raise refuse(
            "hidden_size and intermediate_size must be multiples of 8, head_dim of 16, "
            "num_attention_heads of num_key_value_heads "
            f"(are {config.hidden}, {config.intermediate}, {config.head_dim}, "
            f"{config.heads} and {config.kv_heads})"
        )
    return config


def rope_tables(config: LlamaConfig, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """(cos, sin), each float32 [positions, head_dim / 2]; computed in float64, rounded once."""
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequency = float(config.rope["rope_theta"]) ** -exponent
    if config.rope["rope_type"] == "linear":
        frequency = frequency / float(config.rope["factor"])
    if config.rope["rope_type"] == "llama3":
        frequency = _llama3(frequency, config.rope)
    angle = np.arange(positions, dtype=np.float64)[:, None] * frequency[None, :]
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _llama3(frequency: np.ndarray, rope: Mapping[str, Any]) -> np.ndarray:
    """Long waves are slowed down by `factor`, short ones kept, those between blended (Llama 3.1)."""
    factor, low, high = (
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
    )
    turns = float(rope["original_max_position_embeddings"]) * frequency / (2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequency * (blend + (1 - blend) / factor)


def bf16_bits(array: np.ndarray) -> np.ndarray:
    """Round floats to the nearest bfloat16 (ties to even), as uint16 bits."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits (uint16) as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


_DTYPES = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of one file, mapped (not copied): floats as bfloat16 bits (uint16), integers as they are.

    float32 and float16 weights are rounded to bfloat16. Raises UnsupportedModel for a broken or unknown
    file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, 100_000_000):
                raise ValueError("the header runs past the end of the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = np.memmap(path, np.uint8, "r", offset=8 + length) if size > 8 + length else np.empty(0, np.uint8)
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            if entry["dtype"] not in _DTYPES:
                raise ValueError(f"tensor {name} has dtype {entry['dtype']}, supported are {', '.join(_DTYPES)}")
            if not 0 <= start <= end <= data.size:
                raise ValueError(f"tensor {name} lies outside the file (truncated download?)")
            value = data[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = bf16_bits(value) if entry["dtype"] in ("F32", "F16") else value
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(f"{path}: not a readable safetensors file: {error}") from error
    return tensors


def read_weights(directory: Path) -> dict[str, np.ndarray]:
    """All tensors of a directory's *.safetensors files (several shards are joined)."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        pickled = sorted(directory.glob("*.bin")) + sorted(directory.glob("*.pt"))
        hint = "; pickle files are never loaded, convert them to safetensors" if pickled else ""
        raise UnsupportedModel(f"{directory}: no *.safetensors file{hint}")
    weights: dict[str, np.ndarray] = {}
    for file in files:
        weights.update(read_safetensors(file))
    return weights


def weights_digest(weights: Mapping[str, np.ndarray]) -> str:
    """Hex SHA-256 over (name, shape, bytes) of every tensor in order of name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
