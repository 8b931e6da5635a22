"""ONNX out and in, against ONNX Runtime. The full grid is benchmarks/onnx_grid.py."""

from __future__ import annotations

import json
import math
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import anygate
from anygate import GRU, LSTM, RNN
from anygate.engines import EngineError
from anygate.formulas import ACTIVATIONS, Activation, FormulaError, resolve
from anygate.formulas.primitives import PRIMITIVES
from anygate.formulas.program import bind
from anygate.nn.capture import capturing
from tests.drawn_formulas import formula
from tests.laws.test_special_values import PAIRS, UNARY, same

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from anygate.interop.onnx import load, lower  # noqa: E402
from anygate.interop.onnx.activations import function_of  # noqa: E402
from anygate.interop.onnx.graph import Graph, Names  # noqa: E402
from anygate.interop.onnx.operations import operations  # noqa: E402
from tests.onnx_files import layer_file, off, run  # noqa: E402

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
PEERS = Path(__file__).parents[2] / "shared" / "peer_cases"
ARITHMETIC = {"const", "add", "sub", "mul", "div", "neg", "sqrt"}
LOGIC = {"lt", "le", "gt", "ge", "and", "or", "not"}


# ---- the table of operations ------------------------------------------------------------------


def values(outputs: dict[str, Any], dtype: type, **inputs: Any) -> dict[str, Any]:
    """By ONNX Runtime: outputs, each a function of a Graph that gives a value's name."""
    g = Graph(Names(set(inputs)), "g", dtype)
    ends = {name: g.node("Identity", make(g)) for name, make in outputs.items()}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "g",
        [value(name, g.element, [None]) for name in inputs],
        [value(name, g.element, None) for name in ends.values()],
        g.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    found = run(model, **{k: np.array(v, dtype) for k, v in inputs.items()})
    return {name: found[end] for name, end in ends.items()}


def test_the_table_is_whole() -> None:
    names = {cls.__name__ for cls in PRIMITIVES.values()}
    assert operations(Graph(Names(set()), "g", np.float32)).keys() == names | ARITHMETIC | LOGIC


SIGN_LOST = {
    "float32": {"expm1", "log1p", "sinh"},
    "float64": {"expm1", "log1p", "sinh", "asinh", "atan", "erf"},
}
"""Functions that give 0 of -0: ONNX Runtime's Where does, and they are spelled with it."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_values(dtype: str) -> None:
    """As in every engine (tests/laws/test_special_values.py), but for the sign of some zeros."""
    outputs = {name: (lambda g, n=name: operations(g)[n]("x")) for name in UNARY}
    found = values(outputs, getattr(np, dtype), x=[math.inf, -math.inf, 0.0, -0.0, math.nan])
    wrong = {
        (name, k)
        for name, expected in UNARY.items()
        for k, value in enumerate((*expected, math.nan))
        if not same(found[name][k], value, dtype)
    }
    assert wrong == {(name, 3) for name in SIGN_LOST[dtype]}
    assert all(found[name][3] == 0 for name in SIGN_LOST[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PAIRS)
def test_special_values_of_pairs(name: str, dtype: str) -> None:
    table = list(PAIRS[name])
    for other in (math.inf, -math.inf, 0.0, 1.0, math.nan):
        table += [(math.nan, other, math.nan), (other, math.nan, math.nan)]
    a, b, expected = zip(*table, strict=True)
    outputs = {"y": lambda g: operations(g)[name]("a", "b")}
    found = values(outputs, getattr(np, dtype), a=a, b=b)["y"]
    for k, value in enumerate(expected):
        assert same(found[k], value, dtype), table[k]


def drawn(count: int, seed: int = 5) -> list[Activation]:
    """Formulas that are finite on the points of the tests."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        text = formula(draw, 6, harsh=False)
        try:
            activation = resolve(text) if "k" not in text else Activation("drawn", text, k=0.7)
            y = activation(np.linspace(-4, 4, 41))
        except (FormulaError, ZeroDivisionError, OverflowError):
            continue
        if np.isfinite(y).all() and np.abs(y).max() < 1e3:
            found.append(activation)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation(dtype: str) -> None:
    """The catalogue and twenty drawn formulas, at many points."""
    kind = getattr(np, dtype)
    x = np.concatenate([np.linspace(-9, 9, 181), [-1e-5, 1e-4, 0.5, 30.0, -30.0]]).astype(kind)
    activations = {a.name: a for a in ACTIVATIONS.values()}
    activations |= {f"drawn {k}": a for k, a in enumerate(drawn(20))}

    def make(activation: Activation) -> Any:
        def write(g: Graph) -> str:
            numbers = {key: g.number(v) for key, v in activation.parameters.items()}
            return bind(activation.value_program, operations(g))({"x": "x", **numbers})["value"]

        return write

    found = values({name: make(a) for name, a in activations.items()}, kind, x=x)
    worst = {
        name: off(
            np.broadcast_to(found[name], x.shape),
            torch.from_numpy(np.array(a(x.astype(np.float64)))),
        )
        for name, a in activations.items()
    }
    limit = {"float32": 1e-6, "float64": 1e-12}[dtype]
    assert {name: size for name, size in worst.items() if not size <= limit} == {}


