"""Laws of every engine, for cells of any equations: packs, masks, kept states, derivatives of
derivatives, transforms, changes in place, half types, extremes.

How far two engines may be apart: k*eps times a size, with k = (T + 1)*(I + H). Each of T steps adds
dot products over I + H terms, each good to half an eps, and a few operations, and hands its error
on to the next. The size is a result's largest number, at least 1.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plain_cells import JANET, S_LSTM
from test_specification import CELLS, ENGINES, refused
from torch import Tensor

from anygate.cells import LSTM, Cell, CellType, Product, cell_key, make
from anygate.cells.measures import measured
from anygate.engines import protocol
from anygate.engines.eager import Eager, apply
from anygate.engines.protocol import EngineError, Layer, Request, Result, load
from anygate.formulas import ACTIVATIONS, sheet

INDEPENDENT = CellType(
    "IndRNN",
    products=(Product("z", recurrent=False),),
    states=("h",),
    slots={"candidate": "tanh"},
    vectors={"u": None},
    lines="h = candidate(z + u*h_before)",
)
TYPES = {
    **{name: written.type for name, written in CELLS.items()},
    "janet": JANET,
    "slstm": S_LSTM,
    "independent": INDEPENDENT,
}
ALL = pytest.mark.parametrize("name", TYPES)
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:DeprecationWarning"  # torch's own, in forward mode
)
EAGER = load("eager")
assert isinstance(EAGER, Eager)


def layer_of(
    cell: Cell,
    t: int = 4,
    b: int = 3,
    i: int = 2,
    h: int = 3,
    *,
    dtype: torch.dtype = torch.float64,
    sizes: list[int] | None = None,
    reverse: bool = False,
    bias: bool = True,
    seed: int = 0,
    requires_grad: bool = True,
) -> Layer:
    """A drawn layer; sizes: of a pack, in place of t and b. States before the first step are
    positive, as the sLSTM's n is."""
    draw = torch.Generator().manual_seed(seed)
    b = b if sizes is None else max(sizes, default=0)
    steps = (t, b) if sizes is None else (sum(sizes),)

    def normal(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=draw, dtype=torch.float64) * 0.5
        return values.to(dtype).requires_grad_(requires_grad)

    kind = cell.type
    p_x = sum(p.input for p in kind.products) * h
    p_h = sum(p.recurrent for p in kind.products) * h
    masks = torch.rand((*steps, len(kind.masks), h), generator=draw) < 0.5
    start = (normal(b, h).detach().abs() + 0.2 for _ in kind.states)
    return Layer(
        normal(*steps, i),
        tuple(s.requires_grad_(requires_grad) for s in start),
        normal(p_x, i),
        normal(p_h, h),
        normal(p_x) if bias else None,
        normal(p_h) if bias else None,
        normal(len(cell.per_unit), h) if cell.per_unit else None,
        masks.to(dtype) if kind.masks else None,
        None if sizes is None else torch.tensor(sizes),
        reverse,
    )


def inputs_of(layer: Layer) -> list[Tensor]:
    """The tensors that have gradients."""
    return [t for t in (layer.x, *layer.states, *layer[2:7]) if t is not None]


def with_inputs(layer: Layer, tensors: Any) -> Layer:
    """The layer with other tensors in the order of `inputs_of`."""
    rest = iter(tensors)
    x, states = next(rest), tuple(next(rest) for _ in layer.states)
    others = (None if t is None else next(rest) for t in layer[2:7])
    return Layer(x, states, *others, *layer[7:])  # type: ignore[misc]


def outputs_of(result: Result) -> list[Tensor]:
    return [result.output, *result.states, *(result.kept or ())]


def loss_of(result: Result) -> Tensor:
    draw = torch.Generator().manual_seed(7)
    terms = [
        (r.double() * torch.randn(r.shape, generator=draw, dtype=torch.float64)).sum()
        for r in outputs_of(result)
    ]
    return torch.stack(terms).sum()


def gradients_of(result: Result, layer: Layer) -> list[Tensor]:
    wanted = inputs_of(layer)
    found = torch.autograd.grad(loss_of(result), wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]


