"""Every property of a sheet holds: of catalogue entries against their own values, of the known
ones against the literature."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from typing import Any

import pytest
from drawn_formulas import nested_kinks
from mpmath import mp

from anygate.formulas import (
    ACTIVATIONS,
    Activation,
    curve,
    describe,
    intervals,
    resolve,
    sheet,
    structure,
)
from anygate.formulas import samples as values_on_grid
from anygate.formulas.intervals import enclose
from anygate.formulas.meanings import meanings
from anygate.formulas.precise import CONTEXT, working
from anygate.formulas.program import Program, bind
from anygate.formulas.sheet import _sheet

ALL = pytest.mark.parametrize("name", ACTIVATIONS)
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
SLACK = 1e-12


def samples(name: str, count: int = 1200) -> list[float]:
    draw = random.Random(name)
    near = [draw.uniform(-10, 10) for _ in range(count - count // 4)]
    return near + [draw.choice((-1, 1)) * 10 ** draw.uniform(-8, 8) for _ in range(count // 4)]


@ALL
def test_what_it_says_holds(name: str) -> None:
    """Range, parity, monotony, Lipschitz bound, saturation and death on 1200 drawn points."""
    activation = ACTIVATIONS[name]
    said, slope = sheet(activation), activation.derivative()
    points = sorted(samples(name))
    with mp.workdps(25):
        values = [activation.precise(x) for x in points]
        slopes = [slope.precise(x) for x in points]
        if said.odd.value:
            mirrored = [activation.precise(-x) for x in points[:200]]
            assert all(abs(v + m) <= 1e-20 * abs(v) for v, m in zip(values, mirrored, strict=False))
    room = SLACK * max(1.0, abs(said.low.value) if said.bounded.value else 1.0)
    assert all(said.low.value - room <= v <= said.high.value + room for v in values)
    steps = [b - a for a, b in itertools.pairwise(values)]
    if said.monotone.value == "increasing":
        assert all(s >= 0 for s in steps)
    if said.monotone.value == "no":
        assert min(steps) < 0 < max(steps)
    assert all(abs(s) <= said.largest_slope.value * (1 + SLACK) for s in slopes)
    for x, s in zip(points, slopes, strict=True):
        if any(a < x < b for a, b in said.dead_region.value):
            assert s == 0, x
        if not math.isinf(said.largest_slope.value):
            saturated = abs(s) < 0.1 * said.largest_slope.value
            assert saturated == any(a < x < b for a, b in said.saturated) or _at_an_end(x, said)


def _at_an_end(x: float, said: object) -> bool:
    ends = [e for interval in said.saturated for e in interval]  # type: ignore[attr-defined]
    return any(abs(x - e) < 1e-6 for e in ends) or (said.activation.name in OSCILLATING)  # type: ignore[attr-defined]


OSCILLATING = ("sine", "snake")
"""Saturated intervals repeat for ever; the sheet gives those within [-8, 8]."""


@ALL
def test_proofs_where_they_can_be(name: str) -> None:
    """A finite end of the range, and a finite Lipschitz bound, come from interval arithmetic."""
    said = sheet(ACTIVATIONS[name])
    not_proved = {
        key
        for key, value in (
            ("low", said.low),
            ("high", said.high),
            ("lipschitz", said.lipschitz),
            ("kinks", said.kinks),
        )
        if value.how == "sampled"
        and not (isinstance(value.value, float) and math.isinf(value.value))
    }
    assert not_proved == SAMPLED.get(name, set())
    assert said.undefined == ()


SAMPLED: dict[str, set[str]] = {
    "squareplus": {"low", "lipschitz"},
    "silu": {"lipschitz"},
    "mish": {"lipschitz"},
    "snake": {"lipschitz"},
}
"""Properties that interval arithmetic cannot show in its 250 boxes; the sheet says "sampled"."""


@ALL
def test_limits(name: str) -> None:
    activation = ACTIVATIONS[name]
    said = sheet(activation)
    for limit, x in ((said.limit_left, -1e15), (said.limit_right, 1e15)):
        if limit.value is None:
            assert name in ("sine",)
        elif math.isinf(limit.value):
            assert abs(activation.value(x)) > 30
            assert math.copysign(1, activation.value(x)) == math.copysign(1, limit.value)
        else:
            assert activation.value(x) == pytest.approx(limit.value, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "peak", "at", "beyond"),
    [("tanh", 0.770, 0.66, 3.34), ("sigmoid", 0.096, 1.32, 4.56), ("softsign", 2.0, 0.0, 4.85)],
)
def test_second_derivative_figures(name: str, peak: float, at: float, beyond: float) -> None:
    """The literature's: f'' peaks there and is below 0.01 from there on."""
    said = sheet(ACTIVATIONS[name])
    height, x = said.second_peak.value
    assert round(height, 3) == peak
    assert round(abs(x), 2) == at
    assert round(said.second_dies.value, 2) == beyond
    second = ACTIVATIONS[name].derivative(2)
    for x in (beyond + 0.01, 6.0, 20.0, 1e4):
        assert abs(second.value(x)) < 0.01
        assert abs(second.value(-x)) < 0.01
    assert abs(second.value(beyond - 0.05)) > 0.01


