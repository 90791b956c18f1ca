"""The draft model: a few Llama layers between the target's frozen embedding and head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class Student(nn.Module):
    """A transformers LlamaModel of few layers, the shared embedding frozen, and a shortlist for the head.

    ``layers`` names the target's layers that the draft's start from; ``ffn`` keeps that many of each one's
    feed-forward units, those with the largest weights.
    """

    def __init__(self, config: dict[str, Any], embedding: torch.Tensor, shortlist: torch.Tensor) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        known = {
            k: v for k, v in config.items() if k not in ("dsdp_draft", "architectures", "dtype", "transformers_version")
        }
        self.config = known
        self.model = LlamaModel(LlamaConfig(**known)).to(embedding.dtype)
        with torch.no_grad():
            self.model.embed_tokens.weight.copy_(embedding)
        self.model.embed_tokens.weight.requires_grad_(False)
        self.register_buffer("shortlist", shortlist.int())
        self.register_buffer("short_head", embedding[shortlist.long()].contiguous(), persistent=False)
        self.vocab = len(embedding)

    def states(self, ids: torch.Tensor) -> torch.Tensor:
        """Final normed hidden states [B, T, hidden] for ids [B, T], causal."""
        return self.model(input_ids=ids, use_cache=False).last_hidden_state

    def step(self, ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        """States for new ids after those in ``cache`` (None to begin), and the cache."""
        out = self.model(input_ids=ids, past_key_values=cache, use_cache=True)
        return out.last_hidden_state, out.past_key_values

    def logits(self, states: torch.Tensor, full_head: bool = False) -> torch.Tensor:
        """Logits [..., K] over the shortlist, or [..., vocab] over everything."""
        return F.linear(states, self.model.embed_tokens.weight if full_head else self.short_head)

    def own_state(self) -> dict[str, torch.Tensor]:
        """The trained tensors under their LlamaForCausalLM names (the shared embedding left out)."""
        return {f"model.{n}": p for n, p in self.model.state_dict().items() if n != "embed_tokens.weight"}

    def load_own(self, state: dict[str, torch.Tensor]) -> None:
        """Put in tensors as ``own_state`` names them. Raises RuntimeError for missing or surplus names."""
        own = {n.removeprefix("model."): t for n, t in state.items()}
        self.model.load_state_dict({**own, "embed_tokens.weight": self.model.embed_tokens.weight})


def draft_config(target: Path, layers: int, ffn: int | None = None) -> dict[str, Any]:
    """The target's config with fewer layers (and feed-forward units)."""
    config = json.loads((target / "config.json").read_text())
    for key in ("_name_or_path", "transformers_version", "use_cache"):
        config.pop(key, None)
    return {
        **config,
        "num_hidden_layers": layers,
        "intermediate_size": ffn or config["intermediate_size"],
        "dtype": "bfloat16",
    }


def initial_state(target: Path, layers: list[int], ffn: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The target's embedding, and draft weights copied from some of its layers; float32."""
    weights = load_file(str(target / "model.safetensors"))
    state = {"model.norm.weight": weights["model.norm.weight"].float()}
    for i, source in enumerate(layers):
        prefix = f"model.layers.{source}."
        layer = {n.removeprefix(prefix): w.float() for n, w in weights.items() if n.startswith(prefix)}
        up, gate, down = (layer[f"mlp.{n}_proj.weight"] for n in ("up", "gate", "down"))
        size = up.norm(dim=1) * gate.norm(dim=1) * down.norm(dim=0)
        keep = size.topk(min(ffn, len(size))).indices.sort().values
        layer |= {
            "mlp.up_proj.weight": up[keep],
            "mlp.gate_proj.weight": gate[keep],
            "mlp.down_proj.weight": down[:, keep],
        }
        state |= {f"model.layers.{i}.{n}": w.clone() for n, w in layer.items()}
    return weights["model.embed_tokens.weight"].float(), state
