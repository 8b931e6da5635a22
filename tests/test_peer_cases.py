"""Other people's numbers: the LSTM, GRU and RNN cases of ONNX Runtime, nGraph, ONNX, Keras and
PopART, through every engine. They lie beside the checkout and not in it; see their README.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import anygate
from anygate import LSTM
from anygate.cells import ELMAN, Cell, cell_key, gru_type, lstm_type, make
from anygate.cells import LSTM as LSTM_TYPE
from anygate.engines import Request
from anygate.engines import load as load_engine
from anygate.engines.protocol import Layer
from anygate.formulas import ACTIVATIONS, Activation, resolve

FOLDER = Path(__file__).parents[2] / "shared" / "peer_cases"
LSTM_FILES = ("ort_lstm", "ort_training_lstm", "ngraph_lstm", "onnx_node", "keras2onnx_lstm")
OTHER_FILES = ("ort_gru", "ort_rnn", "onnx_node_gru", "onnx_node_rnn")
KERAS_FILES = ("keras_tf23", "keras_lstm")
ENGINES = (
    "reference float64",
    "eager float64",
    "eager float32",
    "cpu float64",
    "cpu float32",
)

# file -> (cases that run, why each other is left out and how many)
EXPECTED: dict[str, tuple[int, dict[str, int]]] = {
    "ort_lstm": (37, {}),
    "ort_training_lstm": (1, {}),
    "ngraph_lstm": (13, {}),
    "onnx_node": (6, {}),
    "onnx_node_gru": (6, {}),
    "onnx_node_rnn": (6, {}),
    "keras2onnx_lstm": (10, {}),
    "keras_tf23": (10, {}),
    "keras_lstm": (20, {}),
    "tflite_lstm": (4, {"projection bias": 1}),
    "ort_gru": (31, {}),
    "ort_rnn": (11, {}),
}

Array = np.ndarray[Any, Any]


@lru_cache
def load(name: str) -> list[dict[str, Any]]:
    """The cases of a file, of onnx_node those of one operator; none where the folder is missing."""
    shared = name.startswith("onnx_node")  # one file for three operators
    path = FOLDER / f"{'onnx_node' if shared else name}_cases.json"
    if not path.exists():
        return []
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    operator = name.removeprefix("onnx_node").removeprefix("_").upper() or "LSTM"
    return [c for c in cases if not shared or c["op"] == operator]


def array(tensor: dict[str, Any] | None) -> Any:
    return None if tensor is None else np.array(tensor["data"], float).reshape(tensor["shape"])


def left_out(case: dict[str, Any]) -> str | None:
    """The reason why a case does not run; None if it does."""
    return "projection bias" if case.get("projection_bias") else None


def one_direction(
    engine: str,
    cell: Cell,
    x: Array,
    states: tuple[Array, ...],
    weights: tuple[Any, ...],
    reverse: bool,
    vectors: Array | None = None,
    lengths: list[int] | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """output [T, B, H] and the states after the last step, [B, H] each. weights: of x, of h, and
    their two biases (or None), in the cell's order. lengths: of the rows, each at least 1; the
    engine gets one pack of them."""
    name, kind = engine.split()
    dtype = getattr(torch, kind)

    def tensor(a: Any) -> Any:
        return None if a is None else torch.tensor(a, dtype=dtype)

    own = tuple(tensor(s) for s in states)
    layer = Layer(tensor(x), own, *map(tensor, weights), vectors=tensor(vectors), reverse=reverse)
    run = load_engine(name).run
    if lengths is None or min(lengths) == len(x):
        result = run(cell_key(cell), layer)
        return _numpy(result.output), tuple(map(_numpy, result.states))
    pack = pack_padded_sequence(layer.x, lengths, enforce_sorted=False)
    order, back = pack.sorted_indices, pack.unsorted_indices
    given = tuple(s[order] for s in own)
    layer = layer._replace(x=pack.data, states=given, batch_sizes=pack.batch_sizes)
    result = run(cell_key(cell), layer)
    output, _ = pad_packed_sequence(pack._replace(data=result.output), total_length=len(x))
    return _numpy(output), tuple(_numpy(s[back]) for s in result.states)


def _numpy(t: Tensor) -> Array:
    found: Array = t.double().numpy()
    return found


def compare(found: Any, expected: Any, case: dict[str, Any], what: str) -> None:
    np.testing.assert_allclose(
        found, expected, atol=case["atol"], rtol=case["rtol"], err_msg=f"{case['id']}: {what}"
    )


# ---- ONNX -----------------------------------------------------------------------------------

# ONNX name -> (ours, our names of alpha and beta, their defaults in onnxruntime's LSTM).
ONNX: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "relu": ("relu", (), ()),
    "tanh": ("tanh", (), ()),
    "sigmoid": ("sigmoid", (), ()),
    "softsign": ("softsign", (), ()),
    "softplus": ("softplus", (), ()),
    "affine": ("affine", ("alpha", "beta"), (0.0, 0.0)),
    "leakyrelu": ("leaky_relu", ("k",), (0.01,)),
    "thresholdedrelu": ("thresholded_relu", ("alpha",), (0.0,)),
    "scaledtanh": ("scaled_tanh", ("alpha", "beta"), (0.0, 0.0)),
    "hardsigmoid": ("hard_sigmoid_onnx", ("alpha", "beta"), (0.2, 0.5)),
    "elu": ("elu", ("a",), (1.0,)),
}


OPERATORS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "LSTM": (("Sigmoid", "Tanh", "Tanh"), "iofc", "ifco"),
    "GRU": (("Sigmoid", "Tanh"), "zrh", "rzh"),
    "RNN": (("Tanh",), "i", "i"),
}
"""ONNX's default activations, the order of its rows, and ours in its letters."""