# ---- layers -----------------------------------------------------------------------------------

WHOLE = ("states", "valid", "cuts")
LEAKY = anygate.CellType(
    "leaky integrator",
    products=("z",),
    states=("h", "m"),
    slots={"candidate": "tanh"},
    lines="m = 0.9*m_before + 0.1*candidate(z)\nh = 1/2",
)
CASES: list[tuple[str, str, Any, tuple[str, ...], bool]] = [
    ("LSTM", "operator", lambda **k: LSTM(3, 4, **k), ("states", "lengths"), False),
    ("LSTM", "peephole", lambda **k: LSTM(3, 4, peephole=True, **k), (), False),
    ("LSTM", "coupled", lambda **k: LSTM(3, 4, peephole=True, coupled=True, **k), (), False),
    (
        "LSTM",
        "no bias",
        lambda **k: LSTM(3, 4, bias=False, activation="elu(a=0.3)", **k),
        (),
        False,
    ),
    (
        "LSTM",
        "three functions with numbers",
        lambda **k: LSTM(
            3,
            4,
            gate_activation="hard_sigmoid",
            candidate="leaky_relu(k=0.2)",
            cell_output="2*x - 1",
            **k,
        ),
        ("states",),
        False,
    ),
    ("GRU", "after", lambda **k: GRU(3, 4, activation="softsign", **k), ("lengths",), True),
    ("GRU", "before", lambda **k: GRU(3, 4, reset_after=False, **k), ("states",), False),
    ("RNN", "elman", lambda **k: RNN(3, 4, activation="relu", **k), ("states", "lengths"), True),
    ("Scan", "silu", lambda **k: LSTM(3, 4, activation="silu", **k), ("states", "lengths"), True),
    ("Scan", "masked", lambda **k: LSTM(3, 4, **k), WHOLE, True),
    ("Scan", "gates", lambda **k: LSTM(3, 4, forget_gate="1", **k), (), False),
    ("Scan", "clip", lambda **k: LSTM(3, 4, clip=0.5, peephole=True, **k), (), False),
    ("Scan", "zoneout", lambda **k: LSTM(3, 4, zoneout=0.3, **k), ("valid",), False),
    ("Scan", "norm", lambda **k: LSTM(3, 4, layer_norm=True, **k), (), False),
    (
        "Scan",
        "learnt",
        lambda **k: LSTM(3, 4, activation="prelu", trainable="unit", peephole=True, **k),
        ("cuts",),
        False,
    ),
    ("Scan", "gru", lambda **k: GRU(3, 4, activation="gelu", **k), WHOLE, True),
    (
        "Scan",
        "two products",
        lambda **k: GRU(3, 4, reset_after=False, candidate="mish", **k),
        ("states", "lengths"),
        False,
    ),
    ("Scan", "own cell", lambda **k: anygate.Recurrent(LEAKY, 3, 4, **k), ("states",), True),
]


def drawn_run(layer: Any, given: tuple[str, ...], steps: int, rows: int) -> tuple[Any, Any]:
    """Arguments of the module and inputs of the file."""
    dtype, names = layer.weight_ih_l0.dtype, layer._design.base.states
    x = torch.randn(steps, rows, 3, dtype=dtype)
    keywords: dict[str, Any] = {"input": x}
    inputs: dict[str, Any] = {"x": x}
    if "states" in given:
        hx = tuple(torch.randn(1, rows, 4, dtype=dtype) for _ in names)
        keywords["hx"] = hx if len(hx) > 1 else hx[0]
        inputs |= {name: state[0] for name, state in zip(names, hx, strict=True)}
    if "lengths" in given:
        inputs["lengths"] = keywords["lengths"] = torch.arange(rows) % (steps + 1)
    if "valid" in given:
        inputs["valid"] = keywords["mask"] = torch.rand(steps, rows) < 0.7
    if "cuts" in given:
        inputs["cuts"] = keywords["reset"] = torch.rand(steps, rows) < 0.3
    return keywords, inputs


