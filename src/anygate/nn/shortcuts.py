"""The shortest way through a module: a call without gradients whose input has a shape that was
there before.

A single time step takes the machine 3 us. All that depends on the module, the shape and the dtype
is found out once and kept beside the module; what can change between calls is looked at each time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..engines.protocol import Layer, Prepared, intercepted, load, on_change
from .design import Design
from .recorder import ACTIVE
from .run import explain

__all__ = ["Shortcut", "layer_shortcut", "shortcut"]

Shortcut: TypeAlias = Callable[[Tensor, Any], Any]
"""What a module's forward gives for (input, hx), or None where the long way must be gone."""
_MOST = 16
"""Shapes that a module remembers."""
_autocasting = torch._C._is_any_autocast_enabled


class _Shortcuts:
    """Of one module, by the shape of the input. A copy of the module has none of its own yet."""

    def __init__(self) -> None:
        self.found: dict[torch.Size, Shortcut | None] = {}
        self.seen: set[torch.Size] = set()
        _all.add(self)

    def __reduce__(self) -> Any:
        return _Shortcuts, ()

    def clear(self) -> None:
        self.found.clear()
        self.seen.clear()


_all: weakref.WeakSet[_Shortcuts] = weakref.WeakSet()


def _forget() -> None:
    for shortcuts in list(_all):
        shortcuts.clear()


on_change(_forget)


def shortcut(
    module: nn.Module, input: Any, hx: Any, make: Callable[[Tensor], Shortcut | None]
) -> Any:
    """What module(input, hx) gives, by a shortcut; None: go the long way. For calls without
    gradients, outside of torch.compile.

    make(input) gives a shortcut for inputs of this shape, if there is any; it is asked when a shape
    comes for the second time.
    """
    if type(input) is not Tensor or ACTIVE or _autocasting() or intercepted():
        return None
    shortcuts = module.__dict__.get("_shortcuts")
    if shortcuts is None:
        shortcuts = module._shortcuts = _Shortcuts()
    shape = input.shape
    run = shortcuts.found.get(shape)
    if run is None:
        if shape in shortcuts.found:
            return None
        if shape not in shortcuts.seen:
            if len(shortcuts.seen) >= _MOST:
                shortcuts.clear()
            shortcuts.seen.add(shape)
            return None
        run = shortcuts.found[shape] = make(input)
        if run is None:
            return None
    return run(input, hx)


def layer_shortcut(
    module: nn.Module,
    design: Design,
    layer: Layer,
    names: Sequence[str],
    shapes: tuple[Sequence[int] | None, Sequence[int]],
) -> Shortcut | None:
    """A shortcut for a module of one layer and direction, whose parameters are called `names`.

    layer: like the one that it runs, x contiguous [T, B, I]; shapes: of the output (None: only the
    states are wanted) and of each state, as the module shows them.
    """
    x, weights = layer.x, [w for w in layer[2:6] if isinstance(w, Tensor)]
    on_cpu = all(t.is_cpu and t.dtype == x.dtype for t in (x, *weights))
    if not on_cpu or not x.numel() or set(map(type, weights)) - {nn.Parameter}:
        return None
    prepared = load(explain(design, False, x, layer.weight_ih).name).prepare(design.key, layer)
    if prepared is None:
        return None
    run: Prepared = prepared
    dtype, count = x.dtype, len(layer.states)
    output_shape, state_shape = shapes
    zeros = torch.zeros(state_shape, dtype=dtype)
    starts, size = (zeros,) * count, torch.Size(state_shape)
    single = len(x) == 1
    like = None if output_shape is None else torch.zeros(output_shape if single else 0, dtype=dtype)
    parameters, noisy = module._parameters, design.noisy
    empty, empty_like = torch.empty, torch.empty_like

    def call(input: Tensor, hx: Any) -> Any:
        if input.dtype is not dtype or not input.is_cpu or not input.is_contiguous():
            return None
        if module._design is not design or (noisy and module.training):
            return None
        if hx is None:
            states: Sequence[Tensor] = starts
        else:
            states = (hx,) if count == 1 else hx
            if type(states) is not tuple or len(states) != count:
                return None
            for state in states:
                if type(state) is not Tensor or state.shape != size or state.dtype is not dtype:
                    return None
                if not state.is_cpu or not state.is_contiguous():
                    return None
        own = [parameters.get(name) for name in names]
        for weight in own:
            if type(weight) is not nn.Parameter:
                return None
        last = [empty_like(zeros) for _ in starts]
        if like is None:
            output = None
        elif single:
            output = empty_like(like)
        else:
            output = empty(output_shape, dtype=dtype)
        if not run(input, states, own, output, last):
            module._shortcuts.clear()
            return None
        ends = tuple(last) if count > 1 else last[0]
        return ends if output is None else (output, ends)

    return call
