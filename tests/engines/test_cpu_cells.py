"""The cpu engine on cells of every shape, against loops written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from drawn_layers import ENGINE, Case, by_cpu, cast, check, draw, leaves, named, with_leaves
from plain_cells import CELLS, NUMPY, TORCH, ByHand, loop
from torch import Tensor

from anygate.cells import ELMAN, GRU, GRU_RESET_BEFORE, LSTM, Product, cell_key, make
from anygate.cells.builtin import with_layer_norm
from anygate.cells.measures import measured
from anygate.engines import again
from anygate.engines.cpu import layer as calls
from anygate.engines.protocol import Layer, Request, Result, load, register

KEYS = {cell_key(known.cell): known for known in CELLS.values()}


@pytest.fixture
def by_hand() -> Iterator[None]:
    """The hand-written loop as the eager engine."""
    before = load("eager") if _has_eager() else None
    register(ByHand(KEYS))
    again.warn_once.cache_clear()
    yield
    if before is not None:
        register(before)


def _has_eager() -> bool:
    import anygate.engines.eager as room

    return hasattr(room, "Eager")


SHAPES = (
    # t, b, i, h, packed, reverse, bias, keep
    (1, 1, 1, 1, False, False, True, False),
    (5, 3, 4, 7, False, True, True, True),
    (4, 7, 3, 8, True, False, True, True),
    (6, 5, 2, 19, True, True, False, False),
    (3, 13, 5, 33, False, False, False, True),
    (7, 2, 9, 16, True, True, True, True),
    (2, 40, 3, 5, False, False, True, False),
)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_in_double_precision(name: str) -> None:
    for seed, (*shape, packed, reverse, bias, keep) in enumerate(SHAPES):
        options = {"packed": packed, "reverse": reverse, "bias": bias, "seed": seed}
        check(draw(name, *shape, **options), keep)


@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "slstm", "dropout lstm", "mixed"])
def test_in_single_precision(name: str) -> None:
    for seed, (*shape, packed, reverse, bias, keep) in enumerate(SHAPES):
        options = {"packed": packed, "reverse": reverse, "bias": bias, "seed": seed}
        check(draw(name, *shape, **options, dtype=torch.float32), keep)


@pytest.mark.parametrize("name", ["lstm", "gru", "elman", "mgu", "mixed"])
@pytest.mark.parametrize("hidden", [1, 15, 17, 31, 64, 65])
def test_every_remainder_of_the_vectors_and_tiles(name: str, hidden: int) -> None:
    for seed, batch in enumerate((1, 2, 5, 11, 14, 29)):
        check(draw(name, 3, batch, 5, hidden, seed=seed, dtype=torch.float32), keep=False)


@pytest.mark.parametrize("name", CELLS)
def test_the_loops_in_numpy_and_in_torch_are_the_same(name: str) -> None:
    case = draw(name, 4, 3, 2, 5, packed=True)
    layer = Layer(*(_array(part) for part in case.layer))
    expected = named(case, *loop(NUMPY, CELLS[name], layer))
    for what, value in named(case, *loop(TORCH, CELLS[name], case.layer)).items():
        np.testing.assert_allclose(value.numpy(), expected[what], rtol=1e-12, atol=1e-13)


def _array(part: Any) -> Any:
    if isinstance(part, tuple):
        return tuple(map(_array, part))
    return part.numpy() if isinstance(part, Tensor) else part


@pytest.mark.parametrize("name", ["gru", "slstm", "dropout gru", "mixed"])
@pytest.mark.parametrize(("t", "b"), [(0, 3), (4, 0), (0, 0)])
def test_no_steps_and_no_rows(name: str, t: int, b: int) -> None:
    case = draw(name, t, b, 2, 5)
    found = by_cpu(case, keep=True)
    assert found["output"].shape == (t, b, 5)
    for place, state in enumerate(CELLS[name].cell.type.states):
        if t == 0:  # the state comes back as it went in, and so do the gradients
            given = case.layer.states[place].numpy()
            np.testing.assert_array_equal(found[f"last {state}"], given)
            arriving = case.arriving[f"last {state}"].numpy()
            np.testing.assert_array_equal(found[f"grad of state {place}"], arriving)
    assert not np.any(found["grad of weight_hh"])


def prepared_run(key: str, layer: Layer) -> list[Result]:
    """The layer by `Engine.prepare`, where that can be had."""
    x, states, *rest = layer
    run = ENGINE.prepare(key, layer)
    if run is None:
        return []
    weights = [w for w in rest[:4] if w is not None]
    output = x.new_empty(*x.shape[:-1], states[0].shape[-1])
    last = tuple(map(torch.empty_like, states))
    before = [t.clone() for t in (x, *states)]
    assert run(x, states, weights, output, last)
    assert all(map(torch.equal, before, (x, *states)))  # nothing that was given is changed
    return [Result(output, last)]


@pytest.mark.parametrize("name", CELLS)
def test_inference_gives_the_bits_of_training(name: str) -> None:
    key = cell_key(CELLS[name].cell)
    for seed, (*shape, packed, reverse, bias, keep) in enumerate(SHAPES):
        case = draw(name, *shape, packed=packed, reverse=reverse, bias=bias, seed=seed)
        trained = ENGINE.run(key, with_leaves(case.layer, lambda t: t.requires_grad_()), keep)
        with torch.no_grad():
            runs = [ENGINE.run(key, case.layer, kept) for kept in (keep, not keep)]
            runs += prepared_run(key, case.layer)
        for plain in runs:
            assert torch.equal(plain.output, trained.output)
            for p, q in zip(plain.states, trained.states, strict=True):
                assert torch.equal(p, q)
        if keep:
            for p, q in zip(runs[0].kept, trained.kept, strict=True):
                assert torch.equal(p, q)


@pytest.mark.parametrize("by_units", [False, True])
@pytest.mark.parametrize("name", ["gru", "elman", "dropout lstm", "mixed"])
def test_threads_agree(name: str, by_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = draw(name, 6, 11, 5, 150, packed=True, dtype=torch.float32)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(calls, "_team", lambda *_, n=threads: (n, by_units and n > 1))
        torch.set_num_threads(threads)
        found.append(by_cpu(case, keep=True))
    torch.set_num_threads(1)
    for other in found[1:]:
        for what, value in found[0].items():
            np.testing.assert_allclose(other[what], value, rtol=2e-5, atol=2e-5, err_msg=what)


def test_a_mask_is_read_where_it_stands() -> None:
    """A single entry of a mask changes its own row, unit and later steps, nothing before them."""
    case = draw("zoneout lstm", 5, 3, 2, 7)
    key = cell_key(CELLS["zoneout lstm"].cell)
    masks = torch.zeros_like(case.layer.masks)
    plain = ENGINE.run(key, case.layer._replace(masks=masks)).output
    masks[2, 1, 0, 3] = 1  # h of row 1, unit 3 is kept at step 2
    changed = ENGINE.run(key, case.layer._replace(masks=masks)).output != plain
    assert changed[2].nonzero().tolist() == [[1, 3]]
    assert not changed[:2].any() and changed[3:, 1].all() and not changed[:, [0, 2]].any()


@pytest.mark.parametrize("name", ["gru", "slstm", "dropout lstm", "mixed"])
def test_half_types_are_rounded_once(name: str) -> None:
    key = cell_key(CELLS[name].cell)
    layer = cast(draw(name, 4, 3, 2, 5).layer, torch.bfloat16)
    half, single = ENGINE.run(key, layer, True), ENGINE.run(key, cast(layer, torch.float32), True)
    pairs = zip((*half.states, *half.kept), (*single.states, *single.kept), strict=True)
    for p, q in [(half.output, single.output), *pairs]:
        assert p.dtype == torch.bfloat16 and torch.equal(p, q.to(torch.bfloat16))


# ---- what can be asked of the results --------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru", "dropout lstm", "mixed"])
@pytest.mark.parametrize("t", [1, 4])
def test_results_may_be_changed_in_place(name: str, t: int) -> None:
    """Each of them; the gradients are those of the changed results."""
    case, key = draw(name, t, 3, 2, 5), cell_key(CELLS[name].cell)
    count = len(named(case, None, case.layer.states, case.layer.states))
    for place in range(count):
        grads = []
        for run in (
            lambda layer: ENGINE.run(key, layer, True),
            lambda layer: loop(TORCH, CELLS[name], layer),
        ):
            own = with_leaves(case.layer, lambda t: t.clone().requires_grad_())
            results = list(named(case, *run(own)).values())
            if run(own).__class__ is tuple:
                results[place] = 2 * results[place]
            else:
                results[place].mul_(2)
            tensors = list(leaves(own).values())
            total = sum(r.square().sum() for r in results)
            grads.append(torch.autograd.grad(total, tensors))
        for p, q in zip(*grads, strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", CELLS)
def test_gradcheck(name: str) -> None:
    """Against finite differences in float64, all states kept."""
    layer = draw(name, 3, 2, 2, 3, packed=True).layer
    key, tensors = cell_key(CELLS[name].cell), leaves(layer)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        given = iter(values)
        result = ENGINE.run(key, with_leaves(layer, lambda _: next(given)), True)
        return (result.output, *result.states, *result.kept)

    # with_leaves visits the other tensors before the states
    order = [
        *(n for n in tensors if not n.startswith("state")),
        *(n for n in tensors if n.startswith("state")),
    ]
    assert torch.autograd.gradcheck(run, [tensors[n].requires_grad_() for n in order])


@pytest.mark.parametrize("name", ["gru", "slstm", "dropout lstm", "mixed"])
def test_only_some_results_are_used(name: str) -> None:
    """Gradients of one result at a time; and x without a gradient."""
    case = draw(name, 4, 3, 2, 5)
    key = cell_key(CELLS[name].cell)
    for what in named(case, None, case.layer.states, case.layer.states):
        grads = []
        for run in (
            lambda layer: ENGINE.run(key, layer, True),
            lambda layer: loop(TORCH, CELLS[name], layer),
        ):
            own = with_leaves(case.layer, lambda t: t.clone().requires_grad_())
            own = own._replace(x=case.layer.x)
            result = named(case, *run(own))[what]
            tensors = [t for n, t in leaves(own).items() if n != "x"]
            grads.append(
                torch.autograd.grad(
                    result.square().sum(), tensors, allow_unused=True, materialize_grads=True
                )
            )
        for p, q in zip(*grads, strict=True):
            torch.testing.assert_close(p, q)


def test_the_biases_have_gradients_of_their_own() -> None:
    for name in ("lstm", "elman"):
        case = draw(name, 3, 2, 2, 4)
        own = with_leaves(case.layer, lambda t: t.requires_grad_())
        ENGINE.run(cell_key(CELLS[name].cell), own).output.sum().backward()
        torch.testing.assert_close(own.bias_ih.grad, own.bias_hh.grad)
        own.bias_ih.grad.zero_()
        assert own.bias_hh.grad.any()


@pytest.mark.filterwarnings("ignore:.*eager engine")
@pytest.mark.parametrize("name", ["gru", "dropout lstm", "mixed"])
def test_gradients_of_gradients(name: str, by_hand: None) -> None:
    layer = draw(name, 2, 2, 2, 3).layer
    key = cell_key(CELLS[name].cell)

    def run(x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        result = ENGINE.run(key, layer._replace(x=x, states=(h, *layer.states[1:])), True)
        return (result.output, *result.states, *result.kept)

    inputs = layer.x.requires_grad_(), layer.states[0].requires_grad_()
    assert torch.autograd.gradgradcheck(run, inputs)
    once = torch.autograd.grad(run(*inputs)[0].sin().sum(), inputs)
    graph = torch.autograd.grad(run(*inputs)[0].sin().sum(), inputs, create_graph=True)
    for p, q in zip(once, graph, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


def test_double_backward_says_once_that_it_is_slow(by_hand: None) -> None:
    case = draw("gru", 2, 2, 2, 3)
    x = case.layer.x.requires_grad_()
    output = ENGINE.run(cell_key(CELLS["gru"].cell), case.layer).output
    with pytest.warns(UserWarning, match="runs on the eager engine"):
        torch.autograd.grad(output.sum(), x, create_graph=True)
    output = ENGINE.run(cell_key(CELLS["gru"].cell), case.layer).output
    torch.autograd.grad(output.sum(), x, create_graph=True)  # a second warning would raise


@pytest.mark.filterwarnings("ignore:.*eager engine")
def test_transforms_of_torch_func(by_hand: None) -> None:
    case = draw("gru", 3, 2, 2, 4)
    key = cell_key(CELLS["gru"].cell)

    def loss(x: Tensor) -> Tensor:
        return ENGINE.run(key, case.layer._replace(x=x)).output.square().sum()

    x = case.layer.x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(x), x)
    torch.testing.assert_close(torch.func.grad(loss)(case.layer.x), expected)
    rows = torch.stack([case.layer.x, case.layer.x * 2])
    each = torch.stack([loss(r) for r in rows])
    torch.testing.assert_close(torch.func.vmap(loss)(rows), each)
    per_row = torch.func.vmap(torch.func.grad(loss))(rows)
    torch.testing.assert_close(per_row[0], expected)


@pytest.mark.parametrize("name", ["dropout lstm", "gru"])
def test_vmap(name: str) -> None:
    """Over rows (x, states, masks, where they are batched) and over weights."""
    key = cell_key(CELLS[name].cell)
    cases = [draw(name, 3, 2, 2, 4, seed=seed).layer for seed in range(3)]
    together = [torch.stack([layer.x for layer in cases])]
    together.append(torch.stack([torch.stack(layer.states) for layer in cases]))

    def run(x: Tensor, states: Tensor, weight: Tensor) -> Any:
        layer = cases[0]._replace(x=x, states=tuple(states), weight_ih=weight)
        return ENGINE.run(key, layer, True)

    for weights in (None, torch.stack([layer.weight_ih for layer in cases])):
        dims = (0, 0, None if weights is None else 0)
        given = cases[0].weight_ih if weights is None else weights
        found = torch.func.vmap(run, in_dims=dims)(*together, given)
        for k in range(3):
            own = cases[0].weight_ih if weights is None else weights[k]
            expected = run(together[0][k], together[1][k], own)
            torch.testing.assert_close(found.output[k], expected.output)
            pairs = [*zip(found.states, expected.states, strict=True)]
            pairs += zip(found.kept, expected.kept, strict=True)
            for p, q in pairs:
                torch.testing.assert_close(p[k], q)


@pytest.mark.parametrize("name", ["elman", "dropout lstm", "mixed"])
def test_opcheck_of_both_operators(name: str) -> None:
    key = cell_key(CELLS[name].cell)
    for packed, keep in ((False, True), (True, False)):
        layer = with_leaves(
            draw(name, 3, 2, 2, 4, packed=packed).layer, lambda t: t.requires_grad_()
        )
        x, states, *rest, reverse = layer
        stacked = torch.stack(states).detach().requires_grad_()
        call = (x, stacked, *rest)
        operator = torch.ops.anygate.recurrent
        for training in (True, False):
            torch.library.opcheck(operator, (*call, key, reverse, True, keep))
            checks = ("test_schema", "test_faketensor")
            torch.library.opcheck(
                operator, (*call, key, reverse, training, keep), test_utils=checks
            )
        output, last, saved, others = operator(*call, key, reverse, True, keep)
        grads = (torch.randn_like(output), torch.randn_like(last), torch.randn_like(others))
        kept = (output.detach(), saved, others.detach(), key, reverse, True)
        torch.library.opcheck(
            torch.ops.anygate.recurrent_backward,
            (*grads, *call, *kept),
            test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
        )


def test_export_keeps_the_operator() -> None:
    case = draw("gru", 3, 2, 2, 4)
    key = cell_key(CELLS["gru"].cell)

    class Model(torch.nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return ENGINE.run(key, case.layer._replace(x=x, states=(h,))).output

    given = case.layer.x, case.layer.states[0]
    program = torch.export.export(Model(), given)
    assert "anygate.recurrent" in str(program.graph)
    torch.testing.assert_close(program.module()(*given), Model()(*given))


# ---- measuring -------------------------------------------------------------------------------


class Tables:
    """The measurements of an engine, by name of the pass."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def forward(self, table: Tensor) -> None:
        self.found["forward"] = table

    def backward(self, table: Tensor) -> None:
        self.found["backward"] = table


