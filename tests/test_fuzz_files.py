"""A few of the thousands of files that benchmarks/fuzz_files.py changes and reads, and those of
them that were once read wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import anygate
from anygate import GRU, LSTM

FUZZ = Path(__file__).parents[1] / "benchmarks" / "fuzz_files.py"
NEEDS = {"onnx": ("onnx", "onnxruntime"), "keras": ("h5py",), "weights": ("h5py",), "h5": ("h5py",)}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["onnx", "keras", "weights", "h5", "config", "checkpoint"])
def test_changed_files_end_with_a_sentence_or_modules(kind: str) -> None:
    for package in NEEDS.get(kind, ()):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--kind", kind, "--count", "25", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(anygate.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"25 files of {kind} in ")


# ---- ONNX ------------------------------------------------------------------------------------


def written(tmp_path: Path, change: Any) -> Path:
    """The file of a GRU's operator after `change(model, its node)`."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.onnx_files import layer_file

    model, _ = layer_file(GRU(3, 4, engine="eager").eval())
    (node,) = (n for n in model.graph.node if n.op_type == "GRU")
    change(model, node)
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def computed(kind: str, others: list[np.ndarray[Any, Any]], **attributes: Any) -> Any:
    """A change: the node's W comes out of a node of this kind."""
    from onnx import helper, numpy_helper

    def change(model: Any, node: Any) -> None:
        names = [f"other {k}" for k in range(len(others))]
        pairs = zip(others, names, strict=True)
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for a, n in pairs)
        made = helper.make_node(kind, [node.input[1], *names], ["made"], **attributes)
        model.graph.node.insert(0, made)
        node.input[1] = "made"

    return change


