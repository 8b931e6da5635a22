"""An engine in forty lines: what adding one takes. Its Programs run as plain torch operations, and
torch differentiates them."""

from __future__ import annotations

import torch

from anygate.cells import cell_of
from anygate.cells.celltype import before
from anygate.engines.eager import OPS as OPERATIONS
from anygate.engines.protocol import Engine, Layer, Measures, Request, Result
from anygate.formulas.program import evaluate

OPS = {**OPERATIONS, "const": lambda value: torch.tensor(float(value), dtype=torch.float64)}


class Toy(Engine):
    """Cells of one product a step, whole batches, without measuring."""

    name = "toy"

    def refuses(self, request: Request) -> str | None:
        kind = request.cell.type.kind
        return None if kind == "one product" else f"it knows cells of one product, not {kind}"

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        cell = cell_of(key)
        assert layer.batch_sizes is None and measures is None
        products, size = cell.type.products, layer.states[0].shape[-1]
        states, found = layer.states, []
        steps = range(len(layer.x))
        for t in reversed(steps) if layer.reverse else steps:
            linear = torch.nn.functional.linear
            of_x = iter(linear(layer.x[t], layer.weight_ih, layer.bias_ih).split(size, -1))
            of_h = iter(linear(states[0], layer.weight_hh, layer.bias_hh).split(size, -1))
            values = {
                p.name: (next(of_x) if p.input else 0) + (next(of_h) if p.recurrent else 0)
                for p in products
            }
            values |= {before(s): v for s, v in zip(cell.type.states, states, strict=True)}
            values |= {k: torch.tensor(v, dtype=layer.x.dtype) for k, v in cell.parameters.items()}
            if layer.vectors is not None:
                values |= dict(zip(cell.per_unit, layer.vectors, strict=True))
            if layer.masks is not None:
                values |= dict(zip(cell.type.masks, layer.masks[t].unbind(-2), strict=True))
            now = evaluate(cell.forward, OPS, values)
            states = tuple(now[state] for state in cell.type.states)
            found.append(states)
        in_order = found[::-1] if layer.reverse else found
        kept = tuple(torch.stack(sequence) for sequence in zip(*in_order, strict=True))
        output = kept[cell.type.states.index(cell.type.output)]
        return Result(output, states, kept if keep else None)
