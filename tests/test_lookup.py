"""From what a user writes to an Activation."""

from __future__ import annotations

import pytest
import sympy

from anygate.formulas import ACTIVATIONS, Activation, FormulaError, names, resolve


@pytest.mark.parametrize("name", sorted(names()))
def test_every_name_is_found_however_it_is_written(name: str) -> None:
    expected = names()[name]
    camel = "".join(part.capitalize() for part in name.split("_"))
    for spelling in (name, name.upper(), f" {name} ", name.replace("_", "-"), name.capitalize()):
        assert resolve(spelling) is expected, spelling
    assert resolve(camel) in (expected, names().get(camel.lower()))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        # torch.nn
        ("ReLU", "relu"),
        ("LeakyReLU", "leaky_relu"),
        ("Hardtanh", "hard_tanh"),
        ("Hardsigmoid", "hard_sigmoid"),
        ("Hardswish", "hard_silu"),
        ("SiLU", "silu"),
        ("GELU", "gelu"),
        ("ELU", "elu"),
        ("CELU", "celu"),
        ("SELU", "selu"),
        ("Mish", "mish"),
        ("Softplus", "softplus"),
        ("Softsign", "softsign"),
        ("Softshrink", "softshrink"),
        ("Hardshrink", "hardshrink"),
        ("Tanhshrink", "tanhshrink"),
        ("ReLU6", "relu6"),
        ("PReLU", "prelu"),
        ("RReLU", "rrelu"),
        ("LogSigmoid", "log_sigmoid"),
        ("Threshold", "threshold"),
        ("Sigmoid", "sigmoid"),
        ("Tanh", "tanh"),
        ("Identity", "identity"),
        # ONNX
        ("HardSigmoid", "hard_sigmoid"),
        ("ThresholdedRelu", "thresholded_relu"),
        ("ScaledTanh", "scaled_tanh"),
        ("Affine", "affine"),
        ("LeakyRelu", "leaky_relu"),
        ("Elu", "elu"),
        ("Relu", "relu"),
        ("HardSwish", "hard_silu"),
        # Keras and JAX
        ("hard_silu", "hard_silu"),
        ("swish", "silu"),
        ("linear", "identity"),
        ("exponential", "exponential"),
        ("tanh_shrink", "tanhshrink"),
        ("soft_sign", "softsign"),
        ("log_sigmoid", "log_sigmoid"),
        ("squareplus", "squareplus"),
        ("sparse_plus", "sparse_plus"),
        ("sparse_sigmoid", "sparse_sigmoid"),
        ("hard_tanh", "hard_tanh"),
        ("soft_shrink", "softshrink"),
        ("hard_shrink", "hardshrink"),
        ("relu6", "relu6"),
        ("celu", "celu"),
    ],
)
def test_the_names_of_other_libraries(theirs: str, ours: str) -> None:
    assert resolve(theirs) is ACTIVATIONS[ours]


def test_one_name_for_different_functions() -> None:
    """facts/peers.md, section 4: every variant can be reached, and the note says which is which."""
    assert resolve("hard_sigmoid").parameters["alpha"] == 1 / 6
    assert resolve("hard_sigmoid_keras2") is resolve("hard_sigmoid_onnx")
    assert resolve("hard_sigmoid_onnx").parameters["alpha"] == 0.2
    assert resolve("leaky_relu").parameters["k"] == 0.01
    assert resolve("leaky_relu_keras").parameters["k"] == 0.2
    assert resolve("gelu").value(-2.0) != resolve("gelu_tanh").value(-2.0)
    assert resolve("gelu_jax") is resolve("gelu_tanh")
    assert resolve("thresholded_relu").value(1.0) == 0
    for name, word in (
        ("hard_sigmoid", "hard_sigmoid_onnx"),
        ("leaky_relu", "leaky_relu_keras"),
        ("gelu", "gelu_tanh"),
        ("thresholded_relu", "onnxruntime"),
        ("scaled_tanh", "onnxruntime"),
        ("affine", "onnxruntime"),
        ("softplus", "20"),
    ):
        assert word in ACTIVATIONS[name].note


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leaky_relu(k=0.2)", ACTIVATIONS["leaky_relu"](k=0.2)),
        ("LeakyReLU( k = 1/5 )", ACTIVATIONS["leaky_relu"](k=0.2)),
        ("hard_tanh(low=-2, high=2)", ACTIVATIONS["hard_tanh"](low=-2, high=2)),
        ("elu(a=1e-3,)", ACTIVATIONS["elu"](a=1e-3)),
        ("selu(a=1.5)", ACTIVATIONS["selu"](a=1.5)),
    ],
)
def test_parameters_in_text(text: str, expected: Activation) -> None:
    assert resolve(text) == expected
    assert resolve(expected.label) == expected


