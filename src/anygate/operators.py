"""The operators that torch knows of, declared at once and imported when they run.

`anygate::recurrent` is one direction of one layer, `anygate::recurrent_backward` its gradients. A
program that torch.export or AOTInductor saved names them, and can be loaded wherever they are
declared: that is after `import anygate`, in any order with `import torch` (`arrival.py`). This
module imports nothing but torch; what an operator does comes with its first call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
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
    f"recurrent({_LAYER}, str cell, bool reverse, bool training, bool keep, *, str engine='') "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
"""engine: the name of the one that runs; "": cpu where it can, else eager.
-> output [T, B, H], states [S, B, H], saved [T, B, K*H] for the training of cpu, and, for that or
with keep, the states but the output at all steps [S - 1, T, B, H]; packed, with [N] for [T, B]."""
LIBRARY.define(
    f"recurrent_backward(Tensor? grad_output, Tensor? grad_states, Tensor? grad_others, {_LAYER}, "
    "Tensor output, Tensor saved, Tensor others, str cell, bool reverse, bool need_x, *, "
    "str engine='') "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
"""-> gradients of x, states, weight_ih, weight_hh, bias_ih, bias_hh and vectors; empty where there
is no such tensor, and for x where it is not needed."""
LIBRARY.define(
    f"layer({_LAYER}, str engine, str cell, bool reverse, bool keep) -> (Tensor, Tensor, Tensor)"
)
"""`recurrent` of an engine, as older saved programs name it; -> output, states, and, with keep, all
states [S, T, B, H]."""


def _imported_when_called(home: str, name: str) -> Callable[..., Any]:
    """A function of a module of `engines`, which is imported when it is called."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        return getattr(import_module(f".engines.{home}", __package__), name)(*arguments, **keywords)

    return call


def _declare(name: str, forward: str, shapes: str, batching: str) -> None:
    """Gives an operator its functions, by their names."""
    full, here = f"anygate::{name}", partial(_imported_when_called, "cpu.operator")
    LIBRARY.impl(name, here(forward), "CompositeExplicitAutograd")
    torch.library.register_fake(full, here(shapes), lib=LIBRARY)
    torch.library.register_vmap(full, here(batching), lib=LIBRARY)


_declare("recurrent", "forward_operator", "forward_shapes", "vmap_forward")
torch.library.register_autograd(
    "anygate::recurrent",
    _imported_when_called("cpu.operator", "backward"),
    setup_context=_imported_when_called("cpu.operator", "save_forward"),
    lib=LIBRARY,
)
# No gradient of its own: one would switch autograd off inside it.
_declare("recurrent_backward", "backward_operator", "backward_shapes", "vmap_backward")
LIBRARY.impl("layer", _imported_when_called("whole", "saved_layer"), "CompositeImplicitAutograd")


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
