"""Judges: from findings to a verdict, one module for each kind of claim."""

from .cost import hard_tanh, tanh_gradient
from .gates import sigmoid_gates
from .numeric import chrono_hard, forgetting, growth, second_derivative_dies, sigmoid_derivative
from .properties import good_units, second_derivative_sustains
from .relu import leaky, no_saturation, replaces_tanh, vision
from .units import tanh_converges

__all__ = [
    "chrono_hard",
    "forgetting",
    "good_units",
    "growth",
    "hard_tanh",
    "leaky",
    "no_saturation",
    "replaces_tanh",
    "second_derivative_dies",
    "second_derivative_sustains",
    "sigmoid_derivative",
    "sigmoid_gates",
    "tanh_converges",
    "tanh_gradient",
    "vision",
]
