"""torch modules: LSTM and LSTMCell with an activation in each slot."""

from .lstm import LSTM, LSTMCell

__all__ = ["LSTM", "LSTMCell"]