MONOTONE_NOT = {"sine", "silu", "hard_silu", "mish", "gelu", "gelu_tanh"}
ODD = {
    "tanh",
    "hard_tanh",
    "softsign",
    "scaled_tanh",
    "lecun_tanh",
    "lstm97_input",
    "lstm97_output",
    "erf",
    "arctan",
    "isru",
    "sine",
    "identity",
    "affine",
    "tanhshrink",
    "softshrink",
    "hardshrink",
    "sinh_asinh",
    "symlog",
}
BOUNDED = {
    "sigmoid",
    "tanh",
    "hard_tanh",
    "hard_sigmoid",
    "hard_sigmoid_onnx",
    "sparse_sigmoid",
    "elliott",
    "modified_elliott",
    "cloglog",
    "arctan_gate",
    "softsign",
    "scaled_tanh",
    "lecun_tanh",
    "penalized_tanh",
    "lstm97_input",
    "lstm97_output",
    "cloglogm",
    "erf",
    "arctan",
    "isru",
    "sine",
    "relu6",
}
CLOSES = {
    "sigmoid",
    "tanh",
    "lecun_tanh",
    "lstm97_input",
    "lstm97_output",
    "identity",
    "affine",
    "exponential",
}


@ALL
def test_known_properties(name: str) -> None:
    said = sheet(ACTIVATIONS[name])
    assert (said.monotone.value == "no") == (name in MONOTONE_NOT)
    assert said.odd.value == (name in ODD)
    assert said.bounded.value == (name in BOUNDED)
    assert (said.closes.value is not None) == (name in CLOSES)
    if said.odd.value:
        assert said.zero_centred.value


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("lstm97_input", -2, 2),
        ("lecun_tanh", -1.7159, 1.7159),
        ("modified_elliott", -0.5, 1.5),
        ("arctan", -math.pi / 2, math.pi / 2),
        ("relu6", 0, 6),
        ("penalized_tanh", -0.25, 1),
        ("relu", 0, math.inf),
        ("identity", -math.inf, math.inf),
        ("silu", -0.2784645427610738, math.inf),
        ("hard_silu", -0.375, math.inf),
        ("hard_tanh", -1, 1),
    ],
)
def test_ranges(name: str, low: float, high: float) -> None:
    said = sheet(ACTIVATIONS[name])
    assert said.low.value == pytest.approx(low, abs=1e-12)
    assert said.high.value == pytest.approx(high, abs=1e-12)


def test_parameters_move_the_sheet() -> None:
    said = sheet(resolve("hard_tanh(low=-2, high=3)"))
    assert (said.low.value, said.high.value) == (-2, 3)
    assert {k.x for k in said.kinks.value} == {-2, 3}
    assert not said.odd.value
    assert sheet(resolve("leaky_relu(k=-0.5)")).monotone.value == "no"


@pytest.mark.parametrize(
    ("name", "slot", "words"),
    [
        ("relu", "forget_gate", ("grows", "overflow")),
        ("relu", "cell_output", ("Unbounded", "hidden state grows")),
        ("relu", "candidate", ("Never negative", "any amount")),
        ("relu", "input_gate", ("Unbounded",)),
        ("sigmoid", "forget_gate", ("Within [0, 1]",)),
        ("tanh", "forget_gate", ("negative",)),
        ("modified_elliott", "forget_gate", ("1.5", "over 100 steps")),
        ("tanh", "cell_output", ("stays within [-1, 1]",)),
        ("silu", "candidate", ("Not monotone",)),
        ("relu", "output_gate", ("derivative is exactly zero below 0",)),
    ],
)
def test_slots(name: str, slot: str, words: tuple[str, ...]) -> None:
    said = " ".join(sheet(ACTIVATIONS[name]).slots[slot])
    for word in words:
        assert word in said


@ALL
def test_to_dict_is_strict_json(name: str) -> None:
    said = sheet(ACTIVATIONS[name])
    text = json.dumps(said.to_dict(), allow_nan=False)
    again = json.loads(text)
    assert again["name"] == name
    assert again["formula"] == ACTIVATIONS[name].formula
    assert set(again["slots"]) == set(SLOTS)
    assert all(sentences for sentences in again["slots"].values())


