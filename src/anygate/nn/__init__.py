"""torch modules whose activations, and whose cell, can be chosen."""

from . import init
from .config import apply, config
from .description import build, describe
from .gru import GRU, GRUCell
from .lstm import LSTM, LSTMCell
from .record import record
from .recording import LayerRecord, Recording, SlotRecord
from .recurrent import Recurrent, RecurrentCell
from .rnn import RNN, RNNCell
from .swap import Skipped, Swapped, SwapSummary, swap

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "LayerRecord",
    "RNNCell",
    "Recording",
    "Recurrent",
    "RecurrentCell",
    "Skipped",
    "SlotRecord",
    "SwapSummary",
    "Swapped",
    "apply",
    "build",
    "config",
    "describe",
    "init",
    "record",
    "swap",
]