SLOTS_AS_CALLED = {
    "lstm": ("forget_gate", "input_gate", "candidate", "output_gate", "cell_output"),
    "dropout lstm": ("forget_gate", "input_gate", "candidate", "output_gate", "cell_output"),
    "gru": ("reset_gate", "update_gate", "candidate"),
    "slstm": ("candidate", "output_gate"),
}
"""The slots in the order in which the hand-written step calls sigmoid and tanh."""


def counted(function: str, a: Tensor) -> dict[str, float]:
    """The counts of sigmoid or tanh at the arguments a, from numbers that are typed here."""
    value = a.sigmoid() if function == "sigmoid" else a.tanh()
    slope = value * (1 - value) if function == "sigmoid" else 1 - value * value
    steep, low, high = {"sigmoid": (0.25, 0.1, 0.9), "tanh": (1.0, -0.8, 0.8)}[function]
    flat = slope < 0.1 * steep
    found = {
        "sum": value,
        "squares": value * value,
        "low": flat & (a < 0),
        "high": flat & (a >= 0),
        "near_low": value < low,
        "near_high": value > high,
        "flat": slope == 0,
        "bad": ~value.isfinite(),
    }
    return {name: part.sum().item() for name, part in found.items()}


@pytest.mark.parametrize("name", SLOTS_AS_CALLED)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_measured(name: str, packed: bool) -> None:
    """Everything in the tables against the hand-written loop and autograd."""
    case = draw(name, 4, 3, 2, 9, packed=packed)
    layer = with_leaves(case.layer, lambda t: (2 * t).clone().requires_grad_())
    cell, states = CELLS[name].cell, CELLS[name].cell.type.states
    tables = Tables()
    result = ENGINE.run(cell_key(cell), layer, False, tables)
    assert torch.equal(result.output, ENGINE.run(cell_key(cell), layer).output)
    given = [case.arriving["output"], *(case.arriving[f"last {s}"] for s in states)]
    torch.autograd.backward([result.output, *result.states], given)
    forward, backward = (tables.found[k].sum(0) for k in ("forward", "backward"))
    numbers = dict(zip(measured(cell).numbers, forward.T, strict=True))
    norms = dict(zip(measured(cell).norms, backward.T, strict=True))

    called: list[tuple[str, Tensor]] = []
    new_states: list[tuple[Tensor, ...]] = []

    def record(function: str) -> Any:
        def call(a: Tensor) -> Tensor:
            called.append((function, a.detach()))
            return getattr(torch, function)(a)

        return call

    def step(*arguments: Any) -> tuple[Tensor, ...]:
        new = CELLS[name].step(*arguments)
        for state in new:
            state.retain_grad()
        new_states.append(new)
        return new

    namespace = SimpleNamespace(
        **{**vars(TORCH), "sigmoid": record("sigmoid"), "tanh": record("tanh")}
    )
    output, last, _ = loop(namespace, replace(CELLS[name], step=step), layer)
    torch.autograd.backward([output, *last], given, retain_graph=True)
    slots = SLOTS_AS_CALLED[name]
    sizes = [3] * 4 if case.layer.batch_sizes is None else case.layer.batch_sizes.tolist()
    start = 0
    for t, new in enumerate(new_states):
        for slot, (function, a) in zip(slots, called[t * len(slots) :], strict=False):
            for what, expected in counted(function, a).items():
                assert numbers[slot, what][t].item() == pytest.approx(expected, rel=1e-12), slot
        ending = sizes[t + 1] if t + 1 < len(sizes) else 0
        for state, value in zip(states, new, strict=True):
            if state != cell.type.output:
                largest = value.abs().max().item()
                assert numbers[state, "max"][t].item() == pytest.approx(largest, rel=1e-12)
            total = value.grad.square().sum().item()
            assert norms[state, "grad"][t].item() == pytest.approx(total, rel=1e-9), state
        direct = _direct(cell, new, case, start, ending)
        for state, expected in direct.items():
            assert norms[state, "direct"][t].item() == pytest.approx(expected, rel=1e-9), state
        start += sizes[t]


