"""torch modules: LSTM and LSTMCell with an activation in each slot, and what works on models."""

from . import init
from .cell import LSTMCell
from .lstm import LSTM
from .record import record
from .recording import LayerRecord, Recording, SlotRecord
from .swap import SwapSummary, swap

__all__ = [
    "LSTM",
    "LSTMCell",
    "LayerRecord",
    "Recording",
    "SlotRecord",
    "SwapSummary",
    "init",
    "record",
    "swap",
]
