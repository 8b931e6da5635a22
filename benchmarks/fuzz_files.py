"""Fuzz what reads models of strangers: ONNX, .keras, .weights.h5 and .h5 files, configurations and
checkpoints.

    python benchmarks/fuzz_files.py --kind onnx --count 3000 --seed 0    # all kinds without --kind

Each case is a sound file with one to three changes: bytes flipped, cut or overwritten, fields of
its messages and its JSON replaced, and what an attacker would write: sizes without data, data in
other files, links, cycles, graphs within graphs, archives that unpack to too much. It is read in a
forked child, which must give modules or one sentence as a ValueError: within 10 s of processor time
and 512 MiB beyond what the process had, with nothing executed, no other program started, nothing
written, and nothing in the modules that lies outside the file's folder. POSIX only.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from fuzz_folders import RAW, VALUES, places, similar
from torch import nn

import anygate

SECONDS, MEMORY, LONGEST = 10.0, 512 << 20, 4000
MARK = 1234.5
"""Every number of the files outside; it must not come back."""
NUMBERS = (0, 1, 2, -1, 7, 127, 255, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))
NAMES = ("", "x", "a\nb", "\x1b[31mred", "../../x", "/etc/passwd", "n" * 5000, "\u202eabc", "{0}")
LSTM_MAPS = ("kernel:0", "recurrent_kernel:0", "bias:0")

Change = Callable[[random.Random, Path, Path], str]


# ---- bytes and JSON --------------------------------------------------------------------------


def change_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, put in, repeat, or write an extreme number of 1 to 8 bytes."""
    spoilt = bytearray(content)
    if not spoilt:
        return b"\x00"
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(spoilt))
        what = rng.randrange(6)
        if what == 0:
            spoilt[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            spoilt[place] = rng.choice((0, 1, 127, 128, 255, 10, 27, 34, 58))
        elif what == 2:
            size = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
            spoilt[place : place + size] = number.to_bytes(size, "little")
        elif what == 3:
            end = min(len(spoilt), place + rng.randrange(1, 64))
            spoilt[place:place] = spoilt[place:end]
        elif what == 4:
            del spoilt[place : place + rng.randrange(1, 64)]
        elif rng.random() < 0.2:
            del spoilt[place:]
        if not spoilt:
            return b""
    return bytes(spoilt)


def change_json(rng: random.Random, value: Any) -> str:
    """JSON text with something else in place of one to three fields."""
    value, raws = copy.deepcopy(value), {}
    for turn in range(rng.choice((1, 1, 2, 3))):
        every = list(places(value))
        if not every:
            break
        container, key = rng.choice(every)
        what = rng.randrange(12)
        if what == 0:
            del container[key]
        elif what == 1:
            short = len(json.dumps(container[key])) < 500
            container[key] = [container[key]] * (rng.choice((2, 5000)) if short else 2)
        elif what == 2 and isinstance(container, dict):
            container[str(rng.choice((*VALUES, *NAMES)))[:10000]] = container.pop(key)
        elif what == 3 and isinstance(container[key], dict):
            container[key][str(rng.choice(VALUES))[:100]] = rng.choice(VALUES)
        elif what == 4:
            container[key] = copy.deepcopy(rng.choice(every)[0])
        elif what == 5:
            raws[f"@{turn}@"] = rng.choice((*RAW, "1" * 350, '{"a":' * 900 + "1" + "}" * 900))
            container[key] = f"@{turn}@"
        elif what < 10 and isinstance(container[key], float | int | str | None):
            container[key] = fitting(rng, container[key])
        else:
            container[key] = rng.choice((*VALUES, *NUMBERS, *NAMES, 10**400, True))
    text = json.dumps(value)
    for name, raw in raws.items():
        if len(raw) * text.count(f'"{name}"') < 5_000_000:
            text = text.replace(f'"{name}"', raw)
    return text if len(text) < 5_000_000 else "{" * 1_000_000


def fitting(rng: random.Random, value: Any) -> Any:
    """A value of the same kind, which often has a meaning there."""
    if value is None:
        return rng.choice((1.0, 0.5, 7, -1.0, 1e-300, 1e300))
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, 0, 1, 2, 3, 4, 999, 10**6, *NUMBERS))
    if isinstance(value, str) and rng.random() < 0.7:
        return rng.choice(MEANT)
    return similar(rng, value)


