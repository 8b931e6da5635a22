"""A cell's derived Programs against its equations at 60 digits; cells as text; hostile texts."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import loops
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp
from plain_cells import JANET, MGU, S_LSTM
from sympy import Symbol

from anygate.cells import (
    ELMAN,
    GRU,
    GRU_RESET_BEFORE,
    LSTM,
    Cell,
    CellType,
    Product,
    cell_key,
    cell_of,
    lstm_type,
    make,
)
from anygate.cells.builtin import with_layer_norm, with_recurrent_dropout, with_zoneout
from anygate.cells.celltype import before
from anygate.cells.data import cell_type_data, read_cell_type
from anygate.cells.derive import grad, saved_name
from anygate.cells.schedule import schedule
from anygate.formulas import ACTIVATIONS, Activation, FormulaError, evaluate, resolve
from anygate.formulas.closed import VALUE, derivative_in_value
from anygate.formulas.precise import PRECISE
from anygate.formulas.program import lower

# ---- cells that nobody has built in --------------------------------------------------------------

SUBTRACTIVE = CellType(
    "subtractive LSTM",
    products=("z_i", "z_f", "z_g", "z_o"),
    states=("h", "c"),
    slots={
        "input_gate": "sigmoid",
        "forget_gate": "sigmoid",
        "candidate": "sigmoid",
        "output_gate": "sigmoid",
        "cell_output": "sigmoid",
    },
    lines="""c = forget_gate(z_f)*c_before + candidate(z_g) - input_gate(z_i)
             h = cell_output(c) - output_gate(z_o)""",
)


def janet(u: Any, recur: Any, states: Any, apply: Any, v: Any) -> Any:
    f = apply("forget_gate", u[0])
    return (f * states[0] + (1 - f) * apply("candidate", u[1]),)


def mgu(u: Any, recur: Any, states: Any, apply: Any, v: Any) -> Any:
    f = apply("forget_gate", u[0])
    return ((1 - f) * apply("candidate", u[1] + f * recur(1, None)) + f * states[0],)


def subtractive(u: Any, recur: Any, states: Any, apply: Any, v: Any) -> Any:
    c = apply("forget_gate", u[1]) * states[1] + apply("candidate", u[2])
    c = c - apply("input_gate", u[0])
    return apply("cell_output", c) - apply("output_gate", u[3]), c


def slstm(u: Any, recur: Any, states: Any, apply: Any, v: Any) -> Any:
    _, c, n, m = states
    last = m - mp.log(1 + mp.exp(-u[1]))
    new = max(last, u[0])
    i, f = mp.exp(u[0] - new), mp.exp(last - new)
    c = f * c + i * apply("candidate", u[2])
    n = f * n + i
    return apply("output_gate", u[3]) * c / n, c, n, new


RATES = {"h": 0.1, "c": 0.25}
WRITTEN: dict[str, tuple[CellType, Callable[..., Any]]] = {
    "lstm": (LSTM, loops.lstm),
    "peephole": (lstm_type(peephole=True), loops.peephole_lstm),
    "coupled": (lstm_type(coupled=True), loops.coupled_lstm),
    "coupled peephole": (lstm_type(True, True), loops.coupled_peephole_lstm),
    "gru": (GRU, loops.gru),
    "elman": (ELMAN, loops.elman),
    "zoneout": (with_zoneout(LSTM, RATES, training=True), loops.zoneout_lstm),
    "recurrent dropout": (with_recurrent_dropout(LSTM), loops.dropout_lstm),
    "gru, recurrent dropout": (with_recurrent_dropout(GRU), loops.dropout_gru),
    "janet": (JANET, janet),
    "mgu": (MGU, mgu),
    "subtractive": (SUBTRACTIVE, subtractive),
    "slstm": (S_LSTM, slstm),
}
NAMES = sorted(ACTIVATIONS)


@st.composite
def cells(draw: Any) -> tuple[str, Cell]:
    name = draw(st.sampled_from(sorted(WRITTEN)))
    kind = WRITTEN[name][0]
    chosen = {slot: ACTIVATIONS[draw(st.sampled_from(NAMES))] for slot, _ in kind.slots}
    return name, make(kind, chosen, draw(st.sampled_from([None, None, 0.75])))


# ---- the Programs of a step --------------------------------------------------------------------


def inputs_for(cell: Cell, seed: int) -> dict[str, Any]:
    """Numbers for `Cell.inputs`; the states before the step positive, as the sLSTM's n is."""
    draw = random.Random(seed)
    values = {name: mp.mpf(draw.gauss(0, 1)) for name in cell.inputs}
    values |= {before(s): mp.mpf(draw.uniform(0.2, 1.2)) for s in cell.type.states}
    return values | {k: mp.mpf(v) for k, v in cell.parameters.items() if "." in k}