def assert_close(found: list[Tensor], expected: list[Tensor], room: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        size = max(1.0, other.abs().max().item() if other.numel() else 0.0)
        torch.testing.assert_close(
            one.double(), other.double(), rtol=0, atol=room * size, equal_nan=True
        )


def eps(layer: Layer, cell: Cell | None = None) -> float:
    """The numbers that are summed, over all steps, in units of the dtype's last place: x and h in a
    product, and where a layer norm follows, its mean and its variance over the units."""
    steps = len(layer.x) if layer.batch_sizes is None else len(layer.batch_sizes)
    hidden = layer.states[0].shape[1]
    norms = 2 * hidden if cell is not None and cell.type.kind == "reduction" else 0
    return (steps + 1) * (layer.x.shape[-1] + hidden + norms) * torch.finfo(layer.x.dtype).eps


def skip_refused(engine: str, cell: Cell) -> None:
    if refused(engine, cell):
        pytest.skip(f"{engine} refuses the kind '{cell.type.kind}', with a reason")


# ---- engines against the reference -----------------------------------------------------------


@ENGINES
@ALL
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [None, [3, 3, 2, 1, 1], [2]])
def test_packs_are_the_rows_one_by_one(
    engine: str, name: str, reverse: bool, sizes: list[int] | None
) -> None:
    """Values and gradients by the reference, which takes the rows of a pack one at a time."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer = layer_of(cell, sizes=sizes, reverse=reverse)
    found = load(engine).run(cell_key(cell), layer, keep=True)
    expected = one_by_one(cell, layer)
    assert_close(outputs_of(found), outputs_of(expected), eps(layer, cell))
    assert_close(gradients_of(found, layer), gradients_of(expected, layer), eps(layer, cell))


def one_by_one(cell: Cell, layer: Layer) -> Result:
    """Each row of a batch, or of a pack, as a layer of its own on the reference."""
    key, reference = cell_key(cell), load("reference")
    packed = layer.batch_sizes is not None
    sizes = layer.batch_sizes.tolist() if packed else [len(layer.states[0])] * len(layer.x)
    starts = [sum(sizes[:t]) for t in range(len(sizes))]
    flat_x = layer.x if packed else layer.x.flatten(0, 1)
    flat_masks = layer.masks if packed or layer.masks is None else layer.masks.flatten(0, 1)
    rows = [[] for _ in flat_x]
    ends = []
    for row in range(len(layer.states[0])):
        places = [start + row for start, size in zip(starts, sizes, strict=True) if row < size]
        own = layer._replace(
            x=flat_x[places][:, None],
            states=tuple(s[row : row + 1] for s in layer.states),
            masks=None if flat_masks is None else flat_masks[places][:, None],
            batch_sizes=None,
        )
        result = reference.run(key, own, keep=True)
        ends.append(result.states)
        for k, place in enumerate(places):
            rows[place] = [result.output[k], *(kept[k] for kept in result.kept or ())]
    output, *kept = (torch.cat(parts) for parts in zip(*rows, strict=True))
    if not packed:
        output, *kept = (t.unflatten(0, layer.x.shape[:2]) for t in (output, *kept))
    states = tuple(torch.cat(parts) for parts in zip(*ends, strict=True))
    return Result(output, states, tuple(kept))


@ENGINES
@ALL
def test_without_biases_without_kept_states_without_gradients(engine: str, name: str) -> None:
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer = layer_of(cell, bias=False)
    expected = load("reference").run(cell_key(cell), layer, keep=True)
    found = load(engine).run(cell_key(cell), layer)
    assert found.kept is None and found.output.requires_grad
    assert_close(outputs_of(found), outputs_of(expected._replace(kept=None)), eps(layer))
    with torch.no_grad():
        again = load(engine).run(cell_key(cell), layer, keep=True)
    assert not again.output.requires_grad
    assert_close(outputs_of(again), outputs_of(expected), eps(layer))


@ENGINES
@ALL
@pytest.mark.parametrize("sizes", [None, []])
def test_no_steps_and_no_rows(engine: str, name: str, sizes: list[int] | None) -> None:
    """T = 0 hands the states on, with their gradients; so does an empty pack."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer = layer_of(cell, t=0, sizes=sizes)
    found = load(engine).run(cell_key(cell), layer, keep=True)
    assert found.output.shape == ((0, 3, 3) if sizes is None else (0, 3))
    assert_close(list(found.states), list(layer.states), 0.0)
    if sizes is None:
        grads = gradients_of(found, layer)
        assert all(g.abs().sum() > 0 for g in grads[1 : 1 + len(layer.states)])
        assert all((g == 0).all() for g in grads[1 + len(layer.states) :])


