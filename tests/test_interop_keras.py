"""Keras files and layers in and out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anygate import GRU, LSTM, RNN
from anygate.interop.directions import Directions

h5py = pytest.importorskip("h5py")

from anygate.interop import keras as interop  # noqa: E402

PEERS = Path(__file__).parents[2] / "shared" / "peer_cases"
PLAIN = {"name": "enc", "units": 4, "activation": "tanh", "recurrent_activation": "sigmoid"}


def arrays(kind: str = "LSTM", inputs: int = 3, units: int = 4, seed: int = 0) -> list[Any]:
    blocks = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}[kind]
    draw = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(inputs, blocks * units), (units, blocks * units)]
    shapes += [(2, blocks * units) if kind == "GRU" else (blocks * units,)]
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def write_weights(path: Any, groups: dict[str, list[Any]], names: dict[str, str]) -> None:
    """A .weights.h5: arrays by "lstm/cell", names of layers by "lstm"."""
    with h5py.File(path, "w") as file:
        for place, found in groups.items():
            group = file.create_group(f"layers/{place}/vars")
            for k, array in enumerate(found):
                group[str(k)] = array
        for place, name in names.items():
            group = file.require_group(f"layers/{place}/vars")
            group.attrs["name"] = name


def write_keras(path: Path, layers: list[Any], groups: Any, names: Any) -> None:
    """A .keras file."""
    inner = path.with_suffix(".inner.h5")
    write_weights(inner, groups, names)
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(inner, "model.weights.h5")


def one_layer(path: Path, kind: str = "LSTM", **changes: Any) -> Path:
    """A .keras file of a layer called "enc"."""
    layer = {"class_name": kind, "config": {**PLAIN, **changes}}
    write_keras(path, [layer], {"enc/cell": arrays(kind)}, {"enc": "enc"})
    return path


def by_hand(weights: list[Any], x: Any, f: Callable[[Any], Any], gate: Callable[[Any], Any]) -> Any:
    """Keras' LSTM as its documentation has it: kernels with columns i f c o; x [B, T, I]."""
    kernel, recurrent, bias = (np.asarray(w, np.float64) for w in weights)
    h = c = np.zeros((len(x), len(recurrent)))
    outputs = []
    for t in range(x.shape[1]):
        i, k, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, -1)
        c = gate(k) * c + gate(i) * f(g)
        h = gate(o) * f(c)
        outputs.append(h)
    return np.stack(outputs, 1)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