def by_hand(name: str, cell: Cell, v: dict[str, Any]) -> dict[str, Any]:
    """The new states from the equations as they are written out in Python."""
    products = cell.type.products
    u = [v[p.name] for p in products if p.input]
    apart = [p.name for p in products if p.recurrent]
    seen = {p.name for p in products if p.input}

    def recur(k: int, e: Any) -> Any:
        return 0 if apart[k] in seen else v[apart[k]]

    def apply(slot: str, z: Any) -> Any:
        own = {key: v[f"{slot}.{key}"] for key in cell.slots[slot].parameters}
        if cell.clip is not None:
            z = min(max(z, -mp.mpf(cell.clip)), mp.mpf(cell.clip))
        return evaluate(cell.slots[slot].value_program, PRECISE, {"x": z, **own})["value"]

    states = tuple(v[before(state)] for state in cell.type.states)
    found = WRITTEN[name][1](u, recur, states, apply, v)
    return dict(zip(cell.type.states, found, strict=True))


def backward_inputs(cell: Cell, v: dict[str, Any], seed: int) -> dict[str, Any]:
    forward = evaluate(cell.forward, PRECISE, v)
    draw = random.Random(seed + 1)
    arriving = {grad(state): mp.mpf(draw.gauss(0, 1)) for state in cell.type.states}
    saved = {name: forward[name] for name in map(saved_name, cell.saved)}
    given_ = {name: v[name] for name in (*cell.type.masks, *cell.parameters)}
    given_ |= {before(state): v[before(state)] for state in cell.type.states}
    return {**saved, **given_, **arriving, **{s: forward[s] for s in cell.type.states}}


@examples(60)
@given(cells(), st.integers(0, 2**16))
def test_forward_and_backward_at_60_digits(drawn: tuple[str, Cell], seed: int) -> None:
    """Any cell with any activations: forward is the equations; backward is their difference
    quotient by every product, state before the step and parameter."""
    name, cell = drawn
    with mp.workdps(120):
        v = inputs_for(cell, seed)
        forward = evaluate(cell.forward, PRECISE, v)
        expected = by_hand(name, cell, v)
        for state, value in expected.items():
            assert abs(forward[state] - value) <= mp.mpf("1e-50") * max(1, abs(value)), state
        given_ = backward_inputs(cell, v, seed)
        found = evaluate(cell.backward, PRECISE, given_)
        differentiated = [n for n in v if n not in cell.type.masks]
        assert set(found) == {grad(name) for name in differentiated}
        step = mp.mpf("1e-50")
        for by in differentiated:
            up, down = (by_hand(name, cell, {**v, by: v[by] + s * step}) for s in (1, -1))
            quotient = sum(given_[grad(s)] * (up[s] - down[s]) / (2 * step) for s in expected)
            room = mp.mpf("1e-35") * max(1, abs(quotient))
            assert abs(found[grad(by)] - quotient) <= room, by


