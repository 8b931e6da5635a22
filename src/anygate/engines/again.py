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
    """Warn, once for each event, of the eager engine. event: what happens, ending in "runs"."""
    warnings.warn(f"{event} on the eager engine, which is slower", stacklevel=4)


def gradients(
    run: Callable[..., Sequence[Tensor | None]],
    tensors: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    create_graph: bool = True,
    needed: Sequence[bool] | None = None,
) -> list[Tensor | None]:
    """Gradients by `tensors` of run(*tensors), whose results have the gradients `grads`; as a graph
    that can be differentiated again, with create_graph. needed: the tensors whose gradients are
    wanted; None: all but the last two, masks and batch_sizes, which have none."""
    if needed is None:
        needed = (True,) * (len(tensors) - 2) + (False, False)
    with torch.enable_grad():
        own: list[Tensor | None] = []
        leaves: list[Tensor] = []
        for tensor, need in zip(tensors, needed, strict=True):
            if tensor is not None and need:
                # A view of each: one tensor given twice (h0 as c0) has its own gradient in each
                # place.
                again = create_graph and tensor.requires_grad
                tensor = tensor.view_as(tensor) if again else tensor.detach()
                if not tensor.requires_grad:
                    tensor.requires_grad_()
                leaves.append(tensor)
            own.append(tensor)
        pairs = [
            (r, g)
            for r, g in zip(run(*own), grads, strict=True)
            if r is not None and g is not None and r.requires_grad and r.shape == g.shape
        ]
        if not pairs:
            return [None] * len(own)
        results, arriving = zip(*pairs, strict=True)
        options: dict[str, Any] = {"create_graph": create_graph, "allow_unused": True}
        found = iter(torch.autograd.grad(results, leaves, arriving, **options))
    present = (t is not None and need for t, need in zip(own, needed, strict=True))
    return [next(found) if there else None for there in present]


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
