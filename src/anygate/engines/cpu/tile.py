"""The one matrix kernel: C[rows, 4L] += A[rows, K] * B[K, 4L], C kept in registers.

L lanes to a vector, four vectors to a row of B. Forward, the four are the gates i f g o of the same
L hidden units; backward, four times L units. A tile of 6 rows with 32 registers (AVX-512) or 2 rows
with 16 (AVX2) leaves room for a row of B and a broadcast; more rows spill.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import I64, Emitter, Target, function

__all__ = ["WIDTH", "emit_tiles"]

WIDTH = 4
"""Vectors in a row of B and C."""
_AHEAD = 8
"""Rows of B that are asked for before they are needed: 5 to 8 % more (Xeon, 48 rows and B in the
second or third-level cache); 4 and 32 bring less."""


def emit_tiles(module: ir.Module, target: Target) -> ir.Function:
    """Define `tile(A, B, C, rows, lda, K)` for 1 to target.rows rows; lda in elements."""
    variants = [_emit_tile(module, target, rows) for rows in range(1, target.rows + 1)]
    tile = function(module, "tile", 3, 3)
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


def _emit_tile(module: ir.Module, target: Target, rows: int) -> ir.Function:
    tile = function(module, f"tile{rows}", 3, 2)
    tile.linkage = "internal"
    for k in range(3):
        tile.args[k].add_attribute("noalias")
    builder = ir.IRBuilder(tile.append_basic_block("entry"))
    e = Emitter(builder, target)
    a, b, c, lda, depth = tile.args
    zero = ir.Constant(I64, 0)
    row_starts = [e.at(a, builder.mul(lda, ir.Constant(I64, r))) for r in range(rows)]
    sums: list[Any] = [e.load(_c_place(e, c, r, v)) for r in range(rows) for v in range(WIDTH)]
    # One or two rows are bound by the latency of the sums: steps of K with sums of their own.
    unroll = 4 if rows <= 2 else 1
    whole = builder.and_(depth, ir.Constant(I64, -unroll))
    groups = 4 // rows if unroll > 1 else 1
    start = sums + [e.splat(0.0)] * (len(sums) * (groups - 1))
    totals = _loop(e, start, row_starts, b, zero, whole, unroll, groups)
    count = len(sums)
    sums = totals[:count]
    for group in range(1, groups):
        other = totals[group * count : (group + 1) * count]
        sums = [builder.fadd(p, q) for p, q in zip(sums, other, strict=True)]
    if unroll > 1:
        sums = _loop(e, sums, row_starts, b, whole, depth, 1, 1)
    for k, value in enumerate(sums):
        e.store(value, _c_place(e, c, k // WIDTH, k % WIDTH))
    builder.ret_void()
    return tile


def _c_place(e: Emitter, c: Any, row: int, vector: int) -> Any:
    return e.at(c, (row * WIDTH + vector) * e.target.lanes)


def _loop(
    e: Emitter,
    start: list[Any],
    rows: list[Any],
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
        offset = builder.mul(at, ir.Constant(I64, WIDTH * e.target.lanes))
        line = [e.load(e.at(e.at(b, offset), v * e.target.lanes)) for v in range(WIDTH)]
        for v in range(WIDTH):
            e.prefetch(e.at(e.at(b, offset), (_AHEAD * WIDTH + v) * e.target.lanes))
        base = (step % groups) * len(rows) * WIDTH
        for r, row in enumerate(rows):
            factor = e.broadcast(e.at(row, at))
            for v in range(WIDTH):
                place = base + r * WIDTH + v
                now[place] = e.fma(factor, line[v], now[place])
    for phi, value in zip(sums, now, strict=True):
        phi.add_incoming(value, builder.block)
    k.add_incoming(builder.add(k, ir.Constant(I64, unroll)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return list(sums)
