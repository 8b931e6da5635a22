"""An exporter in an engine's place: it is given each run of a layer and writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..engines.protocol import Layer, Result

__all__ = ["ACTIVE", "Capture", "Marks", "Place", "capturing", "read_marks"]


class Marks(NamedTuple):
    """Marks of the steps of a batch [T, B, I] that count, as they were given and not looked at: an
    exporter has no values.

    lengths [B], valid [T, B], cuts [T, B] (True where a new sequence begins), or None. valid holds
    what lengths says, where both were given.
    """

    lengths: Tensor | None
    valid: Tensor | None
    cuts: Tensor | None

    def steps(self, x: Tensor) -> Tensor:
        """[T, B], True where a step is valid."""
        if self.valid is not None:
            return self.valid
        shape = x.shape[:2]
        if self.lengths is None:
            return torch.ones(shape, dtype=torch.bool, device=x.device)
        return torch.arange(shape[0], device=x.device)[:, None] < self.lengths

    def first(self, x: Tensor, reverse: bool) -> Tensor:
        """[T, B], True where a row takes its first step from the states it was given."""
        valid = self.steps(x).flip(0) if reverse else self.steps(x)
        first = valid & (valid.long().cumsum(0) == 1)
        return (first.flip(0) if reverse else first) & (self._met(x, reverse) == 0)

    def untouched(self, x: Tensor, reverse: bool) -> Tensor:
        """[B], True where no step is valid and no cut is met: the states stay."""
        met = self._met(x, reverse)[0 if reverse else -1]
        return ~self.steps(x).any(0) & (met == 0)

    def _met(self, x: Tensor, reverse: bool) -> Tensor:
        """[T, B]: how many cuts lie between a row's beginning and a step."""
        if self.cuts is None:
            return torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
        count = self.cuts.long().cumsum(0)
        return count[-1:] - count if reverse else count


def read_marks(x: Tensor, lengths: Any, mask: Any, reset: Any, batch_first: bool) -> Marks:
    """The marks from the arguments of `RecurrentLayers.forward`, time first; x [T, B, I]."""

    def flags(given: Any) -> Tensor:
        found: Tensor = torch.as_tensor(given, device=x.device) != 0
        return found.transpose(0, 1) if batch_first else found

    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=x.device)
    valid = None if mask is None else flags(mask)
    if valid is not None and lengths is not None:
        valid = valid & Marks(lengths, None, None).steps(x)
    return Marks(lengths, valid, None if reset is None else flags(reset))


class Place(NamedTuple):
    """The origin of a run: the module; what its parameters' names end with; the steps that
    count; the states were given, and are not zeros; it is a single time step of a step cell."""

    module: nn.Module
    suffix: str
    marks: Marks | None = None
    started: bool = True
    single: bool = False


class Capture(Protocol):
    """Writes one run of a layer down and gives tensors that stand for its results."""

    def __call__(self, key: str, layer: Layer, keep: bool, place: Place) -> Result: ...


ACTIVE: list[Capture] = []
"""The exporter at work, if there is one: the last."""


@contextmanager
def capturing(capture: Capture) -> Iterator[None]:
    """Hands all runs of layers to `capture`, inside."""
    ACTIVE.append(capture)
    try:
        yield
    finally:
        ACTIVE.remove(capture)
