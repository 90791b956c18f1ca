"""A Llama forward pass for generating text in bulk on a CPU.

Rows of one batch hold prompts of the same length, so no row is ever padded, and what all prompts begin with
(the system prompt) is computed once. Everything is float32: int8 products with per-tensor activations moved
13 % of SmolLM2's greedy choices and wrecked its answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model, from its ``config.json``."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    theta: float
    eps: float

    @classmethod
    def load(cls, directory: Path) -> Shape:
        """Read the sizes. Raises KeyError for a config that is not a Llama one."""
        c = json.loads((directory / "config.json").read_text())
        rope = c.get("rope_parameters") or c
        return cls(
            c["hidden_size"],
            c["num_hidden_layers"],
            c["num_attention_heads"],
            c["num_key_value_heads"],
            c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"],
            c["vocab_size"],
            float(rope["rope_theta"]),
            float(c["rms_norm_eps"]),
        )


def _product(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function x [..., in] -> [..., out] for a weight [out, in]."""
    weight = weight.float().contiguous()
    return lambda x: F.linear(x, weight)


class BulkLlama:
    """A Llama model for batches of equal-length rows. All results are float32."""

    def __init__(self, directory: Path) -> None:
        self.shape = s = Shape.load(directory)
        w = load_file(str(directory / "model.safetensors"))
        self.embedding = w["model.embed_tokens.weight"].float()
        self.head = _product(self.embedding)
        self.layers = []
        for i in range(s.layers):
            p = f"model.layers.{i}."
            qkv = torch.cat([w[f"{p}self_attn.{n}_proj.weight"] for n in "qkv"])
            gate_up = torch.cat([w[f"{p}mlp.{n}_proj.weight"] for n in ("gate", "up")])
            self.layers.append(
                (
                    w[p + "input_layernorm.weight"].float(),
                    _product(qkv),
                    _product(w[p + "self_attn.o_proj.weight"]),
                    w[p + "post_attention_layernorm.weight"].float(),
                    _product(gate_up),
                    _product(w[p + "mlp.down_proj.weight"]),
                )
            )
        self.norm = w["model.norm.weight"].float()

    def _rope(self, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        half = torch.arange(0, self.shape.head_dim, 2, dtype=torch.float32) / self.shape.head_dim
        angle = torch.arange(start, start + count, dtype=torch.float32)[:, None] * self.shape.theta**-half
        angle = torch.cat([angle, angle], -1)[None, None]
        return angle.cos(), angle.sin()

    @torch.no_grad()
    def forward(self, ids: torch.Tensor, cache: Cache, start: int) -> torch.Tensor:
        """Run ``ids`` [B, T] at positions start.. and return the final normed hidden states [B, T, hidden].

        ``cache`` must hold ``start`` positions.
        """
        s, (b, t) = self.shape, ids.shape
        mask = torch.ones(t, start + t, dtype=torch.bool).tril(start)
        cos, sin = self._rope(start, t)
        x = self.embedding[ids]
        for i, (norm_in, qkv, out, norm_mlp, gate_up, down) in enumerate(self.layers):
            h = qkv(F.rms_norm(x, (s.hidden,), norm_in, s.eps)).view(b, t, -1, s.head_dim).transpose(1, 2)
            q, k, v = h.split([s.heads, s.kv_heads, s.kv_heads], 1)
            half = s.head_dim // 2
            q = q * cos + torch.cat([-q[..., half:], q[..., :half]], -1) * sin
            k = k * cos + torch.cat([-k[..., half:], k[..., :half]], -1) * sin
            keys, values = cache.keys[i], cache.values[i]
            keys[:, :, start : start + t] = k
            values[:, :, start : start + t] = v
            if t > 1:
                k, v = keys[:, :, : start + t], values[:, :, : start + t]
                a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
                a = a.transpose(1, 2).reshape(b, t, -1)
            else:
                # The heads that share a key head stand in the query axis: one product reads the cache once.
                q = q.reshape(b, s.kv_heads, s.heads // s.kv_heads, s.head_dim)
                a = F.scaled_dot_product_attention(q, keys[:, :, : start + 1], values[:, :, : start + 1])
                a = a.reshape(b, 1, -1)
            x = x + out(a)
            gate, up = gate_up(F.rms_norm(x, (s.hidden,), norm_mlp, s.eps)).chunk(2, -1)
            x = x + down(F.silu(gate) * up)
        return F.rms_norm(x, (s.hidden,), self.norm, s.eps)


class Cache:
    """Keys and values, one [B, kv_heads, length, head_dim] tensor per layer each."""

    def __init__(self, shape: Shape, rows: int, length: int) -> None:
        size = (rows, shape.kv_heads, length, shape.head_dim)
        self.keys = [torch.empty(size) for _ in range(shape.layers)]
        self.values = [torch.empty(size) for _ in range(shape.layers)]

    def rows(self, start: int, stop: int) -> Cache:
        """A view of some rows."""
        view = object.__new__(Cache)
        view.keys = [k[start:stop] for k in self.keys]
        view.values = [v[start:stop] for v in self.values]
        return view

    def spread(self, count: int) -> None:
        """Copy the first ``count`` positions of the first row to every row."""
        for t in (*self.keys, *self.values):
            t[1:, :, :count] = t[:1, :, :count]

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row that is not named, one layer at a time (so the peak stays low)."""
        for i in range(len(self.keys)):
            self.keys[i] = self.keys[i][rows]
            self.values[i] = self.values[i][rows]


@dataclass
class Row:
    """One generated row: tokens [n] and the target's final hidden states [n, hidden] in float16.

    ``hidden[j]`` was computed from ``tokens[: j + 1]``, so it predicts token j + 1.
    """

    tokens: torch.Tensor
    hidden: torch.Tensor
    finished: bool


@torch.no_grad()
def generate(
    model: BulkLlama,
    prompts: torch.Tensor,
    max_new: int,
    stop: int,
    temperature: float,
    generator: torch.Generator,
    min_rows: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Continue ``prompts`` [B, P] by up to ``max_new`` tokens each, to ``stop`` (kept in the row).

    ``temperature`` 0 is greedy. Once fewer than ``min_rows`` rows remain they are cut short: a small batch
    costs nearly as much as a full one. ``progress`` is called with (step, rows left).
    """
    b, p = prompts.shape
    cache = Cache(model.shape, b, p + max_new)
    hidden = torch.empty(b, p + max_new, model.shape.hidden, dtype=torch.float16)
    tokens = torch.empty(b, p + max_new, dtype=torch.long)
    tokens[:, :p] = prompts
    same = (prompts == prompts[:1]).all(0).long().cumprod(0).sum()
    common = min(int(same), p - 1)
    if common:
        hidden[:, :common] = model.forward(prompts[:1, :common], cache.rows(0, 1), 0).half()
        cache.spread(common)
    for r in range(0, b, 8):
        hidden[r : r + 8, common:p] = model.forward(prompts[r : r + 8, common:], cache.rows(r, r + 8), common).half()
    last = hidden[:, p - 1].float()
    active = torch.arange(b)
    length = torch.full((b,), p)
    finished = torch.zeros(b, dtype=torch.bool)
    for n in range(max_new):
        logits = model.head(last)
        if temperature > 0:
            noise = torch.empty_like(logits).exponential_(generator=generator)
            logits = logits / temperature - noise.log()
        chosen = logits.argmax(-1)
        tokens[active, p + n] = chosen
        length[active] += 1
        done = chosen == stop
        finished[active[done]] = True
        last = model.forward(chosen[:, None], cache, p + n)[:, 0]
        hidden[active, p + n] = last.half()
        left = ~finished[active]
        if int(left.sum()) < min_rows:
            break
        # Finished rows ride along until they are worth a copy of the cache; what they add is cut off below.
        if int(left.sum()) <= 0.88 * len(active):
            keep = left.nonzero()[:, 0]
            cache.keep(keep)
            active, last = active[keep], last[keep]
        if progress:
            progress(n, len(active))
    rows = []
    for i in range(b):
        row = tokens[i, : int(length[i])]
        ends = (row[p:] == stop).nonzero()
        size = p + int(ends[0]) + 1 if len(ends) else len(row)
        rows.append(Row(row[:size].clone(), hidden[i, :size].clone(), bool(len(ends))))
    return rows
