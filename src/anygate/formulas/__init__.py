"""Formulas: activations and the cell as expressions, their derivatives, their properties.

Needs SymPy and the standard library only; never torch.
"""

from .activation import Activation
from .catalogue import ACTIVATIONS
from .describe import describe
from .errors import FormulaError
from .lookup import names, resolve
from .program import Program, evaluate, lower, render
from .sheet import Sheet, curve, sheet

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "FormulaError",
    "Program",
    "Sheet",
    "curve",
    "describe",
    "evaluate",
    "lower",
    "names",
    "render",
    "resolve",
    "sheet",
]
