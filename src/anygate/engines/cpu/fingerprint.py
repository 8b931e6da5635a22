"""Machine code for a 64-bit hash of weights' bytes: a weight whose hash has changed is packed anew.

torch's version counter does not see writes into weight.data, by NumPy, by another process that
shares the memory, or under inference mode; the bytes do. Hashing a weight reads it once, a small
part of a sequence's time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import I32, I64, PTR, Emitter, Target, counted

__all__ = ["emit_fingerprints"]

_PARTS = 8
"""Independent running hashes, so that one multiplication need not wait for the one before."""
_SAMPLES = 64
_PRIME = 0x1E3779B1
_FACTOR = ir.Constant(I64, 6364136223846793005)


def emit_fingerprints(module: ir.Module, target: Target) -> None:
    """Define `fingerprint(table, count)` and `sample(table, count)` -> 64-bit hash of `count`
    tensors: of all their bytes, and of 64 words of each. table: address and size in bytes of each
    tensor in turn."""
    _emit_each(module, "fingerprint", _emit_whole(module, target))
    _emit_each(module, "sample", _emit_sample(module))


def _emit_each(module: ir.Module, name: str, one: ir.Function) -> None:
    made = ir.Function(module, ir.FunctionType(I64, [PTR, I64]), name)
    b = ir.IRBuilder(made.append_basic_block("entry"))
    table, count = made.args
    total = _total(b, count)
    with counted(b, ir.Constant(I64, 0), count) as i:
        at = b.gep(table, [b.mul(i, ir.Constant(I64, 2))], source_etype=I64)
        size = b.load(b.gep(at, [ir.Constant(I64, 1)], source_etype=I64), typ=I64)
        value = b.call(one, [b.load(at, typ=PTR), size])
        b.store(b.add(b.mul(b.load(total, typ=I64), _FACTOR), value), total)
    b.ret(b.load(total, typ=I64))


def _emit_whole(module: ir.Module, target: Target) -> ir.Function:
    """Define `whole(start, size)`, the hash of all 32-bit words and their order. In each lane

        h -> (rotate(h, 13) xor word) * prime,

    so that one changed word always changes h, and several leave it the same with probability
    2^-32. (h -> 31 h + word misses regular changes: 60 % of weights doubled in place.)"""
    made = ir.Function(module, ir.FunctionType(I64, [PTR, I64]), "whole")
    made.linkage = "internal"
    b = ir.IRBuilder(made.append_basic_block("entry"))
    e = Emitter(b, target)
    start, size = made.args
    block = _PARTS * target.vector_bytes
    places, total = e.buffer(_PARTS), _total(b, size)
    blocks = b.sdiv(size, ir.Constant(I64, block))
    entry = b.block
    head, body, end = (b.append_basic_block(name) for name in ("head", "body", "end"))
    b.branch(head)
    b.position_at_end(head)
    k = b.phi(I64)
    k.add_incoming(ir.Constant(I64, 0), entry)
    sums = [b.phi(e.integer) for _ in range(_PARTS)]
    bits = 8 * target.size
    for phi in sums:
        phi.add_incoming(e.isplat(1), entry)
    b.cbranch(b.icmp_signed("<", k, blocks), body, end)
    b.position_at_end(body)
    at = e.at(start, b.mul(k, ir.Constant(I64, _PARTS * target.lanes)))
    for part, phi in enumerate(sums):
        words = b.load(e.at(at, part * target.lanes), align=4, typ=e.integer)
        turned = b.or_(b.shl(phi, e.isplat(13)), b.lshr(phi, e.isplat(bits - 13)))
        phi.add_incoming(b.mul(b.xor(turned, words), e.isplat(_PRIME)), body)
    k.add_incoming(b.add(k, ir.Constant(I64, 1)), body)
    b.branch(head)
    b.position_at_end(end)
    for part, phi in enumerate(sums):
        b.store(phi, e.at(places, part * target.lanes), align=4)
    with counted(b, ir.Constant(I64, 0), ir.Constant(I64, block // 4)) as i:
        _mix(b, total, places, i)
    rest = b.mul(blocks, ir.Constant(I64, block // 4))
    with counted(b, rest, b.sdiv(size, ir.Constant(I64, 4))) as i:
        _mix(b, total, start, i)
    b.ret(b.load(total, typ=I64))
    return made


def _emit_sample(module: ir.Module) -> ir.Function:
    """Define `some(start, size)`, the hash of 64 words spread evenly over a tensor: it sees an
    optimizer's step, but not every change of a single element."""
    made = ir.Function(module, ir.FunctionType(I64, [PTR, I64]), "some")
    made.linkage = "internal"
    b = ir.IRBuilder(made.append_basic_block("entry"))
    start, size = made.args
    total = _total(b, size)
    words = b.sdiv(size, ir.Constant(I64, 4))
    some = b.icmp_signed(">", words, ir.Constant(I64, 0))
    with b.if_then(some), counted(b, ir.Constant(I64, 0), ir.Constant(I64, _SAMPLES)) as i:
        _mix(b, total, start, b.sdiv(b.mul(words, i), ir.Constant(I64, _SAMPLES)))
    b.ret(b.load(total, typ=I64))
    return made


def _total(b: ir.IRBuilder, size: Any) -> Any:
    total = b.alloca(I64)
    total.type = PTR
    b.store(size, total)
    return total


def _mix(b: ir.IRBuilder, total: Any, start: Any, index: Any) -> None:
    """Emit total = total * factor + the index-th 32-bit word at start."""
    word = b.load(b.gep(start, [index], source_etype=I32), align=4, typ=I32)
    b.store(b.add(b.mul(b.load(total, typ=I64), _FACTOR), b.zext(word, I64)), total)
