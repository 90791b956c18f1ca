"""The file format of a shipped draft: a config and the draft's own weights, without what it shares with its target.

``config.json`` is a LlamaConfig with one more key, ``dsdp_draft``; ``model.safetensors`` holds bfloat16 tensors
under their LlamaForCausalLM names and ``dsdp.shortlist`` (int32, ascending token ids). The embedding, which is also the
head, and the trunk (the first layers) are the target's; ``dsdp_draft.shared`` names their tensors, which are not in the
file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

FORMAT = 1
EMBEDDING = "model.embed_tokens.weight"
SHORTLIST = "dsdp.shortlist"


class DraftFileError(ValueError):
    """A draft directory that does not hold what its config says."""


def layer_shapes(config: dict[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of one layer."""
    h, ffn = config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim") or h // config["num_attention_heads"]
    q, kv = size * config["num_attention_heads"], size * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "input_layernorm": (h,),
        "post_attention_layernorm": (h,),
        "self_attn.q_proj": (q, h),
        "self_attn.k_proj": (kv, h),
        "self_attn.v_proj": (kv, h),
        "self_attn.o_proj": (h, q),
        "mlp.gate_proj": (ffn, h),
        "mlp.up_proj": (ffn, h),
        "mlp.down_proj": (h, ffn),
    }
    return {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def shared_names(config: dict[str, Any], trunk: int) -> list[str]:
    """The tensors that a draft takes from its target: the embedding and the first ``trunk`` layers."""
    return [EMBEDDING, *(name for i in range(trunk) for name in layer_shapes(config, i))]


def trunk_of(config: dict[str, Any]) -> int:
    """How many layers a draft with this config takes from its target."""
    shared = set(config["dsdp_draft"]["shared"])
    return sum(shared.issuperset(layer_shapes(config, i)) for i in range(config["num_hidden_layers"]))


def expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that belongs in the file of a draft with this config."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.norm.weight": (config["hidden_size"],),
        SHORTLIST: (config["dsdp_draft"]["shortlist"],),
    }
    for i in range(config["num_hidden_layers"]):
        shapes |= layer_shapes(config, i)
    shared = set(config["dsdp_draft"]["shared"])
    return {name: shape for name, shape in shapes.items() if name not in shared}


def save_draft(
    directory: Path,
    config: dict[str, Any],
    trunk: int,
    state: dict[str, torch.Tensor],
    shortlist: torch.Tensor,
    target: str,
    target_sha256: str,
) -> None:
    """Write a draft whose first ``trunk`` layers are the target's. ``state``: its own tensors, LlamaForCausalLM names.

    The old file is replaced whole.
    """
    meta = {
        "format": FORMAT,
        "target": target,
        "target_sha256": target_sha256,
        "shared": shared_names(config, trunk),
        "shortlist": len(shortlist),
    }
    config = {**config, "tie_word_embeddings": True, "dsdp_draft": meta}
    names = expected_shapes(config)
    tensors = {n: state[n].detach().to(torch.bfloat16).contiguous() for n in names if n != SHORTLIST}
    tensors[SHORTLIST] = shortlist.to(torch.int32).contiguous()
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / "model.safetensors.part"
    save_file(tensors, str(part), metadata={"format": "pt"})
    os.replace(part, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_draft(directory: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], torch.Tensor]:
    """Read and check a draft: its config, its own tensors (bfloat16), its shortlist (int32, ascending).

    Raises DraftFileError for a config without ``dsdp_draft``, another format, a missing, surplus or misshapen tensor,
    or a shortlist that is not ascending or leaves the vocabulary.
    """
    config = json.loads((directory / "config.json").read_text())
    meta = config.get("dsdp_draft")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DraftFileError(
            f"{directory}/config.json: no 'dsdp_draft' of format {FORMAT}; this is not a draft made for DSDP"
        )
    wanted = expected_shapes(config)
    with safe_open(str(directory / "model.safetensors"), "pt") as f:
        found = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - not a dict
    if wanted.keys() != found.keys():
        odd = sorted(wanted.keys() ^ found.keys())
        raise DraftFileError(f"{directory}/model.safetensors: these tensors are missing or surplus: {odd[:4]}")
    for name, shape in wanted.items():
        if tuple(found[name].shape) != shape:
            raise DraftFileError(
                f"{directory}/model.safetensors: {name} is {tuple(found[name].shape)}, config.json says {shape}"
            )
    shortlist = found.pop(SHORTLIST)
    ids = shortlist.long()
    if not bool((ids.diff() > 0).all()) or int(ids[0]) < 0 or int(ids[-1]) >= config["vocab_size"]:
        raise DraftFileError(f"{directory}: the shortlist must be ascending ids below {config['vocab_size']}")
    return config, found, shortlist


def build_shortlist(counts: torch.Tensor, size: int, always: list[int] | None = None) -> torch.Tensor:
    """The ``size`` most frequent token ids (``counts`` [vocab]), ``always`` included; int32, ascending.

    Equal counts fall to the lower id: byte-pair vocabularies list common pieces first.
    """
    if size > len(counts):
        raise ValueError(f"a shortlist of {size} tokens needs a vocabulary of at least that, not {len(counts)}")
    boosted = counts.double().clone()
    boosted[always or []] = float("inf")
    order = torch.argsort(boosted, descending=True, stable=True)
    return order[:size].sort().values.int()
