"""The LSTM with a projected hidden state (Sak et al. 2014), by the LSTM without.

    h = W_hr m    with m = o * cell_output(c)

so R h = (R W_hr) m: with the recurrent weight R W_hr [4H, H] the state m takes h's place and the
outputs are projected afterwards, all steps at once. An h0 that is not zero is no W_hr m0; it comes
in as further inputs of the first step, with R as their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["run_projected"]


def run_projected(
    run: Callable[..., tuple[Tensor, Tensor, Tensor]],
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: tuple[Any, ...],
    weight_hr: Tensor,
    parameters: dict[str, Tensor] | None,
    batch_sizes: Tensor | None,
    reverse: bool,
    started: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `Wiring.run`, with h0 [B, P], weight_hh [4H, P] and weight_hr [P, H]; output [T, B, P] (or
    [N, P] packed) and h [B, P]. started: h0 may be other than zero."""
    weight_ih, weight_hh, *biases = weights
    if started:
        x = torch.cat([x, _first_steps(x, h0, batch_sizes, reverse)], -1)
        weight_ih = torch.cat([weight_ih, weight_hh], 1)
    output, m, c = run(
        x, torch.zeros_like(c0), c0, weight_ih, weight_hh @ weight_hr, *biases,
        parameters, batch_sizes, reverse,
    )  # fmt: skip
    project = torch.nn.functional.linear
    return project(output, weight_hr), project(m, weight_hr), c


def _first_steps(x: Tensor, h0: Tensor, batch_sizes: Tensor | None, reverse: bool) -> Tensor:
    """h0 where each row takes its first step, zeros elsewhere: [T, B, P] or [N, P]."""
    if batch_sizes is None:
        zeros = h0.new_zeros(x.size(0), *h0.shape)
        return torch.select_scatter(zeros, h0, 0, -1 if reverse else 0)
    zeros = h0.new_zeros(x.size(0), h0.shape[1])
    if not reverse:
        return torch.cat([h0, zeros[h0.size(0) :]])
    rows = torch.arange(h0.size(0), device=batch_sizes.device)
    steps = (batch_sizes[:, None] > rows).sum(0) - 1
    last = (batch_sizes.cumsum(0) - batch_sizes)[steps] + rows
    return zeros.index_put((last.to(x.device),), h0)