def outcome(layer: Any, keywords: Any) -> list[torch.Tensor]:
    output, states = layer(**keywords)
    return [output, *(states if isinstance(states, tuple) else (states,))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
@torch.no_grad()
def test_a_layer(case: Any, dtype: str, tmp_path: Path) -> None:
    """Run at two lengths and batches; read again, as good; an operator is float32's alone."""
    became, _, make, given, keep = case
    torch.manual_seed(3)
    kind = getattr(torch, dtype)
    layer = make(dtype=kind, engine="eager").eval()
    model, report = layer_file(layer, given, keep)
    operator = became if kind == torch.float32 else "Scan"
    if "three" in case[1] and kind == torch.float64:
        assert "float64" in report.why
    assert report.became == (operator if not keep or became != "LSTM" else "Scan")
    assert (report.why == "") == (report.became != "Scan")
    onnx.save(model, tmp_path / "layer.onnx")
    (again,) = load(tmp_path / "layer.onnx").values()
    names = layer._design.base.states
    for steps, rows in ((7, 3), (1, 1)):
        keywords, inputs = drawn_run(layer, given, steps, rows)
        output, states, kept = layer(**keywords, return_states=True)
        states = states if isinstance(states, tuple) else (states,)
        kept = kept if isinstance(kept, tuple) else (kept,)
        found = run(model, **inputs)
        assert off(found["y"], output) <= TOLERANCE[kind]
        for name, state, every in zip(names, states, kept, strict=True):
            assert off(found[f"{name}_n"], state[0]) <= TOLERANCE[kind]
            if keep:
                assert off(found[f"{name}_all"], every[0]) <= TOLERANCE[kind]
        pairs = zip(outcome(again, keywords), [output, *states], strict=True)
        assert all(off(a.numpy(), b) <= TOLERANCE[kind] for a, b in pairs)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
@torch.no_grad()
def test_backward_in_time(activation: str, tmp_path: Path) -> None:
    """Operator and Scan; each row begins at its own last step, also where resets cut it."""
    torch.manual_seed(4)
    layer = LSTM(3, 4, activation=activation, bidirectional=True, engine="eager").eval()
    given = ("states", "lengths") if activation == "tanh" else WHOLE
    model, report = layer_file(layer, given, way="_reverse")
    assert report.became == ("LSTM" if activation == "tanh" else "Scan")
    keywords, inputs = drawn_run(layer, given, 7, 3)
    h, c = keywords["hx"]
    both = (torch.cat([h, h]), torch.cat([c, c]))
    output, (h_n, c_n) = layer(**{**keywords, "hx": both})
    found = run(model, **inputs)
    assert off(found["y"], output[..., 4:]) <= 1e-6
    assert max(off(found["h_n"], h_n[1]), off(found["c_n"], c_n[1])) <= 1e-6
    onnx.save(model, tmp_path / "layer.onnx")
    (again,) = load(tmp_path / "layer.onnx").values()
    if activation == "tanh":
        assert off(again(**keywords)[0].numpy(), output[..., 4:]) <= 1e-6


@torch.no_grad()
def test_half_is_computed_in_single_and_rounded_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = LSTM(3, 4, activation="silu", dtype=torch.float16).eval()
    model, _ = layer_file(layer)
    x = torch.randn(9, 2, 3, dtype=torch.float16)
    assert off(run(model, x=x)["y"], layer(x)[0]) <= 2**-10
    onnx.save(model, tmp_path / "layer.onnx")
    (again,) = load(tmp_path / "layer.onnx").values()
    assert again.weight_ih_l0.dtype == torch.float16
    assert off(again(x)[0].numpy(), layer(x)[0]) <= 2**-10


def test_ours_and_onnx_functions() -> None:
    names = {
        "relu": "Relu",
        "x": "Affine",
        "3*x + 0.5": "Affine",
        "prelu": "LeakyRelu",
        "hard_sigmoid": "HardSigmoid",
        "thresholded_relu": "ThresholdedRelu",
        "scaled_tanh": "Tanh",
        "scaled_tanh(alpha=2)": "ScaledTanh",
        "softplus": "Softplus",
    }
    found = {text: function_of(resolve(text)) for text in names}
    assert {text: f and f.name for text, f in found.items()} == names
    assert found["3*x + 0.5"].values == (3.0, 0.5)  # type: ignore[union-attr]
    for text in ("silu", "gelu", "x**2", "x + tanh(x)", "hard_tanh"):
        assert function_of(resolve(text)) is None


# ---- whole models -----------------------------------------------------------------------------


class Model(nn.Module):
    """Layers one after another, a step cell and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LSTM(
            4,
            5,
            num_layers=2,
            batch_first=True,
            bidirectional=True,
            proj_size=3,
            activation="silu",
            peephole=True,
        )
        self.second = GRU(6, 5, batch_first=True)
        self.step = anygate.LSTMCell(5, 4, activation="mish")
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, lengths: Any) -> Any:
        y, (h_n, _) = self.first(x, (h, c), lengths=lengths)
        y, _ = self.second(y)
        state, _ = self.step(y[:, -1])
        state, _ = self.step(y[:, 0], (state, state))
        return self.head(state), h_n


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself and shared names
def test_a_whole_model(tmp_path: Path) -> None:
    """Initial states that are projected, lengths with an empty row, free time and batch; by torch's
    exporter."""
    pytest.importorskip("onnxscript")
    from anygate.interop.onnx import export

    torch.manual_seed(1)
    model = Model().eval()

    def arguments(rows: int, steps: int) -> tuple[torch.Tensor, ...]:
        h, c = torch.randn(4, rows, 3), torch.randn(4, rows, 5)
        return torch.randn(rows, steps, 4), h, c, torch.arange(rows) % (steps + 1)

    free: Any = ({0: "B", 1: "T"}, {1: "B"}, {1: "B"}, {0: "B"})
    report = export(model, arguments(2, 6), tmp_path / "model.onnx", dynamic_shapes=free)
    kinds = {layer.name: layer.became for layer in report.layers}
    assert kinds == {
        **{f"first/l{n}{way}": "Scan" for n in (0, 1) for way in ("", "_reverse")},
        **{"second/l0": "GRU", "step": "one step", "step (2)": "one step"},
    }
    assert "first/l0: Scan" in str(report)
    assert "silu" in str(report)
    path = str(tmp_path / "model.onnx")
    names = [i.name for i in onnx.load(path).graph.input]
    for rows, steps in ((5, 9), (3, 2)):
        given = arguments(rows, steps)
        found = run(path, **dict(zip(names, given, strict=True)))
        with torch.no_grad():
            expected = model(*given)
        for a, b in zip(found.values(), expected, strict=True):
            assert off(a, b) <= 1e-6
    layers = load(path)
    assert set(layers) == {name for name, kind in kinds.items() if kind != "one step"}
    again = layers["second/l0"]
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.second.state_dict()[name])


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_the_table_for_torch_onnx_export(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from anygate.interop.onnx import custom_translation_table

    torch.manual_seed(1)
    layer = LSTM(4, 5, num_layers=2, bidirectional=True, activation="silu").eval()
    path = str(tmp_path / "layer.onnx")
    with torch.no_grad():
        torch.onnx.export(
            layer,
            (torch.randn(5, 2, 4),),
            path,
            dynamic_shapes=({0: "T", 1: "B"},),
            custom_translation_table=custom_translation_table(),
            verbose=False,
        )
        assert [n.op_type for n in onnx.load(path).graph.node].count("Scan") == 4
        x = torch.randn(9, 3, 4)
        expected = outcome(layer, {"input": x})
    found = run(path, **{onnx.load(path).graph.input[0].name: x})
    pairs = zip(found.values(), expected, strict=True)
    assert all(off(a, b) <= 1e-6 for a, b in pairs)


def test_the_eager_engine_is_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be right at the traced length alone; a single step is."""
    import torch.onnx

    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    layer = LSTM(3, 4, engine="eager")
    with pytest.raises(EngineError, match=r"length.*anygate\.interop\.onnx\.export"):
        layer(torch.randn(5, 2, 3))
    layer(torch.randn(1, 2, 3))


def test_what_an_exporter_is_not_given() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    pack = nn.utils.rnn.pack_sequence([torch.randn(3, 3), torch.randn(2, 3)])
    with capturing(never):
        with pytest.raises(RuntimeError, match="give LSTM the padded batch with lengths="):
            LSTM(3, 4)(pack)
        with pytest.raises(RuntimeError, match=r"export model\.eval\(\)"):
            LSTM(3, 4, zoneout=0.1)(torch.randn(5, 2, 3))
    LSTM(3, 4)(pack)


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from anygate.interop.onnx import export

    with pytest.raises(ValueError, match="older exporter"):
        export(GRU(3, 4), (torch.randn(5, 2, 3),), tmp_path / "m.onnx", dynamo=False)


# ---- hostile and foreign files ----------------------------------------------------------------


def lstm_node(**changes: Any) -> Any:
    """A model of an LSTM node with 2 units and 3 inputs, with changes: attributes, or W, R, B as
    tensors."""
    tensors = {"W": np.zeros((1, 8, 3)), "R": np.zeros((1, 8, 2)), "B": np.zeros((1, 16))}
    found = {
        name: changes.pop(name, None) or numpy_helper.from_array(a.astype(np.float32), name)
        for name, a in tensors.items()
    }
    attributes = {"hidden_size": 2, **changes}
    node = helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], "node", **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("X", TensorProto.FLOAT, None)],
        [value("Y", TensorProto.FLOAT, None)],
        list(found.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def huge(name: str = "W") -> TensorProto:
    return TensorProto(name=name, data_type=1, dims=[1, 1 << 40, 3], raw_data=b"1234")


def outside(name: str = "W", location: str = "../secret.bin") -> TensorProto:
    tensor = TensorProto(name=name, data_type=1, dims=[1, 8, 3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "length": "96"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"W": huge()}, "do not fill the shape"),
        ({"W": outside()}, "no file in the folder"),
        ({"W": outside(location="/etc/passwd")}, "no file in the folder"),
        ({"W": outside(location="link.bin")}, "no file in the folder"),
        ({"hidden_size": 3}, "hidden_size is 3"),
        ({"activations": ["Sigmoid", "Mystery", "Tanh"]}, "no activation called 'Mystery'"),
        ({"activations": ["Sigmoid", "Tanh"]}, "activations has 2 names"),
        ({"activations": ["Sigmoid", "Affine", "Tanh"]}, "Affine has no activation_alpha"),
        ({"activation_alpha": [0.5]}, "1 numbers too many"),
        ({"direction": "sideways"}, "direction is 'sideways'"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"mystery": 1}, "attribute 'mystery'"),
        ({"direction": "bidirectional"}, "R is"),
    ],
)
def test_a_node_that_is_not_covered(changes: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(96))
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "model.onnx").write_bytes(lstm_node(**changes).SerializeToString())
    with pytest.raises(ValueError, match=said) as caught:
        load(folder / "model.onnx")
    assert "LSTM 'node'" in str(caught.value)


