"""The Llama forward: weights in packed bfloat16, arithmetic in float32 with a fixed order (see `kernels`).

A forward takes rows. A row is one token at one position, with the list of cache slots on its path (its
own slot last); its key and value are written to its own slot before any row attends. Chains, trees,
prefill chunks and batches are only different sets of rows, and a row's result depends on its path
alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .base import UnsupportedModel
from .hf_files import LlamaConfig, from_bf16, rope_tables
from .jit import Arena, aligned
from .kernels import GROUP, LAYER_FIELDS, PANEL, Shape, compile_forward, pack, padded
from .quantised import BLOCK, VECTORS, pack_q4


class Head:
    """An output head over all or some token ids."""

    def __init__(self, model: Llama, weight: np.ndarray) -> None:
        """`weight`: bfloat16 bits [ids, hidden]."""
        self.size, self._columns = weight.shape[0], padded(weight.shape[0])
        self._packed = pack_q4(weight, self._columns) if model.q4 else pack(weight)
        self._gemm, self._hidden = model.gemm, model.config.hidden

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """float32 [rows, hidden] -> float32 [rows, size]; a row's bits don't depend on the others."""
        hidden = np.ascontiguousarray(hidden, np.float32)
        rows = hidden.shape[0]
        out = aligned((rows, self._columns), np.float32)
        self._gemm(
            hidden.ctypes.data, self._hidden, rows, self._packed.ctypes.data, self._hidden,
            self._columns // (PANEL * GROUP), out.ctypes.data, self._columns, 0,
        )  # fmt: skip
        return out[:, : self.size]


class Llama:
    """One model's weights, its key/value pool and its compiled forward. Not safe for concurrent calls."""

    def __init__(
        self, config: LlamaConfig, weights: Mapping[str, np.ndarray], slots: int, max_context: int, q4: bool = False
    ) -> None:
        """`slots`: positions that the key/value pool holds; memory is used as slots are. `q4`: quantise the
        matrices to four bits (see `quantised`), for drafting.

        Raises UnsupportedModel where a tensor is missing or has another shape than the configuration says.
        """
        self.config, self.slots, self.max_context = config, slots, min(max_context, config.max_positions)
        c, self.q4 = config, q4
        if q4 and (c.hidden % BLOCK or c.intermediate % BLOCK or c.heads * c.head_dim % BLOCK):
            raise UnsupportedModel(
                f"four-bit drafting needs sizes that are multiples of {BLOCK}: hidden_size is {c.hidden}, "
                f"intermediate_size {c.intermediate}, attention width {c.heads * c.head_dim}"
            )
        shape = Shape(c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.intermediate, c.eps)
        library = compile_forward(shape, q4=True) if q4 else compile_forward(shape)
        self._forward, self.gemm = library.function("forward"), library.function("gemm_q4" if q4 else "gemm")
        self._shape, self._kv_width = shape, c.kv_heads * c.head_dim

        def tensor(name: str, *expected: int) -> np.ndarray:
            value = weights.get(name)
            if value is None or value.shape != expected or value.dtype != np.uint16:
                found = "missing" if value is None else f"{value.dtype} {list(value.shape)}"
                raise UnsupportedModel(f"tensor {name}: {found}, expected floats {list(expected)}")
            return value

        def matrix(*parts: np.ndarray) -> np.ndarray:
            whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
            return pack_q4(whole, padded(len(whole)), arena.take) if q4 else pack(whole, arena.take)

        self.embedding = tensor("model.embed_tokens.weight", c.vocab_rows, c.hidden)
        table, self._keep = np.zeros((c.layers, len(LAYER_FIELDS)), np.int64), []
        q_width = c.heads * c.head_dim
        layer_weights = padded(shape.qkv) * c.hidden + padded(c.hidden) * (q_width + c.intermediate)
        layer_weights += padded(2 * c.intermediate) * c.hidden
        arena = Arena(c.layers * layer_weights * (VECTORS if q4 else 16) // 8)
        cell = np.uint16 if q4 else np.float32
        for layer in range(c.layers):
            p = f"model.layers.{layer}."
            fields = {
                "input_norm": from_bf16(tensor(p + "input_layernorm.weight", c.hidden)),
                "qkv": matrix(
                    tensor(p + "self_attn.q_proj.weight", q_width, c.hidden),
                    tensor(p + "self_attn.k_proj.weight", self._kv_width, c.hidden),
                    tensor(p + "self_attn.v_proj.weight", self._kv_width, c.hidden),
                ),
                "output": matrix(tensor(p + "self_attn.o_proj.weight", c.hidden, q_width)),
                "post_norm": from_bf16(tensor(p + "post_attention_layernorm.weight", c.hidden)),
                "gate_up": matrix(
                    tensor(p + "mlp.gate_proj.weight", c.intermediate, c.hidden),
                    tensor(p + "mlp.up_proj.weight", c.intermediate, c.hidden),
                ),
                "down": matrix(tensor(p + "mlp.down_proj.weight", c.hidden, c.intermediate)),
                # Untouched pages of an empty array cost nothing, so the pool grows with use.
                "keys": aligned((c.kv_heads, slots, c.head_dim), cell),
                "values": aligned((c.kv_heads, slots, c.head_dim), cell),
            }  # fmt: skip
            self._keep.append(fields)
            table[layer] = [fields[name].ctypes.data for name in LAYER_FIELDS]
        self._table = table
        self._final = from_bf16(tensor("model.norm.weight", c.hidden))
        self._cos, self._sin = rope_tables(c, self.max_context)
        self._scores = aligned((4, self.max_context + 8), np.float32)
        self._buffers: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def head_weight(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """The output head's bfloat16 bits [vocab_rows, hidden]."""
        head = weights.get("lm_head.weight")
        return self.embedding if self.config.tied or head is None else head

    def forward(self, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray, paths: np.ndarray) -> np.ndarray:
        """Compute rows: int32 [rows] each, and `paths` int32 [rows, >= max position + 1] of slots by
        position.

        Every row of a path that isn't in the pool yet must be in this call. Returns the final, normed
        hidden states: float32 [rows, hidden].
        """
        rows, width = len(tokens), padded(self.config.hidden)
        if self._buffers is None or self._buffers[0].shape[0] < rows:
            widest = max(padded(self._shape.qkv), padded(2 * self._shape.intermediate))
            self._buffers = (
                aligned((rows, width), np.float32),
                aligned((rows, width), np.float32),
                aligned((rows, widest), np.float32),
            )
            self._buffers[0].fill(0)  # its padding columns take part in residual sums
        x, normed, wide = self._buffers
        x[:rows, : self.config.hidden] = from_bf16(self.embedding[tokens])
        out = np.empty((rows, self.config.hidden), np.float32)
        for array in (positions, slots, paths):
            assert array.dtype == np.int32 and array.flags.c_contiguous
        self._forward(
            rows, positions.ctypes.data, slots.ctypes.data, paths.ctypes.data, paths.shape[1],
            self._table.ctypes.data, self.slots, self._final.ctypes.data, self._cos.ctypes.data, self._sin.ctypes.data,
            x.ctypes.data, normed.ctypes.data, wide.ctypes.data, self._scores.ctypes.data, self._scores.shape[1],
            out.ctypes.data,
        )  # fmt: skip
        return out
