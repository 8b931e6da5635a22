"""Between torch modules and engines: which engine runs, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from ..cells import cell_of
from ..cells.builtin import RECURRENT_DROPOUT
from ..engines.inside import unit_values
from ..engines.protocol import (
    LOADED,
    Choice,
    Layer,
    Request,
    Result,
    choose,
    load,
    needs_gradient,
    on_change,
)
from ..engines.whole import run_whole, writes_down
from .capture import ACTIVE, Place
from .checks import autocasting
from .design import Design
from .recording import Piece

__all__ = ["Autocast", "explain", "run_autocast", "run_layer", "run_sides"]


def explain(
    design: Design, training: bool, x: Tensor, weight: Tensor, sizes: tuple[int, int] | None = None
) -> Choice:
    """The engine for x and weights like `weight`, and why no faster one. sizes: H and B."""
    key = design.training_key if training else design.key
    choice = _choose(key, design.engine, *_circumstances(x, weight))
    if sizes is None:
        return choice
    dtype = str(x.dtype).removeprefix("torch.")
    detail = load(choice.name).detail(cell_of(key), *sizes, dtype)
    return replace(choice, detail=detail)


def run_layer(
    design: Design,
    layer: Layer,
    training: bool = False,
    keep: bool = False,
    measures: Piece | None = None,
    place: Place | None = None,
) -> Result:
    """One direction of one layer, as `Engine.run`; under autocast in its dtype, as torch's modules.

    training: with the design's noise, whose masks are drawn here from torch's generator. The states
    are those of `design.base`. place: for an exporter.
    """
    device = layer.x.device.type
    if autocasting(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return run_layer(design, _cast(layer, dtype), training, keep, measures, place)
    noisy = training and design.noisy
    if ACTIVE and place is not None:
        if noisy:
            raise RuntimeError(
                f"{type(place.module).__name__} has dropout or zoneout, which draw numbers in "
                "training; export model.eval()"
            )
        return ACTIVE[-1](design.key, layer, keep, place)
    key = design.training_key if noisy else design.key
    if noisy and design.training_cell.type.masks:
        layer = _with_masks(design, layer)
    engine = LOADED[_name(key, design.engine, *_circumstances(layer.x, layer.weight_ih))]
    units = () if measures is None else measures.units
    keep = keep or bool(units)
    seen_whole = torch.compiler.is_compiling() or (measures is None and writes_down())
    if seen_whole and not engine.has_operator:
        result = run_whole(key, layer, keep, needs_gradient(layer), engine.name)
    else:
        result = engine.run(key, layer, keep, measures)
    if measures is not None and units:
        measures.values, measures.slopes = unit_values(cell_of(key), layer, result, units)
    extra = len(result.states) - len(design.base.states)  # what recurrent dropout needs inside
    if not extra:
        return result
    kept = None if result.kept is None else result.kept[extra:]
    return Result(result.output, result.states[extra:], kept)


def run_sides(
    design: Design, layers: Sequence[Layer], keep: bool, measures: Sequence[Piece] | None = None
) -> list[Result]:
    """`run_layer` of the directions of one layer, without noise."""
    device = layers[0].x.device.type
    if autocasting(device):
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return run_sides(design, [_cast(layer, dtype) for layer in layers], keep, measures)
    x, weight = layers[0].x, layers[0].weight_ih
    engine = LOADED[_name(design.key, design.engine, *_circumstances(x, weight))]
    units = () if measures is None else measures[0].units
    results = engine.run_sides(design.key, layers, keep or bool(units), measures)
    if units:
        for layer, result, piece in zip(layers, results, measures or (), strict=True):
            found = unit_values(cell_of(design.key), layer, result, units)
            piece.values, piece.slopes = found
    return results


def _with_masks(design: Design, layer: Layer) -> Layer:
    """The layer with this call's noise: masks [T, B, M, H] ([N, M, H] packed)."""
    h = layer.states[0]
    rates = dict(design.zoneout)
    masks = []
    states = layer.states
    for name in design.training_cell.type.masks:
        if name == RECURRENT_DROPOUT:
            kept = h.new_empty(h.shape).bernoulli_(1 - design.recurrent_dropout)
            kept = kept / (1 - design.recurrent_dropout)
            masks.append(_for_all_steps(kept, layer))
            states = (h * kept, *states)
        else:
            shape = (*layer.x.shape[:-1], h.shape[-1])
            masks.append(h.new_empty(shape).bernoulli_(rates[name.removeprefix("zoneout_")]))
    return layer._replace(masks=torch.stack(masks, -2), states=states)


