"""The part of a draft that is trained: a few Llama layers between the target's frozen trunk and the target's head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

BLOCK = 32  # weights that share a scale where a draft is served (see backends.quantised)


class Student(nn.Module):
    """A transformers LlamaModel without an embedding: its input is the trunk's residual stream.

    ``config`` is that of the whole draft, whose first ``trunk`` layers are the target's own.
    """

    def __init__(self, config: dict[str, Any], trunk: int) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        known = {k: v for k, v in config.items() if k not in ("dsdp_draft", "architectures", "dtype")}
        own = {**known, "num_hidden_layers": known["num_hidden_layers"] - trunk}
        self.config, self.trunk = known, trunk
        self.model = LlamaModel(LlamaConfig(**own)).float()
        self.model.embed_tokens = None

    def states(self, trunk: torch.Tensor) -> torch.Tensor:
        """Final normed hidden states [B, T, hidden] from the trunk's output [B, T, hidden], causal."""
        return self.model(inputs_embeds=trunk, use_cache=False).last_hidden_state

    def own_state(self) -> dict[str, torch.Tensor]:
        """The trained tensors under their names in the whole draft, a LlamaForCausalLM."""
        return {_renumbered(f"model.{n}", self.trunk): p for n, p in self.model.state_dict().items()}

    def load_own(self, state: dict[str, torch.Tensor]) -> None:
        """Put in tensors as ``own_state`` names them. Raises RuntimeError for missing or surplus names."""
        self.model.load_state_dict({_renumbered(n, -self.trunk).removeprefix("model."): t for n, t in state.items()})

    def matrices(self) -> list[nn.Parameter]:
        """The weights that are served in four bits."""
        return [p for p in self.model.parameters() if p.dim() > 1]


def _renumbered(name: str, by: int) -> str:
    head, dot, rest = name.partition("layers.")
    if not dot:
        return name
    number, _, rest = rest.partition(".")
    return f"{head}layers.{int(number) + by}.{rest}"


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """A matrix [N, K] as it is served: per 32 weights of a row a step and a lowest value in bfloat16, four bits each.

    Rows that are no multiple of 32 long are not served in four bits and stay as they are.
    """
    if weight.shape[1] % BLOCK:
        return weight.clone()
    groups = weight.bfloat16().float().unflatten(1, (-1, BLOCK))
    low = groups.amin(2, keepdim=True).bfloat16().float()
    step = ((groups.amax(2, keepdim=True) - low) / 15).bfloat16().float()
    return (((groups - low) / step.where(step != 0, 1.0)).round().clamp(0, 15) * step + low).flatten(1)


def draft_config(target: Path, layers: int) -> dict[str, Any]:
    """The target's config with fewer layers."""
    config = json.loads((target / "config.json").read_text())
    for key in ("_name_or_path", "transformers_version", "use_cache"):
        config.pop(key, None)
    return {**config, "num_hidden_layers": layers, "dtype": "bfloat16"}


def initial_state(target: Path, trunk: int, layers: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The target's embedding, and weights for a draft's own layers copied from some of the target's; float32."""
    weights = load_file(str(target / "model.safetensors"))
    state = {"model.norm.weight": weights["model.norm.weight"].float()}
    for i, source in enumerate(layers):
        prefix = f"model.layers.{source}."
        state |= {
            f"model.layers.{trunk + i}.{n.removeprefix(prefix)}": w.float().clone()
            for n, w in weights.items()
            if n.startswith(prefix)
        }
    return weights["model.embed_tokens.weight"].float(), state
