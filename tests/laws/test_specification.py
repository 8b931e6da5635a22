"""Every built-in cell on every engine against loops written by hand, values and gradients.

The loops (`tests/loops.py`) share nothing with anygate: the cell is written out, the activations
are Python functions of their formula's text, and gradients are difference quotients. So this holds
the reference engine too, against which all others are tested.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import loops
import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from sympy import Symbol
from torch import Tensor

from anygate.cells import (
    ELMAN,
    GRU,
    LSTM,
    Cell,
    CellType,
    builtin,
    cell_key,
    gru_type,
    lstm_type,
    make,
)
from anygate.cells.builtin import with_layer_norm, with_recurrent_dropout, with_zoneout
from anygate.engines.protocol import Layer, Request, load, names
from anygate.formulas import ACTIVATIONS, Activation

Named = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A cell type, and the loop's step of the same equations."""

    type: CellType
    step: loops.Step


RATES = {"h": 0.1, "c": 0.25}
CELLS = {
    "lstm": Written(LSTM, loops.lstm),
    "peephole": Written(lstm_type(peephole=True), loops.peephole_lstm),
    "coupled": Written(lstm_type(coupled=True), loops.coupled_lstm),
    "coupled peephole": Written(lstm_type(True, True), loops.coupled_peephole_lstm),
    "zoneout": Written(with_zoneout(LSTM, RATES, training=True), loops.zoneout_lstm),
    "zoneout mean": Written(with_zoneout(LSTM, RATES, training=False), loops.zoneout_lstm_mean),
    "recurrent dropout": Written(with_recurrent_dropout(LSTM), loops.dropout_lstm),
    "gru": Written(GRU, loops.gru),
    "gru, recurrent dropout": Written(with_recurrent_dropout(GRU), loops.dropout_gru),
    "gru before": Written(gru_type(reset_before=True), loops.gru_reset_before),
    "elman": Written(ELMAN, loops.elman),
    "layer norm": Written(with_layer_norm(LSTM, inner=("c",)), loops.layer_norm_lstm),
}
ENGINES = pytest.mark.parametrize("engine", [name for name in names() if name != "cuda"])
"""cuda is tested by tests/cuda, where there is no GPU."""
ALL_CELLS = pytest.mark.parametrize("name", CELLS)
VALUES, GRADIENTS = 1e-12, 1e-8
"""The distance that an engine may have from the loops, relative to 1 or to the size of a result;
difference quotients are good to about 1e-11."""


def test_no_built_in_cell_is_missing() -> None:
    """Whoever adds a cell to the library writes its loop by hand too."""
    built_in = {cell for cell in vars(builtin).values() if isinstance(cell, CellType)}
    assert len(built_in) >= 4
    assert built_in <= {written.type for written in CELLS.values()}


# ---- the two sides -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer of one of CELLS with activations, and numbers drawn for it by a seed."""

    name: str
    cell: Cell
    t: int = 3
    b: int = 2
    i: int = 2
    h: int = 2
    reverse: bool = False
    seed: int = 0
    size: float = 0.5

    @property
    def given(self) -> loops.Inputs:
        """The inputs and weights of a layer."""
        draw = np.random.default_rng(self.seed)
        kind, units = self.cell.type, self.h
        p_x = sum(p.input for p in kind.products) * units
        p_h = sum(p.recurrent for p in kind.products) * units

        def normal(*shape: int) -> Any:
            return draw.normal(size=shape) * self.size

        return loops.Inputs(
            normal(self.t, self.b, self.i),
            tuple(normal(self.b, units) for _ in kind.states),
            normal(p_x, self.i),
            normal(p_h, units),
            normal(p_x),
            normal(p_h),
            {name: normal(units) + (value or 0.0) for name, value in kind.vectors},
            {n: (draw.random((self.t, self.b, units)) < 0.5).astype(float) for n in kind.masks},
            {slot: dict(a.parameters) for slot, a in self.cell.slots.items() if a.parameters},
        )

    @property
    def loss_weights(self) -> list[Any]:
        """Of the output and the states of all steps [T, B, H], and of the last states [B, H]."""
        draw = np.random.default_rng(99)
        shape, states = (self.t, self.b, self.h), len(self.cell.type.states)
        whole = [draw.normal(size=shape) for _ in range(1 + states)]
        return [*whole, *(draw.normal(size=shape[1:]) for _ in range(states))]