MEANT = (
    *("relu", "silu", "leaky_relu(k=0.2)", "leaky_relu(k=1e300)", "x*sigmoid(x)", "k*x", "1/x"),
    *("x**300", "exp(exp(x))", "where(x > 0, x, candidate(x))", "max(x, 1e308)", "0*x", "1e400*x"),
    *("LSTM", "GRU", "RNN", "LSTMCell", "Recurrent", "RecurrentCell", "Bidirectional", "LeakyReLU"),
    *(
        "h",
        "z",
        "c",
        "candidate",
        "rate",
        "h = z",
        "h = h_before",
        "h = candidate(h)",
        "h = mean(z)",
    ),
    *("h = candidate(candidate(candidate(z)))", "m = z*m_before", "__import__('os').system('id')"),
    *("unit", "eager", "cpu", "cuda", "reference", "hard_sigmoid", "linear", "swish", "softmax"),
    *("concat", "sum", "lambda x: x", "<lambda>", "__lambda__", "Lambda", "enc", "bi"),
)

# ---- ONNX ------------------------------------------------------------------------------------


def onnx_files() -> dict[str, bytes]:
    """Sound files: operators, Scans with their descriptions, weights that are rearranged."""
    from onnx import helper

    from tests.onnx_files import layer_file

    layers = {
        "LSTM": (anygate.LSTM(3, 4, peephole=True, gate_activation="hard_sigmoid"), ("lengths",)),
        "GRU": (anygate.GRU(3, 4), ()),
        "RNN": (anygate.RNN(3, 4, activation="leaky_relu"), ("states",)),
        "Scan": (anygate.LSTM(3, 4, activation="silu", clip=2.0), ()),
        "Scan learnt": (anygate.GRU(3, 4, activation="prelu", trainable="unit"), ("cuts",)),
    }
    models = {name: layer_file(layer.eval(), given)[0] for name, (layer, given) in layers.items()}
    turned = copy.deepcopy(models["GRU"])
    (node,) = (n for n in turned.graph.node if n.op_type == "GRU")
    perm = {"perm": [0, 2, 1]}
    turned.graph.node.insert(0, helper.make_node("Transpose", [node.input[1]], ["back"], **perm))
    turned.graph.node.insert(1, helper.make_node("Transpose", ["back"], ["again"], **perm))
    node.input[1] = "again"
    models["turned"] = turned
    return {name: model.SerializeToString() for name, model in models.items()}


