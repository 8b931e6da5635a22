"""The functions over which properties are surveyed: bounded or not, with and without kinks,
monotone or not, in most combinations, so that the three can be told apart."""

from __future__ import annotations

__all__ = ["FUNCTIONS", "PLACES"]

FUNCTIONS = (
    "tanh", "sigmoid", "softsign",
    "hard_tanh", "relu6", "penalized_tanh",
    "sine", "2*x*gaussian(x)",
    "max(1 - abs(x), -1)",
    "identity", "softplus", "symlog",
    "relu", "leaky_relu",
    "silu", "mish",
    "abs(x)",
)  # fmt: skip
"""From bounded, smooth and monotone to unbounded, with a kink and not monotone."""
PLACES = ("candidate", "cell_output")
"""Where each of them is put, one at a time."""
