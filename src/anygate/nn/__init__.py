"""torch modules: LSTM and LSTMCell with an activation in each slot; swapping; initialisation."""

from . import init
from .cell import LSTMCell
from .lstm import LSTM
from .swap import SwapSummary, swap

__all__ = ["LSTM", "LSTMCell", "SwapSummary", "init", "swap"]
