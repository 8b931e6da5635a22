"""Programs in C: every operation within 4 ulp and right at the special values, as g++ compiles it,
in float32 with the errors that the GPU's approximate instructions are documented to have."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compiled import KERNELS, native, needs_compiler
from laws.test_special_values import PAIRS, UNARY, _with_first, _with_second, same, unary
from laws.ulps import FLOATS, truths, units_off
from mpmath import mp
from sympy import Rational

from anygate.cells.celltype import symbol
from anygate.engines.cuda.table import OPS, number, statements
from anygate.formulas import ACTIVATIONS, Activation
from anygate.formulas.derivative import partial
from anygate.formulas.precise import PRECISE
from anygate.formulas.primitives import VARIABLE
from anygate.formulas.program import Program, lower

pytestmark = needs_compiler
inf, nan = math.inf, math.nan


TYPES: dict[str, Any] = {"float32": np.float32, "float64": np.float64}
EACH = pytest.mark.parametrize("dtype", TYPES)


def compiled(programs: Mapping[str, Program], dtype: str) -> dict[str, Any]:
    """Each Program of one input and one output as a function of arrays."""
    real, file = ("double", "double.cu") if dtype == "float64" else ("float", "functions.cu")
    parts = ['#include "emulate.h"', (KERNELS / file).read_text()]
    for k, program in enumerate(programs.values()):
        ((output, _),) = program.outputs
        body = statements(program, {"x": "x"}, {output: "y[i]"}, real == "double")
        loop = f"for (long i = 0; i < n; i++) {{ const {real} x = xs[i];\n{body}}}"
        parts.append(f'extern "C" void f{k}(const {real}* xs, {real}* y, long n) {{ {loop} }}')
    library = native("\n".join(parts))

    def function(k: int) -> Any:
        def call(points: Any) -> Any:
            x = np.array(points, TYPES[dtype])
            y = np.full_like(x, 7e7)
            pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, y))
            getattr(library, f"f{k}")(*pointers, ctypes.c_long(len(x)))
            return y

        return call

    return {name: function(k) for k, name in enumerate(programs)}


@pytest.fixture(scope="module")
def one() -> dict[str, dict[str, Any]]:
    return {dtype: compiled({name: unary(name) for name in UNARY}, dtype) for dtype in TYPES}


@EACH
@pytest.mark.parametrize("name", UNARY)
def test_within_four_ulp(name: str, dtype: str, one: dict[str, Any]) -> None:
    draw, real = np.random.default_rng(0), TYPES[dtype]
    fixed = [0, 1e-45, 1e-40, 1e-30, 0.5, 0.55, 0.625, 1, 3, 8.9, 9.2, 10.05, 13, 14.4, 20, 40.1]
    fixed += [44, 44.5, 87.5, 88.7, 88.73, 89.2, 89.5, 100, 103, 104.5, 1e4, 1e15, 3e38]
    x = [fixed, draw.uniform(0, 1, 300), draw.uniform(0, 12, 600), 10 ** draw.uniform(-7, 3, 300)]
    points = np.concatenate(x)
    if dtype == "float64":
        x += [[26.5, 27.2, 37.5, 38.5, 708.4, 709.7, 745.1, 1e300], draw.uniform(12, 40, 300)]
        points = np.concatenate(x)
    points = np.concatenate([points, -points]).astype(real)
    worst = 0.0
    with mp.workdps(40):
        for value, found in zip(points, one[dtype][name](points), strict=True):
            true = PRECISE[name](mp.mpf(float(value)))
            if mp.isnan(true):
                assert np.isnan(found), value
            elif abs(true) > float(np.finfo(real).max):
                assert np.isinf(found), value
            else:
                ulp = float(np.spacing(real(abs(float(true)))))
                worst = max(worst, float(abs(mp.mpf(float(found)) - true)) / ulp)
                assert worst <= 4, (value, found, float(true), worst)


@EACH
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: str, one: dict[str, Any]) -> None:
    found = one[dtype][name]([inf, -inf, 0.0, -0.0, nan])
    for value, expected in zip(found, (*UNARY[name], nan), strict=True):
        assert same(value, expected, dtype), (name, found)


@EACH
def test_special_values_of_two_arguments(dtype: str) -> None:
    programs: dict[str, Program] = {}
    cases: list[tuple[str, float, float]] = []
    for name, given in PAIRS.items():
        table = list(given)
        for other in (inf, -inf, 0.0, 1.0, nan):
            table += [(nan, other, nan), (other, nan, nan)]
        for k, (a, b, expected) in enumerate(table):
            programs[f"{name} {k} 2"] = _with_second(name, b)
            programs[f"{name} {k} 1"] = _with_first(name, a)
            cases += [(f"{name} {k} 2", a, expected), (f"{name} {k} 1", b, expected)]
    run = compiled(programs, dtype)
    for key, x, expected in cases:
        found = run[key]([x])[0]
        assert same(found, expected, dtype), (key, x, found, expected)


@EACH
def test_every_catalogue_formula_and_its_slope(dtype: str) -> None:
    """To a few units of the last place, counted through the formula: 8, and four times that for
    exponentials of a rounded number of size 11 to 19: cloglog's slope, and gelu_tanh at -5.5, where
    float32 happens to round the right way."""
    plain: dict[str, Program] = {}
    for name, activation in ACTIVATIONS.items():
        numbers = {
            symbol(key): Rational(*float(v).as_integer_ratio())
            for key, v in activation.parameters.items()
        }
        value = activation.expression.xreplace(numbers)
        plain[f"value {name}"] = lower({"y": value}, ("x",))
        plain[f"slope {name}"] = lower({"y": partial(value, VARIABLE)}, ("x",))
    points = np.array(
        [-30.0, -5.5, -1.3, -0.4, -1e-3, 0.0, 1e-3, 0.7, 2.6, 9.0, 40.0], TYPES[dtype]
    )
    for key, run in compiled(plain, dtype).items():
        program = plain[key]
        ((output, _),) = program.outputs
        for x, found in zip(points, run(points), strict=True):
            known = truths(program, {"x": float(x)}, FLOATS[dtype])[output]
            assert units_off(float(found), known, FLOATS[dtype]) <= (
                32 if "cloglog" in key or (key, dtype) == ("value gelu_tanh", "float64") else 8
            ), (key, x, found)


def test_no_text_of_a_user_reaches_the_compiler() -> None:
    program = Activation("evil name", "where(x < 1e300, x, 0) + 3.4028236e38*x").value_program
    text = statements(program, {"x": "in0"}, {program.outputs[0][0]: "out0"})
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
    assert words <= {"const", "float", "bool", "in0", "out0", "INFINITE"} | {
        w for w in words if (w[0] == "t" and w[1:].isdigit()) or w[0].isdigit() or w[0] in "pf"
    }
    assert (
        number(1e39) == "INFINITE" and number(-1e39) == "(-INFINITE)" and number(0) == "0x0.0p+0f"
    )
    assert {"where", "tanh", "const"} - set(OPS) == {"const"}