def onnx_activations(
    attributes: dict[str, Any], directions: int, operator: str = "LSTM"
) -> list[Activation]:
    """As many for each direction as the operator has. alpha and beta are packed lists: a function
    that has none takes nothing from them."""
    alphas = list(attributes.get("activation_alpha", []))
    betas = list(attributes.get("activation_beta", []))
    found = []
    usual = list(OPERATORS[operator][0])
    for name in attributes.get("activations", usual * directions):
        ours, keys, defaults = ONNX[name.lower()]
        lists = (alphas, betas)
        values = {key: lists[k].pop(0) if lists[k] else defaults[k] for k, key in enumerate(keys)}
        found.append(ACTIVATIONS[ours](**values))
    assert not alphas
    assert not betas
    return found


def in_our_order(matrix: Array, operator: str) -> Array:
    _, theirs, ours = OPERATORS[operator]
    blocks = dict(zip(theirs, np.split(matrix, len(theirs), 0), strict=True))
    return np.concatenate([blocks[name] for name in ours])


def onnx_cell(operator: str, functions: list[Activation], case: dict[str, Any]) -> Cell:
    """The cell of one direction."""
    attributes = case["attributes"]
    clip = attributes.get("clip") or None
    if operator == "RNN":
        return make(ELMAN, {"candidate": functions[0]}, clip)
    if operator == "GRU":
        gate, inner = functions
        slots = {"reset_gate": gate, "update_gate": gate, "candidate": inner}
        return make(gru_type(not attributes.get("linear_before_reset", 0)), slots, clip)
    gate, inner, outer = functions
    type = lstm_type(case["inputs"].get("P") is not None, bool(attributes.get("input_forget")))
    slots = dict.fromkeys(("input_gate", "forget_gate", "output_gate"), gate)
    slots |= {"candidate": inner, "cell_output": outer}
    return make(type, {s: slots[s] for s, _ in type.slots}, clip)


