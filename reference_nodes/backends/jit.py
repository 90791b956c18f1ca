"""A thin layer over llvmlite: emit small numeric kernels and call them with the interpreter lock released.

Why generated code at all: bit-identity (DESIGN.md, idea 3) needs a fixed order of floating-point
operations, and no library's matrix product promises one (the order changes with the number of rows, the
threads and the version). LLVM without fast-math flags keeps IEEE 754 semantics, so the order written
here is the order that runs, on any CPU.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

try:
    import llvmlite.binding as llvm
    from llvmlite import ir
except ImportError as error:  # pragma: no cover - depends on the installation
    raise ImportError(
        "the model backends need llvmlite for their kernels; install the extra: pip install 'dsdp[torch]'"
    ) from error

LANES = 8  # width of every vector in this package; part of the kernel class, since it orders the reductions

i16, i32, i64, f32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
f32x8, i16x8, i32x8 = (ir.VectorType(kind, LANES) for kind in (f32, i16, i32))
f32p, i16p, i32p, i64p = (kind.as_pointer() for kind in (f32, i16, i32, i64))

Allocate = Callable[[tuple[int, ...], type], np.ndarray]
"""Gives an uninitialised array of a shape and dtype: `aligned`, or `Arena.take`."""

_CTYPES = {f32p: ctypes.c_void_p, i32p: ctypes.c_void_p, i64p: ctypes.c_void_p, i64: ctypes.c_int64}


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An uninitialised array that starts on a cache line: a vector load across two lines costs two."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


class Arena:
    """Arrays one behind the other in one piece of memory, for weights in the order that they are streamed in.

    A prefetch that runs past an array's end then finds the next one, and a piece of this size gets large pages (numpy
    asks for them from 4 MiB on): a forward takes about a tenth less than with an allocation for each matrix.
    """

    def __init__(self, size: int) -> None:
        """`size`: bytes, of all arrays together; each must be a multiple of 64, for the next to start on a line."""
        self._free = aligned((size,), np.uint8)

    def take(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """The next array, uninitialised."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        assert size % 64 == 0 and size <= len(self._free)
        taken, self._free = self._free[:size], self._free[size:]
        return taken.view(dtype).reshape(shape)