@ENGINES
@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(engine: str, name: str, dtype: torch.dtype) -> None:
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    if load(engine).refuses(Request(cell, "cpu", str(dtype).removeprefix("torch."), True)):
        pytest.skip(f"{engine} refuses {dtype}")
    layer = layer_of(cell, dtype=dtype)
    expected = load("reference").run(cell_key(cell), layer, keep=True)
    found = load(engine).run(cell_key(cell), layer, keep=True)
    assert {t.dtype for t in outputs_of(found)} == {dtype}
    room = 4 * eps(layer)
    assert_close(outputs_of(found), outputs_of(expected), room)
    grads = gradients_of(found, layer)
    assert {g.dtype for g in grads} == {dtype}
    assert_close(grads, gradients_of(expected, layer), room)


# ---- extremes --------------------------------------------------------------------------------


@ENGINES
@pytest.mark.parametrize("name", [name for name in TYPES if name != "slstm"])  # m is then 1e30,
@pytest.mark.parametrize("value", [1e30, -1e30, float("nan")])  # its rounding alone 1e14
def test_huge_numbers_and_nan(engine: str, name: str, value: float) -> None:
    """Huge inputs saturate bounded gates and leave finite gradients where the reference has them;
    NaN in one row comes out of that row alone."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer = layer_of(cell)
    x = layer.x.detach().clone()
    x[1, 1] = value
    layer = layer._replace(x=x.requires_grad_())
    expected = load("reference").run(cell_key(cell), layer, keep=True)
    found = load(engine).run(cell_key(cell), layer, keep=True)
    assert_close(outputs_of(found), outputs_of(expected), eps(layer))
    others = [0, 2]
    assert torch.isfinite(found.output[:, others]).all()
    if value != value:
        assert found.output[1:, 1].isnan().all() and torch.isfinite(found.output[0]).all()
        return
    grads, true = gradients_of(found, layer), gradients_of(expected, layer)
    for one, other in zip(grads, true, strict=True):
        assert torch.equal(one.isfinite(), other.isfinite())


# ---- results belong to the caller ------------------------------------------------------------


@ENGINES
@ALL
@pytest.mark.parametrize("sizes", [None, [3, 2, 2]])
def test_results_may_be_changed_in_place(engine: str, name: str, sizes: list[int] | None) -> None:
    """Each of them, with gradients on: the others and the gradients are as without."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    key, layer = cell_key(cell), layer_of(cell, sizes=sizes)
    reference = load(engine).run(key, layer, keep=True)
    plain = outputs_of(reference)
    for k in range(len(plain)):
        results = outputs_of(load(engine).run(key, layer, keep=True))
        results[k].mul_(2.0).clamp_(-1e6, 1e6)
        for j, (one, other) in enumerate(zip(results, plain, strict=True)):
            assert torch.equal(one, other * 2 if j == k else other)
        scaled = [r * 2 if j == k else r for j, r in enumerate(plain)]
        wanted = inputs_of(layer)
        options: Any = {"allow_unused": True, "retain_graph": True, "materialize_grads": True}
        found = torch.autograd.grad(sum(r.sum() for r in results), wanted, **options)
        true = torch.autograd.grad(sum(r.sum() for r in scaled), wanted, **options)
        assert_close(list(found), list(true), eps(layer))
    results = outputs_of(load(engine).run(key, layer, keep=True))
    results[1].detach_()
    assert results[0].requires_grad and not results[1].requires_grad