def messages(message: Any) -> list[Any]:
    """A protobuf message and all within it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            inner = value if field.is_repeated else [value]
            found += [deeper for one in inner for deeper in messages(one)]
    return found


def change_message(rng: random.Random, model: Any) -> str:
    """Something else in one field of one message."""
    message = rng.choice(messages(model))
    field = rng.choice(message.DESCRIPTOR.fields)
    name, repeated = field.name, field.is_repeated
    text = rng.choice((*NAMES, "LSTM", "Scan", "Tanh", "1e400"))
    values = {
        field.CPPTYPE_STRING: text if field.type == field.TYPE_STRING else text.encode(),
        field.CPPTYPE_FLOAT: rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))),
        field.CPPTYPE_DOUBLE: rng.choice((0.0, 1e300, float("nan"))),
        field.CPPTYPE_INT64: rng.choice(NUMBERS),
        field.CPPTYPE_UINT64: rng.choice(NUMBERS) % 2**64,
        field.CPPTYPE_INT32: rng.choice(NUMBERS) % 2**31,
        field.CPPTYPE_ENUM: rng.choice((0, 1, 2, 5, 10, 11)),
        field.CPPTYPE_BOOL: rng.random() < 0.5,
    }
    what = rng.randrange(4)
    if field.message_type is not None:
        if repeated and len(getattr(message, name)):
            entries = getattr(message, name)
            if what == 0:
                del entries[rng.randrange(len(entries))]
            else:
                entries.append(copy.deepcopy(rng.choice(entries)))
        elif what == 0:
            message.ClearField(name)
    elif what == 0:
        message.ClearField(name)
    elif repeated:
        entries = getattr(message, name)
        if what == 1 and len(entries):
            entries[rng.randrange(len(entries))] = values[field.cpp_type]
        else:
            entries.extend([values[field.cpp_type]] * rng.choice((1, 1, 3, 5000)))
    else:
        setattr(message, name, values[field.cpp_type])
    return f"{message.DESCRIPTOR.name}.{name}"


def huge(rng: random.Random, model: Any) -> str:
    """Sizes without data, also where a size of zero makes the product small."""
    tensor = rng.choice(model.graph.initializer)
    tensor.dims[:] = rng.choice(
        ([2**62], [2**31, 2**31], [0, 2**62], [2**62, 0, 4], [1] * 5000, [-1, -1], [], [2**40, 0])
    )
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")
    return f"dims {list(tensor.dims)[:4]}"


def elsewhere(rng: random.Random, model: Any, outside: Path) -> str:
    """A tensor whose data lie in another file."""
    from onnx import TensorProto

    tensor = rng.choice(model.graph.initializer)
    location = rng.choice(
        (
            str(outside / "precious.bin"),
            "../outside/precious.bin",
            "link.bin",
            "pipe",
            ".",
            "",
            "none.bin",
            "n" * 5000,
            "a/" * 3000,
            "in\0side",
            "\x1b[31m.bin",
            "case.onnx",
            "/dev/zero",
            "/proc/self/environ",
            "inside.bin",
        )
    )
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": rng.choice(("0", "8", "-1", "9" * 30, "x", "²"))}
    if rng.random() < 0.5:
        entries["length"] = rng.choice((str(size), "0", "9" * 19, "1e3"))
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return f"external {location[:30]!r}"


def within(rng: random.Random, model: Any) -> str:
    """The graph as a branch of If, several times."""
    from onnx import TensorProto, helper

    deep = rng.choice((1, 2, 8, 12, 20, 40))
    graph = copy.deepcopy(model.graph)
    del graph.input[:]
    for _ in range(deep):
        choice = helper.make_tensor("choice", TensorProto.BOOL, [], [True])
        node = helper.make_node("If", ["choice"], ["out"], then_branch=graph, else_branch=graph)
        both = rng.random() < 0.2  # twice as many graphs with every level
        if not both:
            del node.attribute[1]
        end = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        graph = helper.make_graph([node], "outer", [], [end], [choice])
        if graph.ByteSize() > 300_000:
            break
    model.graph.CopyFrom(graph)
    return f"within {deep} graphs"


def worked_out(rng: random.Random, model: Any) -> str:
    """A weight that nodes make: in a circle, doubled again and again, of a thousand parts, by
    numbers that are none, or shared by thousands of layers."""
    from onnx import helper, numpy_helper

    graph = model.graph
    tensor = rng.choice(graph.initializer)
    name, what = tensor.name, rng.randrange(9)
    tensor.name = "kept"
    node = helper.make_node
    made: list[Any] = []
    if what == 0:
        made = [node("Identity", ["b"], [name]), node("Identity", [name], ["b"])]
    elif what == 1:
        names = ["kept", *(f"d{k}" for k in range(rng.choice((10, 29, 60)))), name]
        kind = rng.choice(("Concat", "Add"))
        more = {"axis": 0} if kind == "Concat" else {}
        made = [node(kind, [a, a], [b], **more) for a, b in pairwise(names)]
    elif what == 2:
        graph.initializer.append(numpy_helper.from_array(np.zeros(100_000, np.float32), "wide"))
        made = [node("Concat", ["wide"] * 50_000, [name], axis=0)]
    elif what in (3, 4, 5):
        odd = rng.choice(
            (
                np.array([np.inf]),
                np.array([np.nan]),
                np.array([2**62, 2**62]),
                np.array([-1, -1]),
                np.array(["x"], object),
                np.array([[1]]),
                np.array([], np.int64),
                np.array([0, 2**40]),
                np.arange(5000),
            )
        )
        entry = numpy_helper.from_array(odd, "odd")
        graph.initializer.append(entry)
        kind = rng.choice(("Reshape", "Unsqueeze", "Squeeze", "Slice", "Add", "Concat"))
        given = ["kept", *["odd"] * (4 if kind == "Slice" else 1)]
        if rng.random() < 0.3:
            given[rng.randrange(len(given))] = ""
        made = [node(kind, given, [name], **({"axis": 0} if kind == "Concat" else {}))]
    elif what == 6:
        to = rng.choice((0, 1, 6, 7, 8, 9, 10, 11, 16, 99))
        made = [node("Cast", ["kept"], [name], to=to)]
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.inf, np.float32).tobytes()
    elif what == 7:
        made = [node("Transpose", ["kept"], [name], perm=rng.choice(([0, 0], [9], [-1] * 99)))]
    else:
        tensor.name = name
        big = [t for t in graph.initializer if len(t.dims) == 3]
        for weight in big:
            weight.dims[2] *= 200
            weight.raw_data = weight.raw_data * 200
        ours = [n for n in graph.node if n.op_type in ("LSTM", "GRU", "RNN", "Scan")]
        for _ in range(2000):
            graph.node.extend(copy.deepcopy(ours[:1]))
    for k, one in enumerate(made):
        graph.node.insert(k, one)
    return f"worked out ({what})"


def change_onnx(rng: random.Random, path: Path, outside: Path) -> str:
    """One change of an ONNX file."""
    import onnx

    if rng.random() < 0.3:
        path.write_bytes(change_bytes(rng, path.read_bytes()))
        return "bytes"
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception:  # noqa: BLE001 - an earlier change left no model
        return "nothing left"
    what = rng.random()
    if not model.graph.initializer:
        what = 0.0
    if what < 0.45:
        done = change_message(rng, model)
    elif what < 0.6:
        entries = [e for n in model.graph.node for e in n.metadata_props if e.value[:1] == "{"]
        done = "description"
        if entries:
            content = json.loads(entries[0].value)
            if rng.random() < 0.5:
                content["cell"] = change_json(rng, json.loads(content["cell"]))
                entries[0].value = json.dumps(content)
            else:
                entries[0].value = change_json(rng, content)
    elif what < 0.7:
        done = huge(rng, model)
    elif what < 0.8:
        done = elsewhere(rng, model, outside)
    elif what < 0.87:
        done = within(rng, model)
    else:
        done = worked_out(rng, model)
    path.write_bytes(model.SerializeToString())
    return done


def read_onnx(path: Path) -> Any:
    """The layers of the file."""
    return anygate.interop.onnx.load(path)


# ---- Keras -----------------------------------------------------------------------------------


def keras_files() -> dict[str, dict[str, Any]]:
    """A sound .keras as its parts, a .weights.h5 and an .h5 as bytes."""
    import h5py

    draw = np.random.default_rng(0)
    plain = {"units": 4, "activation": "tanh", "recurrent_activation": "sigmoid"}

    def arrays(blocks: int, rows: int = 0) -> list[Any]:
        shapes = [(3, 4 * blocks), (4, 4 * blocks), (rows, 4 * blocks) if rows else (4 * blocks,)]
        return [draw.normal(size=shape).astype(np.float32) for shape in shapes]

    def entry(kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {"class_name": kind, "config": {"name": name, **plain, **more}}

    leaky = {"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}
    relu = {"class_name": "ReLU", "config": {"max_value": 6.0, "negative_slope": 0.1}}
    around = {"name": "bi", "layer": entry("GRU", "gru"), "merge_mode": "concat"}
    one_cell = {"name": "rnn", "cell": entry("LSTMCell", "cell", activation=relu)}
    layers = [
        entry("LSTM", "enc", activation=leaky),
        {"class_name": "Bidirectional", "config": around},
        {"class_name": "RNN", "config": one_cell},
        entry("SimpleRNN", "back", go_backwards=True),
    ]
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for place, name, found in (
            ("lstm/cell", "enc", arrays(4)),
            ("bidirectional/forward_layer/cell", "bi", arrays(3, 2)),
            ("bidirectional/backward_layer/cell", "bi", arrays(3, 2)),
            ("rnn/cell", "rnn", arrays(4)),
            ("simple_rnn/cell", "back", arrays(1)),
        ):
            group = file.create_group(f"layers/{place}/vars")
            for k, array in enumerate(found):
                group[str(k)] = array
            file.require_group(f"layers/{place.partition('/')[0]}/vars").attrs["name"] = name
    old = io.BytesIO()
    with h5py.File(old, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
        for place, found in (
            ("enc/enc/lstm_cell", arrays(4)),
            ("bi/bi/forward_gru/gru_cell", arrays(3, 2)),
            ("bi/bi/backward_gru/gru_cell", arrays(3, 2)),
            ("rnn/rnn/lstm_cell_1", arrays(4)),
            ("back/back/simple_rnn_cell", arrays(1)),
        ):
            for name, array in zip(LSTM_MAPS, found, strict=True):
                file[f"model_weights/{place}/{name}"] = array
    metadata = {"keras_version": "3.5.0"}
    whole = {"config": config, "metadata": metadata, "weights": weights.getvalue()}
    return {"keras": whole, "weights": whole, "h5": {"config": config, "weights": old.getvalue()}}


def packed(parts: dict[str, Any]) -> bytes:
    """The bytes of a .keras file."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        archive.writestr("metadata.json", json.dumps(parts["metadata"]))
        archive.writestr("config.json", json.dumps(parts["config"]))
        archive.writestr("model.weights.h5", parts["weights"])
    return found.getvalue()


