"""The numeric kernels of the Llama forward, and the exact order of their operations (kernel class below).

Every output element is computed by one chain of operations that mentions only its own row's data:
- matrix product: out[m][n] = fma over k = 0, 1, ..., K-1, one accumulator, starting from 0 (the
  residual is added last);
- norm and attention scores: 8 lanes (element i in lane i mod 8), each in ascending order, then the
  lanes as in `Emitter.sum8`; softmax sums likewise over positions; the weighted sum of values runs over
  positions in order. So a row's bits can't depend on the other rows, their number, the slots its keys
  lie in, or the vector width of the CPU.

Matrices are stored as panels of 16 columns, [N/16][K][16] bfloat16, column c beside column c+8 in one
32-bit word: a shift gives the first eight as float32, a mask the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from llvmlite import ir

from .jit import (
    LANES,
    Allocate,
    Emitter,
    Library,
    aligned,
    f32,
    f32p,
    f32x8,
    host_features,
    i16p,
    i32p,
    i32x8,
    i64,
    i64p,
)
from .quantised import gemm_q4

KERNEL_CLASS = "dsdp-llama-f32fma-8lane-1"
PANEL = 16  # columns per panel
GROUP = 4  # panels per group: column counts are padded to PANEL * GROUP
TILE_ROWS = 6  # rows that one register tile holds
SIDE_BY_SIDE = {1: 4, 2: 2}  # panels that a tile of few rows takes at once: sums enough to keep the multipliers busy
AHEAD = 1024  # words between what is read of a stream of panels and what is fetched


@dataclass(frozen=True)
class Shape:
    """The dimensions that a forward is compiled for."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    eps: float

    @property
    def qkv(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim


def padded(columns: int) -> int:
    """Column count as stored: the next multiple of PANEL * GROUP."""
    return -(-columns // (PANEL * GROUP)) * PANEL * GROUP


def pack(weight: np.ndarray, allocate: Allocate = aligned) -> np.ndarray:
    """Pack a weight [N, K] of bfloat16 bits (uint16) into panels: uint32 [padded(N)/16, K, 8]."""
    n, k = weight.shape
    full = np.zeros((padded(n), k), np.uint16)
    full[:n] = weight
    halves = full.reshape(-1, 2, LANES, k)
    packed = allocate((padded(n) // PANEL, k, LANES), np.uint32)
    for panel, (low, high) in zip(packed, halves):  # one by one: a panel stays in the cache
        panel[...] = (low | (high.astype(np.uint32) << 16)).T
    return packed


def _tile(module: ir.Module, rows: int) -> ir.Function:
    """One register tile: `rows` rows times the panels that go side by side."""
    panels = range(SIDE_BY_SIDE.get(rows, 1))
    e = Emitter(module, f"tile{rows}", [f32p, i64, i32p, i64, f32p, i64, i64])
    x, ldx, w, depth, out, ldo, add = e.fn.args
    b = e.b
    acc = {(r, p, h): e.var(e.const8(0.0)) for r in range(rows) for p in panels for h in (0, 1)}
    row = [e.at(x, b.mul(ldx, i64(r))) for r in range(rows)]
    base = [e.at(w, b.mul(depth, i64(p * LANES))) for p in panels]
    # One panel alone is a single stream; of several, fetch the same line of the panels that come next.
    ahead = i64(AHEAD) if len(panels) == 1 else b.mul(depth, i64(len(panels) * LANES))
    with e.loop(i64(0), depth, 2) as k:
        for step in (0, 1):
            xs = [e.splat(b.load(e.at(row[r], k, step))) for r in range(rows)]
            offset = b.mul(k, i64(LANES))
            for p, pointer in zip(panels, base):
                if step == 0:
                    e.prefetch(e.at(pointer, offset, ahead))
                word = e.load8(e.at(pointer, offset, step * LANES), i32x8)
                low = b.bitcast(b.shl(word, ir.Constant(i32x8, [16] * LANES)), f32x8)
                high = b.bitcast(b.and_(word, ir.Constant(i32x8, [0xFFFF0000] * LANES)), f32x8)
                for r in range(rows):
                    for h, value in ((0, low), (1, high)):
                        cell = acc[r, p, h]
                        e.set(cell, e.fma(xs[r], value, e.get(cell)))
    adding = b.icmp_signed("!=", add, i64(0))
    for (r, p, h), cell in acc.items():
        target = e.at(out, b.mul(ldo, i64(r)), p * PANEL + h * LANES)
        value = e.get(cell)
        e.store8(b.select(adding, b.fadd(e.load8(target), value), value), target)
    return e.finish()


def _gemm(module: ir.Module) -> ir.Function:
    """out[m][n] (+)= x[m] . w[n] for all rows: weights are streamed once, row tiles reuse them from the near
    cache.
    """
    tiles = [_tile(module, rows) for rows in range(1, TILE_ROWS + 1)]
    e = Emitter(module, "gemm", [f32p, i64, i64, i32p, i64, i64, f32p, i64, i64], public=True)
    x, ldx, rows, w, depth, groups, out, ldo, add = e.fn.args
    b = e.b
    count = b.sdiv(b.add(rows, i64(TILE_ROWS - 1)), i64(TILE_ROWS))  # as few tiles as fit, of even heights
    together = i64(1)  # where there are several tiles, each is too high to take more
    for few, panels in SIDE_BY_SIDE.items():
        together = b.select(b.icmp_signed("==", rows, i64(few)), i64(panels), together)
    with e.loop(i64(0), b.sdiv(b.mul(groups, i64(GROUP)), together)) as g:
        first = b.mul(g, together)
        panel = e.at(w, b.mul(b.mul(first, depth), i64(LANES)))
        column = e.at(out, b.mul(first, i64(PANEL)))
        with e.loop(i64(0), count) as t:
            start = b.sdiv(b.mul(rows, t), count)
            height = b.sub(b.sdiv(b.mul(rows, b.add(t, i64(1))), count), start)
            arguments = [
                e.at(x, b.mul(start, ldx)),
                ldx,
                panel,
                depth,
                e.at(column, b.mul(start, ldo)),
                ldo,
                add,
            ]
            done = e.fn.append_basic_block("done")
            switch = b.switch(height, done)
            for index, tile in enumerate(tiles):
                block = e.fn.append_basic_block(f"rows{index + 1}")
                switch.add_case(i64(index + 1), block)
                b.position_at_end(block)
                b.call(tile, arguments)
                b.branch(done)
            b.position_at_end(done)
    return e.finish()


def _rmsnorm(module: ir.Module, shape: Shape) -> ir.Function:
    """out = x / sqrt(mean(x^2) + eps) * weight, per row."""
    e = Emitter(module, "rmsnorm", [f32p, i64, i64, f32p, f32p, i64])
    x, ldx, rows, weight, out, ldo = e.fn.args
    b, width = e.b, i64(shape.hidden)
    with e.loop(i64(0), rows) as r:
        source, target = e.at(x, b.mul(r, ldx)), e.at(out, b.mul(r, ldo))
        acc = e.var(e.const8(0.0))
        with e.loop(i64(0), width, LANES) as i:
            v = e.load8(e.at(source, i))
            e.set(acc, e.fma(v, v, e.get(acc)))
        mean = b.fdiv(e.sum8(e.get(acc)), f32(float(shape.hidden)))
        scale = e.splat(b.fdiv(f32(1.0), e.unary("llvm.sqrt", b.fadd(mean, f32(shape.eps)))))
        with e.loop(i64(0), width, LANES) as i:
            e.store8(b.fmul(b.fmul(e.load8(e.at(source, i)), scale), e.load8(e.at(weight, i))), e.at(target, i))
    return e.finish()


def _rope(module: ir.Module, shape: Shape, short: bool) -> ir.Function:
    """Rotate and scale queries in place, rotate keys into their slot (halves convention), copy values into it.

    With `short`, slots hold bfloat16.
    """
    width, half, queries = shape.head_dim, shape.head_dim // 2, shape.heads * shape.head_dim
    cell = i16p if short else f32p
    e = Emitter(module, "rope", [f32p, f32p, f32p, cell, cell, i64])
    store = e.store8_bf16 if short else e.store8
    qkv, cos, sin, key, value, slots = e.fn.args
    b = e.b
    plane = b.mul(slots, i64(width))  # elements between one kv head's slots and the next one's

    def rotate(source: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Vectors and their places in a head."""
        with e.loop(i64(0), i64(half), LANES) as i:
            c, s = e.load8(e.at(cos, i)), e.load8(e.at(sin, i))
            low, high = e.load8(e.at(source, i)), e.load8(e.at(source, i, half))
            for offset, turned in (
                (0, b.fsub(b.fmul(low, c), b.fmul(high, s))),
                (half, b.fadd(b.fmul(high, c), b.fmul(low, s))),
            ):
                yield turned, b.add(i, i64(offset))

    with e.loop(i64(0), i64(shape.heads)) as h:
        head = e.at(qkv, b.mul(h, i64(width)))
        for turned, place in rotate(head):
            e.store8(b.fmul(turned, e.const8(width**-0.5)), e.at(head, place))
    with e.loop(i64(0), i64(shape.kv_heads)) as h:
        source, target = e.at(qkv, queries, b.mul(h, i64(width))), b.mul(h, plane)
        for turned, place in rotate(source):
            store(turned, e.at(key, target, place))
        values = e.at(source, shape.kv_heads * width)
        with e.loop(i64(0), i64(width), LANES) as i:
            store(e.load8(e.at(values, i)), e.at(value, target, i))
    return e.finish()


def _attention(module: ir.Module, shape: Shape, short: bool) -> ir.Function:
    """One row's attention for a few query heads of one kv head, over the slots of the row's path in order.

    The result overwrites the queries. Heads that share keys go together, so that each key is loaded once.
    """
    width, vectors = shape.head_dim, shape.head_dim // LANES
    together = _heads_together(shape)
    cell = i16p if short else f32p
    e = Emitter(module, "attention", [f32p, i32p, i64, cell, cell, f32p, i64])
    load = e.load8_bf16 if short else e.load8
    query, path, length, keys, values, scores, lds = e.fn.args
    b, heads = e.b, range(together)
    best = [e.var(f32(-math.inf)) for _ in heads]
    total = [e.var(e.const8(0.0)) for _ in heads]
    score_row = [e.at(scores, b.mul(lds, i64(h))) for h in heads]
    full = b.and_(b.add(length, i64(LANES - 1)), i64(-LANES))
    with e.loop(i64(0), length) as p:
        key = e.at(keys, b.mul(b.sext(b.load(e.at(path, p)), i64), i64(width)))
        dots: list[ir.Value] = []
        for j in range(vectors):
            k = load(e.at(key, j * LANES))
            for h in heads:
                q = e.load8(e.at(query, h * width + j * LANES))
                if j == 0:
                    dots.append(b.fmul(q, k))
                else:
                    dots[h] = e.fma(q, k, dots[h])
        for h in heads:
            score = e.sum8(dots[h])
            b.store(score, e.at(score_row[h], p))
            e.set(best[h], b.select(b.fcmp_ordered(">", score, e.get(best[h])), score, e.get(best[h])))
    for h in heads:
        with e.loop(length, full) as p:
            b.store(f32(-math.inf), e.at(score_row[h], p))
        top = e.splat(e.get(best[h]))
        with e.loop(i64(0), full, LANES) as p:
            weight = e.exp8(b.fsub(e.load8(e.at(score_row[h], p)), top))
            e.store8(weight, e.at(score_row[h], p))
            e.set(total[h], b.fadd(e.get(total[h]), weight))
    norm = [e.splat(e.sum8(e.get(total[h]))) for h in heads]
    at_once = max(1, 12 // together)  # accumulators that fit the registers
    for first in range(0, vectors, at_once):
        part = range(first, min(first + at_once, vectors))
        acc = {(h, j): e.var(e.const8(0.0)) for h in heads for j in part}
        with e.loop(i64(0), length) as p:
            value = e.at(values, b.mul(b.sext(b.load(e.at(path, p)), i64), i64(width)))
            weights = [e.splat(b.load(e.at(score_row[h], p))) for h in heads]
            for j in part:
                v = load(e.at(value, j * LANES))
                for h in heads:
                    e.set(acc[h, j], e.fma(weights[h], v, e.get(acc[h, j])))
        for (h, j), cell in acc.items():
            e.store8(b.fdiv(e.get(cell), norm[h]), e.at(query, h * width + j * LANES))
    return e.finish()


def _heads_together(shape: Shape) -> int:
    """How many query heads of a kv head one call of `attention` takes: its group's largest divisor up to 4."""
    group = shape.heads // shape.kv_heads
    return max(n for n in range(1, 5) if group % n == 0)


def _silu(module: ir.Module, shape: Shape) -> ir.Function:
    """gate = gate / (1 + exp(-gate)) * up, written over the gate; a row is [gate | up]."""
    e = Emitter(module, "silu", [f32p, i64, i64])
    x, ldx, rows = e.fn.args
    b = e.b
    with e.loop(i64(0), rows) as r:
        row = e.at(x, b.mul(r, ldx))
        with e.loop(i64(0), i64(shape.intermediate), LANES) as i:
            gate, up = e.load8(e.at(row, i)), e.load8(e.at(row, i, shape.intermediate))
            one = e.const8(1.0)
            e.store8(b.fmul(b.fdiv(gate, b.fadd(one, e.exp8(b.fneg(gate)))), up), e.at(row, i))
    return e.finish()


LAYER_FIELDS = ("input_norm", "qkv", "output", "post_norm", "gate_up", "down", "keys", "values")
"""Addresses of one layer, in the order of the table that `forward` takes."""


def _forward(module: ir.Module, shape: Shape, gemm: ir.Function, short: bool) -> None:
    norm, rope = _rmsnorm(module, shape), _rope(module, shape, short)
    attention, silu = _attention(module, shape, short), _silu(module, shape)
    half, together = shape.head_dim // 2, _heads_together(shape)
    hidden, qkv_width, mlp_width = padded(shape.hidden), padded(shape.qkv), padded(2 * shape.intermediate)
    e = Emitter(
        module,
        "forward",
        [i64, i32p, i32p, i32p, i64, i64p, i64, f32p, f32p, f32p, f32p, f32p, f32p, f32p, i64, f32p],
        public=True,
    )
    rows, positions, slots, paths, ldp, table, pool, final, cos, sin, x, normed, wide, scores, lds, out = e.fn.args
    b = e.b
    ld = i64(hidden)
    with e.loop(i64(0), i64(shape.layers)) as layer:
        record = e.at(table, b.mul(layer, i64(len(LAYER_FIELDS))))
        kinds = {"qkv": i32p, "output": i32p, "gate_up": i32p, "down": i32p}
        if short:
            kinds |= {"keys": i16p, "values": i16p}
        at = {name: b.inttoptr(b.load(e.at(record, i)), kinds.get(name, f32p)) for i, name in enumerate(LAYER_FIELDS)}

        def product(
            source: ir.Value, lds: int, depth: int, weight: ir.Value, out: ir.Value, ldo: int, add: int
        ) -> None:
            groups = i64(ldo // (PANEL * GROUP))
            b.call(gemm, [source, i64(lds), rows, weight, i64(depth), groups, out, i64(ldo), i64(add)])

        b.call(norm, [x, ld, rows, at["input_norm"], normed, ld])
        product(normed, hidden, shape.hidden, at["qkv"], wide, qkv_width, 0)
        with e.loop(i64(0), rows) as r:
            slot = b.mul(b.sext(b.load(e.at(slots, r)), i64), i64(shape.head_dim))
            angle = b.mul(b.sext(b.load(e.at(positions, r)), i64), i64(half))
            row, key, value = e.at(wide, b.mul(r, i64(qkv_width))), e.at(at["keys"], slot), e.at(at["values"], slot)
            b.call(rope, [row, e.at(cos, angle), e.at(sin, angle), key, value, pool])
        # All rows of one kv head before the next: they share most of their keys, which stay in the near cache.
        with e.loop(i64(0), i64(shape.heads), together) as head, e.loop(i64(0), rows) as r:
            plane = b.mul(b.sdiv(head, i64(shape.heads // shape.kv_heads)), b.mul(pool, i64(shape.head_dim)))
            length = b.add(b.sext(b.load(e.at(positions, r)), i64), i64(1))
            query = e.at(wide, b.mul(r, i64(qkv_width)), b.mul(head, i64(shape.head_dim)))
            keys, values = e.at(at["keys"], plane), e.at(at["values"], plane)
            b.call(attention, [query, e.at(paths, b.mul(r, ldp)), length, keys, values, scores, lds])
        product(wide, qkv_width, shape.heads * shape.head_dim, at["output"], x, hidden, 1)
        b.call(norm, [x, ld, rows, at["post_norm"], normed, ld])
        product(normed, hidden, shape.hidden, at["gate_up"], wide, mlp_width, 0)
        b.call(silu, [wide, i64(mlp_width), rows])
        product(wide, mlp_width, shape.intermediate, at["down"], x, hidden, 1)
    b.call(norm, [x, ld, rows, final, out, i64(shape.hidden)])
    e.finish()


@lru_cache(maxsize=8)
def compile_forward(shape: Shape, cpu: str | None = None, features: str | None = None, q4: bool = False) -> Library:
    """Compile `forward` and `gemm` for one model shape (under a second; the code is shared, it holds no state).

    `cpu` and `features` choose another code generation for tests: the bits must not change. With `q4` the forward
    takes four-bit weights, its key/value pool is bfloat16, and there is `gemm_q4` too (see `quantised`).
    """
    module = ir.Module("dsdp_llama")
    gemm = _gemm(module)
    if q4:
        deepest = max(shape.hidden, shape.heads * shape.head_dim, shape.intermediate)
        gemm = gemm_q4(module, deepest, "+avx2" in (host_features() if features is None else features).split(","))
    _forward(module, shape, gemm, short=q4)
    return Library(module, cpu, features)


__all__ = ["GROUP", "KERNEL_CLASS", "LAYER_FIELDS", "PANEL", "Shape", "compile_forward", "pack", "padded"]