@ENGINES
@ALL
@pytest.mark.parametrize(("t", "b"), [(1, 1), (3, 2)])
def test_no_two_gradients_share_memory(engine: str, name: str, t: int, b: int) -> None:
    """An optimiser, or clip_grad_norm_, changes gradients in place."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer = layer_of(cell, t, b)
    result = load(engine).run(cell_key(cell), layer, keep=True)
    found = torch.autograd.grad(loss_of(result), inputs_of(layer), allow_unused=True)
    grads = [g for g in found if g is not None and g.numel()]
    assert len(grads) == len({g.untyped_storage().data_ptr() for g in grads})
    results = [r for r in (*outputs_of(result), *inputs_of(layer)) if r.numel()]
    assert len(results) == len({r.untyped_storage().data_ptr() for r in results})


# ---- derivatives of derivatives --------------------------------------------------------------


def as_function(engine: str, cell: Cell, layer: Layer) -> Any:
    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        result = load(engine).run(cell_key(cell), with_inputs(layer, tensors), keep=True)
        return tuple(outputs_of(result))

    return run


@ALL
def test_gradcheck_of_both_orders(name: str) -> None:
    cell = make(TYPES[name])
    layer = layer_of(cell, 2, 2, 1, 2)
    run = as_function("eager", cell, layer)
    tensors = tuple(inputs_of(layer))
    assert torch.autograd.gradcheck(run, tensors, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if not sheet(a).kinks.value])
def test_gradients_of_one_activation(name: str) -> None:
    """By x and by parameters, to the second order and in both modes."""
    activation = ACTIVATIONS[name]
    x = torch.linspace(-1.9, 2.1, 6, dtype=torch.float64, requires_grad=True)
    numbers = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in activation.parameters.values()
    ]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return apply(activation, x, dict(zip(activation.parameters, values, strict=True)))

    assert torch.autograd.gradcheck(run, (x, *numbers), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, (x, *numbers))


@ALL
@pytest.mark.parametrize("sizes", [None, [3, 2]])
def test_plain_is_run(name: str, sizes: list[int] | None) -> None:
    """`plain`, which the other engines differentiate again, gives what `run` gives."""
    cell = make(TYPES[name], clip=0.8)
    layer = layer_of(cell, sizes=sizes, reverse=True)
    found = EAGER.plain(cell_key(cell), layer, keep=True)
    expected = EAGER.run(cell_key(cell), layer, keep=True)
    assert_close(outputs_of(found), outputs_of(expected), eps(layer))
    assert_close(gradients_of(found, layer), gradients_of(expected, layer), eps(layer))


@ALL
def test_transforms_of_torch_func(name: str) -> None:
    """grad, jvp, and vmap of grad over weights, against plain calls."""
    cell = make(TYPES[name])
    layer = layer_of(cell, 2, 2, 2, 2, requires_grad=False)
    tensors = tuple(inputs_of(layer))

    def loss(*tensors: Tensor) -> Tensor:
        result = EAGER.run(cell_key(cell), with_inputs(layer, tensors), keep=True)
        return torch.stack([r.square().sum() for r in outputs_of(result)]).sum()

    def by_autograd(tensors: Any) -> list[Tensor]:
        own = [t.clone().requires_grad_() for t in tensors]
        return list(torch.autograd.grad(loss(*own), own, materialize_grads=True))

    every = tuple(range(len(tensors)))
    expected = by_autograd(tensors)
    assert_close(list(torch.func.grad(loss, every)(*tensors)), expected, 1e-12)
    tangents = tuple(torch.ones_like(t) for t in tensors)
    _, along = torch.func.jvp(loss, tensors, tangents)
    total = torch.stack([g.sum() for g in expected]).sum()
    assert_close([along], [total], 1e-12)
    stacked = tuple(torch.stack([t, 0.5 * t]) for t in tensors)
    found = torch.func.vmap(torch.func.grad(loss, every))(*stacked)
    halves = by_autograd([0.5 * t for t in tensors])
    assert_close([g[0] for g in found], expected, 1e-12)
    assert_close([g[1] for g in found], halves, 1e-12)


def test_one_tensor_in_two_places() -> None:
    """h0 given as c0 too: each place's gradient is added, to the second order."""
    cell = make(LSTM)
    layer = layer_of(cell, 2, 2, 2, 2)
    start = layer.states[0].detach().requires_grad_()

    def run(start: Tensor) -> Tensor:
        return EAGER.run(cell_key(cell), layer._replace(states=(start, start))).output

    assert torch.autograd.gradcheck(run, (start,))
    assert torch.autograd.gradgradcheck(run, (start,))