def test_tensors_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(np.ones(24, np.float32).tobytes())
    model = lstm_node(W=outside(location="data.bin"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (layer,) = load(tmp_path / "model.onnx").values()
    assert torch.equal(layer.weight_ih_l0, torch.ones(8, 3))


def test_weights_that_the_file_rearranges_are_followed(tmp_path: Path) -> None:
    model = lstm_node()
    model.graph.node[0].input[1] = "turned"
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(1, 3, 8), "W")
    )
    model.graph.node.insert(0, helper.make_node("Transpose", ["W"], ["turned"], perm=[0, 2, 1]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (layer,) = load(tmp_path / "model.onnx").values()
    assert layer.weight_ih_l0[0].tolist() == [0.0, 8.0, 16.0]
    model.graph.node[0].op_type = "Mystery"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"computed in the file, by Mystery"):
        load(tmp_path / "model.onnx")


def test_a_file_without_layers(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ValueError, match="no ONNX file"):
        load(tmp_path / "text.onnx")
    model = lstm_node()
    model.graph.node[0].op_type = "Relu"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="no LSTM, GRU or RNN node"):
        load(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="opset is 17"):
        lower(helper.make_model(model.graph, opset_imports=[helper.make_opsetid("", 17)]))


def test_changed_bytes_give_a_clear_error_or_a_layer(tmp_path: Path) -> None:
    """An operator and a Scan with its metadata, bytes changed at random: nothing but ValueError,
    and little memory."""
    draw = random.Random(0)
    files = [
        layer_file(LSTM(3, 4, activation=a, engine="eager").eval())[0].SerializeToString()
        for a in ("tanh", "silu")
    ]
    path, loaded, longest = tmp_path / "fuzzed.onnx", 0, 0
    tracemalloc.start()
    try:
        for number in range(120):
            content = bytearray(files[number % 2])
            for _ in range(draw.randint(1, 4)):
                content[draw.randrange(len(content))] = draw.choice((0, 1, 127, 255, 10, 58, 34))
            path.write_bytes(content[: draw.choice((len(content), draw.randrange(len(content))))])
            try:
                loaded += len(load(path))
            except ValueError as error:
                longest = max(longest, len(str(error)))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert loaded  # some changes are of numbers alone
    assert longest < 2000