@pytest.mark.parametrize(
    ("kind", "others", "attributes", "said"),
    [
        ("Reshape", [np.array([np.inf])], {}, "1 numbers of float64 for a few whole ones"),
        ("Reshape", [], {}, "it needs 2 inputs"),
        ("Add", [], {}, "it needs 2 inputs"),
        ("Concat", [], {}, "Concat has no 'axis'"),
        ("Slice", [np.array([0])], {}, "no starts and ends"),
        ("Unsqueeze", [np.arange(5000)], {}, "5000 numbers of int64 for a few whole ones"),
        ("Cast", [], {"to": 99}, "a type 99, not of numbers"),
    ],
)
def test_nodes_that_make_no_sense_are_named(
    kind: str, others: Any, attributes: Any, said: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    path = written(tmp_path, computed(kind, others, **attributes))
    with pytest.raises(ValueError, match=said):
        anygate.interop.onnx.load(path)


def test_what_a_file_joins_or_shares_again_and_again_takes_no_memory(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    wide = numpy_helper.from_array(np.zeros((1, 50_000), np.float32), "wide")

    def joined(model: Any, node: Any) -> None:
        model.graph.initializer.append(wide)
        made = helper.make_node("Concat", ["wide"] * 20_000, ["made"], axis=0)
        model.graph.node.insert(0, made)
        node.input[1] = "made"

    def shared(model: Any, node: Any) -> None:
        weight = next(t for t in model.graph.initializer if t.name == node.input[1])
        weight.dims[2] *= 20_000
        weight.raw_data = weight.raw_data * 20_000
        model.graph.node.extend([node] * 1000)

    for change in (joined, shared):
        path = written(tmp_path, change)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="computed or used again"):
                anygate.interop.onnx.load(path)
            assert tracemalloc.get_traced_memory()[1] < 300e6
        finally:
            tracemalloc.stop()


def test_layers_without_number_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    def many(model: Any, node: Any) -> None:
        model.graph.node.extend([node] * 5000)

    with pytest.raises(ValueError, match="more than 4,096 layers; only= reads some"):
        anygate.interop.onnx.load(written(tmp_path, many))


@pytest.mark.parametrize("location", ["n" * 5000, "a/" * 3000, "../outside", "/dev/zero"])
def test_tensors_in_files_that_are_not_there_or_outside(location: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    def outside(model: Any, node: Any) -> None:
        weight = next(t for t in model.graph.initializer if t.name == node.input[1])
        weight.ClearField("raw_data")
        weight.data_location = 1
        weight.external_data.add(key="location", value=location)

    with pytest.raises(ValueError, match="which is no file in the folder"):
        anygate.interop.onnx.load(written(tmp_path, outside))


def test_names_with_escapes_are_printable_in_messages(tmp_path: Path) -> None:
    pytest.importorskip("onnx")

    def named(model: Any, node: Any) -> None:
        node.name, node.input[1] = "a\x1b[31m\nb", "c\x1bd"

    with pytest.raises(ValueError, match="nowhere in the file") as error:
        anygate.interop.onnx.load(written(tmp_path, named))
    assert str(error.value).isprintable()


# ---- Keras -----------------------------------------------------------------------------------

ARRAYS = [np.ones(shape, np.float32) for shape in ((3, 16), (4, 16), (16,))]
CONFIG = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def weights(tmp_path: Path, change: Any) -> Path:
    """A .weights.h5 of an LSTM after `change(file, its group of arrays)`."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "changed.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        for k, array in enumerate(ARRAYS):
            group[str(k)] = array
        change(file, group)
    return path


def test_chunks_that_are_larger_than_the_array(tmp_path: Path) -> None:
    """Unpacked they were half a gigabyte."""

    def change(file: Any, group: Any) -> None:
        del group["0"]
        whole: Any = {"maxshape": (None, None), "chunks": (2**10, 2**10), "dtype": "f4"}
        group.create_dataset("0", (3, 16), compression="gzip", **whole)[...] = 1.0

    with pytest.raises(ValueError, match="compressed, lie in another file or are missing"):
        anygate.interop.keras.load(weights(tmp_path, change), config=CONFIG)


def test_groups_with_many_names_end_at_once(tmp_path: Path) -> None:
    def twice(file: Any, group: Any) -> None:
        """As many ways to the end as 2 to the power of 24."""
        deeper = file
        for _ in range(24):
            deeper = deeper.create_group("one")
            deeper.parent["two"] = deeper

    def often(file: Any, group: Any) -> None:
        del group["0"]
        group["0"] = np.ones((4096, 16), np.float32)
        for k in range(100):
            own = file.create_group(f"layers/l{k}")
            own["cell"] = group.parent

    for change, said in ((twice, "in several places"), (often, "arrays or the name of another")):
        with pytest.raises(ValueError, match=said):
            anygate.interop.keras.load(weights(tmp_path, change), config=CONFIG)


def test_a_link_out_of_the_file_is_not_followed_for_groups(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name, array in zip(("kernel", "recurrent_kernel", "bias"), ARRAYS, strict=True):
            file[f"model/x/{name}"] = array

    def change(file: Any, group: Any) -> None:
        del file["layers"]
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "model")

    with pytest.raises(ValueError, match="has no LSTM"):
        anygate.interop.keras.load(weights(tmp_path, change), config=CONFIG)


@pytest.mark.parametrize("bias", [np.float32(1), np.ones((1, 1, 16), np.float32)])
def test_a_bias_of_another_rank(bias: Any, tmp_path: Path) -> None:
    def change(file: Any, group: Any) -> None:
        del group["2"]
        group["2"] = bias

    with pytest.raises(ValueError, match="a bias of the shape"):
        anygate.interop.keras.load(weights(tmp_path, change), config=CONFIG)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"class_name": ["LSTM"], "config": {"name": "lstm"}}, "does not say its activations"),
        (
            {"name": "lstm", "activation": {"class_name": "ELU", "config": {"alpha": 10**400}}},
            "which no activation has",
        ),
    ],
)
def test_configs_of_odd_types(config: Any, said: str, tmp_path: Path) -> None:
    layer = config if "class_name" in config else {"class_name": "LSTM", "config": config}
    model = {"class_name": "Sequential", "config": {"layers": [layer]}}

    def change(file: Any, group: Any) -> None:
        file.require_group("layers/lstm/vars").attrs["name"] = "lstm"

    with pytest.raises(ValueError, match=said):
        anygate.interop.keras.load(weights(tmp_path, change), config=model)


def test_an_archive_that_is_packed_otherwise(tmp_path: Path) -> None:
    import zipfile

    pytest.importorskip("h5py")
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    with pytest.raises(ValueError, match="packed in a way that Keras does not use"):
        anygate.interop.keras.load(path)


# ---- configurations and checkpoints ----------------------------------------------------------


def test_an_engine_that_there_is_not_is_a_field_that_is_wrong() -> None:
    data = anygate.config(torch.nn.ModuleDict({"a": LSTM(3, 4)}))
    data["modules"]["a"]["options"]["engine"] = "warp"
    with pytest.raises(ValueError, match="no engine is called 'warp'"):
        anygate.apply(torch.nn.ModuleDict({"a": torch.nn.LSTM(3, 4)}), data)


def test_a_cell_with_escapes_is_printable_in_the_message() -> None:
    layer = LSTM(3, 4, activation="relu")
    state = layer.state_dict()
    text = bytes(state["_extra_state"].to(torch.uint8).tolist())
    for old in (b'"relu"', b'"candidate"'):
        changed = text.replace(old, b'"a\\u001b[31mb"')
        state["_extra_state"] = torch.tensor(list(changed), dtype=torch.float32)
        with pytest.raises(RuntimeError) as error:
            layer.load_state_dict(state)
        assert str(error.value).replace("\n", "").replace("\t", "").isprintable()


@pytest.mark.parametrize("text", ["\ud800", "\ufffe", "a\x1b[31mb"])
def test_a_formula_with_escapes_is_printable_in_the_message(text: str) -> None:
    data = anygate.describe(LSTM(3, 4))
    data["activations"]["candidate"] = text
    with pytest.raises(ValueError, match="candidate: ") as error:
        anygate.build(data)
    assert str(error.value).replace("\n", "").isprintable()
