"""The one matrix kernel: C[rows, nL] += A[rows, K] * B[K, nL], C kept in registers.

L lanes to a vector, n vectors (columns) to a row of B, which are n of the `stride` vectors to a row
of C. Forward, a row of C holds the products of the same L hidden units, of which x or the state is
seen by n that stand side by side; backward, four times L units. With n = 4, a tile of 6 rows with
32 registers (AVX-512) or 2 rows with 16 (AVX2) leaves room for a row of B and a broadcast; more
rows spill.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import I64, Emitter, Target, function

__all__ = ["WIDTH", "emit_tiles", "most_rows"]

WIDTH = 4
"""Vectors in a row of B and C backward, and forward for the LSTM."""
_AHEAD = 8
"""Rows of B that are asked for before they are needed: 5 to 8 % more (Xeon, 48 rows and B in the
second or third-level cache); 4 and 32 bring less."""
_MOST_ROWS = 12
"""Each number of rows is a function of its own: with one column, more rows only compile longer."""
_SUMS = 16
"""Sums that a tile of few rows keeps, so that none waits for the last."""


def most_rows(target: Target, columns: int) -> int:
    """Rows of the largest tile of so many columns: its sums, a row of B and a broadcast fill the
    registers."""
    registers = WIDTH * target.rows + WIDTH
    return max(1, min(_MOST_ROWS, (registers - columns) // columns))


def emit_tiles(module: ir.Module, target: Target, columns: int, stride: int) -> ir.Function:
    """Define `tile(A, B, C, rows, lda, K)` for 1 to most_rows rows; lda in elements."""
    name = f"tile_{columns}_of_{stride}"
    counts = range(1, most_rows(target, columns) + 1)
    variants = [_emit_tile(module, target, f"{name}_{n}", n, columns, stride) for n in counts]
    tile = function(module, name, 3, 3)
    tile.linkage = "internal"
    builder = ir.IRBuilder(tile.append_basic_block("entry"))
    a, b, c, rows, lda, depth = tile.args
    done = tile.append_basic_block("done")
    choice = builder.switch(rows, done)
    for count, variant in enumerate(variants, 1):
        block = tile.append_basic_block(f"rows{count}")
        choice.add_case(ir.Constant(I64, count), block)
        builder.position_at_end(block)
        builder.call(variant, [a, b, c, lda, depth])
        builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return tile


def _emit_tile(
    module: ir.Module, target: Target, name: str, rows: int, columns: int, stride: int
) -> ir.Function:
    tile = function(module, name, 3, 2)
    tile.linkage = "internal"
    for k in range(3):
        tile.args[k].add_attribute("noalias")
    builder = ir.IRBuilder(tile.append_basic_block("entry"))
    e = Emitter(builder, target)
    a, b, c, lda, depth = tile.args
    zero = ir.Constant(I64, 0)
    row_starts = [e.at(a, builder.mul(lda, ir.Constant(I64, r))) for r in range(rows)]
    places = [e.at(c, (r * stride + v) * target.lanes) for r in range(rows) for v in range(columns)]
    sums: list[Any] = [e.load(place) for place in places]
    # Few sums are bound by their latency: steps of K with sums of their own.
    groups = _groups(target, rows * columns)
    unroll = max(4, groups) if groups > 1 else 1
    whole = builder.and_(depth, ir.Constant(I64, -unroll))
    start = sums + [e.splat(0.0)] * (len(sums) * (groups - 1))
    totals = _loop(e, start, row_starts, columns, b, zero, whole, unroll, groups)
    count = len(sums)
    sums = totals[:count]
    for group in range(1, groups):
        other = totals[group * count : (group + 1) * count]
        sums = [builder.fadd(p, q) for p, q in zip(sums, other, strict=True)]
    if unroll > 1:
        sums = _loop(e, sums, row_starts, columns, b, whole, depth, 1, 1)
    for value, place in zip(sums, places, strict=True):
        e.store(value, place)
    builder.ret_void()
    return tile


def _groups(target: Target, sums: int) -> int:
    """The number of steps of K have sums of their own: 1, 2, 4 or 8."""
    most = _SUMS if target.rows > 3 else _SUMS // 2  # of 32 registers, or of 16
    groups = 1
    while 2 * groups * sums <= most and groups < 8:
        groups *= 2
    return groups


def _loop(
    e: Emitter,
    start: list[Any],
    rows: list[Any],
    columns: int,
    b: Any,
    first: Any,
    last: Any,
    unroll: int,
    groups: int,
) -> list[Any]:
    """for k in range(first, last, unroll), with the sums in registers (as phi nodes)."""
    builder = e.builder
    entry = builder.block
    head = builder.append_basic_block("k")
    body = builder.append_basic_block("products")
    end = builder.append_basic_block("stored")
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(first, entry)
    sums = [builder.phi(e.vector) for _ in start]
    for phi, value in zip(sums, start, strict=True):
        phi.add_incoming(value, entry)
    builder.cbranch(builder.icmp_signed("<", k, last), body, end)
    builder.position_at_end(body)
    now: list[Any] = list(sums)
    for step in range(unroll):
        at = builder.add(k, ir.Constant(I64, step))
        row_of_b = e.at(b, builder.mul(at, ir.Constant(I64, columns * e.target.lanes)))
        base = (step % groups) * len(rows) * columns
        for v in range(columns):
            e.prefetch(e.at(row_of_b, (_AHEAD * columns + v) * e.target.lanes))
        # The fewer of both factors stay in registers beside the sums, the others pass by.
        if len(rows) < columns:
            factors = [e.broadcast(e.at(row, at)) for row in rows]
            for v in range(columns):
                vector = e.load(e.at(row_of_b, v * e.target.lanes))
                for r, factor in enumerate(factors):
                    place = base + r * columns + v
                    now[place] = e.fma(factor, vector, now[place])
            continue
        line = [e.load(e.at(row_of_b, v * e.target.lanes)) for v in range(columns)]
        for r, row in enumerate(rows):
            factor = e.broadcast(e.at(row, at))
            for v in range(columns):
                place = base + r * columns + v
                now[place] = e.fma(factor, line[v], now[place])
    for phi, value in zip(sums, now, strict=True):
        phi.add_incoming(value, builder.block)
    k.add_incoming(builder.add(k, ir.Constant(I64, unroll)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return list(sums)
