"""Recurrent cells as data: equations in text, the Programs of a step derived from them.

Needs SymPy and the standard library only; never torch.
"""

from .builtin import ELMAN, GRU, GRU_RESET_BEFORE, LSTM, gru_type, lstm_type
from .cell import Cell, cell_key, cell_of, make
from .celltype import CellType, Product

__all__ = [
    "ELMAN",
    "GRU",
    "GRU_RESET_BEFORE",
    "LSTM",
    "Cell",
    "CellType",
    "Product",
    "cell_key",
    "cell_of",
    "gru_type",
    "lstm_type",
    "make",
]
