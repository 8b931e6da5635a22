"""The call of a cell's step on a vector of a row's units, or on the rest that fills no vector."""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir

from .loops import Loop, integer

__all__ = ["Strip", "call_step"]


class Strip(NamedTuple):
    """Vectors of the same hidden units, H numbers apart from each other, of one row of an array."""

    address: Any
    vectors: int = 1


def call_step(
    loop: Loop,
    step: ir.Function,
    left: Any,
    before: list[Any],
    reads: list[Strip],
    writes: list[Strip],
    after: list[Any],
    vector_stride: Any,
) -> None:
    """step(before..., reads..., writes..., after..., stride, vector_stride, units) on the units of
    one vector, of which `left` or more are the layer's. stride: how far the vectors of a strip are
    apart. before, after: further addresses. Where a row ends within the vector, the step works on
    copies."""
    b, e, hidden, lanes = loop.builder, loop.e, loop["hidden"], loop.target.lanes
    whole = b.icmp_signed(">=", left, loop.lanes)
    with b.if_else(whole) as (then, otherwise):
        with then:
            places = [strip.address for strip in (*reads, *writes)]
            b.call(step, [*before, *places, *after, hidden, vector_stride, loop.lanes])
        with otherwise:
            copies = [e.buffer(strip.vectors) for strip in (*reads, *writes)]
            for strip, copy in zip(reads, copies, strict=False):
                for v in range(strip.vectors):
                    e.copy(
                        loop.element(strip.address, (hidden, integer(v))),
                        e.at(copy, v * lanes),
                        left,
                    )
            b.call(step, [*before, *copies, *after, loop.lanes, vector_stride, left])
            for strip, copy in zip(writes, copies[len(reads) :], strict=True):
                for v in range(strip.vectors):
                    e.copy(
                        e.at(copy, v * lanes),
                        loop.element(strip.address, (hidden, integer(v))),
                        left,
                    )
