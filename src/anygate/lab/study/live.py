"""Curves of running trials, for TensorBoard to show while a study runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Log = Callable[[int, Mapping[str, Any]], None]
"""Called with an epoch, from 1, and its numbers by name; what is no number is passed over."""


@contextmanager
def live_log(folder: Path | None) -> Iterator[Log]:
    """A log that writes event files into the folder; None: nothing."""
    if folder is None:
        yield lambda epoch, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder), flush_secs=5)

    def log(epoch: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, float) and math.isfinite(value):
                writer.add_scalar(name, value, epoch)
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
