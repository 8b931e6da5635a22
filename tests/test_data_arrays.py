"""Sequences with classes (.npz, .ts), texts and the IDX files of MNIST: what is read, and that what
is wrong with one is said in one sentence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_bytes import TEXTS, a_task_or_a_sentence, damaged, refused
from examples import examples
from hypothesis import example, given
from hypothesis import strategies as st

from anygate.lab.tasks import TaskError, file_task, find_task
from anygate.lab.tasks import images as images_module
from anygate.lab.tasks import npz as npz_module
from anygate.lab.tasks.ts import read_cases


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all drawn examples of a test."""
    return tmp_path_factory.mktemp("scratch")


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ---- .npz -----------------------------------------------------------------------------------


def arrays(count: int = 40, steps: int = 6, features: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(count, steps, features)), "y": np.arange(count) % 3}


def npz(path: Path, **changes: Any) -> Path:
    np.savez(path, **(arrays() | changes))
    return path


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i4", "u1", "bool"])
@pytest.mark.parametrize(
    "labels", [np.arange(40) % 3, (np.arange(40) % 3) * 1.0, np.array([*"abca"] * 10)]
)
def test_sequences_and_classes_of_any_kind_of_number(
    dtype: str, labels: Any, tmp_path: Path
) -> None:
    x = (np.maximum(arrays()["x"], 0) * 10).astype(dtype)
    task = file_task(str(npz(tmp_path / "my.npz", x=x, y=labels)))
    data = task.load(0)
    assert (task.outputs, task.steps) == (3, 6) and data.train_x.shape == (32, 6, 2)
    assert len(data.test_y) == 8
    flat = data.train_x.double().flatten(0, 1)
    # Centred and scaled by the part for training: 192 numbers in float32.
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(flat.std(0, unbiased=False), 1, atol=1e-6)


def test_sequences_keep_their_classes_and_compressed_files_are_the_same(tmp_path: Path) -> None:
    y = np.arange(40) % 4
    x = np.repeat(y[:, None], 5, 1)  # [N, T]: one feature
    np.savez_compressed(tmp_path / "small.npz", x=x, y=y)
    task, plain = (
        file_task(str(p)) for p in (tmp_path / "small.npz", npz(tmp_path / "small2.npz", x=x, y=y))
    )
    assert task.data == plain.data
    data = task.load(2)
    for x_, y_ in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        order = x_[:, 0, 0].argsort()
        assert (y_[order].diff() >= 0).all()  # the value is the class, scaled
    assert sorted(torch.cat([data.train_y, data.test_y]).tolist()) == sorted(y.tolist())


RAGGED = np.empty(40, dtype=object)
RAGGED[:] = [np.zeros(k % 3 + 1) for k in range(40)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x": RAGGED}, "x holds Python objects, which are never loaded; is it ragged"),
        ({"y": np.array([None] * 40)}, "y holds Python objects"),
        ({"x": np.zeros(40)}, r"x must be \[N, T, I\] or \[N, T\] and y \[N\], not \[40\] and"),
        ({"y": np.arange(40)[:, None] % 2}, r"one class for each sequence, not \[40, 1\]"),
        ({"y": np.zeros((40, 3, 1))}, r"values \[N\] or \[N, K\], not \[40, 3, 1\]"),
        ({"x": np.zeros((40, 3, 2), complex)}, "x must hold real numbers, not complex128"),
        ({"x": np.full((40, 3), "a")}, "x must hold real numbers, not <U1"),
        ({"x": np.zeros((40, 3), "M8[s]")}, "x must hold real numbers"),
        ({"y": np.full(40, np.nan)}, "y must hold finite values"),
        ({"y": np.geomspace(1, 1e300, 40)}, "of which the squares are finite"),
        ({"y": np.full(40, 0.5)}, "the same value for every sequence"),
        ({"y": np.full(40, 1j)}, r"y must hold classes .* not \[40\] of complex128"),
        ({"y": np.zeros(40, int)}, "has one class only, '0'"),
        ({"y": np.arange(40)}, "has 40 classes for 40 sequences; .* --metric relative_error"),
        ({"y": np.arange(39) % 2}, "has 40 sequences and 39 classes"),
        ({"x": np.zeros((9, 3)), "y": np.arange(9) % 2}, "has 9 sequences; 10 or more"),
        ({"x": np.zeros((40, 0, 2))}, "sequences of 0 steps with 2 features"),
        ({"x": np.zeros((40, 3, 0))}, "sequences of 3 steps with 0 features"),
        ({"x": np.ones((40, 3))}, "the same number everywhere"),
        ({"x": np.where(np.arange(120).reshape(40, 3) == 7, np.nan, 1)}, r"x\[2, 1, 0\] is nan"),
        ({"x": np.where(np.arange(120).reshape(40, 3) == 7, 1e300, 1)}, r"x\[2, 1, 0\] is inf"),
    ],
)
def test_what_is_wrong_with_arrays(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    refused(npz(tmp_path / "my.npz", **changes), said, None)


def test_other_names_in_an_npz_are_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "my.npz", inputs=np.zeros(3), labels=np.zeros(3))
    refused(
        tmp_path / "my.npz", "holds 'inputs', 'labels', not x and y; write it with np.savez", None
    )
    np.savez(tmp_path / "my.npz")
    refused(tmp_path / "my.npz", "holds nothing, not x and y", None)
    (tmp_path / "my.npz").write_bytes(b"no zip")
    refused(tmp_path / "my.npz", "is no sound .npz file", None)