def learning_all(cell: Cell) -> Cell:
    """The cell with every parameter given for each unit, so that each has a gradient."""
    return Cell(cell.type, cell.activations, cell.clip, tuple(cell.parameters))


def tensors(cell: Cell, given_: loops.Inputs, dtype: torch.dtype = torch.float64) -> Layer:
    """The same for an engine, each wanting its gradient; cell: of `learning_all`."""
    units = given_.states[0].shape[1]

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.array(array, dtype=np.float64)).to(dtype).requires_grad_()

    flat = {**given_.vectors}
    for slot, parameters in given_.parameters.items():
        flat |= {f"{slot}.{k}": np.full(units, v) for k, v in parameters.items()}
    vectors = tensor([flat[name] for name in cell.per_unit]) if cell.per_unit else None
    masks = [given_.masks[name] for name in cell.type.masks]
    return Layer(
        tensor(given_.x),
        tuple(map(tensor, given_.states)),
        tensor(given_.weight_ih),
        tensor(given_.weight_hh),
        tensor(given_.bias_ih),
        tensor(given_.bias_hh),
        vectors,
        torch.from_numpy(np.stack(masks, 2)).to(dtype) if masks else None,
    )


def looped(case: Case, given_: loops.Inputs) -> list[Any]:
    """The output, the states of all steps, the last states."""
    kind = case.cell.type
    clip = math.inf if case.cell.clip is None else case.cell.clip
    functions = {slot: _function(a) for slot, a in case.cell.slots.items()}
    found = loops.run(CELLS[case.name].step, functions, given_, clip, case.reverse)
    shape = (case.t, case.b, case.h)
    kept = [np.array([s[k] for s in found]).reshape(shape) for k in range(len(kind.states))]
    ends = found[0 if case.reverse else -1] if found else given_.states
    return [kept[kind.states.index(kind.output)], *kept, *ends]


@lru_cache(maxsize=256)
def _function(activation: Activation) -> Callable[..., loops.Array]:
    return loops.function(activation.formula)


@lru_cache(maxsize=256)
def by_loop(case: Case) -> tuple[Named, Mapping[str, loops.Derivative]]:
    """Values, and the derivatives of the loss."""
    loss_weights = case.loss_weights

    def loss(given_: loops.Inputs) -> float:
        pairs = zip(looped(case, given_), loss_weights, strict=True)
        return float(sum((result * weight).sum() for result, weight in pairs))

    given_ = case.given
    return _named(case.cell.type, looped(case, given_)), loops.derivatives(loss, given_)


def _named(kind: CellType, results: list[Any]) -> dict[str, Any]:
    states = kind.states
    names_ = ["output", *(f"{s} of all steps" for s in states), *(f"last {s}" for s in states)]
    return dict(zip(names_, results, strict=True))


def by_engine(engine: str, case: Case) -> tuple[Named, Named] | None:
    """The same from an engine; None where it refuses the cell's kind, and says so."""
    cell, given_ = learning_all(case.cell), case.given
    if refused(engine, cell):
        return None
    layer = tensors(cell, given_)._replace(reverse=case.reverse)
    result = load(engine).run(cell_key(cell), layer, keep=True)
    assert result.kept is not None
    results = [result.output, *result.kept, *result.states]
    pairs = zip(results, map(torch.from_numpy, case.loss_weights), strict=True)
    loss = sum(((r * w).sum() for r, w in pairs), torch.zeros(()))
    fields = {
        "x": layer.x,
        **dict(zip(WEIGHTS, layer[2:6], strict=True)),
        **{f"state {k}": state for k, state in enumerate(layer.states)},
        **({} if layer.vectors is None else {"vectors": layer.vectors}),
    }
    found = torch.autograd.grad(loss, list(fields.values()), allow_unused=True)
    grads = {
        name: np.zeros(tensor.shape) if gradient is None else gradient.numpy()
        for (name, tensor), gradient in zip(fields.items(), found, strict=True)
    }
    for name, row in zip(cell.per_unit, grads.pop("vectors", ()), strict=True):
        own = name in given_.vectors
        grads[f"vector {name}" if own else name] = row if own else row.sum()
    return _named(cell.type, [r.detach().numpy() for r in results]), grads


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def refused(engine: str, cell: Cell) -> bool:
    """True if an engine refuses the cell, which it may for its kind alone and must say."""
    reason = load(engine).refuses(Request(cell, "cpu", "float64", True))
    if reason is None:
        return False
    assert cell.type.kind in ("two products", "reduction", "no recurrence"), reason
    assert cell.type.kind in reason or "product" in reason or "mean" in reason, reason
    return True


