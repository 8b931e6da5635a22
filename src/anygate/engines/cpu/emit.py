"""Writing LLVM: vectors of one dtype, and the few loops and copies that the kernels are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

__all__ = ["I32", "I64", "PTR", "Emitter", "Target", "counted", "external", "function"]

I32, I64 = ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()


@dataclass(frozen=True)
class Target:
    """The processor and the dtype that code is made for.

    dtype: "float32" or "float64". vector_bytes: 64 with AVX-512, 32 with AVX2, 16 otherwise.
    rows: batch rows of the largest tile; a tile keeps rows x 4 accumulators in registers.
    mode: the register that says whether subnormal numbers are computed with, "mxcsr" on x86, "fpcr"
    on Arm, else "". amx: products are made by tiles (amx.py).
    """

    dtype: str
    vector_bytes: int
    rows: int
    mode: str = ""
    amx: bool = False

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return 4 if self.dtype == "float32" else 8

    @property
    def lanes(self) -> int:
        """Numbers in a vector."""
        return self.vector_bytes // self.size


def symbol(name: str, target: Target, *sizes: int) -> str:
    """The name by which the code of cells calls a function of shared.py: of this processor and
    dtype."""
    parts = ("anygate", name, *sizes, target.dtype, target.vector_bytes, target.rows)
    return "_".join(map(str, parts))


class Emitter:
    """An IRBuilder with the types of a target; every value is a vector unless it says otherwise."""

    def __init__(self, builder: ir.IRBuilder, target: Target) -> None:
        self.builder = builder
        self.target = target
        self.module = builder.module
        single = target.size == 4
        self.scalar = ir.FloatType() if single else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, target.lanes)
        self.integer = ir.VectorType(I32 if single else I64, target.lanes)
        self.mantissa_bits = 23 if single else 52
        self.bias = 127 if single else 1023

    def splat(self, value: float) -> ir.Constant:
        """A vector of one number."""
        return ir.Constant(self.vector, [ir.Constant(self.scalar, value)] * self.target.lanes)

    def isplat(self, value: int) -> ir.Constant:
        """An integer vector of one number, of the same width as the floats."""
        element = self.integer.element
        return ir.Constant(self.integer, [ir.Constant(element, value)] * self.target.lanes)

    def call(self, name: str, *arguments: Any) -> Any:
        """An LLVM intrinsic such as "sqrt" on vectors."""
        kind = f"v{self.target.lanes}f{8 * self.target.size}"
        signature = ir.FunctionType(self.vector, [self.vector] * len(arguments))
        return self.builder.call(external(self.module, f"llvm.{name}.{kind}", signature), arguments)

    def each_lane(self, name: str, value: Any) -> Any:
        """A function of the C library on every lane."""
        b = self.builder
        signature = ir.FunctionType(self.scalar, [self.scalar])
        callee = external(self.module, name + ("f" if self.target.size == 4 else ""), signature)
        result = ir.Constant(self.vector, ir.Undefined)
        for lane in range(self.target.lanes):
            place = ir.Constant(I32, lane)
            y = b.call(callee, [b.extract_element(value, place)])
            result = b.insert_element(result, y, place)
        return result

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a*b + c, fused where the processor does it."""
        return self.call("fmuladd", a, b, c)

    def load(self, pointer: Any) -> Any:
        """A vector from any address."""
        return self.builder.load(pointer, align=self.target.size, typ=self.vector)

    def store(self, value: Any, pointer: Any) -> None:
        """A vector to any address."""
        self.builder.store(value, pointer, align=self.target.size)

    def load_one(self, pointer: Any) -> Any:
        """The number at an address."""
        return self.builder.load(pointer, align=self.target.size, typ=self.scalar)

    def store_one(self, value: Any, pointer: Any) -> None:
        """A number to an address."""
        self.builder.store(value, pointer, align=self.target.size)

    def transposed(self, lines: list[Any]) -> list[Any]:
        """As many vectors as each has numbers, rows and columns exchanged."""
        lanes, step = len(lines), 1
        while step < lanes:
            low = [
                k % (2 * step) // step * lanes + k - k % (2 * step) // step * step
                for k in range(lanes)
            ]
            high = [place + step for place in low]
            masks = [
                ir.Constant(ir.VectorType(I32, lanes), [ir.Constant(I32, p) for p in places])
                for places in (low, high)
            ]
            found = list(lines)
            for k in range(lanes):
                if not k & step:
                    pair = lines[k], lines[k + step]
                    found[k], found[k + step] = (
                        self.builder.shuffle_vector(*pair, m) for m in masks
                    )
            lines, step = found, 2 * step
        return lines

    def prefetch(self, pointer: Any) -> None:
        """Ask for the cache line at an address, which need not be valid."""
        kind = ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32])
        hint = external(self.module, "llvm.prefetch.p0", kind)
        self.builder.call(hint, [pointer, *(ir.Constant(I32, k) for k in (0, 3, 1))])

    def at(self, pointer: Any, index: Any) -> Any:
        """The address of element `index` (an i64, or a Python int)."""
        if isinstance(index, int):
            index = ir.Constant(I64, index)
        return self.builder.gep(pointer, [index], source_etype=self.scalar)

    def broadcast(self, pointer: Any) -> Any:
        """The number at an address, in every lane."""
        b = self.builder
        one = b.load(pointer, align=self.target.size, typ=self.scalar)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, one, ir.Constant(I32, 0))
        places = ir.Constant(ir.VectorType(I32, self.target.lanes), [0] * self.target.lanes)
        return b.shuffle_vector(first, undefined, places)

    def buffer(self, vectors: int) -> Any:
        """Room for so many vectors on the stack, allocated once at the function's entry."""
        b = self.builder
        with b.goto_entry_block():
            place = b.alloca(ir.ArrayType(self.vector, vectors))
            place.align = self.target.vector_bytes
            place.type = PTR  # llvmlite still gives it a typed pointer
            return place

    def copy_line(self, source: Any, destination: Any, count: Any, vectors: int) -> None:
        """`count` (i64) numbers, by vectors if they fill `vectors` of them."""
        b, lanes = self.builder, self.target.lanes
        full = b.icmp_signed("==", count, ir.Constant(I64, vectors * lanes))
        with b.if_else(full) as (then, otherwise):
            with then:
                for k in range(vectors):
                    place = k * lanes
                    self.store(self.load(self.at(source, place)), self.at(destination, place))
            with otherwise:
                self.copy(source, destination, count)

    def copy(self, source: Any, destination: Any, count: Any) -> None:
        """`count` (i64) numbers, one by one: the rest of a row that fills no vector."""
        b = self.builder
        with counted(b, ir.Constant(I64, 0), count) as i:
            value = b.load(self.at(source, i), align=self.target.size, typ=self.scalar)
            b.store(value, self.at(destination, i), align=self.target.size)


def external(module: ir.Module, name: str, signature: ir.FunctionType) -> ir.Function:
    """A function that LLVM, the C library or OpenMP brings."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, signature, name)


def function(module: ir.Module, name: str, arguments: int, integers: int = 0) -> ir.Function:
    """A void function of so many pointers, then so many i64."""
    signature = ir.FunctionType(ir.VoidType(), [PTR] * arguments + [I64] * integers)
    return ir.Function(module, signature, name)


@contextmanager
def counted(builder: ir.IRBuilder, start: Any, stop: Any, step: int = 1) -> Iterator[Any]:
    """for i in range(start, stop, step), with i64 values; gives i."""
    entry = builder.block
    head = builder.append_basic_block("loop")
    body = builder.append_basic_block("body")
    end = builder.append_basic_block("end")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(start, entry)
    builder.cbranch(builder.icmp_signed("<", i, stop), body, end)
    builder.position_at_end(body)
    yield i
    i.add_incoming(builder.add(i, ir.Constant(I64, step)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)