class _Trap:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    trapped = np.empty(40, dtype=object)
    trapped[:] = [_Trap(tmp_path / "sprung")] * 40
    npz(tmp_path / "my.npz", x=trapped)
    refused(tmp_path / "my.npz", "holds Python objects", None)
    (tmp_path / "my2.npz").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    refused(tmp_path / "my2.npz", "no sound .npz", None)
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "my.npz", allow_pickle=True)["x"]
    assert (tmp_path / "sprung").exists()  # the trap works


def zipped(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def test_a_size_that_a_header_only_claims_is_not_believed(tmp_path: Path) -> None:
    x, y = arrays().values()
    honest = npy(x)
    lie = honest.replace(b"(40, 6, 2)", b"(40, 9**9)").replace(b"9**9", b"9999")
    assert lie != honest and len(lie) == len(honest)
    path = zipped(tmp_path / "my.npz", x=lie, y=npy(y))
    refused(path, r"x is damaged: its size and its shape \[40, 9999\] do not agree", None)


def test_a_small_file_cannot_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "my.npz", x=npy(np.zeros((40, 100_000))), y=npy(np.arange(40) % 2))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(npz_module, "LARGEST", 2**20)
    refused(path, "x holds 31 MiB, as float32; at most 1 are read", None)


# ---- .ts ------------------------------------------------------------------------------------

HEAD = "# made by hand\n@problemName toy\n@timeStamps false\n@univariate true\n"
HEAD += "@classLabel true up down\n@data\n"
CASES = [f"{k}.5,{k * k},-1e-2:{'up' if k % 2 else 'down'}" for k in range(12)]


def ts(path: Path, cases: list[str] = CASES, head: str = HEAD) -> Path:
    path.write_text(head + "\n".join(cases) + "\n")
    return path


def test_a_ts_file_is_read(tmp_path: Path) -> None:
    task = file_task(str(ts(tmp_path / "Toy.ts")))
    assert (task.steps, task.outputs, task.name) == (3, 2, "Toy") and not task.same_data
    cases = read_cases(tmp_path / "Toy.ts")
    assert {x.shape for x in cases.sequences} == {(3, 1)} and cases.targets[:2] == ["down", "up"]
    assert cases.sequences[2][:, 0].tolist() == pytest.approx([2.5, 4.0, -0.01])
    two = ts(tmp_path / "Two.ts", [c.replace(":", ":7,8,9:") for c in CASES])
    x = read_cases(two).sequences
    assert len(x) == 12 and x[0].shape == (3, 2) and x[5][:, 1].tolist() == [7, 8, 9]


