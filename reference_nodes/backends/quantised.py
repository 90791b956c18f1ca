"""Four-bit weights for drafting: a quarter of the bytes to stream, twice the products per instruction.

A weight of a group of 32 along k is d * q + m with q in 0..15 (GGUF's Q4_1), d and m in bfloat16. A row's values are
rounded to 16-bit integers per group, so a group's products are exact integer sums and only scales are floats. That
is far closer to the full model than a distilled one, and far too lax for a target: no bit-identity is claimed.

Layout of 8 columns x 32 k: five vectors of eight 32-bit words, a column per lane: [d | m], then four words whose
nibbles at bits 4i and 16 + 4i are q of k = 8j + 2i and the next, so that a shift and a mask give pairs of 16 bits.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from llvmlite import ir

from .hf_files import bf16_bits, from_bf16
from .jit import LANES, Emitter, aligned, f32, f32p, f32x8, i32, i32p, i32x8, i64

BLOCK = 32  # k per scale
VECTORS = 5  # words per lane, column and block
TILE_ROWS = 3  # more would not fit the registers
CHAINS = 2  # independent sums per row, so that an addition needn't wait for the one before


def pack_q4(weight: np.ndarray, columns: int) -> np.ndarray:
    """Quantise and pack bfloat16 bits [N, K], K a multiple of 32: uint32 [columns / 8, K / 32, 5, 8]."""
    n, k = weight.shape
    full = np.zeros((columns, k), np.float32)
    full[:n] = from_bf16(np.asarray(weight))
    groups = full.reshape(columns, k // BLOCK, BLOCK)
    low = from_bf16(bf16_bits(groups.min(2)))
    step = from_bf16(bf16_bits((groups.max(2) - low) / 15))
    divisor = np.where(step == 0, 1, step)
    q = np.clip(np.rint((groups - low[..., None]) / divisor[..., None]), 0, 15).astype(np.uint32)
    q = q.reshape(columns, k // BLOCK, 4, 4, 2)  # word, shift, low or high half
    shifts = np.arange(0, 16, 4, dtype=np.uint32)[:, None] + np.array([0, 16], np.uint32)
    words = np.zeros((columns, k // BLOCK, VECTORS), np.uint32)
    words[..., 0] = (bf16_bits(step).astype(np.uint32) << 16) | bf16_bits(low)
    words[..., 1:] = (q << shifts).sum((3, 4), dtype=np.uint32)
    packed = aligned((columns // LANES, k // BLOCK, VECTORS, LANES), np.uint32)
    packed[...] = words.reshape(-1, LANES, k // BLOCK, VECTORS).transpose(0, 2, 3, 1)
    return packed


def _quantise(module: ir.Module) -> ir.Function:
    """One row to 16-bit integers: q = rint(x * 32767 / max|x|) per block; also the block's scale and sum."""
    e = Emitter(module, "quantise", [f32p, i64, i32p, f32p, f32p])
    x, blocks, out, scales, sums = e.fn.args
    b = e.b
    i16x8 = ir.VectorType(ir.IntType(16), LANES)
    with e.loop(i64(0), blocks) as block:
        source = e.at(x, b.mul(block, i64(BLOCK)))
        values = [e.load8(e.at(source, j * LANES)) for j in range(BLOCK // LANES)]
        largest = e.const8(1e-30)
        total = e.const8(0.0)
        for value in values:
            size = e.unary("llvm.fabs", value)
            largest = b.select(b.fcmp_ordered(">", size, largest), size, largest)
            total = b.fadd(total, value)
        top = b.extract_element(largest, i32(0))
        for lane in range(1, LANES):
            other = b.extract_element(largest, i32(lane))
            top = b.select(b.fcmp_ordered(">", other, top), other, top)
        factor = e.splat(b.fdiv(f32(32767.0), top))
        target = e.at(out, b.mul(block, i64(BLOCK // 2)))
        for j, value in enumerate(values):
            whole = b.fptosi(e.unary("llvm.rint", b.fmul(value, factor)), i32x8)
            e.store8(b.trunc(whole, i16x8), e.at(target, j * LANES // 2))
        b.store(b.fdiv(top, f32(32767.0)), e.at(scales, block))
        b.store(e.sum8(total), e.at(sums, block))
    return e.finish()


def _pairs_product(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    """Per 32-bit lane: low16(x) * low16(y) + high16(x) * high16(y); x holds no negative halves."""
    b = e.b
    sixteen, low_half = ir.Constant(i32x8, [16] * LANES), ir.Constant(i32x8, [0xFFFF] * LANES)
    low = b.mul(b.and_(x, low_half), b.ashr(b.shl(y, sixteen), sixteen))
    return b.add(low, b.mul(b.lshr(x, sixteen), b.ashr(y, sixteen)))


def _pairs_product_avx2(e: Emitter, x: ir.Value, y: ir.Value) -> ir.Value:
    i16x16 = ir.VectorType(ir.IntType(16), 2 * LANES)
    name = "llvm.x86.avx2.pmadd.wd"
    known = e.module.globals.get(name)
    function = known or ir.Function(e.module, ir.FunctionType(i32x8, [i16x16, i16x16]), name)
    return e.b.call(function, [e.b.bitcast(x, i16x16), e.b.bitcast(y, i16x16)])


def _tile(module: ir.Module, rows: int, avx2: bool) -> ir.Function:
    """`rows` quantised rows times all columns, eight at a time."""
    e = Emitter(module, f"q4tile{rows}", [i32p, f32p, f32p, i64, i32p, i64, f32p, i64, i64])
    xq, scales, sums, blocks, w, column_blocks, out, ldo, add = e.fn.args
    b = e.b
    product = _pairs_product_avx2 if avx2 else _pairs_product
    half = b.mul(blocks, i64(BLOCK // 2))
    nibbles = ir.Constant(i32x8, [0x000F000F] * LANES)
    with e.loop(i64(0), column_blocks) as column:
        base = e.at(w, b.mul(b.mul(column, blocks), i64(VECTORS * LANES)))
        acc = [e.var(e.const8(0.0)) for _ in range(rows)]
        with e.loop(i64(0), blocks) as block:
            at = e.at(base, b.mul(block, i64(VECTORS * LANES)))
            scale = e.load8(at, i32x8)
            whole: list[list[ir.Value]] = [[] for _ in range(rows)]
            for j in range(4):
                word = e.load8(e.at(at, (1 + j) * LANES), i32x8)
                for i in range(4):
                    pair = b.and_(b.lshr(word, ir.Constant(i32x8, [4 * i] * LANES)), nibbles)
                    for r in range(rows):
                        x = e.at(xq, b.mul(half, i64(r)), b.mul(block, i64(BLOCK // 2)), j * 4 + i)
                        part = product(e, pair, e.splat(b.load(x)))
                        if len(whole[r]) < CHAINS:
                            whole[r].append(part)
                        else:
                            whole[r][i % CHAINS] = b.add(whole[r][i % CHAINS], part)
            step = b.bitcast(b.and_(scale, ir.Constant(i32x8, [0xFFFF0000] * LANES)), f32x8)
            low = b.bitcast(b.shl(scale, ir.Constant(i32x8, [16] * LANES)), f32x8)
            for r in range(rows):
                total = reduce(b.add, whole[r])
                place = b.add(b.mul(blocks, i64(r)), block)
                factor = b.fmul(step, e.splat(b.load(e.at(scales, place))))
                partial = e.fma(b.sitofp(total, f32x8), factor, e.get(acc[r]))
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
    scratch = e.entry.bitcast(e.entry.alloca(ir.ArrayType(i32, TILE_ROWS * deepest // 2)), i32p)
    scales = e.entry.bitcast(e.entry.alloca(ir.ArrayType(f32, TILE_ROWS * deepest // BLOCK)), f32p)
    sums = e.entry.bitcast(e.entry.alloca(ir.ArrayType(f32, TILE_ROWS * deepest // BLOCK)), f32p)
    blocks = b.sdiv(depth, i64(BLOCK))
    with e.loop(i64(0), rows, TILE_ROWS) as start:
        left = b.sub(rows, start)
        height = b.select(b.icmp_signed("<", left, i64(TILE_ROWS)), left, i64(TILE_ROWS))
        with e.loop(i64(0), height) as r:
            place = b.mul(r, blocks)
            source, whole = e.at(x, b.mul(b.add(start, r), ldx)), e.at(scratch, b.mul(place, i64(BLOCK // 2)))
            b.call(quantise, [source, blocks, whole, e.at(scales, place), e.at(sums, place)])
        done = e.fn.append_basic_block("done")
        target, column_blocks = e.at(out, b.mul(start, ldo)), b.mul(groups, i64(8))
        switch = b.switch(height, done)
        for index, tile in enumerate(tiles):
            block = e.fn.append_basic_block(f"rows{index + 1}")
            switch.add_case(i64(index + 1), block)
            b.position_at_end(block)
            b.call(tile, [scratch, scales, sums, blocks, w, column_blocks, target, ldo, add])
            b.branch(done)
        b.position_at_end(done)
    return e.finish()