def _hinge(a: float) -> float:
    """The mean of max(x - a, 0)."""
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    return density - a * math.erfc(a / math.sqrt(2)) / 2


@pytest.mark.parametrize(
    ("formula", "mean"),
    [
        ("leaky_relu", 0.99 / math.sqrt(2 * math.pi)),
        ("relu", 1 / math.sqrt(2 * math.pi)),
        ("exponential", math.exp(0.5)),
        ("hard_sigmoid", 0.5),
        ("where(x > 0.3, 1, 0)", 0.38208857781),
        ("x**2", 1.0),
        ("max(x - 0.1234, 0)", _hinge(0.1234)),
    ],
)
def test_means(formula: str, mean: float) -> None:
    """Of f at standard normal x; a kink or a jump costs no digits."""
    assert sheet(formula).mean_output.value == pytest.approx(mean, abs=2e-11)


@pytest.mark.parametrize("formula", ["exponential", "sinh_asinh", "x**3", "exp(-x)", "1/x"])
def test_second_derivatives_without_bound(formula: str) -> None:
    said = sheet(formula)
    assert said.second_peak.value[0] == math.inf
    assert said.second_dies.value is None or formula == "1/x"
    assert "grows without bound" in " ".join(describe(said).split())
    json.dumps(said.to_dict(), allow_nan=False)


def test_a_second_derivative_far_out() -> None:
    """Its peak is found wherever it is, not only within |x| <= 8."""
    height, place = sheet("tanh(x - 30)").second_peak.value
    assert height == pytest.approx(0.7698003589, rel=1e-9)
    assert place == pytest.approx(30.6584789, rel=1e-6)


def test_what_repeats_is_said_to() -> None:
    assert sheet("sine").repeats
    assert sheet("snake").repeats
    assert ", and so on" in " ".join(describe("sine").split())
    assert not sheet("tanh").repeats


def test_a_negative_forget_gate() -> None:
    """The cell state shrinks by the size of the gate, whatever its sign."""
    said = " ".join(meanings(-0.995, 0.495, (), "increasing")["forget_gate"])
    assert "halves" not in said
    said = " ".join(meanings(-0.9, 0.5, (), "increasing")["forget_gate"])
    assert f"halves at least every {math.log(2) / -math.log(0.9):.4g} steps" in said


NESTED = (
    "softshrink(sin(x*x)*x*x)",
    "mish(softshrink(mish(sin(9*x))))",
    "+".join(f"abs(sin({i}*x))" for i in range(1, 40)),
    "+".join(f"hypot(sin({i}*x), x)" for i in range(1, 25)),
    "*".join(f"max(sin({i}*x), cos({i}*x*x))" for i in range(1, 12)),
    "+".join(f"max(x - {i}, sin({i}*x))" for i in range(1, 30)),
    "where(x > where(sin(x) > 0.1*x, x, tanh(x)*x - 1), hard_silu(hard_silu(x)), mish(mish(x)))",
)


class Work:
    """Counts the operations that a sheet takes: of values, of intervals, of structure."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.operations = 0
        for module in (values_on_grid, intervals, structure):
            monkeypatch.setattr(module, "bind", self._bind)
        intervals._runner.cache_clear()
        structure.find_breaks.cache_clear()

    def _bind(self, program: Program, ops: Any) -> Any:
        run = bind(program, ops)

        def counted(inputs: Any) -> Any:
            self.operations += len(program.nodes)
            return run(inputs)

        return counted


@pytest.mark.parametrize("formula", [*NESTED, *range(6)], ids=lambda t: str(t)[:20])
def test_nested_kinks_take_bounded_work(
    formula: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sheet is promised within five seconds, and a million operations take about three. (Before
    work was bounded the third took 4.5 million.) What is not looked at is said."""
    text = formula if isinstance(formula, str) else nested_kinks(random.Random(formula))
    work = Work(monkeypatch)
    _sheet.cache_clear()
    said = sheet(text)
    assert 0 < work.operations < 1_200_000
    if said.skipped:
        assert said.kinks.how == "sampled"
        assert "were not searched" in " ".join(describe(said).split())


def test_curve() -> None:
    rows = curve(ACTIVATIONS["tanh"], -4, 4, 9)
    assert [r["x"] for r in rows] == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    assert list(rows[0]) == ["x", "f", "d1", "d2"]
    for row in rows:
        t = math.tanh(row["x"])  # type: ignore[arg-type]
        assert row["f"] == pytest.approx(t, abs=1e-15)
        assert row["d1"] == pytest.approx(1 - t * t, abs=1e-15)
        assert row["d2"] == pytest.approx(-2 * t * (1 - t * t), abs=1e-15)
    assert list(curve(ACTIVATIONS["sine"], 0, 1, 2, orders=4)[0]) == [
        "x",
        "f",
        "d1",
        "d2",
        "d3",
        "d4",
    ]