def run_onnx(case: dict[str, Any], engine: str) -> dict[str, Array]:
    """Y [T, D, B, H], and Y_h, Y_c [D, B, H]; rows of different lengths as one pack."""
    operator = case.get("op", "LSTM")
    attributes, inputs = case["attributes"], {k: array(v) for k, v in case["inputs"].items()}
    batch_first = attributes.get("layout", 0) == 1
    x = inputs["X"].swapaxes(0, 1) if batch_first else inputs["X"]
    way = attributes.get("direction", "forward")
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[way]
    steps, rows, hidden = x.shape[0], x.shape[1], attributes["hidden_size"]
    lengths = inputs["sequence_lens"]
    lengths = [steps] * rows if lengths is None else [int(n) for n in lengths]
    alive = [row for row, n in enumerate(lengths) if n]
    functions = onnx_activations(attributes, len(reverses), operator)
    count = len(functions) // len(reverses)
    y = np.zeros((steps, len(reverses), rows, hidden))
    names = ("h", "c") if operator == "LSTM" else ("h",)
    ends = {name: np.zeros(y.shape[1:]) for name in names}
    for d, reverse in enumerate(reverses):
        cell = onnx_cell(operator, functions[count * d : count * (d + 1)], case)
        vectors = None
        if inputs.get("P") is not None:
            parts = np.split(inputs["P"][d], 3)  # ONNX: i o f
            named = dict(zip(("input_gate", "output_gate", "forget_gate"), parts, strict=True))
            vectors = np.stack([named[v.removesuffix("_peephole")] for v in cell.per_unit])
        biases: tuple[Any, ...] = (None, None)
        if inputs["B"] is not None:
            halves = np.split(inputs["B"][d], 2)
            biases = tuple(in_our_order(half, operator) for half in halves)
        weights = (*(in_our_order(inputs[k][d], operator) for k in ("W", "R")), *biases)
        start = [inputs.get(f"initial_{name}") for name in names]
        states = tuple(np.zeros((rows, hidden)) if s is None else s[d] for s in start)
        if not alive:  # onnxruntime and ONNX: an empty row gives zeros
            continue
        out, after = one_direction(
            engine,
            cell,
            x[:, alive],
            tuple(s[alive] for s in states),
            weights,
            reverse,
            vectors,
            [lengths[row] for row in alive],
        )
        y[:, d, alive] = out
        for name, end in zip(names, after, strict=True):
            ends[name][d, alive] = end
    if batch_first:
        y, ends = y.transpose(2, 0, 1, 3), {k: v.swapaxes(0, 1) for k, v in ends.items()}
    return {"Y": y} | {f"Y_{name}": end for name, end in ends.items()}


