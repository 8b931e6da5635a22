"""Calls of the engine: plain ones go to the machine code directly, others through the operators."""

from __future__ import annotations

from ..again import needs_operator
from ..operator import implement, intercepted, result_of
from ..protocol import Layer, Measures, Result, needs_gradient
from . import plain

__all__ = ["infer", "needs_operator", "run"]

implement("CPU", plain.forward, plain.backward)


def run(key: str, layer: Layer, keep: bool, measures: Measures | None) -> Result:
    """`Engine.run` in float32 and float64. Raises RuntimeError where measures are asked for under
    torch.compile, torch.func and the like."""
    found = intercepted(key, layer, keep, measures)
    if found is not None:
        return found
    x, states, *rest, reverse = layer
    if needs_gradient(layer):
        count = len(states)
        output, *results = plain.apply(key, reverse, keep, measures, count, *states, x, *rest)
        return result_of(key, output, results[:count], results[count] if keep else None)
    output, last, _, others = plain.forward(key, layer, False, keep, measures)
    return result_of(key, output, last, others if keep else None)


def infer(key: str, layer: Layer) -> Result:
    """`run` without gradients where `needs_operator` is False; states and the result's may be
    [1, B, H]."""
    output, states, _, _ = plain.forward(key, layer, False)
    return Result(output, tuple(states))