SPECS = [
    ("tanh", np.tanh),
    (None, lambda x: x),
    ("swish", lambda x: x * sigmoid(x)),
    ({"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}, lambda x: np.fmax(x, 0.3 * x)),
    ({"class_name": "LeakyReLU", "config": {"alpha": 0.4}}, lambda x: np.fmax(x, 0.4 * x)),
    ({"class_name": "ReLU", "config": {"max_value": 1.0}}, lambda x: np.clip(x, 0, 1)),
    ({"class_name": "function", "config": "softsign"}, lambda x: x / (1 + np.abs(x))),
]


@pytest.mark.parametrize(("spec", "function"), SPECS, ids=[str(s)[:40] for s, _ in SPECS])
def test_a_keras_file(spec: Any, function: Any, tmp_path: Path) -> None:
    (layer,) = interop.load(one_layer(tmp_path / "m.keras", activation=spec)).values()
    assert isinstance(layer, LSTM)
    assert layer.batch_first
    x = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    expected = by_hand(arrays(), x, function, sigmoid)
    found = layer(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_a_name_meant_before_keras_3(tmp_path: Path) -> None:
    """hard_sigmoid had the slope 0.2."""
    path = one_layer(tmp_path / "m.keras", recurrent_activation="hard_sigmoid")
    new = interop.load(path)["enc"]
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["metadata.json"] = b'{"keras_version": "2.15.0"}'
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    old = interop.load(path)["enc"]
    slopes = [layer.cell.slots["input_gate"].parameters["alpha"] for layer in (new, old)]  # type: ignore[union-attr]
    assert slopes == pytest.approx([1 / 6, 0.2])


@pytest.mark.parametrize(
    ("activation", "said"),
    [
        ({"class_name": "__lambda__", "config": {"value": "4wAAAA=="}}, "lambda.*never loaded"),
        ({"class_name": "function", "config": "os.system"}, "'os.system' is none of Keras'"),
        ("softmax", "'softmax' is none of Keras'"),
        ({"class_name": "PReLU", "config": {}}, "'PReLU' is not known"),
        (["tanh"], "not list"),
    ],
)
def test_an_unknown_activation_is_refused_by_name(
    activation: Any, said: str, tmp_path: Path
) -> None:
    path = one_layer(tmp_path / "m.keras", activation=activation)
    with pytest.raises(ValueError, match=rf"the layer 'enc': .*{said}"):
        interop.load(path)
    assert interop.load(path, only=()) == {}


def test_a_lambda_can_be_given_its_formula(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "m.keras", activation={"class_name": "__lambda__", "config": {}})
    layer = interop.load(path, activations={"<lambda>": "x*sigmoid(x)"})["enc"]
    assert layer.cell.slots["candidate"].formula == "x*sigmoid(x)"  # type: ignore[union-attr]


def test_directions(tmp_path: Path) -> None:
    """Bidirectional, with another layer backward, and go_backwards alone."""
    layers = [
        {
            "class_name": "Bidirectional",
            "config": {"name": "bi", "layer": {"class_name": "GRU", "config": {**PLAIN}}},
        },
        {
            "class_name": "Bidirectional",
            "config": {
                "name": "two",
                "layer": {"class_name": "LSTM", "config": {**PLAIN}},
                "backward_layer": {
                    "class_name": "LSTM",
                    "config": {**PLAIN, "activation": "relu", "go_backwards": True},
                },
            },
        },
        {"class_name": "SimpleRNN", "config": {**PLAIN, "name": "back", "go_backwards": True}},
    ]
    groups = {
        "bidirectional/forward_layer/cell": arrays("GRU", seed=1),
        "bidirectional/backward_layer/cell": arrays("GRU", seed=2),
        "bidirectional_1/forward_layer/cell": arrays(seed=3),
        "bidirectional_1/backward_layer/cell": arrays(seed=4),
        "simple_rnn/cell": arrays("SimpleRNN"),
    }
    names = {"bidirectional": "bi", "bidirectional_1": "two", "simple_rnn": "back"}
    write_keras(tmp_path / "m.keras", layers, groups, names)
    found = interop.load(tmp_path / "m.keras")
    assert isinstance(found["bi"], GRU)
    assert found["bi"].bidirectional
    two, back = found["two"], found["back"]
    assert isinstance(two, Directions)
    assert two.back is not None
    assert str(two.back.cell.slots["candidate"]) == "relu"
    assert isinstance(back, Directions)
    assert back.ahead is None
    x = torch.randn(2, 5, 3)
    assert torch.equal(back(x)[0].flip(1), back.back(x.flip(1))[0])  # type: ignore[misc]
    assert two(x)[0].shape == (2, 5, 8)


def test_weights_alone_need_a_config(tmp_path: Path) -> None:
    path = tmp_path / "m.weights.h5"
    write_weights(path, {"lstm/cell": arrays()}, {"lstm": "enc"})
    with pytest.raises(ValueError, match="does not say its activations"):
        interop.load(path)
    (layer,) = interop.load(path, config={"activation": "relu"}).values()
    assert str(layer.cell.slots["candidate"]) == "relu"  # type: ignore[union-attr]
    config = {
        "class_name": "Sequential",
        "config": {"layers": [{"class_name": "LSTM", "config": {**PLAIN, "activation": "silu"}}]},
    }
    (layer,) = interop.load(path, config=json.dumps(config)).values()
    assert str(layer.cell.slots["candidate"]) == "silu"  # type: ignore[union-attr]


def test_the_older_format(tmp_path: Path) -> None:
    """An .h5, as Keras 2 wrote it."""
    path = tmp_path / "m.h5"
    config = {
        "class_name": "Sequential",
        "config": [
            {"class_name": "LSTM", "config": {**PLAIN, "recurrent_activation": "hard_sigmoid"}}
        ],
    }
    config["config"] = {"layers": config["config"]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
        for name, array in zip(("kernel", "recurrent_kernel", "bias"), arrays(), strict=True):
            file[f"model_weights/enc/enc/lstm_cell_3/{name}:0"] = array
    layer = interop.load(path)["enc"]
    assert isinstance(layer, LSTM)
    assert layer.cell.slots["input_gate"].parameters["alpha"] == 0.2
    assert np.array_equal(layer.weight_ih_l0.detach().numpy(), arrays()[0].T)


# ---- hostile files ----------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = one_layer(tmp_path / "m.keras")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(300_000_000))
    with pytest.raises(ValueError, match="which no model does"):
        interop.load(path)


def test_arrays_that_are_not_in_the_file(tmp_path: Path) -> None:
    """Never filled, in another file, behind a link out of the file."""
    (tmp_path / "other.bin").write_bytes(bytes(1000))
    write_weights(tmp_path / "other.h5", {"x/cell": arrays()}, {})
    for kind in ("unfilled", "external", "link"):
        path = tmp_path / f"{kind}.weights.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("layers/lstm/cell/vars")
            group["1"], group["2"] = arrays()[1:]
            if kind == "unfilled":
                group.create_dataset("0", (1 << 40, 16), "f4", chunks=(1024, 16))
            elif kind == "external":
                outside = [(str(tmp_path / "other.bin"), 0, 192)]
                group.create_dataset("0", (3, 16), "f4", external=outside)
            else:
                target = h5py.ExternalLink("other.h5", "layers/x/cell/vars/0")
                group["0"] = target
        with pytest.raises(ValueError, match=r"lie in another file or are missing|has no LSTM"):
            interop.load(path, config={})


FUZZ = """
import random, sys, tracemalloc
from pathlib import Path
from anygate.interop import keras
draw, content = random.Random(0), Path(sys.argv[1]).read_bytes()
path = Path(sys.argv[1]).with_suffix(".fuzzed.keras")
loaded = 0
tracemalloc.start()
for _ in range(100):
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] = draw.choice((0, 1, 127, 255, 10, 58, 34))
    path.write_bytes(changed[: draw.choice((len(changed), draw.randrange(len(changed))))])
    try:
        loaded += len(keras.load(path))
    except ValueError as error:
        assert len(str(error)) < 2000, error
assert tracemalloc.get_traced_memory()[1] < 100e6
print("loaded", loaded)
"""


def test_changed_bytes_give_a_clear_error_or_a_layer(tmp_path: Path) -> None:
    """In a process of its own: HDF5 is a library in C."""
    path = one_layer(tmp_path / "m.keras")
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(interop.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "loaded" in done.stdout


# ---- out, and live layers ---------------------------------------------------------------------

MODULES = [
    LSTM(3, 4, activation="relu", gate_activation="hard_sigmoid"),
    LSTM(3, 4, bidirectional=True),
    GRU(3, 4, activation="silu"),
    GRU(3, 4, reset_after=False, bias=False),
    RNN(3, 4, activation="softsign", bidirectional=True),
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_weights_out_and_in_again(module: Any) -> None:
    """As a live layer would give them back."""
    config = interop.to_config(module)
    kind = {LSTM: "LSTM", GRU: "GRU", RNN: "SimpleRNN"}[type(module)]

    class Stub:
        name = "stub"

        def get_weights(self) -> Any:
            return interop.to_weights(module)

        def get_config(self) -> Any:
            inner = {"class_name": kind, "config": config}
            return {"layer": inner} if module.bidirectional else config

    Stub.__name__ = "Bidirectional" if module.bidirectional else kind
    again = interop.from_layer(Stub())
    x = torch.randn(2, 5, 3)
    expected = module(x.transpose(0, 1))[0].transpose(0, 1)
    torch.testing.assert_close(again(x)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "module",
    [LSTM(3, 4, peephole=True), LSTM(3, 4, clip=1.0), LSTM(3, 4, forget_gate="1")],
    ids=str,
)
def test_what_keras_has_not_is_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="other framework"):
        interop.to_weights(module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_live_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras itself: values both ways, masks, and all three files."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    k = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            k.LSTM(
                4,
                return_sequences=True,
                activation="mish",
                recurrent_activation="hard_sigmoid",
                name="a",
            ),
            k.Bidirectional(k.GRU(3, return_sequences=True, reset_after=False), name="b"),
            k.SimpleRNN(
                3,
                return_sequences=True,
                go_backwards=True,
                name="c",
                activation=k.LeakyReLU(negative_slope=0.3),
            ),
            k.RNN(k.GRUCell(2), return_sequences=True, name="d"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(model(x))
    paths = [tmp_path / name for name in ("m.keras", "m.h5", "m.weights.h5")]
    model.save(paths[0])
    model.save(paths[1])
    model.save_weights(paths[2])
    for path in paths:
        config = model.to_json() if path == paths[2] else None
        found = interop.load(path, config)
        y = torch.from_numpy(x)
        for name in "abcd":
            y = found[name](y)[0]
            y = y.flip(1) if name == "c" else y
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    ours = LSTM(3, 4, activation="gelu", batch_first=True)
    theirs = k.LSTM(**interop.to_config(ours), return_state=True)
    theirs.build((None, None, 3))
    theirs.set_weights(interop.to_weights(ours))
    mask = np.arange(6) < np.array([[6], [3]])
    output, h, c = (keras.ops.convert_to_numpy(t) for t in theirs(x, mask=mask))
    y, (h_n, c_n) = ours(torch.from_numpy(x), mask=torch.from_numpy(mask))
    for a, b in ((h_n[0], h), (c_n[0], c), (y[mask], output[mask])):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-4, atol=1e-5)


def matrix(tensor: Any) -> Any:
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def stub_of(case: dict[str, Any]) -> Any:
    """A live layer with the config and the weights of a case."""
    both = case["layer"] == "Bidirectional"
    groups = case["weights"].values() if both else [case["weights"]]
    found = [matrix(w) for group in groups for w in group.values() if w is not None]
    inner = {**case["config"], "use_bias": len(found) > (4 if both else 2)}
    config = {"layer": {"class_name": "LSTM", "config": inner}} if both else inner
    methods = {"get_weights": lambda self: found, "get_config": lambda self: config}
    return type(case["layer"], (), {"name": case["id"], **methods})()


@pytest.mark.skipif(not PEERS.is_dir(), reason=f"{PEERS} is not here")
@pytest.mark.parametrize(("name", "count"), [("keras_tf23", 10), ("keras_lstm", 18)])
@torch.no_grad()
def test_cases_of_keras(name: str, count: int) -> None:
    """Cases of the last output, which is the state after the last step: the numbers of TensorFlow
    2.3 and of Keras' own tests, with masks, initial states and states that are kept."""
    ran = 0
    for case in json.loads((PEERS / f"{name}_cases.json").read_text())["cases"]:
        if "output" not in case["expected"]:  # whole sequences with masked steps, which differ
            continue
        layer, states = interop.from_layer(stub_of(case)), None
        for call in case["calls"]:
            if call["initial_state"] is not None:
                given = [torch.from_numpy(matrix(s)) for s in call["initial_state"]]
                states = (torch.stack(given[::2]), torch.stack(given[1::2]))
            mask = call["mask"] and torch.from_numpy(matrix(call["mask"]) != 0)
            _, states = layer(torch.from_numpy(matrix(call["inputs"])), states, mask=mask)
        h = torch.cat(tuple(states[0]), -1)
        expected = matrix(case["expected"]["output"])
        np.testing.assert_allclose(
            h.numpy(), expected, rtol=case["rtol"], atol=case["atol"], err_msg=case["id"]
        )
        ran += 1
    assert ran == count
