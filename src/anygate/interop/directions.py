"""Directions: layers that read forward, backward or both ways, each with a cell of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..nn.layers import RecurrentLayers

__all__ = ["Directions"]


class Directions(nn.Module):
    """Layers that no module with bidirectional=True can be: a layer that reads backward alone, or
    one with another cell each way. Other libraries have such layers.

    ahead, back: modules of one layer and one direction, of one size; either may be None. start: the
    states before the first step, [directions, H] each, where none are given; zeros if it is None.

    Input as the modules'; returns the output [T, B, directions * H] in the order of time and the
    states after the last step taken, [directions, B, H]; forward first.
    """

    def __init__(
        self,
        ahead: RecurrentLayers | None,
        back: RecurrentLayers | None,
        start: tuple[Tensor, ...] | None = None,
    ) -> None:
        super().__init__()
        if ahead is None and back is None:
            raise ValueError("give at least one direction")
        self.ahead, self.back = ahead, back
        for name, state in zip(("h0", "c0"), start or (), strict=False):
            self.register_buffer(name, state)
        self._start = ("h0", "c0")[: len(start or ())]

    @property
    def layers(self) -> tuple[RecurrentLayers, ...]:
        """The modules that there are, forward first."""
        return tuple(layer for layer in (self.ahead, self.back) if layer is not None)

    @property
    def batch_first(self) -> bool:
        return bool(self.layers[0].batch_first)

    def forward(
        self, input: Tensor, hx: Any = None, *, lengths: Any = None, mask: Any = None
    ) -> Any:
        """lengths, mask: as in `RecurrentLayers.forward`. Backward, a row begins at its last valid
        step."""
        time = 1 if self.batch_first and input.dim() == 3 else 0
        if hx is None and self._start:
            hx = self._starts(input)
        states = None if hx is None else hx if isinstance(hx, (tuple, list)) else (hx,)
        outputs, ends = [], []
        for number, layer in enumerate(self.layers):
            own: Any = None
            if states is not None:
                own = tuple(state[number : number + 1] for state in states)
                own = own if len(own) > 1 else own[0]
            if layer is not self.back:
                output, after = layer(input, own, lengths=lengths, mask=mask)
            else:
                valid = self._valid(input, lengths, mask)
                output, after = layer(
                    input.flip(time), own, mask=None if valid is None else valid.flip(time)
                )
                output = output.flip(time)
            outputs.append(output)
            ends.append(after if isinstance(after, tuple) else (after,))
        joined = tuple(torch.cat(parts) for parts in zip(*ends, strict=True))
        return torch.cat(outputs, -1), joined if len(joined) > 1 else joined[0]

    def _starts(self, input: Tensor) -> tuple[Tensor, ...]:
        """The states that the layer was given for good, for each row."""
        found = tuple(cast(Tensor, getattr(self, name)) for name in self._start)
        if input.dim() == 2:
            return found
        rows = input.size(0 if self.batch_first else 1)
        return tuple(s[:, None].expand(-1, rows, -1).contiguous() for s in found)

    def _valid(self, input: Tensor, lengths: Any, mask: Any) -> Tensor | None:
        if lengths is None:
            return None if mask is None else torch.as_tensor(mask, device=input.device)
        lengths = torch.as_tensor(lengths, device=input.device)
        steps = torch.arange(input.size(1 if self.batch_first else 0), device=input.device)
        valid: Tensor = steps < lengths[:, None] if self.batch_first else steps[:, None] < lengths
        if mask is not None:
            valid = valid & (torch.as_tensor(mask, device=input.device) != 0)
        return valid
