"""Activation as data: what it is made of, what it refuses, how it shows itself."""

from __future__ import annotations

import copy
import math
import pickle
import re

import numpy as np
import pytest
import sympy
import torch

from anygate.formulas import ACTIVATIONS, Activation, FormulaError, curve, resolve

elu = Activation(
    "my_elu", "where(x > 0, x, a*expm1(x))", a=1.0, source="a paper", note="a note", aliases=("me",)
)


def test_value_is_right_to_the_last_digit() -> None:
    assert elu.value(-1.0) == math.expm1(-1)
    assert elu.value(2.5) == 2.5
    assert ACTIVATIONS["sigmoid"].value(-700.0) == math.exp(-700)
    assert ACTIVATIONS["tanhshrink"].value(1e-5) == pytest.approx(1e-15 / 3, rel=1e-9)
    assert math.isnan(Activation("log", "log(x)").value(-1.0))


def test_functions_of_the_catalogue_inside() -> None:
    """The message for an unknown function leads to `anygate list`: what stands there is known."""
    ours = Activation("mine", "x*gelu(x) + leaky_relu(x, k=0.2)/a", a=2.0)
    same = resolve("x*gelu(x) + leaky_relu(x, k=0.2)/2")
    assert ours.value(0.3) == pytest.approx(same.value(0.3))
    assert ours.value(-1.0) == pytest.approx(0.15865525393145707 - 0.1)
    assert Activation("own", "x*threshold", threshold=2.0).value(3.0) == 6.0  # also a function's


def test_parameters_by_call() -> None:
    half = elu(a=0.5)
    assert dict(half.parameters) == {"a": 0.5}
    assert half.value(-1.0) == 0.5 * math.expm1(-1)
    assert dict(elu.parameters) == {"a": 1.0}
    assert half(a=1) == elu
    assert (half.name, half.source, half.note) == ("my_elu", "a paper", "a note")
    assert half.aliases == ("me",)


def test_labels() -> None:
    assert elu.label == str(elu) == "my_elu"
    assert elu(a=0.5).label == "my_elu(a=0.5)"
    assert elu(a=1 / 3).label == f"my_elu(a={1 / 3!r})"
    assert elu.derivative().label == "my_elu'"
    assert elu(a=0.5).derivative(2).label == "my_elu''(a=0.5)"


def test_repr_is_python() -> None:
    assert repr(elu) == "Activation('my_elu', 'where(x > 0, x, a*expm1(x))', a=1.0)"
    for activation in (*ACTIVATIONS.values(), elu(a=0.25), elu.derivative()):
        again = eval(repr(activation))
        assert again.expression == activation.expression
        assert again == activation


def test_frozen() -> None:
    with pytest.raises(AttributeError, match="an Activation is frozen"):
        elu.name = "other"
    with pytest.raises(AttributeError, match="frozen"):
        del elu.name
    with pytest.raises(TypeError):
        elu.parameters["a"] = 2.0  # type: ignore[index]


def test_equality_and_hash() -> None:
    same = Activation("my_elu", "where(x > 0, x, expm1(x)*a)", a=1)
    assert elu == same
    assert hash(elu) == hash(same)
    assert elu != elu(a=2)
    assert elu != Activation("other", elu.formula, a=1)
    assert elu != "my_elu"
    assert len({elu, same, elu(a=1), elu(a=2)}) == 2


def test_copies() -> None:
    for one in (elu, elu(a=0.3), elu.derivative()):
        for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert again == one
            assert again.label == one.label
            assert again.value(-0.7) == one.value(-0.7)


def test_derivatives() -> None:
    assert elu.derivative(0).expression == elu.expression
    assert elu.derivative().value(-1.0) == math.exp(-1)
    assert elu.derivative().value(0.0) == 1.0
    assert elu(a=0.5).derivative().value(0.0) == 0.5
    assert dict(ACTIVATIONS["relu"].derivative().parameters) == {}
    assert elu.derivative_by("a").value(-1.0) == math.expm1(-1)
    with pytest.raises(ValueError, match="0 or more"):
        elu.derivative(-1)