@ALL
def test_batched_gradients(name: str) -> None:
    """is_grads_batched=True, as torch.autograd.functional.jacobian(vectorize=True) uses it."""
    cell = make(TYPES[name])
    layer = layer_of(cell)
    output = EAGER.run(cell_key(cell), layer).output
    weights = torch.randn(2, *output.shape, dtype=torch.float64)
    options: Any = {"retain_graph": True, "materialize_grads": True, "allow_unused": True}
    wanted = inputs_of(layer)
    found = torch.autograd.grad(output, wanted, weights, is_grads_batched=True, **options)
    for k, one in enumerate(weights):
        expected = torch.autograd.grad(output, wanted, one, **options)
        assert_close([g[k] for g in found], list(expected), eps(layer))


# ---- measuring -------------------------------------------------------------------------------


class Tables:
    """Receives what is measured."""

    def forward(self, table: Tensor) -> None:
        self.numbers = table.sum(0)

    def backward(self, table: Tensor) -> None:
        self.norms = table.sum(0)


MEASURED = [n for n, kind in TYPES.items() if kind.kind in ("one product", "no recurrence")]


@ENGINES
@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("reverse", [False, True])
def test_measures(engine: str, name: str, reverse: bool) -> None:
    """Against the states of all steps and their gradients by autograd, line by line."""
    cell = make(TYPES[name])
    skip_refused(engine, cell)
    layer, tables = layer_of(cell, reverse=reverse), Tables()
    result = load(engine).run(cell_key(cell), layer, keep=True, measures=tables)
    found = gradients_of(result, layer)
    quiet = load(engine).run(cell_key(cell), layer, keep=True)
    assert_close(found, gradients_of(quiet, layer), eps(layer))
    names = measured(cell)
    assert tables.numbers.shape == (4, len(names.numbers))
    assert tables.norms.shape == (4, len(names.norms))
    assert quiet.kept is not None
    for k, (state, number) in enumerate(names.numbers):
        if number == "max":
            kept = quiet.kept[cell.type.states.index(state)]
            assert_close([tables.numbers[:, k]], [kept.abs().flatten(1).amax(1)], eps(layer))
    expected = Tables()
    load("reference").run(cell_key(cell), layer, keep=True, measures=expected)
    assert_close([tables.numbers], [expected.numbers], eps(layer))
    assert_close([tables.norms], [norms_by_steps(cell, layer)], 10 * eps(layer))


def norms_by_steps(cell: Cell, layer: Layer) -> Tensor:
    """The squared norms [T, 2S] of dL by each state: in all, and without what comes through a later
    step; from single steps of the reference, joined by autograd."""
    key, kind, reference = cell_key(cell), cell.type, load("reference")
    draw = torch.Generator().manual_seed(7)
    count, (steps, batch) = len(kind.states), layer.x.shape[:2]
    shapes = [(steps, batch, layer.states[0].shape[1])]
    shapes += [tuple(layer.states[0].shape)] * count + [shapes[0]] * count
    output, *rest = (torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)
    last, every = rest[:count], rest[count:]
    found = torch.zeros(steps, 2 * count, dtype=torch.float64)
    times = list(range(steps))[:: -1 if layer.reverse else 1]
    later = list(last)
    for position in reversed(range(steps)):
        t = times[position]
        here = [every[k][t] for k in range(count)]
        here[kind.states.index(kind.output)] = here[kind.states.index(kind.output)] + output[t]
        if position == steps - 1:
            here = [a + b for a, b in zip(here, later, strict=True)]
            whole = here
        else:
            whole = [a + b for a, b in zip(here, later, strict=True)]
        states = before_step(key, layer, times[:position])
        found[t, 0::2] = squares(within_step(cell, layer, states, t, whole))
        found[t, 1::2] = squares(within_step(cell, layer, states, t, here))
        own = [s.detach().requires_grad_() for s in states]
        result = reference.run(key, one_step(layer, own, t))
        later = list(
            torch.autograd.grad(
                result.states, own, whole, allow_unused=True, materialize_grads=True
            )
        )
    return found


def squares(grads: list[Tensor]) -> Tensor:
    return torch.stack([g.square().sum() for g in grads])