def change_archive(rng: random.Random, path: Path, outside: Path) -> str:
    """One change of a .keras file."""
    if rng.random() < 0.25:
        path.write_bytes(change_bytes(rng, path.read_bytes()))
        return "bytes"
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # noqa: BLE001 - an earlier change left no archive
        return "nothing left"
    method, what = zipfile.ZIP_STORED, rng.randrange(10)
    later: list[tuple[str, bytes]] = []
    if what < 4 and "config.json" in parts:
        try:
            parts["config.json"] = change_json(rng, json.loads(parts["config.json"])).encode()
        except (ValueError, RecursionError):
            parts["config.json"] = change_bytes(rng, parts["config.json"])
        done = "config"
    elif what < 7 and "model.weights.h5" in parts:
        inner = path.with_suffix(".inner")
        inner.write_bytes(parts["model.weights.h5"])
        done = change_h5(rng, inner, outside)
        parts["model.weights.h5"] = inner.read_bytes()
        inner.unlink()
    elif what == 7:
        method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        name = rng.choice(("config.json", "metadata.json", "model.weights.h5"))
        content = too_much(method, name, rng.randrange(3))
        path.write_bytes(content if rng.random() < 0.7 else change_bytes(rng, content))
        return f"unpacks to much ({method}, {name})"
    elif what == 8:
        name = rng.choice(list(parts) or ["x"])
        done = f"member {name}"
        if rng.random() < 0.5:
            parts.pop(name, None)
        else:
            later = [(name, b"{}"), ("../../outside/new", b"x"), ("/x\x1b[31m", b"x")]
    else:
        if "metadata.json" in parts:
            parts["metadata.json"] = change_json(rng, {"keras_version": "3.5.0"}).encode()
        done = "metadata"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, content in [*parts.items(), *later]:
            archive.writestr(name, content)
    return done