def test_the_split_of_the_archive_is_kept(tmp_path: Path) -> None:
    train, test = ts(tmp_path / "Toy_TRAIN.ts", CASES[:8]), ts(tmp_path / "Toy_TEST.ts", CASES[8:])
    task = file_task(str(train))
    assert task.name == "Toy" and task.same_data
    assert task.load(0).digest == task.load(1).digest
    data = task.load(0)
    assert (len(data.train_y), data.test_y.tolist()) == (8, [0, 1, 0, 1])
    assert data.train_y.tolist() == [0, 1] * 4
    # A test file alone, or a training file without one, is split by the seed.
    ts(test, CASES)
    assert not file_task(str(test)).same_data
    ts(test, [c.replace("up", "left") for c in CASES])
    refused(train, "Toy_TEST.ts has the class 'left', which Toy_TRAIN.ts has not", None)
    ts(test, [c.replace(":", ":7,8,9:") for c in CASES])
    refused(train, "Toy_TEST.ts has 2 dimensions, Toy_TRAIN.ts has 1", None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2,3", "line 12 has no class after the last colon"),
        ("1,2,3:", "has no class after"),
        ("1,2:1,2,3:up", "line 12 has 2 dimensions, the first case has 1"),
        ("1,2,3:4,5,6:up", "line 12 has 2 dimensions, the first case has 1"),
        ("1,?,3:up", r"line 12: a value is missing \('\?'\)"),
        ("1,,3:up", "a value is missing"),
        ("1,NaN,3:up", "a value is missing"),
        ("1,two,3:up", "line 12: 'two' is not a number"),
        ("1,inf,3:up", "'inf' is not a number"),
        ("1,1e999,3:up", r"x\[5, 1, 0\] is inf"),
        ("(0,1),(1,2),(2,3):up", "is not a number"),
    ],
)
def test_a_bad_case_is_named_with_its_line(line: str, said: str, tmp_path: Path) -> None:
    refused(ts(tmp_path / "Toy.ts", [*CASES[:5], line, *CASES[6:]]), said, None)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("", "line 1 stands before a line @data"),
        ("@timeStamps true\n@data\n", "line 2: series with time stamps are not read"),
        ("@classLabel false\n@data\n", "the cases have no classes"),
        ("@targetLabel true\n@data\n", "the target 'down' is not a number"),
        ("@data\n#", "1 sequence|has 11 sequences"),
    ],
)
def test_a_head_that_cannot_be_honoured(head: str, said: str, tmp_path: Path) -> None:
    if head.endswith("#"):
        file_task(str(ts(tmp_path / "Toy.ts", head=head)))  # a comment takes one case away
        return
    refused(ts(tmp_path / "Toy.ts", head=head), said, None)


def test_a_ts_file_without_cases(tmp_path: Path) -> None:
    refused(ts(tmp_path / "Toy.ts", []), "has no cases after a line @data", None)
    (tmp_path / "video.ts").write_bytes(b"G@\x00\x10" * 100)
    refused(tmp_path / "video.ts", "zero bytes", None)


# ---- text and IDX ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"short", "has 5 characters; 1000 or more are needed"),
        (b"a" * 2000, "repeats one character"),
        (b"\xff\xfea\0" * 900, "UTF-16"),
        (b"caf\xe9 " * 900, "line 1: byte 0xe9 is not UTF-8"),
    ],
)
def test_texts_that_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(TaskError, match=said):
        find_task(f"chars:{tmp_path / 'book.txt'}")


def test_a_text_of_many_different_characters_and_a_long_one(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(chr(0x4E00 + k * 7919 % 500) for k in range(3000)))
    task = find_task(f"chars:{path}")
    assert task.outputs == 128 and task.load(0).train_x.size(-1) == 128
    path.write_text("to be or not to be, " * 20_000)
    task = find_task(f"chars:{path}")
    assert "the first 200,000 characters of book.txt" in task.description
    path.write_text("to be or not to be, " * 20_001)
    assert find_task(f"chars:{path}").data == task.data  # the same characters are used


def idx(path: Path, array: Any, *, kind: int = 8) -> None:
    array = np.asarray(array, dtype=np.uint8)
    head = bytes([0, 0, kind, array.ndim])
    head += b"".join(n.to_bytes(4, "big") for n in array.shape)
    packed = (
        gzip.compress(head + array.tobytes()) if path.suffix == ".gz" else head + array.tobytes()
    )
    path.write_bytes(packed)


def mnist_folder(root: Path, ending: str = "-idx{}-ubyte") -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        idx(root / (f"{part}-images" + ending.format(3)), rng.integers(0, 256, (20, 3, 3)))
        idx(root / (f"{part}-labels" + ending.format(1)), np.arange(20) % 10)
    return root


@pytest.mark.parametrize("ending", ["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte"])
def test_mnist_under_its_usual_names(ending: str, tmp_path: Path) -> None:
    task = find_task(f"mnist-rows:{mnist_folder(tmp_path, ending)}")
    assert (task.steps, task.outputs, task.baseline) == (3, 10, 0.1)
    first = mnist_folder(tmp_path)
    assert find_task(f"mnist-rows:{first}").data == task.data


