"""One rule for every operation at infinity, NaN, zeros of both signs and subnormal numbers, the
same in every engine and format."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp

from anygate.engines import reference
from anygate.engines.cpu.elementwise import elementwise
from anygate.engines.eager.operations import bind_program
from anygate.formulas import Activation, evaluate
from anygate.formulas.precise import PRECISE
from anygate.formulas.primitives import PRIMITIVES
from anygate.formulas.program import Node, Program

inf, nan = math.inf, math.nan
PI, HALF = math.pi, math.pi / 2

UNARY: dict[str, tuple[float, float, float, float]] = {
    "absolute": (inf, inf, 0.0, 0.0),
    "asinh": (inf, -inf, 0.0, -0.0),
    "atan": (HALF, -HALF, 0.0, -0.0),
    "cos": (nan, nan, 1.0, 1.0),
    "cosh": (inf, inf, 1.0, 1.0),
    "erf": (1.0, -1.0, 0.0, -0.0),
    "erfc": (0.0, 2.0, 1.0, 1.0),
    "floor": (inf, -inf, 0.0, -0.0),
    "exp": (inf, 0.0, 1.0, 1.0),
    "expm1": (inf, -1.0, 0.0, -0.0),
    "gaussian": (0.0, 0.0, 1.0, 1.0),
    "isru": (1.0, -1.0, 0.0, -0.0),
    "log": (inf, nan, -inf, -inf),
    "log1p": (inf, nan, 0.0, -0.0),
    "neg": (-inf, inf, -0.0, 0.0),
    "normal_cdf": (1.0, 0.0, 0.5, 0.5),
    "normal_pdf": (0.0, 0.0, 1 / math.sqrt(2 * PI), 1 / math.sqrt(2 * PI)),
    "rounded": (inf, -inf, 0.0, -0.0),
    "sigmoid": (1.0, 0.0, 0.5, 0.5),
    "sign": (1.0, -1.0, 0.0, 0.0),
    "sin": (nan, nan, 0.0, -0.0),
    "sinh": (inf, -inf, 0.0, -0.0),
    "softplus": (inf, 0.0, math.log(2), math.log(2)),
    "softsign": (1.0, -1.0, 0.0, -0.0),
    "sqrt": (inf, nan, 0.0, -0.0),
    "tanh": (1.0, -1.0, 0.0, -0.0),
}
"""At inf, -inf, 0 and -0: the limit, NaN where there is none. Of NaN it is NaN always. A function
that is odd keeps the sign of zero, but for sign, which gives one of three values."""

PAIRS: dict[str, list[tuple[float, float, float]]] = {
    "hypot": [(inf, 0, inf), (-inf, 1, inf), (inf, -inf, inf), (0.0, -0.0, 0.0), (1, inf, inf)],
    "maximum": [(inf, 1, inf), (-inf, 1, 1), (-inf, -inf, -inf), (1, inf, inf)],
    "minimum": [(inf, 1, 1), (-inf, 1, -inf), (inf, inf, inf), (1, -inf, -inf)],
    "add": [(inf, 1, inf), (inf, -inf, nan), (-0.0, -0.0, -0.0), (-0.0, 0.0, 0.0)],
    "sub": [(inf, inf, nan), (1, inf, -inf), (-0.0, 0.0, -0.0)],
    "mul": [(inf, 0, nan), (-inf, inf, -inf), (-0.0, 1, -0.0)],
    "div": [(inf, inf, nan), (1, inf, 0.0), (1, 0.0, inf), (1, -0.0, -inf), (0, 0, nan)],
}
"""Of two arguments. One that is NaN gives NaN, whatever the other: hypot(inf, NaN) too. Which of
two zeros max and min give is open."""

ENGINES = [("reference", "float64"), *itertools.product(("eager", "cpu"), ("float64", "float32"))]
EVERY = pytest.mark.parametrize(("engine", "dtype"), ENGINES)


def computed(program: Program, engine: str, dtype: str, points: list[float]) -> Any:
    """The program's only output at each point."""
    if engine == "reference":
        with np.errstate(all="ignore"):
            (value,) = evaluate(program, reference.OPS, {"x": np.array(points)}).values()
        return np.broadcast_to(value, len(points))
    if engine == "eager":
        x = torch.tensor(points, dtype=getattr(torch, dtype))
        (tensor,) = bind_program(program, x)({"x": x}).values()
        return tensor.numpy()
    x = np.zeros(-(-len(points) // 16) * 16, dtype)
    x[: len(points)] = points
    y = np.empty_like(x)
    elementwise(program, dtype)(x.ctypes.data, y.ctypes.data, len(x), 1)
    return y[: len(points)]


def unary(name: str) -> Program:
    return Program(("x",), (Node("input", name="x"), Node(name, (0,))), (("y", 1),))


def same(found: Any, expected: float, dtype: str) -> bool:
    """To the last digits, zeros with their sign."""
    if math.isnan(expected):
        return bool(np.isnan(found))
    if expected == 0 or math.isinf(expected):
        return float(found) == expected and math.copysign(1, found) == math.copysign(1, expected)
    return abs(float(found) - expected) <= 4 * np.finfo(dtype).eps * abs(expected)


def test_the_tables_are_whole() -> None:
    one = {c.__name__ for c in PRIMITIVES.values() if c.arity() == 1}
    assert one | {"sqrt", "neg"} == set(UNARY)
    two = {c.__name__ for c in PRIMITIVES.values() if c.arity() == 2}
    assert two | {"add", "sub", "mul", "div"} == set(PAIRS)


@EVERY
@pytest.mark.parametrize("name", UNARY)
def test_one_argument(name: str, engine: str, dtype: str) -> None:
    found = computed(unary(name), engine, dtype, [inf, -inf, 0.0, -0.0, nan])
    for k, expected in enumerate((*UNARY[name], nan)):
        assert same(found[k], expected, dtype), (k, found[k])


@pytest.mark.parametrize("name", UNARY)
def test_the_table_is_that_of_many_digits(name: str) -> None:
    """mpmath, which has no -0, says the same."""
    function = PRECISE[name]
    for x, expected in zip(
        (mp.inf, -mp.inf, mp.zero, mp.nan), (*UNARY[name][:3], nan), strict=True
    ):
        value = float(function(x))
        assert value == pytest.approx(expected, rel=1e-14, nan_ok=True)


@EVERY
@pytest.mark.parametrize("name", PAIRS)
def test_two_arguments(name: str, engine: str, dtype: str) -> None:
    """The second argument is a constant of the program, as only one input is read; a constant is
    finite, so infinities and NaN come from sqrt(-1), 1/0 and the like."""
    table = list(PAIRS[name])
    for other in (inf, -inf, 0.0, 1.0, nan):
        table += [(nan, other, nan), (other, nan, nan)]
    for a, b, expected in table:
        for program, x in ((_with_second(name, b), a), (_with_first(name, a), b)):
            found = computed(program, engine, dtype, [x] * 17)
            assert all(same(v, expected, dtype) for v in found), (a, b, found[0])


def _number(value: float, nodes: list[Node]) -> int:
    """The node that is this number, made of constants and the input."""

    def add(op: str, *arguments: int, **rest: Any) -> int:
        nodes.append(Node(op, arguments, **rest))
        return len(nodes) - 1

    if math.isfinite(value):
        made = add("const", value=Fraction(abs(value)))
    elif math.isnan(value):
        made = add("sqrt", add("const", value=Fraction(-1)))
    else:
        made = add("div", add("const", value=Fraction(1)), add("const", value=Fraction(0)))
    return add("neg", made) if math.copysign(1, value) < 0 and not math.isnan(value) else made


def _with_second(name: str, b: float) -> Program:
    nodes = [Node("input", name="x")]
    other = _number(b, nodes)
    nodes.append(Node(name, (0, other)))
    return Program(("x",), tuple(nodes), (("y", len(nodes) - 1),))


def _with_first(name: str, a: float) -> Program:
    nodes = [Node("input", name="x")]
    other = _number(a, nodes)
    nodes.append(Node(name, (other, 0)))
    return Program(("x",), tuple(nodes), (("y", len(nodes) - 1),))


@EVERY
@pytest.mark.parametrize("name", UNARY)
def test_subnormal_numbers(name: str, engine: str, dtype: str) -> None:
    """Within four of the smallest numbers, or of the result's last digits."""
    info = np.finfo(dtype)
    points = [s * float(info.smallest_subnormal) * k for k in (1, 3, 1000) for s in (1, -1)]
    found = computed(unary(name), engine, dtype, points)
    with mp.workdps(40):
        for x, value in zip(points, found, strict=True):
            true = PRECISE[name](mp.mpf(x))
            if mp.isnan(true):
                assert np.isnan(value)
            else:
                room = 4 * max(float(info.smallest_subnormal), float(info.eps) * abs(float(true)))
                assert abs(mp.mpf(float(value)) - true) <= room, x


@EVERY
@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("clip(x, -1e300, 1e300)", 1e10, 1e10),
        ("clip(x, -1e300, 1e300)", -3.0, -3.0),
        ("where(x < 1e300, x, 0)", 2.0, 2.0),
        ("min(x, 1e39)", 5.0, 5.0),
        ("x + 3.4028235e38", 0.0, float(np.float32(3.4028235e38))),
    ],
)
def test_constants_beyond_float32(
    text: str, x: float, expected: float, engine: str, dtype: str
) -> None:
    """A constant becomes the nearest number of the format, or infinity."""
    activation = Activation("f", text)
    assert computed(activation.value_program, engine, dtype, [x])[0] == pytest.approx(
        expected, 1e-6
    )
    if engine == "eager":
        for half in (torch.float16, torch.bfloat16):
            assert torch.isfinite(activation(torch.tensor([0.5], dtype=half))).all() or "38" in text