def test_value_and_derivative_share_their_parts() -> None:
    program = ACTIVATIONS["mish"].program
    names = [n.op for n in program.nodes]
    assert [name for name, _ in program.outputs] == ["value", "derivative"]
    assert names.count("softplus") == names.count("tanh") == 1
    assert len(set(program.nodes)) == len(program.nodes)


def test_the_wrong_derivative_of_the_question_is_not_ours() -> None:
    """The question prints sigmoid' as -exp(-z)/1 + exp(-z)^2, which is right nowhere near 0."""
    wrong = Activation("wrong", "-exp(-x)/1 + exp(-x)**2")
    right = Activation("right", "exp(-x)/(1 + exp(-x))**2")
    ours = ACTIVATIONS["sigmoid"].derivative()
    assert ours.value(1.0) == pytest.approx(right.value(1.0), rel=1e-15)
    assert abs(ours.value(1.0) - wrong.value(1.0)) > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Activation("f", "k*x"),
            "'f': the formula has the free symbol 'k' without a default; "
            r"give one, as in Activation\('f', ..., k=1.0\)",
        ),
        (lambda: Activation("f", "x", k=1.0), "'f': the parameter 'k' is not in the formula"),
        (lambda: Activation("f", "k*x", k="one"), "f: the parameter k must be a number, not 'one'"),  # type: ignore[arg-type]
        (lambda: Activation("f", "k*x", k=math.nan), "the parameter k must be finite"),
        (lambda: Activation("f", "k*x", k=math.inf), "the parameter k must be finite"),
        (lambda: Activation("f", "softmax(x)"), "softmax is not elementwise"),
        (lambda: Activation("f", sympy.gamma(sympy.Symbol("x"))), "outside the vocabulary"),
        (lambda: elu(b=1.0), "my_elu has no parameter 'b'; it has: a"),
        (lambda: ACTIVATIONS["relu"](k=1.0), "relu has no parameter 'k'; it has: none"),
        (lambda: elu(a=math.nan), "my_elu: the parameter a must be finite"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        make()  # type: ignore[operator]


def test_calling_on_numbers_and_arrays() -> None:
    """f of whatever comes: a float, a NumPy array, a tensor."""
    assert elu(-1.0) == elu.value(-1.0)
    assert elu(-1, a=0.5) == 0.5 * math.expm1(-1)
    for dtype in (np.float64, np.float32, np.float16):
        array = np.linspace(-2, 2, 12, dtype=dtype).reshape(3, 4)
        found = elu(array, a=0.5)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        true = np.where(array > 0, array, 0.5 * np.expm1(array.astype(np.float64)))
        np.testing.assert_array_equal(found, true.astype(dtype))
    assert elu(np.array([-1, 2])).dtype == np.float64
    assert elu(np.float64(-1.0)) == math.expm1(-1)
    assert elu(np.zeros((0, 3))).shape == (0, 3)
    assert Activation("two", "0*x + 2")(np.zeros(3)).tolist() == [2, 2, 2]
    whole = elu(torch.tensor([-1, 2]))
    assert whole.dtype == torch.float32


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_calling_on_a_tensor(name: str, dtype: torch.dtype) -> None:
    """The value, the derived gradient and the gradient of that."""
    activation = ACTIVATIONS[name]
    x = torch.linspace(-2.9, 2.8, 32, dtype=dtype).requires_grad_()
    y = activation(x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    second = None
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), x)
    room = {torch.float64: 1e-13, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    for order, found in enumerate((y, first, second)):
        true = [activation.derivative(order).value(v) for v in x.double().tolist()]
        if found is None:
            assert not any(true)
        else:
            torch.testing.assert_close(
                found.double(), torch.tensor(true, dtype=torch.float64), rtol=room, atol=room
            )


def test_calling_with_parameters() -> None:
    leaky = ACTIVATIONS["leaky_relu"]
    x = torch.tensor([-2.0, 3.0], dtype=torch.float64)
    assert leaky(x, k=0.2).tolist() == [-0.4, 3.0]
    k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    leaky(x, k=k).sum().backward()
    assert k.grad is not None
    assert k.grad.item() == -2.0
    assert leaky(np.array([-2.0, 3.0]), k=np.array([0.1, 0.2])).tolist() == [-0.2, 3.0]
    with pytest.raises(FormulaError, match="has no parameter 'a'"):
        leaky(x, a=0.2)
    with pytest.raises(FormulaError, match="must be finite"):
        leaky(x, k=math.nan)


@pytest.mark.parametrize("value", ["x", [1.0], None, 1j, np.array(["a"]), torch.tensor([1j])])
def test_calling_on_something_else(value: object) -> None:
    with pytest.raises(TypeError):
        elu(value)
    with pytest.raises(TypeError, match="takes one value"):
        elu(1.0, 2.0)


NAMES = (
    "note",
    "source",
    "aliases",
    "name",
    "expression",
    "parameters",
    "self",
    "values",
    "y",
    "argument",
    "h",
    "c",
    "saved",
    "key",
    "peephole",
    "value",
    "derivative",
    "d_k",
)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_any_name(name: str) -> None:
    """Every name that a text can have for a parameter, and the advice in the error works."""
    formula = f"x*tanh({name}*x)"
    with pytest.raises(FormulaError, match="without a default") as caught:
        Activation("f", formula)
    advice = (
        str(caught.value).split("as in ")[1].split(", or write")[0].replace("...", repr(formula))
    )
    advised = eval(advice)
    assert dict(advised.parameters) == {name: 1.0}
    one = Activation("f", formula, parameters={name: 1.0})
    assert one == advised == eval(repr(one)) == pickle.loads(pickle.dumps(one))
    assert dict(one(**{name: 2.0}).parameters) == {name: 2.0}
    assert one(0.5, **{name: 2.0}) == 0.5 * math.tanh(1.0)
    assert one.derivative_by(name).value(0.5) == pytest.approx(0.25 / math.cosh(0.5) ** 2)
    x = torch.tensor([0.5], dtype=torch.float64)
    assert one(x, **{name: 2.0}).item() == pytest.approx(0.5 * math.tanh(1.0))


@pytest.mark.parametrize("name", ["pi", "sigmoid", "x", "z", "lambda", "_a", "a b", "softmax", ""])
def test_names_that_no_parameter_can_have(name: str) -> None:
    symbol = sympy.Symbol(name, real=True)
    with pytest.raises(FormulaError):
        Activation("f", sympy.Symbol("x", real=True) * sympy.tanh(symbol), parameters={name: 1.0})


def test_parameters_given_wrongly() -> None:
    with pytest.raises(FormulaError, match="given twice"):
        Activation("f", "k*x", parameters={"k": 1.0}, k=1.0)
    with pytest.raises(FormulaError, match="takes a mapping"):
        Activation("f", "k*x", parameters=1.0)  # type: ignore[arg-type]
    with pytest.raises(FormulaError, match=r"write parameters=\{'note': 1.0\}"):
        Activation("f", "note*x", note=1.0)  # type: ignore[arg-type]


def test_a_formula_error_is_a_value_error() -> None:
    assert issubclass(FormulaError, ValueError)


def test_latex() -> None:
    assert elu.latex() == (
        r"\begin{cases} x & \text{if}\: x > 0 \\ a \operatorname{expm1}\left(x\right) & "
        r"\text{otherwise} \end{cases}"
    )
    assert ACTIVATIONS["squareplus"].latex()
    assert resolve("tanh(x*0.3333333333333333)").latex() == r"\tanh\left(\frac{x}{3}\right)"
    assert resolve("0.1*x").latex() == r"\frac{x}{10}" and resolve("pi*x").latex() == r"\pi x"
    assert "1.0507" in ACTIVATIONS["selu"].latex_closed()
    for activation in ACTIVATIONS.values():  # 8333333333333333/5e16 once
        for shown in (activation, activation.derivative()):
            assert not re.search(r"\d{8}", shown.latex() + shown.latex_closed()), activation.name
    assert elu._repr_latex_() == f"$\\displaystyle {elu.latex()}$"


def test_notebook_display() -> None:
    page = elu(a=0.5)._repr_html_()
    assert page.startswith("<div>")
    assert page.endswith("</div>")
    assert "my_elu(a=0.5)" in page
    assert "a = 0.5" in page
    assert "a paper" in page
    assert page.count("<polyline") == 4
    assert "<script" not in page
    shown = Activation("<b>&", "x > 0 and 1 or x" if False else "x", source="<script>")
    assert "<b>&</b>" not in shown._repr_html_()
    assert "<script>" not in shown._repr_html_()


def test_a_picture_has_a_hole_where_there_is_no_value() -> None:
    assert Activation("log", "log(x)")._repr_html_().count("<polyline") == 4
    assert curve(Activation("one over", "1/x"), -1, 1, 3)[1]["f"] is None


@pytest.mark.parametrize(
    "text",
    [
        "softplus(beta=0)",
        "celu(a=0)",
        "isru(alpha=-1)",
        "squareplus(b=-1)",
        "snake(a=0)",
        "selu(a=1e200, scale=1e200)",
    ],
)
def test_parameters_without_a_value_are_refused(text: str) -> None:
    name, inner = text.rstrip(")").split("(")
    with pytest.raises(FormulaError, match=f"{name}: with {inner[:2]}.*no finite real value"):
        resolve(text)


@pytest.mark.parametrize(
    ("text", "a"),
    [
        ("where(a**0.5 < 3, x, 0)", -1),
        ("where(1/a < 3, x, 0)", 0),
        ("where(x < 1/a, x, 0)", 0),
        ("max(sqrt(a), x)", -1),
        ("where(log(a) < 3 and x > 0, x, 0)", -1),
        ("x/a", 0),
        ("where(not (1/a > x), x, 0)", 0),
        ("x*sqrt(a)", -1),
        ("exp(a)*x", 1e4),
    ],
)
def test_values_of_a_parameter_without_a_value(text: str, a: float) -> None:
    with pytest.raises(FormulaError, match=f"f: with a={a:g} the formula .* has no finite real"):
        Activation("f", text, a=a)
    with pytest.raises(FormulaError, match=f"f: with a={a:g} the formula .* has no finite real"):
        Activation("f", text, a=1.0)(a=a)


@pytest.mark.parametrize(
    "text",
    ["leaky_relu(k=0)", "hard_tanh(low=-2)", "scaled_tanh(alpha=0)", "softplus(beta=-1)"],
)
def test_unusual_parameters_stay_allowed(text: str) -> None:
    assert math.isfinite(resolve(text).value(0.5))


def test_names() -> None:
    for name in (3, "", "  ", "a" * 2001):
        with pytest.raises(FormulaError, match="an activation's name"):
            Activation(name, "x")  # type: ignore[arg-type]


def test_a_derivative_shows_its_formula() -> None:
    assert str(ACTIVATIONS["tanh"].derivative()) == "1 - tanh(x)**2"
    assert str(elu.derivative()) == "where(x > 0, 1, a*exp(x)) with a = 1"


def test_the_catalogue_is_frozen() -> None:
    with pytest.raises(TypeError):
        ACTIVATIONS["mine"] = elu  # type: ignore[index]


def test_numbers_beyond_float64_in_a_later_derivative() -> None:
    """f' holds 1e160, f'' would hold 1e320."""
    with pytest.raises(FormulaError, match="beyond float64"):
        resolve("sin(1e160*x)").derivative(2).value(1.0)


def test_hard_silu_at_infinity() -> None:
    hard = ACTIVATIONS["hard_silu"]
    slope = hard.derivative()
    assert (hard.value(math.inf), hard.value(-math.inf)) == (math.inf, 0)
    assert (slope.value(math.inf), slope.value(-math.inf)) == (1, 0)


@pytest.mark.parametrize("text", ["clip(x, 0.75, x/3)", "clip(x/2, x, 1)", "clip(0.1, 0.75, x)"])
def test_a_clip_whose_bounds_cross_has_the_slope_of_its_value(text: str) -> None:
    """It is min(max(x, low), high), so `high` where low lies above high."""
    activation = resolve(text)
    for x in (-2.0, 0.3, 0.5, 2.0):
        risen = activation.value(x + 1e-6) - activation.value(x - 1e-6)
        assert activation.derivative().value(x) == pytest.approx(risen / 2e-6, abs=1e-6)


def test_a_constant_that_is_zero_under_a_root_has_no_slope() -> None:
    """The chain rule's 0/0 is not asked: what holds no x has the derivative 0."""
    activation = resolve("x + sqrt(clip(-3, 0, 1/3))")
    assert activation.value(2.0) == 2.0 and activation.derivative().value(2.0) == 1.0