def test_a_type_with_other_lines() -> None:
    """By a line's name; and as a text, whose lines replace those of their names or come last."""
    coupled = LSTM.with_("coupled", f="1 - i")
    assert coupled.lines == (*LSTM.lines[:1], "f = 1 - i", *LSTM.lines[2:])
    assert "forget_gate" not in dict(coupled.slots) and "forget_gate" not in coupled.gates
    assert LSTM.with_("coupled", lines="f = 1 - i") == coupled
    assert LSTM.with_("coupled", lines=("f = 1 - i",)) == coupled
    slow = LSTM.with_(states=("h", "c", "s"), lines="s = 0.9*s_before + 0.1*c")
    assert slow.lines == (*LSTM.lines, "s = 0.9*s_before + 0.1*c") and slow.name == "LSTM"
    with pytest.raises(FormulaError, match="LSTM has nothing called 'r' to change"):
        LSTM.with_(r="1")
    with pytest.raises(FormulaError, match="'h plus c' is no line"):
        LSTM.with_(lines="h plus c")


def test_the_programs_cannot_be_had_without_one_product() -> None:
    """Kinds, and a clear error where a mean has no Program."""
    assert make(GRU_RESET_BEFORE).type.kind == "two products"
    normed = with_layer_norm(LSTM)
    assert normed.kind == "reduction"
    with pytest.raises(ValueError, match="mean over hidden units has no Program"):
        _ = make(normed).forward
    assert {kind.kind for kind, _ in WRITTEN.values()} == {"one product"}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_schedule_gives_what_the_programs_give(name: str) -> None:
    """Line by line and as one Program: the same states."""
    cell = make(WRITTEN[name][0])
    with mp.workdps(60):
        v = inputs_for(cell, 1)
        seen = dict(v)
        for action in schedule(cell):
            if action.kind != "product":
                assert action.program is not None
                given_ = {n: seen[n] for n in action.inputs}
                seen[action.name] = evaluate(action.program, PRECISE, given_)["value"]
        forward = evaluate(cell.forward, PRECISE, v)
        for state in cell.type.states:
            assert abs(seen[state] - forward[state]) < mp.mpf("1e-50") * max(1, abs(seen[state]))


# ---- what is saved ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "chosen", "clip", "saved"),
    [
        (LSTM, {}, None, ("input_gate", "forget_gate", "candidate", "output_gate")),
        (
            LSTM,
            {"candidate": "relu"},
            None,
            ("candidate argument", "input_gate", "forget_gate", "output_gate"),
        ),
        (
            LSTM,
            {"input_gate": "affine"},
            None,
            ("input_gate argument", "forget_gate", "candidate", "output_gate"),
        ),
        (LSTM, {}, 1.0, tuple(f"{gate} argument" for gate in list(dict(LSTM.slots))[:4])),
        (GRU, {}, None, ("z_h", "reset_gate", "update_gate", "candidate")),
        (ELMAN, {}, None, ()),
        (ELMAN, {"candidate": "relu"}, None, ("candidate argument",)),
    ],
)
def test_what_is_saved(
    kind: CellType, chosen: dict[str, str], clip: float | None, saved: tuple[str, ...]
) -> None:
    """The value where the derivative follows from it, else what the activation is applied to;
    nothing where the states tell."""
    cell = make(kind, {slot: resolve(name) for slot, name in chosen.items()}, clip)
    assert set(cell.saved) == set(saved)


CLOSES = {
    *("sigmoid", "tanh", "lecun_tanh", "lstm97_input", "lstm97_output"),
    *("identity", "affine", "exponential"),
}


def test_which_derivatives_close_in_the_value() -> None:
    found = {n for n, a in ACTIVATIONS.items() if derivative_in_value(a.expression) is not None}
    assert found == CLOSES


