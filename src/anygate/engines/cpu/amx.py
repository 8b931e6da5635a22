"""A float32 product out of bfloat16 tiles, where the processor has AMX.

AMX multiplies bfloat16 numbers (8 bits of mantissa) and adds in float32, 16 times as many in a
cycle as AVX-512. A float32 number of 24 bits is the sum of three bfloat16 numbers, each the rest of
those before, rounded to nearest: a = a1 + a2 + a3 with |a2| <= 2^-8 |a| and |a3| <= 2^-16 |a|. Of
the nine products of two such sums, six are taken:

    a b  =  a1 b1 + (a1 b2 + a2 b1) + (a1 b3 + a2 b2 + a3 b1)  +  what is below 2^-23 |a b|

which leaves 16/6 of AVX-512's speed at most. The three left out are a2 b3 + a3 b2 + a3 b3: at most
2^-23, on average 2^-27 of |a b|, of either sign; less than the roundings of the sum
(docs/decisions.md).

A tile is 16 rows of 64 bytes: 16 rows of A x 32 of K, or 16 pairs of K x 16 columns of B, or
16 x 16 sums. The parts of a factor lie tile by tile in the order in which they are read:

    A  [block of 16 rows, block of 32 K, part, row, K]
    B  [panel, pair of vectors, block of 32 K, part, vector of the pair, pair of K, column, K]
"""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .emit import I32, I64, PTR, Emitter, Target, counted, external, function
from .loops import Loop, integer
from .tile import WIDTH

__all__ = ["Parts", "allowed", "configured", "emit_split_weights", "parts_bytes"]

ROWS, DEPTH = 16, 32
"""Rows of a tile, and numbers of K in one."""
PARTS = 3
TILE = 1024
STRIDE = 64
PANEL_BLOCK = WIDTH * PARTS * TILE
"""Bytes of a block of K of a panel of B."""
_BF16_MAX = 3.3895313892515355e38
"""Larger numbers, and infinities and NaN, cannot be split: their upper 16 bits are part 3 alone."""
LARGEST_WEIGHT = 2.0**16
"""With larger weights a1 b2 could overflow where a b does not."""

FEW_INPUTS = 8
"""With fewer inputs than this the product with x is made of vectors: a tile is 32 deep."""

I8, I16 = ir.IntType(8), ir.IntType(16)
_VOID = ir.VoidType()
_INTRINSICS: dict[str, tuple[Any, ...]] = {
    "ldtilecfg": (PTR,),
    "tilerelease": (),
    "tileloadd64": (I8, PTR, I64),
    "tilestored64": (I8, PTR, I64),
    "tdpbf16ps": (I8, I8, I8),
}