def check(engine: str, case: Case) -> None:
    found = by_engine(engine, case)
    if found is None:
        return
    values, grads = found
    true_values, true_grads = by_loop(case)
    assert values.keys() == true_values.keys()
    for name, true in true_values.items():
        room = VALUES * max(1.0, np.abs(true).max(initial=0.0))
        np.testing.assert_allclose(values[name], true, rtol=0, atol=room, err_msg=name)
    assert grads.keys() == true_grads.keys()
    for name, true_grad in true_grads.items():
        trusted = true_grad.trusted
        room = GRADIENTS * max(1.0, np.abs(true_grad.value).max(initial=0.0))
        off = np.abs(grads[name] - true_grad.value)
        assert not (off[trusted] > room).any(), (name, grads[name], true_grad.value)
    every = np.concatenate([d.trusted.ravel() for d in true_grads.values()])
    assert every.size == 0 or every.mean() > 0.5, "most numbers lie near a kink: nothing was tested"


# ---- every cell, every engine ------------------------------------------------------------------


@ENGINES
@ALL_CELLS
@pytest.mark.parametrize("reverse", [False, True])
def test_built_in_cells(engine: str, name: str, reverse: bool) -> None:
    check(engine, Case(name, make(CELLS[name].type), reverse=reverse))


@ENGINES
@ALL_CELLS
def test_clip(engine: str, name: str) -> None:
    """At 0.6, where about half of the arguments are clipped."""
    check(engine, Case(name, make(CELLS[name].type, clip=0.6), t=2, seed=3))


@ENGINES
@ALL_CELLS
@pytest.mark.parametrize(
    ("t", "b", "i", "h"), [(1, 1, 1, 1), (0, 2, 1, 2), (2, 0, 2, 2), (1, 2, 3, 1), (2, 1, 1, 3)]
)
def test_small_and_empty_shapes(engine: str, name: str, t: int, b: int, i: int, h: int) -> None:
    check(engine, Case(name, make(CELLS[name].type), t, b, i, h))


@ENGINES
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_in_every_slot(engine: str, activation: str) -> None:
    """Of the peephole LSTM and of the GRU, all slots at once."""
    for name in ("peephole", "gru"):
        kind = CELLS[name].type
        cell = make(kind, {slot: ACTIVATIONS[activation] for slot, _ in kind.slots})
        check(engine, Case(name, cell, 2, 1, 1, 2, seed=7, size=0.4))


PIECES = (
    "tanh(x)",
    "sigmoid(p*x)",
    "x/(1 + q*x*x)",
    "where(x > q, x, p*tanh(x))",
    "sin(p*x)",
    "max(q*x, x)",
    "erf(x)*p",
    "softplus(x - q)",
    "x*exp(-x*x)",
    "clip(x, -p, q)",
    "abs(x)",
    "normal_cdf(p*x)",
    "log1p(x*x)",
)


@st.composite
def formulas(draw: Any) -> Activation:
    """A formula that nobody has written, with up to two parameters."""
    left, right = (draw(st.sampled_from(PIECES)) for _ in range(2))
    text = f"({left}) {draw(st.sampled_from('+-*'))} 0.5*({right})"
    words = set(re.findall(r"\w+", text))
    numbers = {
        name: draw(st.sampled_from([0.5, 0.8, 1.25])) for name in ("p", "q") if name in words
    }
    return Activation("drawn", text, **numbers)


