"""The whole way back through a layer, in one call for all threads: stretches of time steps, in each
first grad_z by the cell's own loop and then, while it is in cache, the products of it.

A stretch has as many steps as fit into so many rows. Two rooms for grad_z take turns, because the
loop reads the step after its last one and because a thread may begin the next stretch while another
is still multiplying. Threads meet twice a stretch: when grad_z is there, and when x and the states
before are packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .backward import backward_arguments
from .emit import I64, PTR, Target, counted, external
from .loops import Loop, integer, meet
from .products import ARGUMENTS, emit_pack, emit_products, emit_start
from .tile import WIDTH

__all__ = ["SWEEP_ARGUMENTS", "emit_sweep"]

SWEEP_ARGUMENTS = (
    *ARGUMENTS,
    "loop",
    "loop_arguments",
    "loop_count",
    "most",
    "rooms",
    "apart",
    "met",
)
"""loop: the address of a cell's backward_share; loop_arguments: its loop_count arguments, of which
first, last, grad_z, grad_z_after and arrived are filled in here. most: rows in a stretch. rooms:
two of `apart` rows each, for grad_z. met: three i64 that are 0.
"""


def emit_sweep(module: ir.Module, target: Target) -> ir.Function:
    """Define sweep_share(arguments, thread, threads)."""
    pack, products, start = (f(module, target) for f in (emit_pack, emit_products, emit_start))
    loop = Loop(module, "sweep_share", target, SWEEP_ARGUMENTS, WIDTH)
    b, steps, width, most = loop.builder, loop["steps"], loop["width"], loop["most"]
    given, thread, threads = loop.function.args
    piece = _copy(loop, given, integer(len(ARGUMENTS)))
    sweep = _copy(loop, loop["loop_arguments"], loop["loop_count"])
    share = b.inttoptr(loop["loop"], pack.function_type.as_pointer())
    last_at, turn, count_at = (b.alloca(I64) for _ in range(3))
    for place, value in ((last_at, steps), (turn, integer(0)), (count_at, integer(0))):
        place.type = PTR
        b.store(value, place)

    def set_piece(**values: Any) -> None:
        for name, value in values.items():
            b.store(value, b.gep(piece, [integer(ARGUMENTS.index(name))], source_etype=I64))

    def set_sweep(**values: Any) -> None:
        names = backward_arguments(0)
        for name, value in values.items():
            b.store(value, b.gep(sweep, [integer(names.index(name))], source_etype=I64))

    def meet_all() -> None:
        done = b.add(b.load(count_at, typ=I64), integer(1))
        b.store(done, count_at)
        meet(loop, loop["met"], done, threads)

    with loop.body(), _while_positive(b, last_at) as last:
        first = _first_step(loop, last)
        begin, end = _rows(loop, first, last)
        odd = b.load(turn, typ=I64)
        room = loop.element(loop["rooms"], (b.mul(odd, loop["apart"]), width))
        grad_z = loop.element(room, (b.neg(begin), width))
        arrived = b.gep(loop["met"], [b.add(odd, integer(1))], source_etype=I64)
        set_sweep(first=first, last=last, grad_z=grad_z, arrived=arrived)
        b.call(share, [sweep, thread, threads])
        count = b.sub(end, begin)
        with counted(b, integer(0), loop.ceiling(count, most)) as k:
            done = b.mul(k, most)
            rows = loop.minimum(most, b.sub(count, done))
            z = loop.element(room, (done, width))
            set_piece(row=b.add(begin, done), rows=rows, grad_z=z)
            meet_all()
            with b.if_then(b.icmp_signed("==", thread, integer(0))):
                b.store(integer(0), arrived)  # for the stretch after the next
            b.call(pack, [piece, thread, threads])
            meet_all()
            b.call(products, [piece, thread, threads])
            set_piece(add=integer(1))
        with counted(b, first, last) as s:
            t, t_before, _ = loop.times(s)
            now, there = loop.place(t)
            _, there_before = loop.place(t_before)
            with b.if_then(b.icmp_signed(">", there, there_before)):
                z = loop.element(grad_z, (b.add(now, there_before), width))
                rows = b.sub(there, there_before)
                set_piece(rows=rows, grad_z=z, first_batch_row=there_before)
                b.call(start, [piece, thread, threads])
        set_sweep(grad_z_after=grad_z)
        b.store(b.sub(integer(1), odd), turn)
        b.store(first, last_at)
    return loop.function


def _copy(loop: Loop, source: Any, count: Any) -> Any:
    """A copy of so many arguments, the thread's own."""
    b = loop.builder
    copy = b.alloca(I64, count)
    copy.type = PTR
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, ir.IntType(1)])
    move = external(loop.module, "llvm.memcpy.p0.p0.i64", kind)
    b.call(move, [copy, source, b.mul(count, integer(8)), ir.Constant(ir.IntType(1), 0)])
    return copy


@contextmanager
def _while_positive(b: ir.IRBuilder, place: Any) -> Iterator[Any]:
    """while the number at an address is above 0; gives it."""
    head, body, end = (b.append_basic_block(name) for name in ("while", "body", "end"))
    b.branch(head)
    b.position_at_end(head)
    value = b.load(place, typ=I64)
    b.cbranch(b.icmp_signed(">", value, integer(0)), body, end)
    b.position_at_end(body)
    yield value
    b.branch(head)
    b.position_at_end(end)


def _first_step(loop: Loop, last: Any) -> Any:
    """The first step of the stretch that ends before step `last`: it has `most` rows, or is a
    single step."""
    b, most = loop.builder, loop["most"]
    with b.goto_entry_block():
        found, total = b.alloca(I64), b.alloca(I64)
        found.type = total.type = PTR
    whole = b.icmp_unsigned("==", b.ptrtoint(loop["offsets"], I64), integer(0))
    with b.if_else(whole) as (then, otherwise):
        with then:
            steps = loop.maximum(integer(1), b.sdiv(most, loop["batch"]))
            b.store(loop.maximum(integer(0), b.sub(last, steps)), found)
        with otherwise:
            b.store(b.sub(last, integer(1)), found)
            b.store(integer(0), total)
            with counted(b, integer(0), loop.minimum(last, b.add(most, integer(1)))) as k:
                s = b.sub(b.sub(last, integer(1)), k)
                _, rows = loop.place(loop.times(s)[0])
                rows = b.add(b.load(total, typ=I64), rows)
                b.store(rows, total)
                with b.if_then(b.icmp_signed("<=", rows, most)):
                    b.store(s, found)
    return b.load(found, typ=I64)


def _rows(loop: Loop, first: Any, last: Any) -> tuple[Any, Any]:
    """The rows of x, from and to (exclusive), of the steps first to last - 1."""
    b = loop.builder
    places = [loop.place(loop.times(s)[0]) for s in (first, b.sub(last, integer(1)))]
    reverse = b.icmp_signed("!=", loop["reverse"], integer(0))
    ends = [b.add(row, count) for row, count in places]
    begin = b.select(reverse, places[1][0], places[0][0])
    return begin, b.select(reverse, ends[0], ends[1])