def test_labels_are_read_back() -> None:
    for activation in ACTIVATIONS.values():
        changed = activation(**dict.fromkeys(activation.parameters, 0.3))
        assert resolve(changed.label) == changed


@pytest.mark.parametrize("text", ["x*sigmoid(x)", "x", "z*tanh(z)", "2", "relu(x) - 0.5*relu(-x)"])
def test_formulas(text: str) -> None:
    activation = resolve(text)
    assert activation.label == text
    assert resolve(f"  {text} ") == activation


def test_formulas_and_names_do_not_mix_up() -> None:
    assert resolve("x").value(3.5) == 3.5
    assert resolve("e").value(0) == pytest.approx(2.718281828)
    assert resolve("pi").derivative().value(1) == 0
    assert resolve("leaky_relu(x, k=0.2)").value(-1) == -0.2


def test_other_things() -> None:
    own = Activation("own", "x**2")
    assert resolve(own) is own
    assert resolve(sympy.tanh(sympy.Symbol("x"))).value(0.5) == resolve("tanh").value(0.5)
    assert resolve(2).value(1.0) == 2
    assert resolve(0.1).value(1.0) == 0.1
    for thing in (None, True, abs, lambda x: x, b"relu"):
        with pytest.raises(FormulaError, match="an activation is a name, a formula, a SymPy"):
            resolve(thing)
    with pytest.raises(FormulaError, match="one activation is wanted here"):
        resolve([])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rellu", "no activation is called 'rellu'. Did you mean relu"),
        ("leaky_rleu", "Did you mean leaky_relu"),
        ("SoftSgin", "Did you mean softsign"),
        ("hard_sigmod", "Did you mean hard_sigmoid"),
        ("qqqqqq", "no activation is called 'qqqqqq'. 'anygate list' shows all"),
        ("softmax", "softmax is not elementwise"),
        ("sparsemax", "sparsemax is not elementwise"),
        ("glu", "glu is not elementwise"),
        ("maxout", "maxout is not elementwise"),
        ("k*x", "the formula 'k.x' has the free symbol 'k' without a default.*write its number"),
        ("tahn*x", r"has the free symbol 'tahn'.*did you mean tanh\(x\)\?"),
        ("relu(k=1)", "relu has no parameter 'k'; it has: none"),
        ("leaky_relu(slope=1)", "leaky_relu has no parameter 'slope'; it has: k"),
        ("leaky_relu(k=x)", "the parameter k must be a number"),
        ("", "the formula is empty"),
    ],
)
def test_unknown(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        resolve(text)


@pytest.mark.parametrize(
    ("text", "hint"), [("leaky_relu(0.2)", "leaky_relu(k=0.2)"), ("silu(2)", "silu(beta=2)")]
)
def test_a_number_for_a_parameter(text: str, hint: str) -> None:
    with pytest.raises(FormulaError) as error:
        resolve(text)
    assert hint in str(error.value)
    assert resolve("0.5").value(3) == 0.5
    assert resolve("relu(2)").value(3) == 2


def test_suggestions() -> None:
    with pytest.raises(FormulaError, match=r"Did you mean tanh\?"):
        resolve("TANH(x)")
    with pytest.raises(FormulaError) as error:
        resolve("tahn(x)")
    assert str(error.value).count("tanh") == 1


def test_messages_stay_short() -> None:
    for text in ("a" * 100_000, "b" * 1900 + "*x"):
        with pytest.raises(FormulaError) as error:
            resolve(text)
        assert len(str(error.value)) < 500
