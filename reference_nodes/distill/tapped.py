"""The serving engine's forward, which also hands out what some layers leave in the residual stream.

A draft with a frozen trunk is trained on the trunk's outputs. The target computes them anyway while it writes the
training text, so they cost nothing but their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reference_nodes.backends.hf_files import from_bf16
from reference_nodes.backends.jit import aligned
from reference_nodes.backends.kernels import compile_forward, padded
from reference_nodes.backends.llama import Llama


class Tapped:
    """A `Llama` in float32 that runs in stretches of layers; its results have the bits of `Llama.forward`."""

    def __init__(self, model: Llama, taps: Sequence[int], max_rows: int) -> None:
        """`taps`: numbers of layers, ascending; tap n is the residual stream after the first n layers.

        Raises ValueError for taps that are not ascending or not inside the model.
        """
        ends = [*taps, model.config.layers]
        if any(b <= a for a, b in zip([0, *ends], ends)):
            raise ValueError(f"taps {list(taps)} must ascend and lie between the {model.config.layers} layers")
        self.model, self.taps = model, tuple(taps)
        self._stretches = []
        for start, stop in zip([0, *taps], ends):
            library = compile_forward(replace(model._shape, layers=stop - start))
            # The library is kept: the function is an address in its code.
            self._stretches.append((library, library.function("forward"), model._table[start:stop]))
        width, shape = padded(model.config.hidden), model._shape
        self._x, self._normed = aligned((max_rows, width), np.float32), aligned((max_rows, width), np.float32)
        self._x.fill(0)
        self._wide = aligned((max_rows, max(padded(shape.qkv), padded(2 * shape.intermediate))), np.float32)

    def forward(
        self, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray, paths: np.ndarray, last: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows as `Llama.forward` takes them; final hidden states float32 [rows, hidden], taps [taps, rows, hidden].

        Without `last` the layers above the highest tap are left out, and the first result means nothing.
        """
        m, rows, hidden = self.model, len(tokens), self.model.config.hidden
        self._x[:rows, :hidden] = from_bf16(m.embedding[tokens])
        out = np.empty((rows, hidden), np.float32)
        taps = np.empty((len(self.taps), rows, hidden), np.float32)
        for n, (_, forward, table) in enumerate(self._stretches[: None if last else -1]):
            forward(
                rows, positions.ctypes.data, slots.ctypes.data, paths.ctypes.data, paths.shape[1],
                table.ctypes.data, m.slots, m._final.ctypes.data, m._cos.ctypes.data, m._sin.ctypes.data,
                self._x.ctypes.data, self._normed.ctypes.data, self._wide.ctypes.data,
                m._scores.ctypes.data, m._scores.shape[1], out.ctypes.data,
            )  # fmt: skip
            if n < len(taps):
                taps[n] = self._x[:rows, :hidden]
        return out, taps
