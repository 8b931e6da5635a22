"""Trees of arrays, as Flax and JAX have them, read without either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from ..formulas import ACTIVATIONS, Activation
from ..formulas.lookup import resolve
from ..nn.design import ActivationLike

__all__ = ["Array", "activation_of", "array", "flat", "nested"]

Array: TypeAlias = np.ndarray[Any, Any]
_JAX = {
    **{name: ACTIVATIONS[name] for name in ("relu", "relu6", "softplus", "elu", "celu", "selu")},
    **{name: ACTIVATIONS[name] for name in ("leaky_relu", "log_sigmoid", "mish", "squareplus")},
    **{name: ACTIVATIONS[name] for name in ("sigmoid", "tanh", "hard_tanh", "hard_sigmoid")},
    **{name: ACTIVATIONS[name] for name in ("silu", "hard_silu", "sparse_plus", "sparse_sigmoid")},
    "soft_sign": ACTIVATIONS["softsign"],
    "swish": ACTIVATIONS["silu"],
    "hard_swish": ACTIVATIONS["hard_silu"],
    "gelu": ACTIVATIONS["gelu_tanh"],
    "identity": ACTIVATIONS["identity"],
}
"""jax.nn's functions, called without further arguments."""


def activation_of(given: ActivationLike | Any) -> Activation:
    """A name, a formula, an Activation, or one of jax.nn's functions (jax.numpy.tanh too), known by
    its name and module. Raises ValueError for another function: give its formula."""
    if not callable(given) or isinstance(given, Activation):
        return resolve(given)
    name, module = getattr(given, "__name__", ""), getattr(given, "__module__", "") or ""
    if name in _JAX and module.split(".")[0] in ("jax", "flax"):
        return _JAX[name]
    raise ValueError(
        f"the function {name or type(given).__name__!r} is none of jax.nn's; give its formula, "
        'such as "x*sigmoid(x)"'
    )


def flat(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Array]:
    """The arrays of nested dicts by their path. nnx's variables are taken by their value."""
    if len(path) > 64:
        raise ValueError("the tree is deeper than any model")
    if isinstance(tree, Mapping):
        found: dict[tuple[str, ...], Array] = {}
        for key, value in tree.items():
            found.update(flat(value, (*path, str(key))))
        return found
    value = getattr(tree, "value", tree) if not hasattr(tree, "__array__") else tree
    if value is None:
        return {}
    return {path: array(value, "/".join(path))}


def nested(arrays: Mapping[tuple[str, ...], Array]) -> dict[str, Any]:
    """Nested dicts of arrays by their path."""
    tree: dict[str, Any] = {}
    for (*path, last), value in arrays.items():
        inner = tree
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return tree


def array(value: Any, name: str) -> Array:
    """A NumPy array of floating-point numbers; bfloat16 as float32."""
    found = np.asarray(value)
    if str(found.dtype) == "bfloat16":
        found = found.astype(np.float32)
    if found.dtype.kind != "f":
        raise ValueError(f"{name} holds {found.dtype} and not floating-point numbers")
    return found