def _for_all_steps(rows: Tensor, layer: Layer) -> Tensor:
    """[B, H] at every time step: [T, B, H], or [N, H] packed."""
    if layer.batch_sizes is None:
        return rows.expand(layer.x.shape[0], *rows.shape)
    sizes = layer.batch_sizes
    begins = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    row = torch.arange(layer.x.shape[0]) - begins
    return rows[row.to(rows.device)]


Autocast: TypeAlias = Literal["padded", "state", "all"]
"""The cases in which torch's CPU code of a family computes in autocast's dtype: nn.LSTM where its
input is padded ("padded"), nn.RNN always ("all"), nn.GRU nowhere, and its results have the state's
dtype ("state")."""


def run_autocast(
    run: Callable[[Layer], Result], layer: Layer, rule: Autocast, special: bool, projected: bool
) -> Result:
    """run(layer), with the dtypes of torch under autocast. special: a pack or a single step.

    The rules are the CPU's. On CUDA torch casts what it gives to cuDNN, whatever the family and the
    input, and what it gives to the kernels of single steps.
    """
    ruled = autocasting(layer.x.device.type) and layer.x.device.type != "cuda"
    if rule == "all" or not ruled:
        return run(layer)
    if rule == "state" and layer.x.device.type == "cpu":
        return without_autocast(run, layer, layer.states[0].dtype)
    return without_autocast(run, layer, None, projected) if special or projected else run(layer)


def without_autocast(
    run: Callable[[Layer], Result],
    layer: Layer,
    dtype: torch.dtype | None = None,
    projected: bool = False,
) -> Result:
    """run(layer) in the weights' dtype even under autocast; results in `dtype` (None: x's), but in
    autocast's for what a projection gives."""
    device, dtype = layer.x.device.type, dtype or layer.x.dtype
    with torch.autocast(device, enabled=False):
        result = run(_cast(layer, layer.weight_ih.dtype, always=True))
    narrow = torch.get_autocast_dtype(device) if projected else dtype
    first, *others = result.states
    return Result(
        result.output.to(narrow),
        (first.to(narrow), *(state.to(dtype) for state in others)),
        None if result.kept is None else tuple(state.to(dtype) for state in result.kept),
    )


def _cast(layer: Layer, dtype: torch.dtype, always: bool = False) -> Layer:
    """The floating-point tensors in another dtype; float64 stays, as autocast does, unless
    always."""

    def cast(tensor: Any) -> Any:
        if isinstance(tensor, tuple):
            return tuple(map(cast, tensor))
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return tensor
        return tensor if tensor.dtype == torch.float64 and not always else tensor.to(dtype)

    return Layer(*map(cast, layer))


def _circumstances(x: Tensor, weight: Tensor) -> tuple[str, torch.dtype, bool]:
    """Device, dtype, and that gradients will be needed."""
    training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.device.type, x.dtype, training


@lru_cache(maxsize=512)
def _choose(key: str, engine: str, device: str, dtype: torch.dtype, training: bool) -> Choice:
    request = Request(cell_of(key), device, str(dtype).removeprefix("torch."), training)
    return choose(request, engine)


on_change(_choose.cache_clear)


def _name(key: str, engine: str, device: str, dtype: torch.dtype, training: bool) -> str:
    """The name of the engine that runs, which is loaded then; a constant for torch.compile, which
    cannot trace a registry."""
    return load(_choose(key, engine, device, dtype, training).name).name


_name = cast(Any, torch.compiler.assume_constant_result)(_name)