@functools.lru_cache(maxsize=1)
def allowed() -> bool:
    """True if the operating system lets this process use tiles. Linux must be asked once in a
    process before their first use, since a thread's saved registers grow by 8 KiB with them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    arch_prctl, req_xcomp_perm, xtiledata = 158, 0x1023, 18
    system = ctypes.CDLL(None).syscall
    system.restype = ctypes.c_long
    return bool(system(*map(ctypes.c_long, (arch_prctl, req_xcomp_perm, xtiledata))) == 0)


def parts_bytes(rows: int, blocks: int) -> int:
    """Bytes of the buffer that `Parts` writes to: two copies of `rows` rows with `blocks` blocks of
    K each."""
    return 2 * -(-rows // ROWS) * blocks * PARTS * TILE


class Parts:
    """The first factor A of a time step's product (x and h forward, grad_z backward), split in
    three bfloat16 parts, in the order in which tiles read them.

    It lies twice in the buffer whose address is the kernel's argument `parts`: time step s reads
    one copy while it writes the other, which step s + 1 reads. blocks: the number of blocks of 32
    columns K. Threads that share the hidden units share one A; threads that share the batch rows
    have one each.
    """

    def __init__(self, loop: Loop, blocks: Any) -> None:
        b = loop.builder
        self.loop, self.blocks = loop, blocks
        self.row_bytes = b.mul(blocks, integer(PARTS * TILE))
        row_blocks = loop.ceiling(loop.ceiling(loop["batch"], loop.row_step), integer(ROWS))
        self.size = b.mul(row_blocks, self.row_bytes)
        place = b.select(loop.by_units, integer(0), loop.thread)
        self.start = at(b, loop["parts"], b.mul(b.mul(place, self.size), integer(2)))

    def rows(self, s: Any, row: Any) -> Any:
        """The address of the block of 16 rows that holds `row`, in the copy that step s writes and
        step s + 1 reads."""
        b = self.loop.builder
        offset = b.mul(b.udiv(row, integer(ROWS)), self.row_bytes)
        return at(b, self.start, b.add(offset, b.mul(b.and_(s, integer(1)), self.size)))

    def write(
        self,
        s: Any,
        rows: tuple[Any, Any],
        column: Any,
        count: Any,
        source: Callable[[Any], Any],
    ) -> None:
        """Split `count` float32 columns into parts, from `column` (a multiple of 32) on, for a
        range of this thread's rows, in the copy of step s. source(row) is the address of the row's
        first number. Zeros fill the last block of 32."""
        b = self.loop.builder
        with counted(b, integer(0), count, DEPTH) as k, counted(b, *rows) as row:
            tile = b.mul(b.udiv(b.add(column, k), integer(DEPTH)), integer(PARTS * TILE))
            inside = b.mul(b.urem(row, integer(ROWS)), integer(STRIDE))
            to = at(b, self.rows(s, row), b.add(tile, inside))
            numbers = self.loop.e.at(source(row), k)
            split = _split(self.loop.module, self.loop.target)
            b.call(split, [numbers, to, b.sub(count, k)])


@contextmanager
def configured(loop: Loop) -> Iterator[None]:
    """Around a kernel's code: tile registers are set up before it and released after it.

    Tiles have as many rows as the thread, at most 16. Tile 7 always holds a part of B and has all
    16; tile 6 holds B beside two blocks of rows (which fill their tiles) and A beside one.
    """
    b = loop.builder
    with b.goto_entry_block():
        table = b.alloca(ir.ArrayType(I64, 8))
        table.align, table.type = 64, PTR
    most = loop.maximum(loop.minimum(loop.thread_rows(loop["batch"]), integer(ROWS)), integer(1))
    rows = [b.trunc(most, I8)] * 7 + [ir.Constant(I8, ROWS)]
    for word in range(8):
        b.store(integer(1 if word == 0 else 0), b.gep(table, [integer(word)], source_etype=I64))
    for tile in range(8):
        b.store(ir.Constant(I16, STRIDE), at(b, table, integer(16 + 2 * tile)))
        b.store(rows[tile], at(b, table, integer(48 + tile)))
    call(b, "ldtilecfg", table)
    yield
    call(b, "tilerelease")


def _split(module: ir.Module, target: Target) -> ir.Function:
    """split(source, to, count): the parts of 32 numbers, zeros beyond `count`, each part in the
    next tile."""
    if "split" in module.globals:
        return module.globals["split"]
    made = function(module, "split", 2, 1)
    made.linkage = "internal"
    made.attributes.add("noinline")  # five copies would double the time to compile
    b = ir.IRBuilder(made.append_basic_block("entry"))
    source, to, count = made.args
    e = Emitter(b, target)
    low = _parts(e, _load_some(e, source, count))
    high = _parts(e, _load_some(e, e.at(source, ROWS), b.sub(count, integer(ROWS))))
    halves = ir.VectorType(I16, DEPTH)
    upper = ir.Constant(ir.VectorType(I32, DEPTH), list(range(1, 2 * DEPTH, 2)))
    for part in range(PARTS):
        both = [b.bitcast(bits, halves) for bits in (low[part], high[part])]
        b.store(b.shuffle_vector(*both, upper), at(b, to, integer(part * TILE)), align=STRIDE)
    b.ret_void()
    return made


def emit_split_weights(module: ir.Module, target: Target) -> None:
    """Define `split_weights(weights, to, panels, depth, blocks, first) -> i64`: the parts of packed
    weights [panel, depth, 4 vectors] as blocks of K from `first` on of `blocks` in all. Gives 0 if
    all are finite and small enough."""
    signature = ir.FunctionType(I64, [PTR, PTR, I64, I64, I64, I64])
    made = ir.Function(module, signature, "split_weights")
    b = ir.IRBuilder(made.append_basic_block("entry"))
    e = Emitter(b, target)
    weights, to, panels, depth, blocks, first = made.args
    bad = e.buffer(1)
    b.store(e.isplat(0), bad)
    pairs = b.lshr(b.add(depth, integer(1)), integer(1))
    with counted(b, integer(0), panels) as panel, counted(b, integer(0), pairs) as pair:
        row = b.mul(pair, integer(2))
        source = e.at(weights, b.mul(b.add(b.mul(panel, depth), row), integer(WIDTH * ROWS)))
        left = b.mul(b.sub(depth, row), integer(ROWS))  # 16 if there is no second row
        block = b.add(first, b.udiv(row, integer(DEPTH)))
        inside = b.mul(b.urem(pair, integer(DEPTH // 2)), integer(STRIDE))
        panel_bytes = b.mul(blocks, integer(PANEL_BLOCK))
        place = at(b, to, b.add(b.mul(panel, panel_bytes), inside))
        for v in range(WIDTH):
            pair_at = b.add(b.mul(integer(v // 2), blocks), block)
            v_at = at(b, place, b.mul(pair_at, integer(2 * PARTS * TILE)))
            line = e.at(source, v * ROWS)
            numbers = [
                e.load(line),
                _load_some(e, e.at(line, WIDTH * ROWS), b.sub(left, integer(ROWS))),
            ]
            for number in numbers:
                large = b.fcmp_unordered(">", e.call("fabs", number), e.splat(LARGEST_WEIGHT))
                b.store(b.or_(b.load(bad, typ=e.integer), b.zext(large, e.integer)), bad)
            for part, (p, q) in enumerate(zip(*(_parts(e, n) for n in numbers), strict=True)):
                both = b.or_(b.lshr(p, e.isplat(16)), b.and_(q, e.isplat(-0x10000)))
                b.store(both, at(b, v_at, integer((2 * part + v % 2) * TILE)), align=STRIDE)
    reduce = external(module, "llvm.vector.reduce.or.v16i32", ir.FunctionType(I32, [e.integer]))
    b.ret(b.zext(b.call(reduce, [b.load(bad, typ=e.integer)]), I64))


def _parts(e: Emitter, value: Any) -> list[Any]:
    """a1, a2, a3 of value = a1 + a2 + a3, each in the upper 16 bits of a float32. Of infinity, NaN
    and numbers above _BF16_MAX the first two are 0 and the third is the number itself: it is then
    multiplied by b1 alone, whose sign is b's, so that infinity times a finite weight is the
    infinity that float32 gives, not NaN."""
    b = e.builder
    small = b.fcmp_ordered("<=", e.call("fabs", value), e.splat(_BF16_MAX))
    parts, rest = [], value
    for _ in range(PARTS - 1):
        bits = b.bitcast(rest, e.integer)
        odd = b.and_(b.lshr(bits, e.isplat(16)), e.isplat(1))
        rounded = b.and_(b.add(bits, b.add(odd, e.isplat(0x7FFF))), e.isplat(-0x10000))
        part = b.select(small, rounded, e.isplat(0))
        parts.append(part)
        rest = b.fsub(rest, b.bitcast(part, e.vector))
    return [*parts, b.bitcast(rest, e.integer)]


def _load_some(e: Emitter, source: Any, count: Any) -> Any:
    """The first `count` of 16 numbers at an address, then zeros; nothing beyond them is read. All
    16 are loaded without a mask, since a masked load waits for a store to the same place to reach
    the cache."""
    b = e.builder
    with b.if_else(b.icmp_signed(">=", count, integer(ROWS))) as (then, otherwise):
        with then:
            whole, there = e.load(source), b.block
        with otherwise:
            one = b.insert_element(
                ir.Constant(e.integer, ir.Undefined), b.trunc(count, I32), ir.Constant(I32, 0)
            )
            zeros = ir.Constant(e.integer, [0] * ROWS)
            places = ir.Constant(e.integer, list(range(ROWS)))
            mask = b.icmp_signed("<", places, b.shuffle_vector(one, one, zeros))
            kind = ir.FunctionType(e.vector, [PTR, I32, mask.type, e.vector])
            load = external(e.module, "llvm.masked.load.v16f32.p0", kind)
            some = b.call(load, [source, ir.Constant(I32, 4), mask, e.splat(0.0)])
            here = b.block
    value = b.phi(e.vector)
    value.add_incoming(whole, there)
    value.add_incoming(some, here)
    return value


def at(b: Any, pointer: Any, offset: Any) -> Any:
    """The address `offset` bytes after a pointer."""
    return b.gep(pointer, [offset], source_etype=I8)


def call(b: Any, name: str, *arguments: Any) -> None:
    """Emit an AMX intrinsic; an argument that is a Python int is the number of a tile."""
    types = _INTRINSICS[name]
    callee = external(b.module, f"llvm.x86.{name}", ir.FunctionType(_VOID, types))
    values = [ir.Constant(I8, a) if isinstance(a, int) else a for a in arguments]
    b.call(callee, values)