class Emitter:
    """Emits the body of one function; methods are named after the operation they emit."""

    def __init__(self, module: ir.Module, name: str, args: Sequence[ir.Type], public: bool = False) -> None:
        self.fn = ir.Function(module, ir.FunctionType(ir.VoidType(), list(args)), name)
        if not public:
            self.fn.linkage = "internal"
        self.module = module
        self.entry = ir.IRBuilder(self.fn.append_basic_block("entry"))
        body = self.fn.append_basic_block("body")
        self.b = ir.IRBuilder(body)
        self._body = body

    def finish(self) -> ir.Function:
        """Close the function and return it."""
        self.b.ret_void()
        self.entry.branch(self._body)
        return self.fn

    def var(self, init: ir.Value) -> ir.Value:
        """A mutable variable (LLVM turns it into registers)."""
        slot = self.entry.alloca(init.type)
        self.b.store(init, slot)
        return slot

    def get(self, var: ir.Value) -> ir.Value:
        return self.b.load(var)

    def set(self, var: ir.Value, value: ir.Value) -> None:
        self.b.store(value, var)

    @contextmanager
    def loop(self, low: ir.Value, high: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        """`for i in range(low, high, step)`."""
        b = self.b
        head, body, done = (self.fn.append_basic_block(f"loop.{part}") for part in ("head", "body", "done"))
        index = self.var(low)
        b.branch(head)
        b.position_at_end(head)
        i = b.load(index)
        b.cbranch(b.icmp_signed("<", i, high), body, done)
        b.position_at_end(body)
        yield i
        b.store(b.add(i, i64(step)), index)
        b.branch(head)
        b.position_at_end(done)

    def at(self, pointer: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        """Pointer plus the sum of the offsets, in elements."""
        for offset in offsets:
            pointer = self.b.gep(pointer, [i64(offset) if isinstance(offset, int) else offset])
        return pointer

    def load8(self, pointer: ir.Value, kind: ir.Type = f32x8) -> ir.Value:
        return self.b.load(self.b.bitcast(pointer, kind.as_pointer()), align=4)

    def store8(self, value: ir.Value, pointer: ir.Value) -> None:
        self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer()), align=4)

    def load8_bf16(self, pointer: ir.Value) -> ir.Value:
        """Eight bfloat16 of an i16 pointer, as float32."""
        bits = self.b.zext(self.load8(pointer, i16x8), i32x8)
        return self.b.bitcast(self.b.shl(bits, ir.Constant(i32x8, [16] * LANES)), f32x8)

    def store8_bf16(self, value: ir.Value, pointer: ir.Value) -> None:
        """Eight float32, rounded to the nearest bfloat16 (ties to even), to an i16 pointer."""
        b, bits, sixteen = self.b, self.b.bitcast(value, i32x8), ir.Constant(i32x8, [16] * LANES)
        odd = b.and_(b.lshr(bits, sixteen), ir.Constant(i32x8, [1] * LANES))
        rounded = b.add(b.add(bits, ir.Constant(i32x8, [0x7FFF] * LANES)), odd)
        self.store8(b.trunc(b.lshr(rounded, sixteen), i16x8), pointer)

    def splat(self, scalar: ir.Value) -> ir.Value:
        vector = ir.VectorType(scalar.type, LANES)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), scalar, i32(0))
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), ir.Constant(i32x8, [0] * LANES))

    def const8(self, value: float) -> ir.Value:
        return ir.Constant(f32x8, [value] * LANES)

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x * y + z, rounded once."""
        return self._intrinsic("llvm.fma", x, y, z)

    def unary(self, intrinsic: str, x: ir.Value) -> ir.Value:
        return self._intrinsic(intrinsic, x)

    def _intrinsic(self, name: str, *args: ir.Value) -> ir.Value:
        name = f"{name}.{'f32' if args[0].type == f32 else 'v8f32'}"
        known = self.module.globals.get(name)
        kind = ir.FunctionType(args[0].type, [arg.type for arg in args])
        return self.b.call(known or ir.Function(self.module, kind, name), args)

    def prefetch(self, pointer: ir.Value) -> None:
        """Hint that this cache line will be read soon; any address is allowed."""
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), i32, i32, i32])
        known = self.module.globals.get("llvm.prefetch.p0") or ir.Function(self.module, kind, "llvm.prefetch.p0")
        byte = self.b.bitcast(pointer, ir.IntType(8).as_pointer())
        self.b.call(known, [byte, i32(0), i32(1), i32(1)])

    def sum8(self, vector: ir.Value) -> ir.Value:
        """Sum of the lanes in the fixed order ((0+4)+(2+6)) + ((1+5)+(3+7))."""
        b, width = self.b, LANES
        while width > 1:
            width //= 2
            undef = ir.Constant(vector.type, ir.Undefined)
            mask = [i % (2 * width) for i in range(width, width + LANES)]
            vector = b.fadd(vector, b.shuffle_vector(vector, undef, ir.Constant(i32x8, mask)))
        return b.extract_element(vector, i32(0))

    def exp8(self, x: ir.Value) -> ir.Value:
        """exp of each lane (Cody-Waite reduction, degree-6 polynomial, under 2 ulp); below -87 it gives
        0.
        """
        b = self.b
        low, high = self.const8(-87.0), self.const8(88.0)
        tiny = b.fcmp_ordered("<", x, low)
        x = b.select(tiny, low, x)
        x = b.select(b.fcmp_ordered(">", x, high), high, x)
        n = self.unary("llvm.rint", b.fmul(x, self.const8(1.4426950408889634)))
        r = self.fma(n, self.const8(-0.693145751953125), x)
        r = self.fma(n, self.const8(-1.42860682030941723212e-6), r)
        p = self.const8(1.9875691500e-4)
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            p = self.fma(p, r, self.const8(c))
        p = b.fadd(self.fma(p, b.fmul(r, r), r), self.const8(1.0))
        exponent = b.shl(b.add(b.fptosi(n, i32x8), ir.Constant(i32x8, [127] * LANES)), ir.Constant(i32x8, [23] * LANES))
        return b.select(tiny, self.const8(0.0), b.fmul(p, b.bitcast(exponent, f32x8)))


def host_features() -> str:
    """The CPU's features as LLVM lists them; empty where it can't tell."""
    try:
        return llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM can't tell on every platform; the CPU's name implies most of them
        return ""


class Library:
    """A compiled module: call `function(name)` for a Python callable taking addresses and integers."""

    def __init__(self, module: ir.Module, cpu: str | None = None, features: str | None = None) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module.triple = llvm.get_process_triple()
        self._types = {f.name: f.function_type for f in module.functions}
        machine = llvm.Target.from_triple(module.triple).create_target_machine(
            cpu=llvm.get_host_cpu_name() if cpu is None else cpu,
            features=host_features() if features is None else features,
            opt=3,
        )
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        # The kernels are blocked by hand: a second, automatic vectorisation only bloats them.
        options.loop_vectorization = options.slp_vectorization = False
        llvm.create_pass_builder(machine, options).getModulePassManager().run(
            parsed, llvm.create_pass_builder(machine, options)
        )
        self._parsed = parsed
        self._engine = llvm.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()

    def function(self, name: str) -> Callable[..., None]:
        """The compiled function `name`; ctypes releases the interpreter lock while it runs."""
        kind = self._types[name]
        prototype = ctypes.CFUNCTYPE(None, *(_CTYPES[arg] for arg in kind.args))
        call = prototype(self._engine.get_function_address(name))
        call.library = self  # type: ignore[attr-defined]  # the code lives as long as its engine
        return call
