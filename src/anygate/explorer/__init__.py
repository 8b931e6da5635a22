"""The explorer: one offline page on which activations are changed inside an LSTM, and watched."""

from .build import page, script

__all__ = ["page", "script"]