def one_step(layer: Layer, states: Any, t: int) -> Layer:
    masks = None if layer.masks is None else layer.masks[t : t + 1]
    return layer._replace(x=layer.x[t : t + 1], states=tuple(states), masks=masks)


def before_step(key: str, layer: Layer, times: list[int]) -> Any:
    states = layer.states
    with torch.no_grad():
        for t in times:
            states = load("reference").run(key, one_step(layer, states, t)).states
    return states


def within_step(
    cell: Cell, layer: Layer, states: Any, t: int, arriving: list[Tensor]
) -> list[Tensor]:
    """dL by each new state of a step, with what goes through the step's later lines: the reference
    run of a cell in which a mask of ones is added to each state's line tells."""
    kind = cell.type
    nudged = CellType(
        "nudged",
        products=kind.products,
        states=kind.states,
        lines=tuple(
            f"{line} + nudge_{line.split('=')[0].strip()}"
            if line.split("=")[0].strip() in kind.states
            else line
            for line in kind.lines
        ),
        slots=dict(kind.slots),
        vectors={**dict(kind.vectors), **{f"nudge_{state}": 0.0 for state in kind.states}},
        masks=kind.masks,
        output=kind.output,
    )
    other = Cell(nudged, cell.activations, cell.clip)
    units = layer.states[0].shape[1]
    grads = []
    for row in range(len(states[0])):  # vectors are shared by rows: one row at a time
        extra = torch.zeros(len(kind.states), units, dtype=torch.float64)
        parts = [] if layer.vectors is None else [layer.vectors.detach()]
        vectors = torch.cat([*parts, extra]).requires_grad_()
        step = one_step(layer, states, t)
        own = step._replace(
            x=step.x[:, row : row + 1].detach(),
            states=tuple(s[row : row + 1].detach() for s in states),
            masks=None if step.masks is None else step.masks[:, row : row + 1],
            vectors=vectors,
        )
        result = load("reference").run(cell_key(other), own)
        given_ = [a[row : row + 1] for a in arriving]
        (found,) = torch.autograd.grad(result.states, vectors, given_)
        grads.append(found[-len(kind.states) :])
    return list(torch.stack(grads, 1))


@ENGINES
def test_what_cannot_be_measured_says_what_to_do(engine: str) -> None:
    for name in ("gru before", "layer norm"):
        cell = make(TYPES[name])
        if refused(engine, cell):
            continue
        with pytest.raises(EngineError, match="return_states=True"):
            load(engine).run(cell_key(cell), layer_of(cell), measures=Tables())


def test_a_measured_backward_is_not_differentiated() -> None:
    cell = make(LSTM)
    layer = layer_of(cell)
    result = EAGER.run(cell_key(cell), layer, measures=Tables())
    with pytest.raises(RuntimeError, match="take gradients of gradients outside"):
        torch.autograd.grad(result.output.sum(), layer.x, create_graph=True)


# ---- choosing --------------------------------------------------------------------------------


def test_eager_takes_every_kind_and_no_whole_numbers() -> None:
    for kind in TYPES.values():
        assert EAGER.refuses(Request(make(kind), "cuda", "bfloat16", True)) is None
    assert "real numbers" in (EAGER.refuses(Request(make(LSTM), "cpu", "complex64", True)) or "")


def test_unknown_engines_are_named() -> None:
    with pytest.raises(EngineError, match="no engine is called 'gpu'; there are: auto, cpu"):
        load("gpu")


def test_an_engine_is_one_class() -> None:
    """A toy engine is registered, chosen first, and taken out again."""

    class Toy(Eager):
        name = "toy"

        def refuses(self, request: Request) -> str | None:
            return None if request.cell.type is JANET else "it plays with JANET alone"

    changes: list[int] = []
    protocol.on_change(lambda: changes.append(1))
    protocol.register(Toy(), first=True)
    try:
        request = Request(make(JANET), "cpu", "float64", True)
        assert protocol.choose(request).name == "toy" and protocol.names()[0] == "toy"
        with pytest.raises(EngineError, match="it plays with JANET alone"):
            protocol.choose(Request(make(LSTM), "cpu", "float64", True), "toy")
    finally:
        protocol.unregister("toy")
    assert len(changes) == 2 and "toy" not in protocol.names()