@pytest.mark.parametrize("name", sorted(CLOSES))
def test_closed_derivative_is_the_derivative(name: str) -> None:
    activation = ACTIVATIONS[name]
    slope = derivative_in_value(activation.expression)
    assert slope is not None
    y = Symbol("any name", real=True)
    program = lower({"slope": slope.xreplace({VALUE: y})}, (y.name, *activation.parameters))
    numbers = {k: mp.mpf(v) for k, v in activation.parameters.items()}
    with mp.workdps(60):
        for x in (-20, -3, -0.5, 0, 1e-30, 0.25, 1, 7, 20):
            value = activation.precise(x)
            found = evaluate(program, PRECISE, {y.name: value, **numbers})["slope"]
            true = activation.derivative().precise(x)
            assert abs(found - true) <= mp.mpf("1e-50") * max(1, abs(true))


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        ("3*sigmoid(x) - 1", True),
        ("2*tanh(x) + 0.5", True),
        ("x*sigmoid(x)", False),
        ("tanh(x)**2", False),
        ("2*x + 1", True),
        ("exp(x) + 1", True),
        ("sin(x)", False),
    ],
)
def test_own_formulas_close_too(text: str, closes: bool) -> None:
    assert (derivative_in_value(resolve(text).expression) is not None) == closes


def test_no_symbol_has_a_name_that_is_made_inside() -> None:
    """SymPy symbols may have any name; those of a formula must be what a text can hold."""
    for name in (VALUE.name, "saved candidate", "candidate argument", "grad h", "candidate.k"):
        product = resolve("sigmoid(x)").expression * Symbol(name, real=True)
        with pytest.raises(FormulaError):
            Activation("odd", product, parameters={name: 2.0})


# ---- cells as values and as text ---------------------------------------------------------------


def test_cells_are_values() -> None:
    cell = make(LSTM, {"candidate": resolve("leaky_relu(k=0.2)")})
    other = make(LSTM, {"candidate": ACTIVATIONS["leaky_relu"](k=0.2)})
    assert cell == other and hash(cell) == hash(other)
    assert cell.parameters == {"candidate.k": 0.2}
    assert cell != make(LSTM)
    assert cell.forward is cell.forward
    assert len({cell, make(LSTM), make(LSTM)}) == 2
    with pytest.raises(ValueError, match="twice"):
        Cell(LSTM, cell.activations, None, ("candidate.k", "candidate.k"))
    with pytest.raises(ValueError, match="has no slot 'forget'; it has: input_gate"):
        make(LSTM, {"forget": ACTIVATIONS["relu"]})


KINDS = [*(kind for kind, _ in WRITTEN.values()), GRU_RESET_BEFORE, with_layer_norm(LSTM, ("c",))]


def read_again(cell: Cell) -> Cell:
    """From the text, without the registry of those that were written here."""
    from anygate.cells.cell import _read

    return _read(cell_key(cell))


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_crosses_as_text(name: str) -> None:
    for kind in KINDS:
        slots = [slot for slot, _ in kind.slots]
        cell = make(kind, dict.fromkeys(slots, ACTIVATIONS[name]), 0.5)
        again = read_again(cell)
        assert again == cell and cell_key(again) == cell_key(cell)


@examples(60)
@given(st.sampled_from(KINDS), st.data())
def test_a_type_is_read_from_its_json(kind: CellType, data: st.DataObject) -> None:
    """As `config` writes it, with any activations, options of theirs, and starts of vectors."""
    numbers = st.floats(-4, 4)
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=len(kind.slots)))
    slots = {}
    for (slot, _), name in zip(kind.slots, names, strict=False):
        activation = ACTIVATIONS[name]
        own = {k: data.draw(numbers) for k in activation.parameters}
        with contextlib.suppress(FormulaError):  # of numbers that its formula does not take
            activation = activation(**own)
        slots[slot] = activation
    vectors = {v: data.draw(st.none() | numbers) for v, _ in kind.vectors}
    kind = kind.with_(kind.name, slots=slots, vectors=vectors)
    text = json.dumps(cell_type_data(kind))
    assert read_cell_type(json.loads(text), "cell") == kind