def test_the_grid_of_the_recipe_is_whole_and_quoted() -> None:
    """benchmarks/onnx_grid.py: every layer was tried, and each that is off has its reason."""
    root = Path(__file__).parents[1]
    found = json.loads((root / "benchmarks" / "results" / "onnx_grid.json").read_text())
    assert found["layers done"] == found["layers"]
    assert found["limits"] == {str(dtype): limit for dtype, limit in TOLERANCE.items()}
    off_cells = found["off"]
    assert {cell["dtype"] for cell in off_cells} == {"torch.float32"}
    reasons = Counter(cell["reason"].partition(":")[0] for cell in off_cells)
    own = sum("own engines" in cell["reason"] for cell in off_cells)
    assert set(reasons) == {"rounding", "ONNX Runtime's"}
    page = " ".join((root / "docs" / "recipes" / "onnx.md").read_text("utf-8").split())
    layers, files = found["layers"], sum(found["files"].values())
    for words in (
        f"{files:,} files of {layers} layers",
        f"in float32 {layers - len(off_cells)} of {layers} within 1e-6",
        f"Of the other {len(off_cells)}",
        f"{reasons['rounding']} are float32's rounding (in {own} anygate's",
        f"and {len(off_cells) - reasons['rounding']} ONNX",
    ):
        assert words in page


