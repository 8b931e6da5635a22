"""Code that the code of every cell calls, made once for a processor and dtype: the matrix products,
and the fingerprints and the packing of weights. Within each cell's own code they were half of it
and of the time to compile."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from .emit import Target
from .fingerprint import emit_fingerprints
from .loops import emit_product
from .panels import emit_pack_panels

__all__ = ["SHARED", "emit_shared"]


def _emit_weights(module: ir.Module, target: Target) -> None:
    emit_fingerprints(module, target)
    emit_pack_panels(module, target)


SHARED: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "product": (emit_product, ("product",)),
    "weights": (_emit_weights, ("fingerprint", "sample", "pack_panels")),
}
"""Of each kind: what defines its functions in a module, emit(module, target, sizes...), and their
names, by which and by `emit.symbol` others call them."""


def emit_shared(kind: str, target: Target, *sizes: int) -> ir.Module:
    """A module with the functions of a kind of SHARED. sizes: of "product" columns and stride."""
    module = ir.Module(f"anygate {kind}")
    emit, _ = SHARED[kind]
    emit(module, target, *sizes)
    return module
