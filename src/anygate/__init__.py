"""Recurrent networks with any activation, and any cell, at full speed; and the evidence to choose.

import anygate
lstm = anygate.LSTM(64, 128, activation="relu")
lstm = anygate.LSTM(64, 128, candidate="x*sigmoid(x)", forget_gate="hard_sigmoid")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .arrival import declare_operators

if TYPE_CHECKING:
    from .formulas import ACTIVATIONS, Activation, FormulaError, resolve, sheet
    from .lab.compare import compare
    from .nn import LSTM, LSTMCell, apply, build, config, describe, init, record, swap

__version__ = "0.1.0"

_HOME = {
    "ACTIVATIONS": "formulas",
    "Activation": "formulas",
    "CellType": "cells",
    "FormulaError": "formulas",
    "GRU": "nn",
    "GRUCell": "nn",
    "LSTM": "nn",
    "LSTMCell": "nn",
    "Product": "cells",
    "RNN": "nn",
    "RNNCell": "nn",
    "Recurrent": "nn",
    "RecurrentCell": "nn",
    "apply": "nn",
    "build": "nn",
    "compare": "lab.compare",
    "config": "nn",
    "describe": "nn",
    "init": "nn",
    "record": "nn",
    "resolve": "formulas",
    "sheet": "formulas",
    "swap": "nn",
}

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "CellType",
    "FormulaError",
    "GRUCell",
    "LSTMCell",
    "Product",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "__version__",
    "apply",
    "build",
    "compare",
    "config",
    "describe",
    "init",
    "record",
    "resolve",
    "sheet",
    "swap",
]


declare_operators()


def __getattr__(name: str) -> Any:
    """Import on first use: `anygate --help` must not wait for torch."""
    if name == "interop":
        return import_module(".interop", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'anygate' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