@ENGINES
@examples(25)
@given(st.sampled_from(sorted(CELLS)), st.data(), st.integers(0, 2**16), st.booleans())
def test_drawn_activations(engine: str, name: str, data: Any, seed: int, reverse: bool) -> None:
    """Any of the catalogue and any formula, in any slots of any cell."""
    kind = CELLS[name].type
    anything = st.one_of(st.sampled_from(sorted(ACTIVATIONS)).map(ACTIVATIONS.get), formulas())
    chosen = {slot: data.draw(anything) for slot, _ in kind.slots}
    cell = make(kind, chosen, data.draw(st.sampled_from([None, 0.75])))
    shape = [data.draw(st.integers(1, 2)) for _ in range(4)]
    case = Case(name, cell, *shape, reverse, seed, 0.4)
    values = looped(case, case.given)
    assume(all(np.isfinite(v).all() and np.abs(v).max() < 1e3 for v in values))
    check(engine, case)


# ---- parameters of any name --------------------------------------------------------------------

ODD_NAMES = (
    "y",
    "h",
    "c",
    "z",
    "z_i",
    "f",
    "i",
    "g",
    "o",
    "c_before",
    "a_candidate",
    "candidate",
    "saved",
    "grad",
    "peephole",
    "input_gate_peephole",
    "mean",
    "u",
    "t",
    "cell_output",
    "value",
    "note",
    "source",
    "aliases",
    "name",
    "parameters",
)
"""Names that stand for something inside cells, or once did."""
PARAMETRIC = [name for name, a in ACTIVATIONS.items() if a.parameters]


def renamed(activation: Activation, old: str, new: str) -> Activation:
    """The activation with a parameter called otherwise."""
    expression = activation.expression.xreplace({Symbol(old, real=True): Symbol(new, real=True)})
    numbers = {new if key == old else key: v for key, v in activation.parameters.items()}
    return activation._like(expression=expression, parameters=numbers, defaults=numbers)


@ENGINES
@pytest.mark.parametrize(
    ("text", "parameter", "number", "slot"),
    [
        ("tanh(x) + y", "y", 0.5, "candidate"),
        ("sigmoid(x)*peephole", "peephole", 2.0, "input_gate"),
        ("sigmoid(x)*peephole", "peephole", 2.0, "output_gate"),
    ],
)
def test_numbers_that_were_wrong(
    engine: str, text: str, parameter: str, number: float, slot: str
) -> None:
    """Parameters called as the derivation's own symbols gave wrong gradients (issue 10)."""
    for name in ("lstm", "peephole", "coupled"):
        cell = make(CELLS[name].type, {slot: Activation("p", text, **{parameter: number})})
        check(engine, Case(name, cell, t=2))


@ENGINES
@pytest.mark.parametrize("activation", PARAMETRIC)
def test_parameters_of_any_name(engine: str, activation: str) -> None:
    """In every slot at once: values and gradients are those under the parameter's own name."""
    kind = CELLS["peephole"].type
    catalogue = ACTIVATIONS[activation]
    slots = [slot for slot, _ in kind.slots]
    plain = make(kind, dict.fromkeys(slots, catalogue))
    expected = by_engine(engine, Case("peephole", plain, 2, 1, 1, 1, seed=5, size=0.4))
    assert expected is not None
    place = PARAMETRIC.index(activation)
    # All names take some seconds an activation, and on cpu half a second of compiling each: all for
    # the first, and for the others some, so that each name meets several activations.
    names = ODD_NAMES if not place and engine != "cpu" else ODD_NAMES[place % 9 :: 9]
    for old in catalogue.parameters:
        for new in names:
            if new in catalogue.parameters:
                continue
            cell = make(kind, dict.fromkeys(slots, renamed(catalogue, old, new)))
            found = by_engine(engine, Case("peephole", cell, 2, 1, 1, 1, seed=5, size=0.4))
            assert found is not None
            for name, value in expected[0].items():
                np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-13)
            for name, value in expected[1].items():
                slot, dot, key = name.partition(".")
                own = f"{slot}.{new}" if dot and key == old else name
                size = max(1.0, np.abs(value).max())
                np.testing.assert_allclose(found[1][own], value, rtol=0, atol=1e-13 * size)