def spoil(root: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (root / name).write_bytes(change((root / name).read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "holds 179; it may be cut off"),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "holds 181; it may be cut off"),
        ("train-images-idx3-ubyte", lambda b: b[:7], "is no IDX file of bytes with 3 dimensions"),
        ("train-images-idx3-ubyte", lambda b: b"\0\0\x0d" + b[3:], "is no IDX file of bytes"),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: b[:4] + bytes([255] * 4) + b[8:],
            "says that it holds 4294967295 bytes; at most 67,108,864",
        ),
        ("t10k-labels-idx1-ubyte", lambda b: b[:4] + bytes(4), "is empty"),
        (
            "t10k-labels-idx1-ubyte",
            lambda b: b[:7] + b"\x13" + b[8:-1],
            "t10k-images-idx3-ubyte holds 20 images, t10k-labels-idx1-ubyte 19 labels",
        ),
        (
            "t10k-images-idx3-ubyte",
            lambda b: b[:11] + b"\x09" + b[12:15] + b"\x01" + b[16:],
            "for training are 3x3 pixels, those for testing 9x1",
        ),
    ],
)
def test_what_is_wrong_with_idx_files(
    name: str, change: Callable[[bytes], bytes], said: str, tmp_path: Path
) -> None:
    spoil(mnist_folder(tmp_path), name, change)
    with pytest.raises(TaskError, match=said):
        find_task(f"mnist:{tmp_path}")


def test_missing_and_packed_idx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match=r"holds no train-images-idx3-ubyte \(or"):
        find_task(f"mnist:{tmp_path}")
    mnist_folder(tmp_path, "-idx{}-ubyte.gz")
    idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((200, 3, 3)))
    monkeypatch.setattr(images_module, "LARGEST_IDX", 1000)
    with pytest.raises(TaskError, match="unpacks to more than"):
        find_task(f"mnist:{tmp_path}")
    monkeypatch.undo()
    mnist_folder(tmp_path, "-idx{}-ubyte.gz")
    spoil(tmp_path, "t10k-labels-idx1-ubyte.gz", lambda b: b[:-9])
    with pytest.raises(TaskError, match=r"t10k-labels-idx1-ubyte\.gz cannot be unpacked"):
        find_task(f"mnist:{tmp_path}")


# ---- whatever the bytes are -----------------------------------------------------------------

BUFFER = io.BytesIO()
np.savez(BUFFER, **arrays(12, 3, 1))
NPZ = BUFFER.getvalue()
TS = (HEAD + "\n".join(CASES) + "\n").encode()


@examples(300)
@given(st.one_of(damaged(NPZ), st.binary(max_size=60)))
@example(NPZ)
def test_any_bytes_as_npz(scratch: Path, content: bytes) -> None:
    path = written(scratch / "my.npz", content)
    a_task_or_a_sentence(lambda: file_task(str(path)))


@examples(200)
@given(damaged(npy(arrays(12, 3, 1)["x"])))
def test_any_array_in_an_npz(scratch: Path, content: bytes) -> None:
    path = zipped(scratch / "my.npz", x=content, y=npy(np.arange(12) % 2))
    a_task_or_a_sentence(lambda: file_task(str(path)))


@examples(300)
@given(st.one_of(damaged(TS), TEXTS.map(lambda t: b"@data\n" + t.encode())))
@example(TS)
@example(TS.replace(b"-1e-2", b"-1e-2\x1c", 1))  # found by a longer search
def test_any_bytes_as_ts(scratch: Path, content: bytes) -> None:
    path = written(scratch / "my.ts", content)
    a_task_or_a_sentence(lambda: file_task(str(path)))


@examples(100)
@given(st.one_of(st.binary(min_size=900, max_size=2000), st.text(min_size=1000).map(str.encode)))
def test_any_bytes_as_text(scratch: Path, content: bytes) -> None:
    path = written(scratch / "book.txt", content)
    a_task_or_a_sentence(lambda: find_task(f"chars:{path}"))


@examples(100)
@given(st.data())
def test_any_bytes_as_idx(scratch: Path, data: st.DataObject) -> None:
    mnist_folder(scratch)
    name = data.draw(st.sampled_from(sorted(p.name for p in scratch.glob("*ubyte"))))
    written(scratch / name, data.draw(damaged((scratch / name).read_bytes())))
    a_task_or_a_sentence(lambda: find_task(f"mnist:{scratch}"))
