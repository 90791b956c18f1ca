"""Turning a GGUF file of a Llama-family model into a Hugging Face directory: config, bfloat16 weights,
tokenizer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import UnsupportedModel
from .hf_files import bf16_bits

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

_TENSORS = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type


def convert(gguf: Path, directory: Path, progress: Progress) -> None:
    """Write `directory` (which exists and is empty) from the file `gguf`.

    Raises UnsupportedModel where the file is broken or is not of the Llama family.
    """
    from gguf import GGUFReader, dequantize

    progress("reading", 0, 1)
    try:
        reader = GGUFReader(gguf)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (OSError, ValueError, IndexError, KeyError, struct.error) as error:
        raise UnsupportedModel(f"{gguf}: not a readable GGUF file: {error}") from error
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedModel(f"{gguf}: architecture is {architecture!r}; supported is 'llama'")
    config = _config(fields, tied=all(t.name != "output.weight" for t in reader.tensors))
    weights: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(reader.tensors):
        progress("converting", index, len(reader.tensors))
        name = _hf_name(tensor.name)
        if name is None:
            continue
        value = dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            value = _halves(value, heads)
        weights[name] = bf16_bits(value)
    progress("converting", len(reader.tensors), len(reader.tensors))
    write_safetensors(directory / "model.safetensors", weights)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    _tokenizer(gguf, fields, directory)


def _config(fields: Mapping[str, Any], tied: bool) -> dict[str, Any]:
    def get(name: str, *default: Any) -> Any:
        if f"llama.{name}" in fields or not default:
            return fields[f"llama.{name}"]
        return default[0]

    try:
        if any(name.startswith("llama.rope.scaling.") and fields[name] not in ("none", 1.0) for name in fields):
            raise UnsupportedModel("the GGUF file scales its rope; convert it to a Hugging Face directory instead")
        heads = get("attention.head_count")
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "vocab_size": len(fields["tokenizer.ggml.tokens"]),
            "num_hidden_layers": get("block_count"),
            "hidden_size": get("embedding_length"),
            "intermediate_size": get("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": get("attention.head_count_kv", heads),
            "head_dim": get("attention.key_length", get("embedding_length") // heads),
            "rms_norm_eps": round(float(get("attention.layer_norm_rms_epsilon")), 12),
            "max_position_embeddings": get("context_length"),
            "rope_parameters": {"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)},
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": tied,
            "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
        }
    except KeyError as error:
        raise UnsupportedModel(f"the GGUF file has no field {error}") from error


def _hf_name(name: str) -> str | None:
    stem, _, kind = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    if stem == "rope_freqs":
        return None
    block, _, part = stem.removeprefix("blk.").partition(".")
    if not stem.startswith("blk.") or part not in _TENSORS:
        raise UnsupportedModel(f"the GGUF file has a tensor {name!r} that no Llama model has")
    return f"model.layers.{block}.{_TENSORS[part]}.{kind}"


def _halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF interleaves the two halves that rope rotates together; Hugging Face keeps them apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors (uint16: bfloat16 bits; int32) as one safetensors file."""
    names = {np.dtype(np.uint16): "BF16", np.dtype(np.int32): "I32"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).data)


def _tokenizer(gguf: Path, fields: Mapping[str, Any], directory: Path) -> None:
    """tokenizer.json, tokenizer_config.json (with the chat template)."""
    tokens = fields["tokenizer.ggml.tokens"]
    splitter = fields.get("tokenizer.ggml.pre")
    if fields.get("tokenizer.ggml.model") == "gpt2" and splitter in ("smollm", "gpt-2"):
        _byte_level_bpe(fields, splitter).save(str(directory / "tokenizer.json"))
    else:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(directory)
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    keys = ("bos", "eos", "unknown", "padding")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    for name, key in zip(names, keys):
        token = fields.get(f"tokenizer.ggml.{key}_token_id")
        if token is not None:
            config[name] = tokens[token]
    if "tokenizer.chat_template" in fields:
        config["chat_template"] = fields["tokenizer.chat_template"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _byte_level_bpe(fields: Mapping[str, Any], splitter: str) -> Any:
    """A byte-level BPE tokenizer; "smollm" also splits every digit off."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if splitter == "smollm":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token, kind in zip(tokens, kinds) if kind == _CONTROL]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds) if kind == _USER_DEFINED]
    )
    return tokenizer