def test_where_a_formula_has_no_value() -> None:
    """log is no number below 0: the sheet says where, and a curve has a hole."""
    log = Activation("log", "log(x)")
    (gap,) = sheet(log).undefined
    assert gap == (-math.inf, 0)
    assert sheet("sqrt(x)").undefined == ((-math.inf, 0),)
    assert not sheet(log).odd.value
    assert curve(log, -1, 1, 3)[0]["f"] is None


def test_unusual_formulas() -> None:
    """Constants, jumps, infinite slopes and steps have sheets too."""
    assert sheet(resolve("0*x + 2")).monotone.value == "constant"
    (jump,) = sheet(resolve("where(x > 1, 2, 0)")).kinks.value
    assert (jump.x, jump.kind) == (1, "jump")
    assert sheet(resolve("sign(x)")).kinks.value[0].kind == "jump"
    assert sheet(resolve("x**3")).lipschitz.value == math.inf
    assert sheet(resolve("sqrt(abs(x))")).lipschitz.value == math.inf
    json.dumps(sheet(resolve("log(x)")).to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("formula", "slope"),
    [
        ("sign(x)", 0),
        ("where(x > 0, 1, -1)", 0),
        ("where(1 < x < 2, x, 0)", 1),
        ("thresholded_relu", 1),
        ("hardshrink", 1),
    ],
)
def test_a_jump_has_no_lipschitz_bound(formula: str, slope: float) -> None:
    said = sheet(formula)
    assert said.lipschitz.value == math.inf
    assert said.largest_slope.value == slope
    assert {k.kind for k in said.kinks.value} == {"jump"}


@pytest.mark.parametrize("formula", ["1/x", "x**-3", "1/tanh(x)", "1/(x**2 - 2)", "1/(1 - cos(x))"])
def test_poles(formula: str) -> None:
    said = sheet(formula)
    assert "pole" in {k.kind for k in said.kinks.value}
    assert math.inf in (said.high.value, -said.low.value)
    assert said.lipschitz.value == math.inf
    assert math.isnan(said.mean_output.value)
    assert not said.zero_centred.value
    assert said.monotone.value == "no"
    assert (said.kinks.how == "proved") == ("- " not in formula)
    assert "no mean" in describe(formula)
    if formula == "1/x":
        assert said.undefined == ((0, 0),)
        assert "not a number at 0\n" in describe(said)


def test_a_hole_and_a_jump_without_a_value() -> None:
    said = sheet("sin(x)/x")
    assert (said.high.value, said.high.how) == (1, "sampled")
    assert said.undefined == ((0, 0),)
    assert [k.kind for k in said.kinks.value] == ["hole"]
    assert [k.kind for k in sheet("atan(1/x)").kinks.value] == ["jump"]


def test_far_breaks_are_found_and_unknown_ones_prove_nothing() -> None:
    """A piecewise linear condition is solved at any distance; a scan proves nothing."""
    assert [k.x for k in sheet("min(max(x/1000, 0), 1)").kinks.value] == [0, 1000]
    far = sheet("where(x**3 + x > 1000000000, -5, x)")
    assert far.kinks.how == "sampled"
    assert "proved" not in (far.lipschitz.how, far.largest_slope.how)


def test_saturated_leaves_out_the_peaks() -> None:
    said = sheet("where(x > 0, x, 0.1*sin(x))")
    for peak in (-math.pi, -2 * math.pi):
        assert not any(a + 1e-6 < peak < b - 1e-6 for a, b in said.saturated)
    assert any(a < -4.7 < b for a, b in said.saturated)


def test_whatever_resolve_accepts() -> None:
    assert sheet("gelu") is sheet(ACTIVATIONS["gelu"])
    assert curve("gelu", -1, 1, 3) == curve(ACTIVATIONS["gelu"], -1, 1, 3)
    assert describe("gelu") == describe(sheet("gelu"))


def test_bounds_of_huge_arguments() -> None:
    """PRECISE's limits beyond 1e9 are no bounds: exp(-x)*sinh(x) tends to 1/2, not to 0."""
    program = resolve("exp(-x)*sinh(x)").value_program
    with working(25):
        low, high = enclose(program, (CONTEXT.mpf("1e10"), CONTEXT.mpf("2e10")), {})
        assert low <= 0.5 <= high


def test_a_large_formula_takes_seconds() -> None:
    text = "x"
    for _ in range(8):
        text = f"silu({text})"
    begun = time.process_time()
    assert sheet(text).low.how == "sampled"
    assert time.process_time() - begun < 12  # 3.5 to 5.5 s on two shared cores