@lru_cache
def too_much(method: int, name: str, what: int) -> bytes:
    """An archive of small files that become large, and larger still as Python's objects."""
    filler = (b"[" * 30_000_000, bytes(90_000_000), b"{}," * 9_000_000)[what]
    parts = {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b""}
    parts[name] = filler if name != "config.json" else b'{"a":[' + filler + b"{}]}"
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", method, compresslevel=1) as archive:
        for key, content in parts.items():
            archive.writestr(key, content)
    return found.getvalue()


def change_h5(rng: random.Random, path: Path, outside: Path) -> str:
    """One change of an HDF5 file."""
    import h5py

    if rng.random() < 0.3:
        path.write_bytes(change_bytes(rng, path.read_bytes()))
        return "bytes"
    try:
        with h5py.File(path, "r+") as file:
            return change_h5_inside(rng, file, outside)
    except Exception as error:  # noqa: BLE001 - an earlier change left no such file
        return f"nothing left ({type(error).__name__})"


def change_h5_inside(rng: random.Random, file: Any, outside: Path) -> str:
    """Another array, link, group or attribute."""
    import h5py

    sets: list[str] = []
    groups: list[str] = ["/"]
    file.visititems(lambda n, o: (sets if isinstance(o, h5py.Dataset) else groups).append(n))
    if not sets:
        return "nothing left"
    name, what = rng.choice(sets), rng.randrange(19)
    shape, home = file[name].shape, file[rng.choice(groups)]
    if what < 11:
        del file[name]
    if what == 0:
        shapes = ((), (0,), (0, 0), (1, 1), (4, 4), (3, 16, 1), (16,), (2, 16), (2**20, 0), (5,))
        file[name] = np.full(rng.choice(shapes), 0.5, np.float32)
    elif what == 1:
        kinds = ("f2", "f8", "i4", "u1", "?", "S3", "g", "c8", ">f4")
        file[name] = np.zeros(shape, rng.choice(kinds))
    elif what == 2:
        file.create_dataset(name, rng.choice(((2**40, 16), (2**31, 2**28), (2**20, 16))), "f4")
    elif what == 3:
        chunks = rng.choice(((2**14, 2**13), (2**15, 2**12)))
        data = {"shape": shape, "maxshape": (None,) * len(shape), "dtype": "f4"}
        chunks = chunks if len(shape) == 2 else (2**27,)
        made = file.create_dataset(name, chunks=chunks, compression="gzip", **data)
        if rng.random() < 0.005:  # slow to make: half a gigabyte
            made[...] = 1.0
        return f"chunks ({what})"
    elif what == 4:
        file.create_dataset(name, (2**18,), "f4", compression="gzip", data=np.zeros(2**18, "f4"))
    elif what == 5:
        place = rng.choice((outside / "precious.bin", Path("../outside/precious.bin")))
        file.create_dataset(name, shape, "f4", external=[(str(place), 0, h5py.h5f.UNLIMITED)])
    elif what == 6:
        layout = h5py.VirtualLayout(shape, "f4")
        source = h5py.VirtualSource(str(outside / "precious.h5"), "data", shape)
        layout[...] = source
        file.create_virtual_dataset(name, layout)
    elif what == 7:
        file[name] = h5py.ExternalLink(str(outside / "precious.h5"), "data")
    elif what == 8:
        file[name] = h5py.SoftLink(rng.choice(("/", "/layers", name, "/none")))
    elif what == 9:
        file[name] = file[rng.choice(groups)]
    elif what == 10:
        file.create_dataset(name, shape, "f4", fletcher32=True, chunks=True)
    elif what == 11:
        for k in range(rng.choice((1, 2, 3))):
            home[f"again {k}"] = file[rng.choice(groups)]
    elif what == 12:
        home.create_group("/".join(["g"] * rng.choice((10, 40, 400))))
    elif what == 13:
        text = rng.choice((*NAMES, "3", 7, np.zeros(1000), "é", b"\xff\xfe", h5py.Empty("S1")))
        home.attrs[rng.choice(("name", "keras_version", "layer_names", "model_config"))] = text
    elif what == 14 and "model_config" in file.attrs:
        text = change_json(rng, json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = text[:60_000]
    elif what == 16:  # each group twice in the one before: as many ways as 2 to the power of 24
        deeper = home
        for _ in range(24):
            deeper = deeper.create_group("one")
            deeper.parent["two"] = deeper
        deeper["end"] = file[name].parent
    elif what == 17:  # a large array in many layers
        del file[name]
        file[name] = np.ones((4096, 16), "f4")
        for k in range(500):
            home[f"layer {k}"] = file[name].parent.parent.parent
    elif what == 18:  # links to outside where groups are looked for
        for key in ("model_weights", "layers", "cell", "vars"):
            if key not in home:
                home[key] = h5py.ExternalLink(str(outside / "precious.h5"), "/")
    else:
        new = rng.choice((b"\xff\xfe", b"a\x1b[31mb", b"a\nb", "é".encode(), b"n" * 3000))
        home[new] = file[rng.choice(groups)]
    return f"h5 {name} ({what})"


def read_keras(path: Path) -> Any:
    """The layers of the file; activations of a .weights.h5 are given."""
    config = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    given = config if path.name.endswith(".weights.h5") else None
    return anygate.interop.keras.load(path, config=given)


# ---- configurations and checkpoints ----------------------------------------------------------

LEAKY = anygate.CellType(
    "leaky integrator",
    products=("z",),
    states=("h",),
    slots={"candidate": "tanh"},
    vectors={"rate": 0.1},
    lines="h = (1 - rate)*h_before + rate*candidate(z)",
)


def model(name: str, plain: bool) -> nn.ModuleDict:
    """A model of one module."""
    home: Any = nn if plain else anygate
    given: Any = {} if plain else {"activation": "leaky_relu(k=0.2)"}
    more: Any = {} if plain else {"trainable": "unit", "forget_gate": "x/(1 + abs(x))"}
    makers: dict[str, Callable[[], nn.Module]] = {
        "lstm": lambda: home.LSTM(3, 4, 2, bidirectional=True, **given, **more),
        "gru": lambda: home.GRU(3, 4, **given),
        "step": lambda: home.LSTMCell(3, 4, **given),
        "own": lambda: anygate.Recurrent(LEAKY, 3, 4, **({} if plain else {"candidate": "relu"})),
    }
    return nn.ModuleDict({name: makers[name]()})


MODULES = ("lstm", "gru", "step", "own")


def change_text(rng: random.Random, path: Path, outside: Path) -> str:
    """One change of a JSON file."""
    text = path.read_bytes()
    try:
        if rng.random() < 0.9:
            path.write_text(change_json(rng, json.loads(text)))
            return "field"
    except (ValueError, RecursionError):
        pass
    path.write_bytes(change_bytes(rng, text))
    return "bytes"


def read_config(path: Path) -> Any:
    """A model with the configuration, and a module of each description by itself."""
    text = path.read_bytes().decode(errors="surrogateescape")
    name = next((m for m in MODULES if f'"{m}"' in text), "lstm")
    target = model(name, plain=True)
    anygate.apply(target, text)
    for described in json.loads(text)["modules"].values():
        anygate.build(described)
    return target


def read_checkpoint(path: Path) -> Any:
    """A model with a state_dict in which the cell is what the file says."""
    content = path.read_bytes()
    name = next((m for m in MODULES if KINDS_OF[m].encode() in content), "own")
    target = model(name, plain=False)
    state = target.state_dict()
    state[f"{name}._extra_state"] = torch.tensor(list(content), dtype=torch.float32)
    try:
        target.load_state_dict(state)
    except RuntimeError as error:  # torch's own way to say what does not fit
        raise ValueError(str(error)) from None
    return target


KINDS_OF = {"lstm": "candidate.k", "gru": '"GRU"', "step": '"LSTM"', "own": "leaky integrator"}
"""Texts that the cell of each module alone has."""


def checkpoint_texts() -> list[bytes]:
    """The cells in state_dicts, as their text."""
    states = [model(name, plain=False).state_dict() for name in MODULES]
    entries = [(k, v) for state in states for k, v in state.items()]
    return [bytes(v.to(torch.uint8).tolist()) for k, v in entries if k.endswith("_extra_state")]


# ---- one case --------------------------------------------------------------------------------


class Kinds:
    """Sound files of every kind, made once."""

    def __init__(self, names: Sequence[str]) -> None:
        self.sound: dict[str, list[bytes]] = {}
        if "onnx" in names:
            self.sound["onnx"] = list(onnx_files().values())
        if {"keras", "weights", "h5"} & set(names):
            found = keras_files()
            self.sound["keras"] = [packed(found["keras"])]
            self.sound["weights"] = [found["weights"]["weights"]]
            self.sound["h5"] = [found["h5"]["weights"]]
        configs = [anygate.config(model(name, plain=False)) for name in MODULES]
        self.sound["config"] = [json.dumps(config).encode() for config in configs]
        self.sound["checkpoint"] = checkpoint_texts()


FORMS: dict[str, tuple[str, Change, Callable[[Path], Any]]] = {
    "onnx": ("case.onnx", change_onnx, read_onnx),
    "keras": ("case.keras", change_archive, read_keras),
    "weights": ("case.weights.h5", change_h5, read_keras),
    "h5": ("case.h5", change_h5, read_keras),
    "config": ("case.json", change_text, read_config),
    "checkpoint": ("case.json", change_text, read_checkpoint),
}
"""By kind the file's name, how it is changed and what reads it."""
STARTS = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "webbrowser.", "pickle.")
HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")