def test_a_divergence_shows() -> None:
    """sign(NaN) was 0 on eager, and a diverged run looked like a dead one."""
    x = torch.tensor([nan, inf, -inf])
    assert Activation("f", "sign(x)")(x).tolist()[1:] == [1, -1]
    assert Activation("f", "x*sign(x)")(x)[0].isnan()
    assert Activation("f", "hypot(x, sqrt(-x))")(x).isnan().tolist() == [True, True, False]


SELECTED: list[tuple[str, tuple[float, ...]]] = [
    # at inf, -inf, NaN, 0, -0
    ("clip(x, -2, 3)", (3.0, -2.0, nan, 0.0, -0.0)),
    ("where(x > 0, x, 1)", (inf, 1.0, 1.0, 1.0, 1.0)),
    ("where(x >= 0, 2, x)", (2.0, -inf, nan, 2.0, 2.0)),
    ("where(x < 0, 2, 1)", (1.0, 2.0, 1.0, 1.0, 1.0)),
    ("where(x <= 0, 2, 1)", (1.0, 2.0, 1.0, 2.0, 2.0)),
    ("where(not (x < 0), 2, 1)", (2.0, 1.0, 1.0, 2.0, 2.0)),  # read as x >= 0
    ("where(x > 1 or x < -1, 2, 1)", (2.0, 2.0, 1.0, 1.0, 1.0)),
    ("where(x > -1 and x < 1, 2, 1)", (1.0, 1.0, 1.0, 2.0, 2.0)),
    ("x*x", (inf, inf, nan, 0.0, 0.0)),
    ("1/x", (0.0, -0.0, nan, inf, -inf)),
    ("isru(x)*sign(x)", (1.0, 1.0, nan, 0.0, -0.0)),
    ("hypot(x, sqrt(-x))", (nan, inf, nan, 0.0, 0.0)),
]
"""Cases that the tables leave out: clip, comparisons, of which none holds at NaN, and finds."""


