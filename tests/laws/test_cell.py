"""The cell's derived programs against mpmath and against autograd; where f' closes in f."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from anygate.formulas import ACTIVATIONS, evaluate, resolve
from anygate.formulas.cell import GATES, SLOTS, Cell, derivative_from_output
from anygate.formulas.precise import PRECISE
from anygate.formulas.program import lower

NAMES = tuple(ACTIVATIONS)
CELLS = st.builds(Cell, **{slot: st.sampled_from(NAMES).map(ACTIVATIONS.get) for slot in SLOTS})


def inputs_for(cell: Cell, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    names = (*(f"z_{gate}" for gate in GATES), "c_previous")
    values = {name: mp.mpf(draw.gauss(0, 1)) for name in names}
    return values | {k: mp.mpf(v) for k, v in cell.parameters.items()}


def by_hand(cell: Cell, v: dict[str, Any]) -> tuple[Any, Any]:
    """h and c from the equations as they are printed."""

    def f(slot: str, x: Any) -> Any:
        own = {key: v[f"{slot}.{key}"] for key in cell.slots[slot].parameters}
        program = cell.slots[slot].value_program
        return evaluate(program, PRECISE, {"x": x, **own})["value"]

    i, forget, g, o = (f(gate, v[f"z_{gate}"]) for gate in GATES)
    c = forget * v["c_previous"] + i * g
    return o * f("cell_output", c), c


def backward_inputs(cell: Cell, v: dict[str, Any], seed: int) -> dict[str, Any]:
    forward = evaluate(cell.forward, PRECISE, v)
    draw = random.Random(seed + 1)
    given_ = {name: mp.mpf(draw.gauss(0, 1)) for name in ("grad_h", "grad_c")}
    saved = {f"saved_{gate}": forward[f"saved_{gate}"] for gate in GATES}
    numbers = {k: v[k] for k in cell.parameters}
    return {**saved, **numbers, **given_, "c_previous": v["c_previous"], "c": forward["c"]}


@settings(max_examples=20)
@given(CELLS, st.integers(0, 2**16))
def test_forward_and_backward_at_60_digits(cell: Cell, seed: int) -> None:
    """Any five activations: forward is the equations; backward is their difference quotient by
    every pre-activation, by c_previous and by every parameter."""
    with mp.workdps(120):
        v = inputs_for(cell, seed)
        forward = evaluate(cell.forward, PRECISE, v)
        assert (forward["h"], forward["c"]) == pytest.approx(by_hand(cell, v), rel=1e-50, abs=0)
        given_ = backward_inputs(cell, v, seed)
        found = evaluate(cell.backward, PRECISE, given_)
        assert set(found) == {f"grad_{name}" for name in v}
        step = mp.mpf("1e-50")
        for name in v:
            ends = [by_hand(cell, {**v, name: v[name] + s * step}) for s in (1, -1)]
            quotients = [(a - b) / (2 * step) for a, b in zip(*ends, strict=True)]
            expected = given_["grad_h"] * quotients[0] + given_["grad_c"] * quotients[1]
            room = mp.mpf("1e-35") * max(1, abs(expected))
            assert abs(found[f"grad_{name}"] - expected) <= room, name


def test_default_cell_against_autograd() -> None:
    """The backward Program in float64 against torch's autograd through torch's functions."""
    torch.manual_seed(0)
    z = [torch.randn(64, dtype=torch.float64).requires_grad_() for _ in GATES]
    before = torch.randn(64, dtype=torch.float64).requires_grad_()
    i, f, o = (torch.sigmoid(z[k]) for k in (0, 1, 3))
    g = torch.tanh(z[2])
    c = f * before + i * g
    h = o * torch.tanh(c)
    grad_h, grad_c = torch.randn(2, 64, dtype=torch.float64)
    expected = torch.autograd.grad((h, c), (*z, before), (grad_h, grad_c))

    from anygate.engines.eager.operations import evaluate_program

    saved = dict(zip((f"saved_{gate}" for gate in GATES), (i, f, g, o), strict=True))
    given_ = {**saved, "c_previous": before, "c": c, "grad_h": grad_h, "grad_c": grad_c}
    found = evaluate_program(Cell().backward, {k: v.detach() for k, v in given_.items()}, c)
    names = [*(f"grad_z_{gate}" for gate in GATES), "grad_c_previous"]
    for name, value in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], value, rtol=1e-13, atol=1e-15)


CLOSES = {
    "sigmoid", "tanh", "lecun_tanh", "lstm97_input", "lstm97_output", "identity", "affine",
    "exponential",
}  # fmt: skip


def test_which_derivatives_close_in_the_output() -> None:
    assert {n for n, a in ACTIVATIONS.items() if derivative_from_output(a)} == CLOSES


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_closed_derivative_is_the_derivative(name: str) -> None:
    activation = ACTIVATIONS[name]
    closed = derivative_from_output(activation)
    assert closed is not None
    y, slope = closed
    program = lower({"slope": slope}, (y.name, *activation.parameters))
    numbers = {k: mp.mpf(v) for k, v in activation.parameters.items()}
    with mp.workdps(60):
        for x in (-20, -3, -0.5, 0, 1e-30, 0.25, 1, 7, 20):
            value = activation.precise(x)
            found = evaluate(program, PRECISE, {y.name: value, **numbers})["slope"]
            true = activation.derivative().precise(x)
            assert abs(found - true) <= mp.mpf("1e-50") * max(1, abs(true))


@pytest.mark.parametrize(
    ("text", "closes"),
    [("3*sigmoid(x) - 1", True), ("2*tanh(x) + 0.5", True), ("x*sigmoid(x)", False),
     ("tanh(x)**2", False), ("2*x + 1", True), ("exp(x) + 1", True), ("sin(x)", False)],
)  # fmt: skip
def test_own_formulas_close_too(text: str, closes: bool) -> None:
    assert (derivative_from_output(resolve(text)) is not None) == closes


def test_what_is_saved() -> None:
    """The value where the derivative follows from it, else the pre-activation."""
    cell = Cell(candidate=ACTIVATIONS["relu"], input_gate=ACTIVATIONS["lstm97_output"])
    values = inputs_for(cell, 1)
    found = evaluate(cell.forward, PRECISE, values)
    assert found["saved_candidate"] == values["z_candidate"]
    assert found["saved_input_gate"] == PRECISE["tanh"](values["z_input_gate"] / 2)
    # affine' closes, but its derivative by alpha is x
    affine = Cell(input_gate=ACTIVATIONS["affine"])
    values = inputs_for(affine, 1)
    assert evaluate(affine.forward, PRECISE, values)["saved_input_gate"] == values["z_input_gate"]
    values = inputs_for(cell, 1)
    assert found["saved_forget_gate"] == PRECISE["sigmoid"](values["z_forget_gate"])


def test_cells_are_values() -> None:
    cell = Cell(candidate=resolve("leaky_relu(k=0.2)"))
    assert cell == Cell(candidate=ACTIVATIONS["leaky_relu"](k=0.2))
    assert hash(cell) == hash(Cell(candidate=ACTIVATIONS["leaky_relu"](k=0.2)))
    assert cell.parameters == {"candidate.k": 0.2}
    assert not cell.is_default
    assert Cell().is_default
    assert tuple(cell.slots) == SLOTS
    assert cell.forward is cell.forward
    assert len({cell, Cell(), Cell()}) == 2