def watch(found: list[str]) -> None:
    """Note what reading a file never does: code, programs, sockets, files that are written."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                found.append(f"open {path!r:.80}")
        elif event in ("exec", "marshal.loads"):  # formulas are parsed: "compile" without "exec"
            if "importlib" not in sys._getframe(1).f_code.co_filename:
                found.append(f"{event} {arguments[0]!r:.120}")
        elif event.startswith(STARTS) and event not in HARMLESS:
            found.append(f"{event} {arguments!r:.120}")

    sys.addaudithook(hook)


def numbers(found: Any) -> list[Any]:
    """The parameters of a module, or of modules by name."""
    modules = [found] if isinstance(found, nn.Module) else list(found.values())
    return [p for module in modules for p in module.parameters()]


def judge(read: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    """In the child: ("", outcome), or what is wrong."""
    events: list[str] = []
    said = [""]
    watch(events)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read(path)
        except ValueError as error:
            said, outcome = [str(error)], "refused"
        else:
            outcome = "read"
            if any(bool((p == MARK).any()) for p in numbers(found)):
                return "numbers of a file outside", outcome
    if events:
        return f"not only read: {events[:3]}", outcome
    for warning in caught:
        if warning.category is not UserWarning:
            return f"a warning of Python: {warning.message!s:.200}", outcome
        said.append(str(warning.message))
    for text in said:
        of_torch = path.suffix == ".json"  # several problems, each in a line
        one_line = text.translate({9: "", 10: ""}) if of_torch else text
        if len(text) > LONGEST or not one_line.isprintable():
            return f"not printable, or {len(text)} characters: {text[:300]!r}", outcome
    if outcome == "refused" and len(said[0]) < 10:
        return f"no sentence: {said[0]!r}", outcome
    return "", outcome


def state(folder: Path) -> dict[str, Any]:
    """Names, sizes and times of everything in a folder."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_mtime_ns, p.lstat().st_size)
        for p in sorted(folder.rglob("*"))
    }