def _cases(names: tuple[str, ...]) -> list[Any]:
    found = [
        pytest.param(case, id=f"{name}-{case['id']}")
        for name in names
        for case in load(name)
        if left_out(case) is None
    ]
    skip = pytest.mark.skip(reason=f"{FOLDER} is not here")
    return found or [pytest.param(None, marks=skip, id="absent")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", _cases((*LSTM_FILES, *OTHER_FILES)))
def test_onnx_case(case: dict[str, Any], engine: str) -> None:
    """A GRU with linear_before_reset=0 needs two products a step: the cpu engine says so."""
    two = case.get("op") == "GRU" and not case["attributes"].get("linear_before_reset", 0)
    if two and engine.startswith("cpu"):
        cell = onnx_cell("GRU", onnx_activations(case["attributes"], 2, "GRU")[:2], case)
        reason = load_engine("cpu").refuses(Request(cell, "cpu", engine.split()[1], False))
        assert reason is not None and "two products a step" in reason
        return
    found = run_onnx(case, engine)
    checked = 0
    for name, tensor in case["expected"].items():
        if tensor is not None:
            compare(found[name], array(tensor), case, name)
            checked += 1
    assert checked


# ---- Keras ----------------------------------------------------------------------------------


def run_keras(case: dict[str, Any], engine: str) -> list[tuple[Array, Array]]:
    """h and c [B, H] of each direction after the last call; several calls carry the state on."""
    config, weights = case["config"], case["weights"]
    both = case["layer"] == "Bidirectional"
    inner, gates = resolve(config["activation"]), resolve(config["recurrent_activation"])
    slots = dict.fromkeys(("input_gate", "forget_gate", "output_gate"), gates)
    cell = make(LSTM_TYPE, slots | {"candidate": inner, "cell_output": inner})
    parts = [weights["forward"], weights["backward"]] if both else [weights]
    reverses = [False, True] if both else [config.get("go_backwards", False)]
    states: list[Any] = [None] * len(parts)
    for call in case["calls"]:
        x = array(call["inputs"]).swapaxes(0, 1)
        zeros = np.zeros((x.shape[1], config["units"]))
        if (initial := call["initial_state"]) is not None:
            states = [tuple(map(array, initial[2 * d : 2 * d + 2])) for d in range(len(parts))]
        for d, (part, reverse) in enumerate(zip(parts, reverses, strict=True)):
            own = (array(part["kernel"]).T, array(part["recurrent_kernel"]).T)
            before = states[d] or (zeros, zeros)
            bias = array(part.get("bias"))
            biases = (bias, None if bias is None else np.zeros_like(bias))
            _, states[d] = one_direction(engine, cell, x, before, (*own, *biases), reverse)
    return states


def masked(case: dict[str, Any]) -> bool:
    return any(call["mask"] is not None for call in case["calls"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", _cases(KERAS_FILES))
def test_keras_case(case: dict[str, Any], engine: str) -> None:
    if masked(case):
        check_keras_mask(case, engine)
        return
    states = run_keras(case, engine)
    assert not case["config"].get("return_sequences")
    expected = case["expected"]
    found = {"output": np.concatenate([h for h, _ in states], -1)}
    for way, (h, c) in zip(("forward", "backward"), states, strict=False):
        found |= {f"h_{way}": h, f"c_{way}": c}
    for name, tensor in expected.items():
        compare(found[name], array(tensor), case, name)


def check_keras_mask(case: dict[str, Any], engine: str) -> None:
    """Through a module with mask=. At a step that is passed over, Keras repeats the output, we give
    zeros, as Keras' zero_output_for_mask does."""
    config, (call,) = case["config"], case["calls"]
    name, kind = engine.split()
    dtype = getattr(torch, kind)
    x = torch.tensor(array(call["inputs"]), dtype=dtype)
    mask = torch.tensor(array(call["mask"]), dtype=torch.bool)
    if config.get("go_backwards"):
        x, mask = x.flip(1), mask.flip(1)
    module = LSTM(
        x.shape[-1],
        config["units"],
        batch_first=True,
        dtype=dtype,
        engine=name,
        activation=config["activation"],
        gate_activation=config["recurrent_activation"],
    )
    bias = array(case["weights"]["bias"])
    parts = {
        "weight_ih_l0": array(case["weights"]["kernel"]).T,
        "weight_hh_l0": array(case["weights"]["recurrent_kernel"]).T,
        "bias_ih_l0": bias,
        "bias_hh_l0": np.zeros_like(bias),
    }
    module.load_state_dict({n: torch.tensor(a, dtype=dtype) for n, a in parts.items()})
    with torch.no_grad():
        output, (h, _) = module(x, mask=mask)
    assert not output[~mask].any()
    if not config.get("return_sequences"):
        compare(_numpy(h[0]), array(case["expected"]["output"]), case, "output")
        return
    for row, steps in enumerate(output):
        shown = steps.clone()
        if not config.get("zero_output_for_mask"):
            for t in range(1, len(shown)):
                shown[t] = shown[t] if mask[row, t] else shown[t - 1]
        compare(_numpy(shown), array(case["expected"][f"output[{row}]"]), case, f"row {row}")


# ---- lengths of rows, through modules ---------------------------------------------------------


def _with_lengths() -> list[Any]:
    """Cases of rows of different lengths that a module of one class can be: forward or both ways
    with the same functions."""
    found = []
    for name in ("ort_lstm", "ort_gru", "ort_rnn"):
        for case in load(name):
            way, lengths = case["attributes"].get("direction", "forward"), case["inputs"]
            if lengths["sequence_lens"] is None or way == "reverse":
                continue
            both = 2 if way == "bidirectional" else 1
            functions = onnx_activations(case["attributes"], both, case.get("op", "LSTM"))
            half = len(functions) // both
            if functions[:half] == functions[-half:] and case["inputs"].get("P") is None:
                found.append(pytest.param(case, id=f"{name}-{case['id']}"))
    skip = pytest.mark.skip(reason=f"{FOLDER} is not here")
    return found or [pytest.param(None, marks=skip, id="absent")]


@pytest.mark.parametrize("how", ["lengths", "mask"])
@pytest.mark.parametrize("case", _with_lengths())
def test_onnx_lengths_of_a_module(case: dict[str, Any], how: str) -> None:
    """sequence_lens as lengths= and as mask=. A row without a step keeps its state, in ONNX it gets
    zeros."""
    operator = case.get("op", "LSTM")
    attributes, inputs = case["attributes"], {k: array(v) for k, v in case["inputs"].items()}
    both = attributes.get("direction", "forward") == "bidirectional"
    functions = onnx_activations(attributes, 1 + both, operator)
    cell = onnx_cell(operator, functions[: len(functions) // (1 + both)], case)
    options: dict[str, Any] = dict(cell.slots) | {"clip": cell.clip}
    if operator == "GRU":
        options["reset_after"] = bool(attributes["linear_before_reset"])
    if operator == "LSTM":
        options["coupled"] = bool(attributes.get("input_forget"))
    x = torch.tensor(inputs["X"])
    module = getattr(anygate, operator)(
        x.shape[-1], attributes["hidden_size"], bidirectional=both, dtype=torch.float64, **options
    )
    weights: dict[str, Any] = {}
    for d, suffix in enumerate(("", "_reverse")[: 1 + both]):
        for ours, theirs in (("ih", "W"), ("hh", "R")):
            weights[f"weight_{ours}_l0{suffix}"] = in_our_order(inputs[theirs][d], operator)
        bias = inputs["B"]
        zeros = np.zeros(2 * len(weights["weight_hh_l0"]))
        for ours, part in zip(
            ("ih", "hh"), np.split(zeros if bias is None else bias[d], 2), strict=True
        ):
            weights[f"bias_{ours}_l0{suffix}"] = in_our_order(part, operator)
    module.load_state_dict({n: torch.tensor(w) for n, w in weights.items()})
    names = ("h", "c") if operator == "LSTM" else ("h",)
    given = [inputs.get(f"initial_{name}") for name in names]
    size = (1 + both, x.shape[1], attributes["hidden_size"])
    hx = tuple(torch.zeros(size).double() if s is None else torch.tensor(s) for s in given)
    lengths = torch.tensor(inputs["sequence_lens"]).long()
    valid = torch.arange(len(x))[:, None] < lengths
    how_given = {"lengths": lengths} if how == "lengths" else {"mask": valid}
    with torch.no_grad():
        output, ends = module(x, hx if len(hx) > 1 else hx[0], **how_given)
    found = {"Y": output.unflatten(-1, (1 + both, -1)).transpose(1, 2)}
    alive = lengths > 0
    for name, start, end in zip(names, hx, ends if len(hx) > 1 else (ends,), strict=True):
        assert torch.equal(end[:, ~alive], start[:, ~alive])
        found[f"Y_{name}"] = torch.where(alive[:, None], end, 0.0)
    for name, tensor in case["expected"].items():
        if tensor is not None:
            compare(found[name].numpy(), array(tensor), case, name)


# ---- TensorFlow Lite: whole modules -----------------------------------------------------------


def tflite_module(case: dict[str, Any], engine: str) -> LSTM:
    """Projections, peepholes and both directions as arguments of LSTM. TensorFlow Lite couples
    i = 1 - f, we f = 1 - i; with sigmoid, 1 - f is the gate with all its weights negated."""
    state = {name: torch.tensor(array(t)) for name, t in case["state_dict"].items()}
    peephole = case["peephole"]
    coupled = "coupling" in case
    if peephole:
        names = {"i": "input_gate", "f": "forget_gate", "o": "output_gate"}
        values = {g: torch.tensor(array(t)) for g, t in peephole.items()}
        if coupled:
            values["i"] = -values.pop("f")  # a coupled cell has no forget gate to see c
        state |= {f"{names[g]}_peephole_l0": v for g, v in values.items()}
    if coupled:
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            _, f, g, o = state[name].chunk(4)
            state[name] = torch.cat([-f, f, g, o])
    module = LSTM(
        case["input_size"],
        case["hidden_size"],
        proj_size=case["proj_size"],
        bidirectional=case.get("bidirectional", False),
        peephole=bool(peephole),
        coupled=coupled,
        dtype=torch.float64,
        engine=engine,
    )
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize("engine", ["reference", "eager", "cpu"])
@pytest.mark.parametrize("case", _cases(("tflite_lstm",)))
def test_tflite_case(case: dict[str, Any], engine: str) -> None:
    output, _ = tflite_module(case, engine)(torch.tensor(array(case["input"])))
    compare(output.detach().numpy(), array(case["expected_output"]), case, "output")


# ---- nothing is left out in silence ---------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_what_runs_and_what_is_left_out(name: str) -> None:
    if not load(name):
        pytest.skip(f"{FOLDER} is not here")
    reasons = Counter(left_out(case) for case in load(name))
    runs = reasons.pop(None, 0)
    print(f"{name}: {runs} run, left out: {dict(reasons)}")
    assert (runs, dict(reasons)) == EXPECTED[name]


def test_custom_activations_occur() -> None:
    """The cases would not catch a mixed-up slot if all of them were sigmoid and tanh."""
    if not load("keras2onnx_lstm"):
        pytest.skip(f"{FOLDER} is not here")
    seen = {
        tuple(a.name for a in onnx_activations(case["attributes"], 1))
        for name in ("keras2onnx_lstm", "ngraph_lstm", "ort_lstm")
        for case in load(name)
        if left_out(case) is None
    }
    assert ("relu", "tanh", "tanh") in seen
    assert ("tanh", "sigmoid", "tanh") in seen
    assert ("hard_sigmoid_onnx", "tanh", "tanh") in seen
    assert len(seen) >= 10


def test_a_wrong_gate_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With i and o mixed up, cases fail."""
    if not load("ngraph_lstm"):
        pytest.skip(f"{FOLDER} is not here")
    case = next(c for c in load("ngraph_lstm") if "hardsigmoid" in c["id"])
    test_onnx_case(case, "reference float64")
    monkeypatch.setitem(globals(), "in_our_order", lambda matrix, operator: matrix)
    with pytest.raises(AssertionError, match="hardsigmoid"):
        test_onnx_case(case, "reference float64")
    gru = next(c for c in load("ort_gru") if "ForwardBatchLinearBeforeReset" in c["id"])
    with pytest.raises(AssertionError, match="ForwardBatchLinearBeforeReset"):
        test_onnx_case(gru, "reference float64")


def test_packed_parameters() -> None:
    """A function without parameters takes nothing from alpha and beta; onnxruntime's defaults."""
    given_ = {
        "activations": ["HardSigmoid", "Tanh", "LeakyRelu"],
        "activation_alpha": [0.3, 0.1],
        "activation_beta": [0.4],
    }
    assert [a.label for a in onnx_activations(given_, 1)] == [
        "hard_sigmoid_onnx(alpha=0.3, beta=0.4)",
        "tanh",
        "leaky_relu(k=0.1)",
    ]
    plain = {"activations": ["Affine", "ScaledTanh", "ThresholdedRelu"]}
    assert [a.value(0.5) for a in onnx_activations(plain, 1)] == [0, 0, 0.5]
