"""The sizes that the data of tasks may have, and the training that suits them."""

from __future__ import annotations

import math

__all__ = ["LARGEST", "passes"]

LARGEST = 256 * 2**20
"""Bytes of all sequences of one task together, as float32; to scale them takes up to five times as
much memory."""


def passes(sequences: int, batch_size: int, steps: int) -> int:
    """Epochs that make about so many steps, from 5 to 100: for data whose size is the user's."""
    return min(100, max(5, math.ceil(steps * batch_size / sequences)))
