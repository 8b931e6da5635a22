"""Other people's numbers: the LSTM cases of ONNX Runtime, nGraph, ONNX, Keras and PopART, through
the reference and the eager engine. They lie beside the checkout and not in it; see their README.
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
from anygate.formulas.cell import PEEPHOLES, SLOTS, Cell

from anygate import LSTM
from anygate.engines import eager, reference
from anygate.formulas import ACTIVATIONS, Activation, resolve
from anygate.nn import operator

FOLDER = Path(__file__).parents[2] / "shared" / "peer_cases"
ONNX_FILES = ("ort_lstm", "ort_training_lstm", "ngraph_lstm", "onnx_node", "keras2onnx_lstm")
KERAS_FILES = ("keras_tf23", "keras_lstm")
ENGINES = ("reference", "eager float64", "eager float32", "cpu float64", "cpu float32")

# file -> (cases that run, why each other is left out and how many)
EXPECTED: dict[str, tuple[int, dict[str, int]]] = {
    "ort_lstm": (37, {}),
    "ort_training_lstm": (1, {}),
    "ngraph_lstm": (13, {}),
    "onnx_node": (6, {}),
    "keras2onnx_lstm": (10, {}),
    "keras_tf23": (10, {}),
    "keras_lstm": (16, {"mask": 4}),
    "tflite_lstm": (4, {"projection bias": 1}),
}

Array = np.ndarray[Any, Any]


@lru_cache
def load(name: str) -> list[dict[str, Any]]:
    """The LSTM cases of a file; none where the folder is not there."""
    path = FOLDER / f"{name}_cases.json"
    if not path.exists():
        return []
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [c for c in cases if c.get("op", "LSTM") == "LSTM"]


def array(tensor: dict[str, Any] | None) -> Any:
    return None if tensor is None else np.array(tensor["data"], float).reshape(tensor["shape"])


def left_out(case: dict[str, Any]) -> str | None:
    """Why a case does not run; None if it does."""
    if any(call["mask"] is not None for call in case.get("calls", [])):
        return "mask"
    return "projection bias" if case.get("projection_bias") else None


def one_direction(
    engine: str, cell: Cell, x: Array, state: tuple[Array, Array], weights: tuple[Any, ...],
    reverse: bool, peepholes: dict[str, Array] | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """output [T, B, H], h and c [B, H] by an engine; weights in the order i f g o."""
    w, r, b = weights
    if engine == "reference":
        run = reference.run(cell, x, *state, w, r, b, peepholes, reverse)
        return run.output, run.h, run.c
    name, kind = engine.split()
    dtype = getattr(torch, kind)

    def tensor(a: Any) -> Any:
        return None if a is None else torch.tensor(a, dtype=dtype)

    first = [tensor(a) for a in (x, *state, w, r)]
    vectors = {k: tensor(v) for k, v in (peepholes or {}).items()}
    if name == "cpu":
        zeros = None if b is None else torch.zeros(len(b), dtype=dtype)
        stacked = torch.stack([*vectors.values()]) if vectors else None
        key = operator.cell_key(cell)
        results = operator.run(key, reverse, *first, tensor(b), zeros, stacked, None)
    else:
        results = eager.run(cell, *first, tensor(b), vectors, reverse)
    return tuple(t.double().numpy() for t in results)  # type: ignore[return-value]


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


def onnx_activations(attributes: dict[str, Any], directions: int) -> list[Activation]:
    """Three for each direction. alpha and beta are packed lists: a function that has none takes
    nothing from them."""
    alphas = list(attributes.get("activation_alpha", []))
    betas = list(attributes.get("activation_beta", []))
    found = []
    for name in attributes.get("activations", ["Sigmoid", "Tanh", "Tanh"] * directions):
        ours, keys, defaults = ONNX[name.lower()]
        lists = (alphas, betas)
        values = {key: lists[k].pop(0) if lists[k] else defaults[k] for k, key in enumerate(keys)}
        found.append(ACTIVATIONS[ours](**values))
    assert not alphas
    assert not betas
    return found


def iofc_to_ifgo(matrix: Array) -> Array:
    i, o, f, c = np.split(matrix, 4, 0)
    return np.concatenate([i, f, c, o])


def run_onnx(case: dict[str, Any], engine: str) -> dict[str, Array]:
    """Y [T, D, B, H], Y_h and Y_c [D, B, H]; rows of different lengths one by one."""
    attributes, inputs = case["attributes"], {k: array(v) for k, v in case["inputs"].items()}
    batch_first = attributes.get("layout", 0) == 1
    x = inputs["X"].swapaxes(0, 1) if batch_first else inputs["X"]
    way = attributes.get("direction", "forward")
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[way]
    steps, rows, hidden = x.shape[0], x.shape[1], attributes["hidden_size"]
    lengths = inputs["sequence_lens"]
    lengths = [steps] * rows if lengths is None else [int(n) for n in lengths]
    functions = onnx_activations(attributes, len(reverses))
    y = np.zeros((steps, len(reverses), rows, hidden))
    ends = {"h": np.zeros(y.shape[1:]), "c": np.zeros(y.shape[1:])}
    for d, reverse in enumerate(reverses):
        f, g, h = functions[3 * d : 3 * d + 3]
        clip = attributes.get("clip")
        cell = Cell(
            f, f, g, f, h, peephole=inputs.get("P") is not None,
            coupled=bool(attributes.get("input_forget")), clip=clip or None,
        )  # fmt: skip
        peepholes = None
        if inputs.get("P") is not None:
            parts = np.split(inputs["P"][d], 3)  # ONNX: i o f
            order = ("input_gate", "output_gate", "forget_gate")
            named = {f"{gate}.peephole": p for gate, p in zip(order, parts, strict=True)}
            peepholes = {name: named[name] for name in PEEPHOLES}
        bias = inputs["B"]
        if bias is not None:
            bias = iofc_to_ifgo(bias[d][: 4 * hidden] + bias[d][4 * hidden :])
        weights = (iofc_to_ifgo(inputs["W"][d]), iofc_to_ifgo(inputs["R"][d]), bias)
        for row, length in enumerate(lengths):
            state = tuple(
                np.zeros((1, hidden)) if s is None else s[d][row : row + 1]
                for s in (inputs["initial_h"], inputs["initial_c"])
            )
            if length == 0:  # onnxruntime and ONNX: an empty row gives zeros
                continue
            part = x[:length, row : row + 1]
            out, h_end, c_end = one_direction(
                engine, cell, part, state, weights, reverse, peepholes
            )  # type: ignore[arg-type]
            y[:length, d, row] = out[:, 0]
            ends["h"][d, row], ends["c"][d, row] = h_end[0], c_end[0]
    if batch_first:
        return {
            "Y": y.transpose(2, 0, 1, 3),
            "Y_h": ends["h"].swapaxes(0, 1),
            "Y_c": ends["c"].swapaxes(0, 1),
        }
    return {"Y": y, "Y_h": ends["h"], "Y_c": ends["c"]}


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
@pytest.mark.parametrize("case", _cases(ONNX_FILES))
def test_onnx_case(case: dict[str, Any], engine: str) -> None:
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
    cell = Cell(gates, gates, inner, gates, inner)
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
            weights_ = (*own, array(part.get("bias")))
            _, *after = one_direction(engine, cell, x, before, weights_, reverse)
            states[d] = tuple(after)
    return states


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", _cases(KERAS_FILES))
def test_keras_case(case: dict[str, Any], engine: str) -> None:
    states = run_keras(case, engine)
    assert not case["config"].get("return_sequences")
    expected = case["expected"]
    found = {"output": np.concatenate([h for h, _ in states], -1)}
    for way, (h, c) in zip(("forward", "backward"), states, strict=False):
        found |= {f"h_{way}": h, f"c_{way}": c}
    for name, tensor in expected.items():
        compare(found[name], array(tensor), case, name)


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
            values["i"] = -values["f"]
        state |= {f"{names[g]}_peephole_l0": v for g, v in values.items()}
    if coupled:
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            _, f, g, o = state[name].chunk(4)
            state[name] = torch.cat([-f, f, g, o])
    module = LSTM(
        case["input_size"], case["hidden_size"], proj_size=case["proj_size"],
        bidirectional=case.get("bidirectional", False), peephole=bool(peephole),
        coupled=coupled, dtype=torch.float64, engine=engine,
    )  # fmt: skip
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
    test_onnx_case(case, "reference")
    monkeypatch.setitem(globals(), "iofc_to_ifgo", lambda m: m)
    with pytest.raises(AssertionError, match="hardsigmoid"):
        test_onnx_case(case, "reference")


def test_packed_parameters() -> None:
    """A function without parameters takes nothing from alpha and beta; onnxruntime's defaults."""
    given_ = {
        "activations": ["HardSigmoid", "Tanh", "LeakyRelu"],
        "activation_alpha": [0.3, 0.1],
        "activation_beta": [0.4],
    }
    assert [a.label for a in onnx_activations(given_, 1)] == [
        "hard_sigmoid_onnx(alpha=0.3, beta=0.4)", "tanh", "leaky_relu(k=0.1)",
    ]  # fmt: skip
    plain = {"activations": ["Affine", "ScaledTanh", "ThresholdedRelu"]}
    assert [a.value(0.5) for a in onnx_activations(plain, 1)] == [0, 0, 0.5]
    assert set(SLOTS) == set(Cell().slots)
