"""A projected hidden state (Sak et al. 2014), by the cell without.

    h = W_hr m    with m the cell's first state

so R h = (R W_hr) m: with the recurrent weight R W_hr [P_h*H, H] the state m takes h's place and the
outputs are projected afterwards, all steps at once. An h0 that is not zero is no W_hr m0; it comes
in as further inputs of the first step, with R as their weights. So every product must see x and h,
and no line may use h before the step, which the LSTM fulfils.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..engines.protocol import Layer, Result
from .capture import Marks

__all__ = ["run_projected"]


def run_projected(
    run: Callable[[Layer], Result],
    layer: Layer,
    weight_hr: Tensor,
    started: bool,
    marks: Marks | None = None,
) -> Result:
    """run(layer) for a layer whose first state is projected: states[0] [B, P], weight_hh
    [P_h*H, P], weight_hr [P, H]; output [T, B, P] (or [N, P] packed) and states[0] [B, P].
    started: that state may be other than zero. marks: which steps count, for an exporter."""
    x, (h0, *others) = layer.x, layer.states
    weight_ih, weight_hh = layer.weight_ih, layer.weight_hh
    if started:
        if marks is None:
            first = _first_steps(x, h0, layer.batch_sizes, layer.reverse).to(x.dtype)
        else:
            first = torch.where(marks.first(x, layer.reverse)[..., None], h0, 0.0)
        x = torch.cat([x, first], -1)
        weight_ih = torch.cat([weight_ih, weight_hh], 1)
    result = run(
        layer._replace(
            x=x,
            states=(torch.zeros_like(others[0]), *others),
            weight_ih=weight_ih,
            weight_hh=weight_hh @ weight_hr,
        )
    )
    project = torch.nn.functional.linear
    m, *rest = result.states
    h = project(m, weight_hr)
    if started and marks is not None:
        h = torch.where(marks.untouched(layer.x, layer.reverse)[:, None], h0, h)
    kept = result.kept
    if kept is not None:
        kept = (project(kept[0], weight_hr), *kept[1:])
    return Result(project(result.output, weight_hr), (h, *rest), kept)


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