@examples(40)
@given(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4), st.sampled_from("+-*"))
def test_drawn_formulas_cross_as_text(names: list[str], sign: str) -> None:
    """Programs too are the same, node by node."""
    text = sign.join(f"({ACTIVATIONS[name].closed})" for name in names)
    cell = make(GRU, {"candidate": resolve(text)})
    again = read_again(cell)
    assert again == cell
    assert (again.forward, again.backward) == (cell.forward, cell.backward)


def test_a_text_is_read_in_another_process() -> None:
    """As equal cells with equal Programs: saved programs and caches live longer than a process."""
    drawn = [
        make(kind, {kind.slots[0][0]: resolve("where(x > 0.1, x*tanh(x/3), sin(x) + 0.1)")})
        for kind in KINDS
    ]
    content = [
        (cell_key(c), str(c.backward) if c.type.kind == "one product" else "") for c in drawn
    ]
    code = """if True:
        import json, sys
        from anygate.cells import cell_key, cell_of
        for key, backward in json.load(sys.stdin):
            cell = cell_of(key)
            assert cell_key(cell) == key
            assert not backward or str(cell.backward) == backward
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(content),
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# ---- texts that are wrong ----------------------------------------------------------------------


def cell_with(lines: Any, **fields: Any) -> CellType:
    return CellType("T", lines=lines, **{"products": ("z",), "states": ("h",), **fields})


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lines": "h = h + z"}, "The state before the step is h_before"),
    ({"lines": "h = a + z; a = z"}, "The line of a stands below; put it above"),
    ({"lines": "h z"}, "write NAME = formula, such as h = tanh"),
    ({"lines": "h == z"}, "is no line"),
    ({"lines": "g = z"}, "no line gives the state 'h'"),
    ({"lines": "h = z\nh = z"}, "'h' is given twice"),
    ({"lines": "z = 1\nh = z"}, "'z' is a product, which the line 'z = 1' cannot give"),
    ({"lines": "h = tahn(z)"}, "Did you mean tanh"),
    ({"lines": "h = z + h_befor"}, "Did you mean h_before"),
    ({"lines": "relu = z\nh = relu"}, "'relu' is a word of formulas"),
    ({"lines": "h = z > 0"}, "is a condition, not a value"),
    ({"lines": "h = z - mean(z, z)"}, "mean takes one argument"),
    ({"lines": "h = z", "slots": {"s": "tanh"}}, "no line applies the slot 's'"),
    ({"lines": "h = s(z) + s(2*z)", "slots": {"s": "tanh"}}, "applied twice"),
    ({"lines": "h = s", "slots": {"s": "tanh"}}, r"write s\(x\)"),
    ({"lines": "h = s(z)", "slots": {"s": "tahn"}}, "no activation is called 'tahn'"),
    ({"lines": "h = z", "gates": ("g",)}, "the gate 'g' is no slot"),
    ({"lines": "h = z", "output": "c"}, "the output 'c' is no state"),
    ({"lines": "h = z", "states": ("h", "x-y")}, "'x-y' is no name for a state"),
    ({"lines": "h = z", "states": ("h", "z")}, "'z' is a product and a state"),
    ({"lines": "h = z", "states": "h"}, "states is a tuple, such as"),
    ({"lines": "h = z", "states": ()}, "at least one state and one product"),
    ({"lines": "h = z", "products": "z"}, "products is a tuple"),
    ({"lines": "h = z", "products": (Product("z", False, False),)}, "sees nothing"),
    ({"lines": "h = z", "products": (Product("z", "no"),)}, "are True or False"),  # type: ignore[arg-type]
    ({"lines": "h = z + y", "products": ("z", Product("y", operand="q*z"))}, "known after the li"),
    ({"lines": "h = z + y", "products": ("z", Product("y", operand="2"))}, "is a formula of state"),
    ({"lines": "h = z", "products": ("z", Product("y", operand="tanh("))}, "cannot be read"),
    ({"lines": "h = z*v", "vectors": {"v": "a"}}, "begins with a finite number or None"),
    ({"lines": "h = z*v", "vectors": {"v": float("nan")}}, "begins with a finite number or None"),
    ({"lines": (5,)}, "a line is a text, not 5"),
    ({"lines": "h = __import__('os')"}, "T, the line"),
    ({"lines": "_h = z\nh = _h"}, "is no line"),
    ({"lines": "mean = z\nh = z"}, "'mean' is a word of formulas"),
    ({"lines": "\n".join(f"a{k} = z" for k in range(70))}, "at most 64 lines"),
    ({"lines": "h = z", "masks": tuple(f"m{k}" for k in range(20))}, "at most 16 names"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_errors_say_what_to_write(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        cell_with(**fields)


GROWING = "\n".join(["a0 = z", *(f"a{k + 1} = a{k}*a{k} + a{k}" for k in range(60)), "h = a60"])
BRAIDED = (
    "; ".join(["a0 = z; b0 = tanh(z)"])
    + "".join(f"\na{k + 1} = a{k}*b{k}; b{k + 1} = a{k} + tanh(b{k})" for k in range(10))
    + "\nh = a10"
)
HOSTILE: list[Callable[[], Any]] = [
    lambda: cell_with(" " * 400_000 + "x"),
    lambda: cell_with("h = z" + " a" * 200_000),
    lambda: cell_with("h = " + "(" * 1900 + "z" + ")" * 1900),
    lambda: cell_with("h = z**32**32"),
    lambda: make(cell_with(GROWING)).forward,
    lambda: make(cell_with(BRAIDED)).backward,
    lambda: cell_with("h = " + "h" * 1990),
    lambda: cell_with("h = z", states=("h", "h" * 10_000)),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_lines_end_soon(number: int) -> None:
    start = time.process_time()
    with pytest.raises(FormulaError):
        HOSTILE[number]()
    assert time.process_time() - start < 20


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(cell_key(make(LSTM))), **changes})


HOSTILE_TEXTS = [
    "",
    "{}",
    "[]",
    "null",
    "7",
    '{"version":2}',
    '{"version":1}',
    "[" * 200_000,
    "x" * 2_000_000,
    '{"version":' + "9" * 10_000 + "}",
    _changed(version=2),
    _changed(name=5),
    _changed(name="n" * 90),
    _changed(lines=[5]),
    _changed(lines="h"),
    _changed(lines=["h = z_i"] * 100_000),
    _changed(products=[["z"] * 9]),
    _changed(products=5),
    _changed(products=[["z_i", 1, 1, 7]]),
    _changed(states=[]),
    _changed(states=["h", ["c"]]),
    _changed(slots=[]),
    _changed(gates=["x"]),
    _changed(slots={"input_gate": 3}),
    _changed(vectors=["a"]),
    _changed(vectors={"v": "x"}),
    _changed(activations=[]),
    _changed(activations=[["tanh", "x", {}]] * 5),
    _changed(activations=[["tanh", '[["symbol","x"],["tanh",0]]', {"k": 1}]] * 5),
    _changed(activations=[["tanh", '[["symbol","x"],["tanh",0]]', []]] * 5),
    _changed(clip="a"),
    _changed(clip=-1),
    _changed(clip=[1]),
    _changed(per_unit=["nothing"]),
    _changed(per_unit=5),
    _changed(output="q"),
    _changed(masks={"a": 1}),
    _changed(output=[]),
]


@pytest.mark.parametrize("number", range(len(HOSTILE_TEXTS)))
def test_hostile_texts_are_no_cells(number: int) -> None:
    start = time.process_time()
    with pytest.raises(FormulaError):
        cell_of(HOSTILE_TEXTS[number])
    assert time.process_time() - start < 20
