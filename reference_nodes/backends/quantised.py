"""Four-bit weights for drafting: a quarter of the bytes to stream, and products of bytes.

A weight of a group of 32 along k is d * q + m with q in 0..15 (GGUF's Q4_1), d and m in bfloat16. A row's values are
rounded to eight-bit integers per group, so a group's products are exact integer sums and only scales are floats. That
is far closer to the full model than a distilled one, and far too lax for a target: no bit-identity is claimed. (Groups
of 64 would cost a tenth less to stream, and SmolLM2, whose file is Q4_1, a sixth of its agreement with itself.)

Layout of 8 columns x 32 k: five vectors of eight 32-bit words, a column per lane: [d | m], then four words whose byte b
holds q of k = 8j + b in its low half and of 8j + 4 + b in its high half, so that a mask gives the factors of four k.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .hf_files import bf16_bits, from_bf16
from .jit import LANES, Allocate, Emitter, aligned, f32, f32p, f32x8, i16, i32, i32p, i32x8, i64

BLOCK = 32  # k per scale
VECTORS = 5  # words per lane, column and block: also the bits per weight
TILE_ROWS = 4  # more would not fit the registers
CHUNK_ROWS = 16  # rows that are rounded at once
AHEAD = 2048  # bytes between what is read and what is fetched
LARGEST = 127  # 8 sums of two products, 15 * 127 each, still fit 16 bits

i8 = ir.IntType(8)
i8x8, i8x32, i16x16 = ir.VectorType(i8, 8), ir.VectorType(i8, 32), ir.VectorType(i16, 16)


def pack_q4(weight: np.ndarray, columns: int, allocate: Allocate = aligned) -> np.ndarray:
    """Quantise and pack bfloat16 bits [N, K], K a multiple of 32: uint32 [columns / 8, K / 32, 5, 8]."""
    n, k = weight.shape
    packed = allocate((columns // LANES, k // BLOCK, VECTORS, LANES), np.uint32)
    packed[n // LANES :] = 0
    for first in range(0, n, 8 * LANES):  # few columns at a time: they stay in the cache
        part = from_bf16(np.asarray(weight[first : first + 8 * LANES]))
        missing = -len(part) % LANES
        if missing:
            part = np.concatenate([part, np.zeros((missing, k), np.float32)])
        packed[first // LANES :][: len(part) // LANES] = _pack_columns(part)
    return packed


def _pack_columns(weight: np.ndarray) -> np.ndarray:
    """float32 [N, K], N a multiple of 8, as uint32 [N / 8, K / 32, 5, 8]."""
    columns, blocks = len(weight), weight.shape[1] // BLOCK
    groups = weight.reshape(columns, blocks, BLOCK)
    low = bf16_bits(groups.min(2))
    step = bf16_bits((groups.max(2) - from_bf16(low)) / 15)
    q = groups - from_bf16(low)[..., None]
    q /= from_bf16(np.maximum(step, 1))[..., None]  # where the step is 0, q is too
    q += 0.5
    np.minimum(q, 15.5, out=q)
    halves = np.maximum(q, 0, out=q).astype(np.uint8).reshape(columns, blocks, VECTORS - 1, 2, 4)
    words = np.empty((columns, blocks, VECTORS), np.uint32)
    words[..., 0] = (step.astype(np.uint32) << 16) | low
    words[..., 1:] = (halves[..., 0, :] | halves[..., 1, :] << 4).view(np.uint32)[..., 0]
    return words.reshape(-1, LANES, blocks, VECTORS).transpose(0, 2, 3, 1)


def _quantise(module: ir.Module) -> ir.Function:
    """One row to bytes: q = rint(x * 127 / max|x|) per block; also its scale, and the sum of what it now holds."""
    e = Emitter(module, "quantise", [f32p, i64, i32p, f32p, f32p])
    x, blocks, out, scales, sums = e.fn.args
    b = e.b
    with e.loop(i64(0), blocks) as block:
        source = e.at(x, b.mul(block, i64(BLOCK)))
        values = [e.load8(e.at(source, j * LANES)) for j in range(BLOCK // LANES)]
        largest = e.const8(1e-30)
        for value in values:
            size = e.unary("llvm.fabs", value)
            largest = b.select(b.fcmp_ordered(">", size, largest), size, largest)
        top = b.extract_element(largest, i32(0))
        for lane in range(1, LANES):
            other = b.extract_element(largest, i32(lane))
            top = b.select(b.fcmp_ordered(">", other, top), other, top)
        factor = e.splat(b.fdiv(f32(float(LARGEST)), top))
        target = e.at(out, b.mul(block, i64(BLOCK // 4)))
        total = e.const8(0.0)
        for j, value in enumerate(values):
            whole = e.unary("llvm.rint", b.fmul(value, factor))
            total = b.fadd(total, whole)
            e.store8(b.trunc(b.fptosi(whole, i32x8), i8x8), e.at(target, j * LANES // 4))
        scale = b.fdiv(top, f32(float(LARGEST)))
        b.store(scale, e.at(scales, block))
        b.store(b.fmul(e.sum8(total), scale), e.at(sums, block))
    return e.finish()


class _Products:
    """Sums of products of bytes, exact: with AVX2's instructions, or in terms that any CPU has."""

    def __init__(self, e: Emitter, avx2: bool) -> None:
        self._e, self._avx2 = e, avx2

    def of_bytes(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """i16x16: x * y of two neighbours, added; the bytes of x (i32x8) count from 0, those of y from -128."""
        b = self._e.b
        x, y = b.bitcast(x, i8x32), b.bitcast(y, i8x32)
        if self._avx2:
            return self._call("llvm.x86.avx2.pmadd.ub.sw", i16x16, x, y)
        wide = ir.VectorType(i16, 32)
        return self._neighbours(b.mul(b.zext(x, wide), b.sext(y, wide)))

    def added(self, x: ir.Value) -> ir.Value:
        """i32x8: the sums of two neighbours of i16x16."""
        b = self._e.b
        if self._avx2:
            return self._call("llvm.x86.avx2.pmadd.wd", i32x8, x, ir.Constant(i16x16, [1] * 16))
        return self._neighbours(b.sext(x, ir.VectorType(i32, 16)))

    def _neighbours(self, x: ir.Value) -> ir.Value:
        b, undefined = self._e.b, ir.Constant(x.type, ir.Undefined)
        halves = [ir.Constant(ir.VectorType(i32, x.type.count // 2), list(range(i, x.type.count, 2))) for i in (0, 1)]
        even, odd = (b.shuffle_vector(x, undefined, half) for half in halves)
        return b.add(even, odd)

    def _call(self, name: str, result: ir.Type, x: ir.Value, y: ir.Value) -> ir.Value:
        module = self._e.module
        known = module.globals.get(name)
        return self._e.b.call(known or ir.Function(module, ir.FunctionType(result, [x.type, y.type]), name), [x, y])


def _tile(module: ir.Module, rows: int, avx2: bool) -> ir.Function:
    """`rows` quantised rows times some columns, eight at a time."""
    e = Emitter(module, f"q4tile{rows}", [i32p, f32p, f32p, i64, i32p, i64, f32p, i64, i64])
    xq, scales, sums, blocks, w, column_blocks, out, ldo, add = e.fn.args
    b, products = e.b, _Products(e, avx2)
    nibbles, four = ir.Constant(i32x8, [0x0F0F0F0F] * LANES), ir.Constant(i32x8, [4] * LANES)
    with e.loop(i64(0), column_blocks) as column:
        base = e.at(w, b.mul(b.mul(column, blocks), i64(VECTORS * LANES)))
        acc = [e.var(e.const8(0.0)) for _ in range(rows)]
        with e.loop(i64(0), blocks) as block:
            at = e.at(base, b.mul(block, i64(VECTORS * LANES)))
            for line in range(0, 4 * VECTORS * LANES, 64):
                e.prefetch(e.at(at, (AHEAD + line) // 4))
            pairs: list[ir.Value | None] = [None] * rows
            for j in range(4):
                word = e.load8(e.at(at, (1 + j) * LANES), i32x8)
                for i, q in enumerate((b.and_(word, nibbles), b.and_(b.lshr(word, four), nibbles))):
                    for r in range(rows):
                        place = b.add(b.mul(blocks, i64(8 * r)), b.mul(block, i64(8)))
                        part = products.of_bytes(q, e.splat(b.load(e.at(xq, place, 2 * j + i))))
                        pairs[r] = part if pairs[r] is None else b.add(pairs[r], part)
            scale = e.load8(at, i32x8)
            step = b.bitcast(b.and_(scale, ir.Constant(i32x8, [0xFFFF0000] * LANES)), f32x8)
            low = b.bitcast(b.shl(scale, ir.Constant(i32x8, [16] * LANES)), f32x8)
            for r in range(rows):
                place = b.add(b.mul(blocks, i64(r)), block)
                factor = b.fmul(step, e.splat(b.load(e.at(scales, place))))
                partial = e.fma(b.sitofp(products.added(pairs[r]), f32x8), factor, e.get(acc[r]))
                e.set(acc[r], e.fma(low, e.splat(b.load(e.at(sums, place))), partial))
        adding = b.icmp_signed("!=", add, i64(0))
        for r in range(rows):
            target = e.at(out, b.mul(ldo, i64(r)), b.mul(column, i64(LANES)))
            value = e.get(acc[r])
            e.store8(b.select(adding, b.fadd(e.load8(target), value), value), target)
    return e.finish()


def gemm_q4(module: ir.Module, deepest: int, avx2: bool) -> ir.Function:
    """The matrix product on packed four-bit weights; arguments as those of `kernels.gemm`."""
    tiles = [_tile(module, rows, avx2) for rows in range(1, TILE_ROWS + 1)]
    quantise = _quantise(module)
    e = Emitter(module, "gemm_q4", [f32p, i64, i64, i32p, i64, i64, f32p, i64, i64], public=True)
    x, ldx, rows, w, depth, groups, out, ldo, add = e.fn.args
    b = e.b
    scratch = e.entry.bitcast(e.entry.alloca(ir.ArrayType(i32, CHUNK_ROWS * deepest // 4)), i32p)
    scales = e.entry.bitcast(e.entry.alloca(ir.ArrayType(f32, CHUNK_ROWS * deepest // BLOCK)), f32p)
    sums = e.entry.bitcast(e.entry.alloca(ir.ArrayType(f32, CHUNK_ROWS * deepest // BLOCK)), f32p)
    blocks = b.sdiv(depth, i64(BLOCK))

    def least(x: ir.Value, y: int) -> ir.Value:
        return b.select(b.icmp_signed("<", x, i64(y)), x, i64(y))

    with e.loop(i64(0), rows, CHUNK_ROWS) as chunk:
        height = least(b.sub(rows, chunk), CHUNK_ROWS)
        with e.loop(i64(0), height) as r:
            place = b.mul(r, blocks)
            source, whole = e.at(x, b.mul(b.add(chunk, r), ldx)), e.at(scratch, b.mul(place, i64(BLOCK // 4)))
            b.call(quantise, [source, blocks, whole, e.at(scales, place), e.at(sums, place)])
        with e.loop(i64(0), groups) as group, e.loop(i64(0), height, TILE_ROWS) as start:
            place = b.mul(start, blocks)
            target = e.at(out, b.mul(b.add(chunk, start), ldo), b.mul(group, i64(8 * LANES)))
            arguments = [
                e.at(scratch, b.mul(place, i64(BLOCK // 4))), e.at(scales, place), e.at(sums, place), blocks,
                e.at(w, b.mul(b.mul(group, blocks), i64(8 * VECTORS * LANES))), i64(8), target, ldo, add,
            ]  # fmt: skip
            done = e.fn.append_basic_block("done")
            switch = b.switch(least(b.sub(height, start), TILE_ROWS), done)
            for index, tile in enumerate(tiles):
                block = e.fn.append_basic_block(f"rows{index + 1}")
                switch.add_case(i64(index + 1), block)
                b.position_at_end(block)
                b.call(tile, arguments)
                b.branch(done)
            b.position_at_end(done)
    return e.finish()