def _direct(
    cell: Any, new: tuple[Tensor, ...], case: Case, start: int, ending: int
) -> dict[str, float]:
    """Squared norms of dL by each new state without what comes through a later step: the output's
    gradient, from `start` on, and the last states' of the rows that end here, from `ending` on."""
    states, count = cell.type.states, len(new[0])
    arriving = []
    for state, value in zip(states, new, strict=True):
        own = torch.zeros_like(value)
        own[ending:] += case.arriving[f"last {state}"][ending:count]
        if state == cell.type.output:
            own += case.arriving["output"].reshape(-1, value.shape[1])[start : start + count]
        arriving.append(own)
    found = {}
    for state, value, own in zip(states, new, arriving, strict=True):
        # what of it arrives at the other new states of the step comes to it too
        others = [(v, g) for v, g in zip(new, arriving, strict=True) if v is not value]
        total = own.clone()
        if others:
            more = torch.autograd.grad(
                [v for v, _ in others],
                value,
                [g for _, g in others],
                retain_graph=True,
                allow_unused=True,
            )[0]
            total += 0 if more is None else more
        found[state] = total.square().sum().item()
    return found


# ---- refusals and errors ---------------------------------------------------------------------


def test_what_is_refused() -> None:
    def reason(cell_type: Any, device: str = "cpu", dtype: str = "float32") -> str | None:
        return ENGINE.refuses(Request(make(cell_type), device, dtype, True))

    alone = ELMAN.with_("alone", products=(Product("z", recurrent=False),))
    for cell_type in (LSTM, GRU, ELMAN, *(known.cell.type for known in CELLS.values())):
        assert reason(cell_type) is None
        assert reason(cell_type, dtype="bfloat16") is None
    assert "two products a step" in str(reason(GRU_RESET_BEFORE))
    assert "mean over the hidden units" in str(reason(with_layer_norm(LSTM)))
    assert "no product sees a state" in str(reason(alone))
    assert "not on meta" in str(reason(GRU, device="meta"))
    assert "not int64" in str(reason(GRU, dtype="int64"))


def test_what_does_not_fit_is_said() -> None:
    """Machine code reads where it is told to; shapes are checked before."""
    for name in ("gru", "mixed"):
        layer = draw(name, 3, 2, 2, 4).layer
        key = cell_key(CELLS[name].cell)
        wrong = {
            "weight_ih": layer.weight_ih[1:],
            "weight_hh": layer.weight_hh[:, 1:],
            "bias_hh": layer.bias_hh[1:],
            "x": layer.x[:, 1:],
            "states": (*layer.states, layer.states[0]),
        }
        if layer.masks is not None:
            wrong |= {"masks": layer.masks[1:], "vectors": layer.vectors[:, 1:]}
            wrong |= {"masks ": None, "vectors ": None}
        for field, value in wrong.items():
            with pytest.raises(ValueError, match=r"fit|must be"):
                ENGINE.run(key, layer._replace(**{field.strip(): value}))
        with pytest.raises(ValueError, match="one dtype"):
            ENGINE.run(key, layer._replace(x=layer.x.float()))