@EVERY
@pytest.mark.parametrize(("text", "expected"), SELECTED, ids=lambda v: str(v)[:30])
def test_selection(text: str, expected: tuple[float, ...], engine: str, dtype: str) -> None:
    program = Activation("f", text).value_program
    found = computed(program, engine, dtype, [inf, -inf, nan, 0.0, -0.0])
    assert all(same(v, e, dtype) for v, e in zip(found, expected, strict=True)), found


SLOPES: dict[str, tuple[float, ...]] = {
    # at inf, -inf, NaN, 0
    "abs": (1.0, -1.0, nan, 0.0),
    "asinh": (0.0, 0.0, nan, 1.0),
    "atan": (0.0, 0.0, nan, 1.0),
    "erf": (0.0, 0.0, nan, 2 / math.sqrt(PI)),
    "erfc": (0.0, 0.0, nan, -2 / math.sqrt(PI)),
    "exp": (inf, 0.0, nan, 1.0),
    "expm1": (inf, 0.0, nan, 1.0),
    "floor": (1.0, 1.0, 1.0, 1.0),
    "isru": (0.0, 0.0, nan, 1.0),
    "log1p": (0.0, -0.0, nan, 1.0),
    "normal_cdf": (0.0, 0.0, nan, 1 / math.sqrt(2 * PI)),
    "round": (1.0, 1.0, 1.0, 1.0),
    "sigmoid": (0.0, 0.0, nan, 0.25),
    "sign": (0.0, 0.0, 0.0, 0.0),
    "softplus": (1.0, 0.0, nan, 0.5),
    "softsign": (0.0, 0.0, nan, 1.0),
    "tanh": (0.0, 0.0, nan, 1.0),
}
"""The derivative, which is the program's own: where it has a limit, the limit. (That of gaussian
and of normal_pdf has a factor x, and is NaN at infinity; that of sign is 0 everywhere, and of
round and floor 1.)"""


@EVERY
@pytest.mark.parametrize("name", SLOPES)
def test_slopes(name: str, engine: str, dtype: str) -> None:
    program = Activation("f", f"{name}(x)").derivative().value_program
    found = computed(program, engine, dtype, [inf, -inf, nan, 0.0])
    for value, expected in zip(found, SLOPES[name], strict=True):
        assert float(value) == 0 == expected or same(value, expected, dtype), found
