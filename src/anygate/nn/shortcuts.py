"""The shortest way through a module: a call whose input has a shape that was there before.

A single time step takes the machine 3 us. All that depends on the module, the shape and the dtype
is found out once and kept beside the module; what can change between calls is looked at each time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..engines.protocol import (
    Layer,
    Prepared,
    PreparedTraining,
    intercepted,
    load,
    on_change,
)
from .capture import ACTIVE as EXPORTING
from .design import Design
from .recorder import ACTIVE as RECORDING
from .run import explain

__all__ = ["Shortcut", "layer_shortcut", "layers_shortcut", "shortcut"]

Shortcut: TypeAlias = Callable[[Tensor, Any], Any]
"""(input, hx) -> the results of a module's forward, or None where the long way must be gone."""
_MOST = 16
"""Shapes that a module remembers."""
_autocasting = torch._C._is_any_autocast_enabled


class _Shortcuts:
    """Of one module, by the shape of the input and whether gradients are on. A copy of the module
    has none of its own yet."""

    def __init__(self) -> None:
        self.found: dict[Any, Shortcut | None] = {}
        self.seen: set[Any] = set()
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
    module: Any, input: Any, hx: Any, make: Callable[[Any, Tensor], Shortcut | None]
) -> Any:
    """The results of module(input, hx) by a shortcut; None: go the long way. For calls outside of
    torch.compile.

    make(module, input) gives a shortcut for inputs of this shape, if there is any; it is asked when
    a shape comes for the second time.
    """
    if type(input) is not Tensor or RECORDING or EXPORTING or _autocasting() or intercepted():
        return None
    shortcuts = module.__dict__.get("_shortcuts")
    if shortcuts is None:
        shortcuts = module._shortcuts = _Shortcuts()
    key = input.shape, torch.is_grad_enabled()
    run = shortcuts.found.get(key)
    if run is None:
        if key in shortcuts.found:
            return None
        if key not in shortcuts.seen:
            if len(shortcuts.seen) >= _MOST:
                shortcuts.clear()
            shortcuts.seen.add(key)
            return None
        run = shortcuts.found[key] = make(module, input)
        if run is None:
            return None
    return run(input, hx)


def layer_shortcut(
    module: Any,
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
    engine = load(explain(design, False, x, layer.weight_ih).name)
    dtype, count = x.dtype, len(layer.states)
    shape, state_shape = shapes
    run: Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Any]
    if torch.is_grad_enabled():
        if not layer.weight_ih.requires_grad:
            return None
        whole = (*x.shape[:2], state_shape[-1])
        learn = engine.prepare_training(design.key, layer, shape or whole)
        if learn is None:
            return None
        run = _trained(learn, shape is not None, count)
    else:
        prepared = engine.prepare(design.key, layer)
        if prepared is None:
            return None
        run = _inferred(prepared, x, shape, state_shape, count)
    zeros = torch.zeros(state_shape, dtype=dtype)
    starts, size = (zeros,) * count, torch.Size(state_shape)
    parameters, noisy = module._parameters, design.noisy

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
        own: list[Any] = [parameters.get(name) for name in names]
        for weight in own:
            if type(weight) is not nn.Parameter:
                return None
        results = run(input, states, own)
        if results is None:
            module._shortcuts.clear()
        return results

    return call


def _trained(
    run: PreparedTraining, shown: bool, count: int
) -> Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Any]:
    """A module's results with gradients. shown: the output is one of them."""

    def call(input: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> Any:
        if not weights[0].requires_grad:  # another engine may serve then
            return None
        results = run(input, states, weights)
        if results is None:
            return None
        output, *last = results
        ends = tuple(last) if count > 1 else last[0]
        return (output, ends) if shown else ends

    return call


def _inferred(
    run: Prepared,
    x: Tensor,
    shape: Sequence[int] | None,
    state_shape: Sequence[int],
    count: int,
) -> Callable[[Tensor, Sequence[Tensor], Sequence[Tensor]], Any]:
    """A module's results without gradients."""
    dtype, single = x.dtype, len(x) == 1
    zeros, output_shape = torch.zeros(state_shape, dtype=dtype), shape or ()
    like = None if shape is None else torch.zeros(shape if single else 0, dtype=dtype)
    empty, empty_like = torch.empty, torch.empty_like

    def call(input: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]) -> Any:
        last = [empty_like(zeros) for _ in range(count)]
        if like is None:
            output = None
        elif single:
            output = empty_like(like)
        else:
            output = empty(output_shape, dtype=dtype)
        if not run(input, states, weights, output, last):
            return None
        ends = tuple(last) if count > 1 else last[0]
        return ends if output is None else (output, ends)

    return call


def layers_shortcut(module: Any, input: Tensor) -> Shortcut | None:
    """A shortcut of RecurrentLayers for inputs of this shape, where one layer in one direction
    is all that runs."""
    design, batched = module._design, input.dim() == 3
    if module.num_layers > 1 or module.bidirectional or module.proj_size or design.cell.per_unit:
        return None
    if (not batched and input.dim() != 2) or (design.noisy and module.training):
        return None
    module._check_input(input)
    steps, batch = (input.shape[0], 1) if not batched else input.shape[:2]
    if batched and module.batch_first:
        steps, batch = batch, steps
        if steps > 1 < batch:  # rows do not lie as the engine reads them
            return None
    x = input.detach().contiguous().view(steps, batch, -1)
    state = x.new_zeros(batch, module.hidden_size)
    layer = Layer(x, (state,) * len(design.base.states), *module._weights("_l0"))
    names = [name for name in module._all_weights[0] if name in module._parameters]
    shape = (1, batch, module.hidden_size) if batched else (1, module.hidden_size)
    shapes = (*input.shape[:-1], module.hidden_size), shape
    return layer_shortcut(module, design, layer, names, shapes)
