"""The operators that torch knows of, declared at once and imported when they run.

`anygate::recurrent` is one direction of one layer, `anygate::recurrent_backward` its gradients. A
program that torch.export or AOTInductor saved names them, and can be loaded wherever they are
declared: that is after `import anygate`, in any order with `import torch` (`arrival.py`). This
module imports nothing but torch; what an operator does comes with its first call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

import torch
from torch.utils.flop_counter import register_flop_formula

__all__ = ["LIBRARY"]

_LAYER = (
    "Tensor x, Tensor states, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, Tensor? vectors, Tensor? masks, Tensor? batch_sizes"
)
"""As in `Layer`, the states stacked: [S, B, H]."""
LIBRARY: Any = cast(Any, torch.library.Library)("anygate", "FRAGMENT")
LIBRARY.define(
    f"recurrent({_LAYER}, str cell, bool reverse, bool training, bool keep) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
"""-> output [T, B, H], states [S, B, H], saved [T, B, K*H] for training, and, for training or with
keep, the states but the output at all steps [S - 1, T, B, H]; packed, with [N] for [T, B]."""
LIBRARY.define(
    f"recurrent_backward(Tensor? grad_output, Tensor? grad_states, Tensor? grad_others, {_LAYER}, "
    "Tensor output, Tensor saved, Tensor others, str cell, bool reverse, bool need_x) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
"""-> gradients of x, states, weight_ih, weight_hh, bias_ih, bias_hh and vectors; empty where there
is no such tensor, and for x where it is not needed."""


_RUN = f"{_LAYER}, str engine, str cell, bool reverse, bool keep"
LIBRARY.define(f"layer({_RUN}) -> (Tensor, Tensor, Tensor)")
"""The run of an engine by its name -> output [T, B, H], states [S, B, H] and, with keep, all states
[S, T, B, H] (else empty); packed, with [N] for [T, B]."""
LIBRARY.define(
    f"layer_backward(Tensor?[] grads, bool[] needed, {_RUN}) -> ({', '.join(['Tensor'] * 7)})"
)
"""grads: by the results of `layer`. -> the gradients by x to vectors, empty where not needed."""


def _imported_when_called(home: str, name: str) -> Callable[..., Any]:
    """A function of a module of `engines`, which is imported when it is called."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return getattr(import_module(f".engines.{home}", __package__), name)(*arguments, **keywords)

    return call


def _declare(name: str, home: str, forward: str, shapes: str, gradient: tuple[str, ...]) -> None:
    """Gives an operator its functions, by names in its home. gradient: of its backward, of what
    that saves, and of its batching rule, as far as there are such."""
    LIBRARY.impl(name, _imported_when_called(home, forward), "CompositeExplicitAutograd")
    torch.library.register_fake(
        f"anygate::{name}", _imported_when_called(home, shapes), lib=LIBRARY
    )
    if gradient:
        backward, save = (_imported_when_called(home, function) for function in gradient[:2])
        torch.library.register_autograd(
            f"anygate::{name}", backward, setup_context=save, lib=LIBRARY
        )
    for function in gradient[2:]:
        torch.library.register_vmap(
            f"anygate::{name}", _imported_when_called(home, function), lib=LIBRARY
        )


_CPU, _TRACED = "cpu.operator", "traced"
_declare(
    "recurrent",
    _CPU,
    "forward_operator",
    "forward_shapes",
    ("backward", "save_forward", "vmap_forward"),
)
_declare(
    "recurrent_backward",
    _CPU,
    "backward_operator",
    "backward_shapes",
    ("double_backward", "save_backward", "vmap_backward"),
)
_declare("layer", _TRACED, "forward_operator", "forward_shapes", ("backward", "save_forward"))
# No gradient of its own: one would switch autograd off inside it.
_declare("layer_backward", _TRACED, "backward_operator", "backward_shapes", ())


# ---- floating-point operations, for torch.utils.flop_counter: the products', as torch counts ----


def _products(x: Sequence[int], *weights: Sequence[int]) -> int:
    """Twice the multiply-adds of a row's products, for all rows and time steps."""
    return 2 * math.prod(x[:-1]) * sum(map(math.prod, weights))


def _forward_flops(x: Any, states: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
    return _products(x, weight_ih, weight_hh)


def _backward_flops(*arguments: Any, **_: Any) -> int:
    """dW, dR and dh always, dx where it is needed."""
    x, _, weight_ih, weight_hh = arguments[3:7]
    need_x = (weight_ih,) if arguments[-1] else ()
    return _products(x, weight_ih, weight_hh, weight_hh, *need_x)


_counted: Any = register_flop_formula
_counted(torch.ops.anygate.recurrent)(_forward_flops)
_counted(torch.ops.anygate.recurrent_backward)(_backward_flops)