def case(kinds: Kinds, kind: str, seed: int) -> tuple[str, list[str], str, float, int]:
    """Read one: (what is wrong or "", the changes, the outcome, seconds of processor time, bytes
    beyond what the process had)."""
    rng = random.Random(f"{kind} {seed}")
    name, change, read = FORMS[kind]
    with tempfile.TemporaryDirectory() as scratch:
        folder, outside = Path(scratch) / "in", Path(scratch) / "outside"
        folder.mkdir()
        outside.mkdir()
        path = folder / name
        path.write_bytes(rng.choice(kinds.sound[kind]))
        precious = struct.pack("<512f", *[MARK] * 512)
        (outside / "precious.bin").write_bytes(precious)
        if kind == "onnx":
            (folder / "inside.bin").write_bytes(precious.replace(precious[:4], bytes(4)))
            (folder / "link.bin").symlink_to(outside / "precious.bin")
            os.mkfifo(folder / "pipe")
        elif kind in ("keras", "weights", "h5"):
            (outside / "precious.h5").write_bytes(outside_h5())
        changes = []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            try:
                changes.append(change(rng, path, outside))
            except Exception as error:  # noqa: BLE001 - of what makes the files
                changes.append(f"an earlier one left nothing to change ({type(error).__name__})")
        before = state(Path(scratch))
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(receive)
                limit()
                resting = memory()
                wrong, outcome = judge(read, path)
                used = peak() - resting
                if used > MEMORY:
                    wrong = wrong or f"{used >> 20} MiB"
                os.write(send, json.dumps([wrong, outcome, used]).encode())
                code = 0
            except BaseException:  # noqa: BLE001 - this is what is looked for
                text = traceback.format_exc()
                shown = text[:300] + " ... " + text[-900:]
                os.write(send, json.dumps([shown, "failed", 0]).encode())
            finally:
                os._exit(code)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            said = pipe.read()
        _, status, used = os.wait4(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        seconds = used.ru_utime + used.ru_stime
        wrong, outcome, size = json.loads(said) if said else (f"ended by {ended}", "failed", 0)
        if not wrong and seconds > SECONDS:
            wrong = f"{seconds:.1f} s"
        if not wrong and state(Path(scratch)) != before:
            wrong = "something was written"
        return wrong, changes, outcome, seconds, size


@lru_cache
def outside_h5() -> bytes:
    """An HDF5 file that no other may lead to."""
    import h5py

    found = io.BytesIO()
    with h5py.File(found, "w") as file:
        file["data"] = np.full((3, 16), MARK, np.float32)
    return found.getvalue()


def memory() -> int:
    """Bytes of memory that the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    """The most bytes of memory that the process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit() -> None:
    """Twice the processor time, or four times the memory, ends the child."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(2 * SECONDS), int(3 * SECONDS)))
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + 4 * MEMORY,) * 2)


def warm(kinds: Kinds, names: Sequence[str]) -> None:
    """Read the sound files, so that children find everything imported."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in names:
            name, _, read = FORMS[kind]
            for content in kinds.sound[kind]:
                (Path(folder) / name).write_bytes(content)
                read(Path(folder) / name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", choices=list(FORMS), action="append", help="all without it")
    parser.add_argument("--count", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; they count on")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a forked child has no other threads
    names = options.kind or list(FORMS)
    kinds = Kinds(names)
    warm(kinds, names)
    failed = 0
    for kind in names:
        started, outcomes, slowest, most = time.monotonic(), Counter[str](), 0.0, 0
        for seed in range(options.seed, options.seed + options.count):
            wrong, changes, outcome, seconds, used = case(kinds, kind, seed)
            outcomes[outcome] += 1
            slowest, most = max(slowest, seconds), max(most, used)
            if wrong:
                failed += 1
                print(f"{kind} seed {seed} ({'; '.join(changes)}): {wrong}", flush=True)
        print(
            f"{options.count} files of {kind} in {time.monotonic() - started:.0f} s: "
            f"{dict(outcomes)}, slowest {slowest:.1f} s of processor time, at most "
            f"{most >> 20} MiB more",
            flush=True,
        )
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
