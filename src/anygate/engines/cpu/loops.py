"""The parts common to the forward and the backward time loop: arguments by name, each thread's
share of the work, rows of a packed batch, and the matrix product over a thread's rows.

Two ways to share work. By rows: each thread takes its batch rows through all time steps and waits
for nobody. By units: each thread computes its hidden units for all rows, and all wait for each
other after each time step; for batches too small to share, and for weights that fit the caches of
the cores together but not of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .emit import I32, I64, PTR, Emitter, Target, counted, external, function, symbol
from .tile import emit_tiles, most_rows

__all__ = [
    "GROUP",
    "NUMBERS",
    "Loop",
    "emit_product",
    "external_product",
    "integer",
    "meet",
]

NUMBERS = frozenset(
    {"steps", "batch", "inputs", "hidden", "keep", "reverse", "by_units", "first", "last"}
    | {"x_blocks", "all_rows", "row", "rows", "width", "end_of_x", "begin_of_h", "turned"}
    | {"first_batch_row", "add", "loop", "loop_count", "most", "apart"}
)
"""The arguments that are numbers; the others are addresses."""
GROUP = 32
"""Rows whose sums are kept at once: 8 KiB with AVX-512."""
_SPINS = 1024
"""Looks at the counter, each about 20 ns, before a waiting thread gives its core away."""
_DEPTH = 128
"""Rows of weights that all rows of a group are multiplied with before the next: 32 KiB. Of
groups of 32 to 96 rows and depths of 64 to 128, these two were the fastest at [100 32 128 256] and
[100 64 256 512] by up to 9 % (Xeon, 48 KiB of first-level cache)."""


def integer(value: int) -> ir.Constant:
    """An i64 constant."""
    return ir.Constant(I64, value)


def emit_product(module: ir.Module, target: Target, columns: int, stride: int) -> None:
    """Define `product(A, B, C, rows, lda, depth)`: C[rows, n vectors] += A[rows, depth] B[depth, n
    vectors] for n = columns, a row of C being `stride` vectors; in blocks of depth that stay in the
    first-level cache while all rows use them."""
    tile = emit_tiles(module, target, columns, stride)
    product = function(module, "product", 3, 3)
    b = ir.IRBuilder(product.append_basic_block("entry"))
    e = Emitter(b, target)
    a, weights, c, rows, lda, depth = product.args
    line, c_line = integer(columns * target.lanes), integer(stride * target.lanes)
    most = integer(most_rows(target, columns))
    blocks = b.sdiv(b.add(rows, b.sub(most, integer(1))), most)
    one_block = b.icmp_signed("<=", rows, most)
    block_depth = b.select(one_block, b.add(depth, integer(1)), integer(_DEPTH))
    pieces = b.sdiv(b.add(depth, b.sub(block_depth, integer(1))), block_depth)
    with counted(b, integer(0), pieces) as piece:
        k = b.mul(piece, block_depth)
        left = b.sub(depth, k)
        size = b.select(b.icmp_signed("<", left, block_depth), left, block_depth)
        with counted(b, integer(0), blocks) as block:
            first = b.sdiv(b.mul(rows, block), blocks)
            last = b.sdiv(b.mul(rows, b.add(block, integer(1))), blocks)
            a_at = e.at(a, b.add(b.mul(first, lda), k))
            b_at = e.at(weights, b.mul(k, line))
            c_at = e.at(c, b.mul(first, c_line))
            b.call(tile, [a_at, b_at, c_at, b.sub(last, first), lda, size])
    b.ret_void()


def external_product(module: ir.Module, target: Target, columns: int, stride: int) -> ir.Function:
    """The function that `emit_product` defines, in a module of its own (shared.py)."""
    kind = ir.FunctionType(ir.VoidType(), [PTR] * 3 + [I64] * 3)
    return external(module, symbol("product", target, columns, stride), kind)


class Loop:
    """A kernel in the making: `name(arguments, thread, threads)`, whose sums of a row are `width`
    vectors."""

    def __init__(
        self, module: ir.Module, name: str, target: Target, names: tuple[str, ...], width: int
    ):
        self.function = function(module, name, 1, 2)
        self.function.linkage = "internal"
        self.module, self.target = module, target
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.e = Emitter(self.builder, target)
        arguments, thread, threads = self.function.args
        self.values = {}
        for place, key in enumerate(names):
            at = self.builder.gep(arguments, [integer(place)], source_etype=I64)
            kind = I64 if key in NUMBERS else PTR
            self.values[key] = self.builder.load(at, typ=kind)
        self.lanes = integer(target.lanes)
        self.line = integer(width * target.lanes)
        b = self.builder
        self.thread = thread
        self.by_units = b.icmp_signed("!=", self["by_units"], integer(0))
        self.first_row = b.select(self.by_units, integer(0), thread)
        self.row_step = b.select(self.by_units, integer(1), threads)
        self.unit_share = b.select(self.by_units, thread, integer(0))
        self.unit_shares = b.select(self.by_units, threads, integer(1))
        self.sums = self.e.buffer(GROUP * width * (2 if target.amx else 1))

    def __getitem__(self, name: str) -> Any:
        """An argument: an address, or an i64."""
        return self.values[name]

    def panels(self, width: Any) -> tuple[Any, Any]:
        """First and last of this thread's panels of `width` hidden units."""
        b = self.builder
        count = self.ceiling(self["hidden"], width)
        first = b.sdiv(b.mul(count, self.unit_share), self.unit_shares)
        after = b.add(self.unit_share, integer(1))
        return first, b.sdiv(b.mul(count, after), self.unit_shares)

    def ceiling(self, p: Any, q: Any) -> Any:
        b = self.builder
        return b.sdiv(b.add(p, b.sub(q, integer(1))), q)

    def minimum(self, p: Any, q: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", p, q), p, q)

    def maximum(self, p: Any, q: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", p, q), p, q)

    def element(self, base: Any, *terms: tuple[Any, Any]) -> Any:
        """The address base + sum of factor * factor."""
        total: Any = integer(0)
        for p, q in terms:
            total = self.builder.add(total, self.builder.mul(p, q))
        return self.e.at(base, total)

    def times(self, s: Any) -> tuple[Any, Any, Any]:
        """The time step of the s-th step taken, of the one before it and of the one after."""
        b = self.builder
        reverse = b.icmp_signed("!=", self["reverse"], integer(0))
        mirrored = b.sub(b.sub(self["steps"], integer(1)), s)
        t = b.select(reverse, mirrored, s)
        up, down = b.add(t, integer(1)), b.sub(t, integer(1))
        return t, b.select(reverse, up, down), b.select(reverse, down, up)

    def place(self, t: Any) -> tuple[Any, Any]:
        """The first row of time step t, and the number of its rows (0 outside the sequence)."""
        b = self.builder
        asked = _place(self.module)
        arguments = [self["offsets"], self["steps"], self["batch"], t]
        pair = b.call(asked, arguments)
        return b.extract_value(pair, 0), b.extract_value(pair, 1)

    def thread_rows(self, count: Any) -> Any:
        """The number of this thread's rows among the first `count`."""
        b = self.builder
        share = self.ceiling(b.sub(count, self.first_row), self.row_step)
        return self.maximum(share, integer(0))

    def row(self, i: Any) -> Any:
        """The batch row of this thread's i-th."""
        b = self.builder
        return b.add(self.first_row, b.mul(i, self.row_step))

    @contextmanager
    def groups(self, rows: Any) -> Iterator[tuple[Any, Any]]:
        """This thread's rows in groups: the first of a group, and its size."""
        b = self.builder
        count = self.ceiling(rows, integer(GROUP))
        with counted(b, integer(0), count) as k:
            first = b.sdiv(b.mul(rows, k), count)
            yield first, b.sub(b.sdiv(b.mul(rows, b.add(k, integer(1))), count), first)

    def split(self, first: Any, size: Any, continuing: Any) -> Any:
        """The number of rows of a group are among the first `continuing` of the thread's rows."""
        left = self.maximum(self.builder.sub(continuing, first), integer(0))
        return self.minimum(left, size)

    def finish_step(self, done: Any) -> None:
        """All threads have done `done` time steps, where they need each other's units."""
        meet(self, self["arrived"], done, self.unit_shares)

    @contextmanager
    def body(self) -> Iterator[None]:
        """The kernel's code, with subnormal numbers taken as zero.

        States and gradients that decay by a factor each step end up there, and x86 computes with
        them up to a hundred times slower: ReLU at [784 32 1 128] took 264 ms a training step
        instead of 91 (Xeon).
        """
        kept = _MODES[self.target.mode](self)
        yield
        if kept is not None:
            kept()
        self.builder.ret_void()


def meet(loop: Loop, counter: Any, number: Any, threads: Any) -> None:
    """Wait until so many threads have come here for the `number`-th time.

    A counter that each thread raises and then watches: with GOMP_barrier, two threads at B=1 and
    H=64 were slower than one. A thread that waits long gives its core away.
    """
    b = loop.builder
    with b.if_then(b.icmp_signed(">", threads, integer(1))):
        b.atomic_rmw("add", counter, integer(1), "acq_rel")
        b.call(_wait(loop), [counter, b.mul(number, threads)])


def _flush_x86(loop: Loop) -> Callable[[], None]:
    """Set flush-to-zero and denormals-are-zero; gives what puts the register back."""
    b = loop.builder
    with b.goto_entry_block():
        kept, changed = b.alloca(I32), b.alloca(I32)
        kept.type = changed.type = PTR
    kind = ir.FunctionType(ir.VoidType(), [PTR])
    store = external(loop.module, "llvm.x86.sse.stmxcsr", kind)
    load = external(loop.module, "llvm.x86.sse.ldmxcsr", kind)
    b.call(store, [kept])
    b.store(b.or_(b.load(kept, typ=I32), ir.Constant(I32, 0x8040)), changed)
    b.call(load, [changed])
    return lambda: b.call(load, [kept]) and None


def _flush_arm(loop: Loop) -> Callable[[], None]:
    b = loop.builder
    get = external(loop.module, "llvm.aarch64.get.fpcr", ir.FunctionType(I64, []))
    put = external(loop.module, "llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [I64]))
    kept = b.call(get, [])
    b.call(put, [b.or_(kept, integer(1 << 24))])
    return lambda: b.call(put, [kept]) and None


_MODES: dict[str, Callable[[Loop], Callable[[], None] | None]] = {
    "mxcsr": _flush_x86,
    "fpcr": _flush_arm,
    "": lambda loop: None,
}


def _wait(loop: Loop) -> ir.Function:
    """wait(counter, target): until the counter has reached the target."""
    module = loop.module
    if "wait" in module.globals:
        return module.globals["wait"]
    made = function(module, "wait", 1, 1)
    made.linkage = "internal"
    entry, spin, again, rest = (
        made.append_basic_block(name) for name in ("entry", "spin", "again", "rest")
    )
    end = made.append_basic_block("end")
    counter, target = made.args
    b = ir.IRBuilder(entry)
    b.branch(spin)
    b.position_at_end(spin)
    turn = b.phi(I64)
    turn.add_incoming(integer(0), entry)
    now = b.load_atomic(counter, "acquire", 8, typ=I64)
    b.cbranch(b.icmp_signed(">=", now, target), end, again)
    b.position_at_end(again)
    if loop.target.mode == "mxcsr":
        b.call(external(module, "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    long = b.icmp_signed("==", b.and_(turn, integer(_SPINS - 1)), integer(_SPINS - 1))
    nearby = b.block
    after = b.add(turn, integer(1))
    turn.add_incoming(after, nearby)
    b.cbranch(long, rest, spin)
    b.position_at_end(rest)
    b.call(external(module, "sched_yield", ir.FunctionType(I32, [])), [])
    turn.add_incoming(after, rest)
    b.branch(spin)
    b.position_at_end(end)
    b.ret_void()
    return made


def _place(module: ir.Module) -> ir.Function:
    """place(offsets, steps, batch, t) -> (first row, rows) of a time step. Without offsets the
    batch is whole at each step."""
    if "place" in module.globals:
        return module.globals["place"]
    pair = ir.LiteralStructType([I64, I64])
    made = ir.Function(module, ir.FunctionType(pair, [PTR, I64, I64, I64]), "place")
    made.linkage = "internal"
    b = ir.IRBuilder(made.append_basic_block("entry"))
    offsets, steps, batch, t = made.args

    def give(first: Any, rows: Any) -> None:
        both = b.insert_value(ir.Constant(pair, ir.Undefined), first, 0)
        b.ret(b.insert_value(both, rows, 1))

    outside = b.or_(b.icmp_signed("<", t, integer(0)), b.icmp_signed(">=", t, steps))
    with b.if_then(outside):
        give(integer(0), integer(0))
    whole = b.icmp_unsigned("==", b.ptrtoint(offsets, I64), integer(0))
    with b.if_then(whole):
        give(b.mul(t, batch), batch)
    first = b.load(b.gep(offsets, [t], source_etype=I64), typ=I64)
    after = b.load(b.gep(offsets, [b.add(t, integer(1))], source_etype=I64), typ=I64)
    give(first, b.sub(after, first))
    return made
