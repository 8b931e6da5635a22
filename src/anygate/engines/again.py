"""The work that a fused engine leaves to the eager one: gradients that can be differentiated again,
and calls that something looks into."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .protocol import Layer, intercepted

__all__ = ["gradients", "have_memory", "needs_operator", "warn_once"]


@lru_cache(maxsize=4)
def warn_once(event: str) -> None:
    """event: what happens, ending in "runs"."""
    warnings.warn(f"{event} on the eager engine, which is slower", stacklevel=4)


def gradients(
    run: Callable[..., Any],
    tensors: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    create_graph: bool = True,
) -> list[Tensor | None]:
    """Gradients by `tensors`, of which the last two (masks and batch_sizes) have none, of
    run(*tensors), whose results have the gradients `grads`; as a graph that can be differentiated
    again, with create_graph."""
    with torch.enable_grad():
        # A view of each: one tensor given twice (h0 as c0) has its own gradient in each place.
        own = [
            None if t is None else t.view_as(t) if create_graph and t.requires_grad else t.detach()
            for t in tensors
        ]
        leaves = [t for t in own[:-2] if t is not None]
        for tensor in leaves:
            if not tensor.requires_grad:
                tensor.requires_grad_()
        pairs = [
            (r, g)
            for r, g in zip(run(*own), grads, strict=True)
            if r is not None and g is not None and r.requires_grad and r.shape == g.shape
        ]
        results, arriving = [r for r, _ in pairs], [g for _, g in pairs]
        found: list[Tensor | None] = [None] * len(leaves)
        if pairs:
            options: dict[str, Any] = {"create_graph": create_graph, "allow_unused": True}
            found = list(torch.autograd.grad(results, leaves, arriving, **options))
    each = iter(found)
    return [None if t is None else next(each) for t in own[:-2]] + [None, None]


def have_memory(tensors: Sequence[Tensor | None]) -> bool:
    """False for the batched gradients of torch.autograd.grad(is_grads_batched=True)."""
    try:
        return all(t is None or t.data_ptr() is not None for t in tensors)
    except RuntimeError:
        return False


_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None)})


def needs_operator(layer: Layer) -> bool:
    """Something must see the operator and not its inside: a compiler, a trace, a transform, a
    dispatch mode, a subclass of Tensor."""
    return (
        torch.compiler.is_compiling()
        or intercepted()
        or not _PLAIN.issuperset(map(type, (layer[0], *layer[1], *layer[2:9])))
    )
