"""From a cell to machine code: made once for each formula, dtype and processor."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite.binding.newpassmanagers import NewPassManager

from ...cells import Cell
from ...cells.measures import measured
from .. import cache
from ..layout import Layout, layout_of
from ..openmp import openmp_symbols
from . import amx
from .emit import Target, symbol
from .kernels import emit_kernels, emit_way_back
from .products import PANELS
from .shared import SHARED, emit_shared
from .tile import WIDTH

__all__ = [
    "Kernels",
    "compile_module",
    "kernels",
    "link",
    "sweep",
    "target_for",
    "third_level_is_far",
    "tile_target",
]

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


@dataclass(frozen=True)
class Kernels:
    """Machine code of one cell: forward(arguments, threads), prepared(constants, x, z_x, output,
    saved, others, starts..., lasts...) and, for training, the address of backward_share (else 0);
    fingerprint(table, count), sample and pack_panels of weights. by_tiles(): the same with products
    by tiles, which alone have split_weights (amx.py); None where there are no tiles. numbers,
    norms: how many a measuring kernel writes for a time step, forward and backward."""

    target: Target
    layout: Layout
    numbers: int
    norms: int
    forward: Callable[[Any, int], None]
    backward: int
    prepared: Callable[..., int]
    fingerprint: Callable[[Any, int], int]
    sample: Callable[[Any, int], int]
    pack_panels: Callable[..., None]
    split_weights: Callable[..., int] | None
    by_tiles: Callable[[], Kernels] | None
    keep: Any


@functools.lru_cache(maxsize=1)
def _features() -> dict[str, bool]:
    return dict(llvm.get_host_cpu_features())


def target_for(dtype: str) -> Target:
    """The widest vectors of this processor, and as many rows as its registers hold."""
    features = _features()
    if features.get("avx512f"):
        return Target(dtype, 64, 6, mode="mxcsr")
    if features.get("avx2") and features.get("fma"):
        return Target(dtype, 32, 3, mode="mxcsr")
    if features.get("neon"):
        return Target(dtype, 16, 6, mode="fpcr")
    return Target(dtype, 16, 2, mode="mxcsr" if features.get("sse2") else "")


def tile_target(dtype: str) -> Target | None:
    """The same with products by tiles; None where the processor has none for this dtype, or the
    system does not let us use them."""
    target = target_for(dtype)
    there = dtype == "float32" and target.vector_bytes == 64 and _features().get("amx-bf16")
    return replace(target, amx=True) if there and amx.allowed() else None


def third_level_is_far() -> bool:
    """False for processors of which a few cores share a third-level cache of their own."""
    return not llvm.get_host_cpu_name().startswith("znver")


@functools.lru_cache(maxsize=256)
def kernels(
    cell: Cell, dtype: str, training: bool, measuring: bool = False, tiles: bool = False
) -> Kernels:
    """The machine code for a cell: from the cache, or compiled (a quarter of a second). tiles: with
    products by tiles."""
    layout = layout_of(cell)
    given = tile_target(dtype) if layout.is_square else None
    target = given if tiles else target_for(dtype)
    assert target is not None
    key = _key(cell, target, training, measuring)
    plain = target_for(dtype)
    sizes = {(len(blocks), layout.panels) for blocks in (layout.from_x, layout.from_h)}
    _share_products(plain, sizes | ({(WIDTH, WIDTH)} if training else set()))
    weights = _shared("weights", plain)
    engine = _made(key, lambda: emit_kernels(target, cell, training, measuring))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    forward = call(engine.get_function_address("forward"))
    backward = engine.get_function_address("backward_share") if training else 0
    addresses = [ctypes.c_size_t] * (6 + 2 * layout.states)
    prepared = ctypes.CFUNCTYPE(ctypes.c_int64, *addresses)(engine.get_function_address("prepared"))
    ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64)
    fingerprint, sample = (
        ask(weights.get_function_address(name)) for name in ("fingerprint", "sample")
    )
    pack = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)(
        weights.get_function_address("pack_panels")
    )
    split = None
    if target.amx:
        pointers, numbers = [ctypes.c_void_p] * 2, [ctypes.c_int64] * 4
        address = engine.get_function_address("split_weights")
        split = ctypes.CFUNCTYPE(ctypes.c_int64, *pointers, *numbers)(address)
    by_tiles = None
    if given is not None and not tiles:
        by_tiles = functools.partial(kernels, cell, dtype, training, measuring, tiles=True)
    found = measured(cell) if measuring else None
    forward_numbers, norms = (len(found.numbers), len(found.norms)) if found else (0, 0)
    return Kernels(
        target,
        layout,
        forward_numbers,
        norms,
        forward,
        backward,
        prepared,
        fingerprint,
        sample,
        pack,
        split,
        by_tiles,
        engine,
    )


@functools.lru_cache(maxsize=2)
def sweep(dtype: str) -> Callable[[Any, int], None]:
    """sweep(arguments, threads) of sweep.py."""
    target = target_for(dtype)
    _share_products(target, PANELS)
    engine = _made(_digest(("sweep", target)), lambda: emit_way_back(target))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    run = call(engine.get_function_address("sweep"))
    run.keep = engine  # type: ignore[attr-defined]
    return run


def _share_products(target: Target, sizes: Iterable[tuple[int, int]]) -> None:
    """Let generated code find the products of these columns and strides."""
    for columns, stride in sizes:
        if columns:
            _shared("product", target, columns, stride)


@functools.cache
def _shared(kind: str, target: Target, *sizes: int) -> llvm.ExecutionEngine:
    """The machine code of a kind of SHARED, which generated code finds from now on."""
    key = _digest((kind, target, sizes))
    engine = _made(key, lambda: emit_shared(kind, target, *sizes))
    _NEVER_FREED.append(engine)
    for name in SHARED[kind][1]:
        llvm.add_symbol(symbol(name, target, *sizes), engine.get_function_address(name))
    return engine


_NEVER_FREED: list[llvm.ExecutionEngine] = []
"""Code that other code calls: also the second of two that two threads have made at once."""


def _made(key: str, emit: Callable[[], Any]) -> llvm.ExecutionEngine:
    """The machine code of this key: from the cache, or of the module that emit() gives."""
    _give_openmp()
    code = cache.read(key)
    engine = None if code is None else link(code)
    if engine is None:
        code = compile_module(emit())
        cache.write(key, code)
        engine = link(code)
    assert engine is not None
    return engine


def _key(cell: Cell, target: Target, training: bool, measuring: bool = False) -> str:
    """The digest of all that the machine code depends on: what `emit_kernels` is given, by the
    Programs that it takes of the cell, and `_digest`."""
    programs: tuple[Any, ...] = (cell.forward, cell.backward) if training else (cell.forward,)
    if measuring:
        programs = (*programs, measured(cell))
    parts = (
        programs,
        sorted(cell.parameters.items()),
        cell.per_unit,
        layout_of(cell),
        target,
        training,
        measuring,
    )
    return _digest(parts)


def _digest(own: tuple[Any, ...]) -> str:
    """Of `own`; every line of our source, which holds the order of arguments and of measured
    numbers; processor, LLVM, and llvmlite, which writes the text."""
    parts = (
        *own,
        llvm.get_default_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        llvm.llvm_version_info,
        llvmlite.__version__,
        _source_digest(),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _source_files() -> list[Path]:
    """Every file of this library: what the emitters import may lie anywhere in it."""
    package = Path(__file__).parents[2]
    return sorted(package.rglob("*.py")) or sorted(package.rglob("*.pyc"))


@functools.lru_cache(maxsize=1)
def _source_digest() -> str:
    """Of the library's files, names and contents: an edited kernel must not run yesterday's
    code."""
    digest = hashlib.sha256()
    for path in _source_files():
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def compile_module(source: Any) -> bytes:
    """An object file. All that LLVM made on the way is given back: types and constants with the
    context (13 kB a formula), the passes by `_dispose`."""
    machine = _machine()
    with llvm.create_context() as context, llvm.parse_assembly(str(source), context) as module:
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False  # every vector is explicit
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, options)
        passes = builder.getModulePassManager()
        passes.run(module, builder)
        _dispose(passes)
        return bytes(machine.emit_object(module))


def _dispose(passes: NewPassManager) -> None:
    """Give back the memory of passes that have run: 270 kB a formula. llvmlite (0.46 and 0.50)
    never does: ModulePassManager inherits ObjectRef's empty `_dispose` before NewPassManager's."""
    NewPassManager._dispose(passes)
    passes.detach()  # a llvmlite that disposes of them by itself must not do so again


def link(code: bytes) -> llvm.ExecutionEngine | None:
    """Machine code ready to be called; None if it is no object file of this processor."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    try:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
    except RuntimeError:
        return None
    return engine


def _machine() -> llvm.TargetMachine:
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="jitdefault",
        jit=True,
    )


@functools.lru_cache(maxsize=1)
def _give_openmp() -> None:
    """Let generated code find the OpenMP library that torch calls."""
    symbols = openmp_symbols()
    if symbols is None:
        raise RuntimeError(
            "the cpu engine shares torch's OpenMP threads, and this torch uses no OpenMP library "
            "with GOMP_parallel; choose engine='eager'"
        )
    for name, address in symbols.items():
        llvm.add_symbol(name, address)
