"""Drawn layers of the cells in plain_cells, and how engines are held to the loops written there.

How far apart results may be: k*eps times a size, with k = (T + 1)*(I + H): each of T steps adds dot
products over I + H terms, each good to half an eps, and hands its error on to the next. The size is
the largest of a result's own and of what an eps at every input becomes on its way, found by
changing all inputs by 2^-20 of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from plain_cells import CELLS, TORCH, Known, loop
from torch import Tensor

from anygate.cells import cell_key
from anygate.engines.cpu import CPU
from anygate.engines.protocol import Engine, Layer

ENGINE = CPU()
NAMED = ("x", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "vectors")


@dataclass(frozen=True)
class Case:
    """A layer of a known cell, and the gradients that arrive; float64 numbers that dtype holds."""

    known: Known
    layer: Layer
    arriving: dict[str, Tensor]
    dtype: torch.dtype


def draw(
    cell: str | Known,
    t: int,
    b: int,
    i: int,
    h: int,
    *,
    packed: bool = False,
    reverse: bool = False,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    known = CELLS[cell] if isinstance(cell, str) else cell
    kind = known.cell.type
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(*shape, generator=source, dtype=torch.float64) * scale
        return values.to(dtype).double()

    sizes, rows = None, (t, b)
    if packed:
        lengths = torch.randint(1, t + 1, (b,), generator=source).sort(descending=True).values
        lengths[0] = t
        sizes = (lengths[None] > torch.arange(t)[:, None]).sum(1)
        rows = (int(sizes.sum()),)
    x_rows = sum(p.input for p in kind.products) * h
    h_rows = sum(p.recurrent for p in kind.products) * h
    states = [normal(b, h, scale=0.5) for _ in kind.states]
    if cell == "slstm":
        states[2] = states[2].abs() + 0.5
    masks = None
    if kind.masks:
        shape = (*rows, len(kind.masks), h)
        masks = torch.randint(0, 2, shape, generator=source).double()
    layer = Layer(
        normal(*rows, i),
        tuple(states),
        normal(x_rows, i, scale=0.5 / i**0.5),
        normal(h_rows, h, scale=0.5 / h**0.5),
        normal(x_rows, scale=0.5) if bias else None,
        normal(h_rows, scale=0.5) if bias else None,
        normal(len(known.cell.per_unit), h, scale=0.5) if known.cell.per_unit else None,
        masks,
        sizes,
        reverse,
    )
    arriving = {"output": normal(*rows, h)}
    for state in kind.states:
        arriving |= {f"last {state}": normal(b, h), f"kept {state}": normal(*rows, h)}
    return Case(known, layer, arriving, dtype)


def leaves(layer: Layer) -> dict[str, Tensor]:
    """The tensors that have gradients."""
    found = {f"state {k}": state for k, state in enumerate(layer.states)}
    found |= {n: getattr(layer, n) for n in NAMED if getattr(layer, n) is not None}
    return found


def with_leaves(layer: Layer, change: Any) -> Layer:
    """The layer with `change` applied to each of them."""
    named = {n: change(getattr(layer, n)) for n in NAMED if getattr(layer, n) is not None}
    return layer._replace(states=tuple(map(change, layer.states)), **named)


def named(case: Case, output: Any, last: Any, kept: Any) -> dict[str, Any]:
    states = case.known.cell.type.states
    found = {"output": output}
    found |= {f"last {s}": value for s, value in zip(states, last, strict=True)}
    if kept is not None:
        found |= {f"kept {s}": value for s, value in zip(states, kept, strict=True)}
    return found


def with_gradients(case: Case, run: Any, layer: Layer) -> dict[str, Any]:
    """The results of run(layer), and the gradients of its inputs."""
    own = with_leaves(layer, lambda t: t.clone().requires_grad_())
    results = named(case, *run(own))
    tensors = leaves(own)
    pairs = [(r, case.arriving[n].to(r)) for n, r in results.items()]
    grads = torch.autograd.grad(
        [r for r, _ in pairs], list(tensors.values()), [g for _, g in pairs], allow_unused=True
    )
    found = {name: r.detach().double().cpu().numpy() for name, r in results.items()}
    for (name, tensor), g in zip(tensors.items(), grads, strict=True):
        whole = torch.zeros_like(tensor) if g is None else g
        found[f"grad of {name}"] = whole.double().cpu().numpy()
    return found


def by_torch(case: Case, keep: bool) -> dict[str, Any]:
    def run(layer: Layer) -> Any:
        output, last, kept = loop(TORCH, case.known, layer)
        return output, last, kept if keep else None

    return with_gradients(case, run, case.layer)


def cast(layer: Layer, dtype: torch.dtype, device: str = "cpu") -> Layer:
    """batch_sizes stay on the CPU, as torch has them."""
    masks = None if layer.masks is None else layer.masks.to(device, dtype)
    return with_leaves(layer, lambda t: t.to(device, dtype))._replace(masks=masks)


def by_engine(case: Case, keep: bool, engine: Engine, device: str = "cpu") -> dict[str, Any]:
    key = cell_key(case.known.cell)
    return with_gradients(
        case, lambda layer: engine.run(key, layer, keep), cast(case.layer, case.dtype, device)
    )


def by_cpu(case: Case, keep: bool) -> dict[str, Any]:
    return by_engine(case, keep, ENGINE)


def size(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def check(
    case: Case,
    keep: bool,
    engine: Engine = ENGINE,
    eps: float | None = None,
    device: str = "cpu",
) -> None:
    """eps: of the engine's arithmetic, where that is not the dtype's."""
    expected, found = by_torch(case, keep), by_engine(case, keep, engine, device)
    unit = torch.finfo(case.dtype).eps if eps is None else eps
    moved = np.random.default_rng(1)

    def nudge(tensor: Tensor) -> Tensor:
        signs = torch.from_numpy(moved.choice((-1.0, 1.0), tuple(tensor.shape)))
        return tensor * (1 + 2.0**-20 * signs)

    nudged = by_torch(replace(case, layer=with_leaves(case.layer, nudge)), keep)
    steps = len(case.layer.x if case.layer.batch_sizes is None else case.layer.batch_sizes)
    k = (steps + 1) * (case.layer.x.shape[-1] + case.layer.states[0].shape[1])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        room = max(size(value), size(nudged[name] - value) * 2.0**20, 1.0)
        off = size(found[name] - value) / (k * unit * room)
        assert off <= 1, f"{name} is {off:.3g} times as far away as allowed"