# ---- other people's files ---------------------------------------------------------------------


def tensor_of(path: Path) -> Any:
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


@pytest.mark.skipif(not PEERS.is_dir(), reason=f"{PEERS} is not here")
@pytest.mark.parametrize(
    "folder", sorted((PEERS / "onnx_node").glob("*")), ids=lambda p: p.name.removeprefix("test_")
)
def test_onnx_backend_node(folder: Path) -> None:
    """Weights are inputs of these files."""
    graph = onnx.load(folder / "model.onnx").graph
    data = {
        value.name: tensor_of(folder / "test_data_set_0" / f"input_{k}.pb")
        for k, value in enumerate(graph.input)
    }
    (node,) = graph.node
    (layer,) = load(folder / "model.onnx", values=data).values()
    lengths = None
    if len(node.input) > 4 and node.input[4]:
        lengths = torch.tensor(data[node.input[4]])
    with torch.no_grad():
        output, states = layer(torch.tensor(data[node.input[0]]), lengths=lengths)
    found = [output, *(states if isinstance(states, tuple) else (states,))]
    for k, value in enumerate(graph.output):
        expected = tensor_of(folder / "test_data_set_0" / f"output_{k}.pb")
        own = found[list(node.output).index(value.name)].numpy().ravel()
        np.testing.assert_allclose(own, expected.ravel(), rtol=1e-3, atol=1e-7)


@pytest.mark.skipif(not PEERS.is_dir(), reason=f"{PEERS} is not here")
def test_keras2onnx_files() -> None:
    cases = json.loads((PEERS / "keras2onnx_lstm_cases.json").read_text())["cases"]
    assert len(cases) == 10
    for case in cases:
        (layer,) = load(PEERS / "keras2onnx_models" / f"{case['id']}.onnx").values()
        x = case["inputs"]["X"]
        with torch.no_grad():
            output, (h, c) = layer(torch.tensor(x["data"]).reshape(x["shape"]))
        found = {"Y": output, "Y_h": h, "Y_c": c}
        for name, expected in case["expected"].items():
            if expected is not None:
                own = found[name].numpy().ravel()
                np.testing.assert_allclose(own, expected["data"], rtol=1e-4, atol=1e-6)
