"""Tasks from a user's file: forecasting a CSV column, or classes of sequences (.npz, .ts)."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .base import ACCURACY, Data, Settings, Task, TaskError
from .columns import column
from .reading import contents, digest, label, shown, text
from .series import WINDOW, forecast, passes

__all__ = ["classify", "file_task"]

LARGEST = 256 * 2**20
"""Bytes of the numbers of one file as float32; to scale them takes five times as much memory."""
LARGEST_TEXT, LONGEST_CASE = 64 * 2**20, 1_000_000
"""Bytes of a .ts file, and numbers in one of its lines."""
MOST_ENTRIES = 1_000
"""Arrays in an archive."""
LEAST = 10
"""Sequences that are needed at least."""
_TESTED = 5  # a fifth is for testing
_AT_ONCE = 256  # sequences that are scaled together

_Floats = NDArray[np.float32]


def file_task(path: str, target: str | None = None, window: int | None = None) -> Task:
    """The task of a data file, by its ending: .npz and .ts hold sequences with classes, anything
    else is a CSV file of which the column `target` is to be forecast. Raises TaskError."""
    file = Path(path)
    if file.suffix.lower() in (".npz", ".ts"):
        if target is not None or window is not None:
            raise TaskError(
                f"--target and --window belong to CSV files; {path} says itself what "
                "its sequences and classes are"
            )
        return _npz(file) if file.suffix.lower() == ".npz" else _ts(file)
    if file.suffix.lower() in (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".h5", ".mat"):
        raise TaskError(f"{path}: files of this kind are not read; export the data as CSV")
    if file.suffix.lower() == ".txt" and target is None:
        raise TaskError(
            f"{path}: to predict the characters of a text, --task chars:{path}; to "
            "forecast a column of it, --target NAME"
        )
    name, values = column(file, target)
    length = WINDOW if window is None else window
    return forecast(
        label(file.stem, name),
        f"{shown(name)} of {file.name}",
        values,
        window=length,
        data=f"{digest(values)} column={name} window={length}",
        source=f"the file {file.name}",
    )


# ---- sequences with classes -----------------------------------------------------------------


def classify(name: str, title: str, x: _Floats, labels: NDArray[Any], *, test: int = 0) -> Task:
    """The task of naming the class of each sequence of x [N, T, I]. test: the number of sequences
    at the end that are for testing; 0 for a fifth that the seed draws. Raises TaskError."""
    count, steps, features = x.shape
    if len(labels) != count:
        raise TaskError(f"{title} has {count} sequences and {len(labels)} classes")
    if count < LEAST:
        raise TaskError(f"{title} has {count} sequences; {LEAST} or more are needed")
    if not steps or not features:
        raise TaskError(f"{title} has sequences of {steps} steps with {features} features")
    names, y = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise TaskError(f"{title} has one class only, {str(names[0])!r}: nothing can be told apart")
    if len(names) > count // 2:
        raise TaskError(
            f"{title} has {len(names)} classes for {count} sequences: are the classes "
            "values? Two or more sequences of each class are needed"
        )
    finite = np.isfinite(x)
    if not finite.all():
        n, t, i = np.unravel_index(np.argmin(finite), x.shape)
        raise TaskError(f"{title}: x[{n}, {t}, {i}] is {x[n, t, i]}; fill in a finite number")
    if (x == x.reshape(-1, features)[0]).all():
        raise TaskError(f"{title}: x is the same number everywhere: nothing can be learned")
    drawn = (
        "a fifth, which the seed draws, is for testing"
        if not test
        else (f"the {test} of the test file are for testing, for every seed")
    )
    counts = np.bincount(y[count - test :] if test else y)
    batch = min(32, max(4, count // 8))
    return Task(
        name=name,
        title=title,
        description=f"Name the class of each of {count} sequences of {steps} steps with {features} "
        f"feature{'s' * (features > 1)}; there are {len(names)} classes; {drawn}.",
        metric=ACCURACY,
        baseline=float(counts.max() / counts.sum()),
        solved=None,
        steps=steps,
        outputs=len(names),
        make=partial(_sequences, x, y.astype(np.int64), test),
        settings=Settings(epochs=passes(count, batch, 600), batch_size=batch, learning_rate=0.005),
        data=digest(x, y, *map(str, names), f"{test} for testing"),
        source=f"the file {title}",
        same_data=bool(test),
    )


def _sequences(x: _Floats, y: NDArray[np.int64], test: int, seed: int) -> Data:
    """Each feature is centred and scaled by the part for training."""
    order = np.arange(len(x)) if test else np.random.default_rng(seed).permutation(len(x))
    split = len(x) - (test or len(x) // _TESTED)
    known = x[order[:split]].reshape(-1, x.shape[2]).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        spread, mean = known.std(0), known.mean(0)
        scale = np.where(spread > 0, spread, 1)
        scaled = np.empty_like(x)
        for start in range(0, len(x), _AT_ONCE):  # in float64, of which all is too much at once
            part = slice(start, start + _AT_ONCE)
            scaled[part] = (x[part] - mean) / scale
    inputs, targets = torch.from_numpy(scaled[order]), torch.from_numpy(y[order])
    return Data(inputs[:split], targets[:split], inputs[split:], targets[split:])


# ---- .npz -----------------------------------------------------------------------------------

_REMEDY = "write it with np.savez(file, x=x, y=y), x [N, T, I] of numbers and y [N] of classes"
_BROKEN = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""The errors that zipfile and NumPy raise for damaged files."""
_LONGEST_HEADER = 10_000  # bytes; NumPy itself refuses a longer one
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[A-Za-z][0-9]{0,9}(?:\[[0-9a-z]+\])?)', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18},? ?)*)\), \}\s*"
)
"""The header that NumPy writes before an array without records. NumPy reads it as a Python
literal."""


def _npz(path: Path) -> Task:
    raw = contents(path, LARGEST)
    if raw.count(b"PK\x01\x02") > MOST_ENTRIES:
        raise TaskError(f"{path} holds more than {MOST_ENTRIES:,} arrays; {_REMEDY}")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist()]
            if not {"x", "y"} <= set(names):
                found = ", ".join(map(repr, names[:9])) or "nothing"
                raise TaskError(f"{path} holds {found}, not x and y; {_REMEDY}")
            x, y = _array(path, archive, "x"), _array(path, archive, "y")
    except TaskError:
        raise
    except _BROKEN as error:
        raise TaskError(f"{path} is no sound .npz file ({shown(str(error))}); {_REMEDY}") from None
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3 or y.ndim != 1:
        raise TaskError(
            f"{path}: x must be [N, T, I] or [N, T] and y [N], not {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    if x.dtype.kind not in "biuf":
        raise TaskError(f"{path}: x must hold real numbers, not {x.dtype}")
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.round(y)).all()):
        raise TaskError(f"{path}: y must hold classes (whole numbers or texts), not fractions")
    if y.dtype.kind not in "biufU":
        raise TaskError(f"{path}: y must hold classes (whole numbers or texts), not {y.dtype}")
    return classify(label(path.stem), path.name, _narrow(x), y)


def _narrow(x: NDArray[Any]) -> _Floats:
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array of the archive, from its header of text and its bytes. Python objects (pickles)
    are refused, and the shape is believed only if there are as many bytes."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise TaskError(f"{path}: {name} is packed in a way that NumPy does not write; {_REMEDY}")
    with archive.open(info) as file:
        head = file.read(12)
        start = 10 if head[6:7] == b"\x01" else 12  # of the header, after its length
        length = int.from_bytes(head[8:start], "little")
        rest = file.read(max(0, min(length, _LONGEST_HEADER) - (12 - start)))
        header = _NPY_HEADER.fullmatch((head[start:] + rest).decode("latin-1"))
        if not head.startswith(b"\x93NUMPY") or not header:
            raise TaskError(f"{path}: {name} is no plain array; {_REMEDY}")
        kind, order, lengths = header.groups()
        if "O" in kind:
            raise TaskError(
                f"{path}: {name} holds Python objects, which are never loaded; is it "
                f"ragged? {_REMEDY}"
            )
        dtype, shape = np.dtype(kind), [int(n) for n in lengths.split(",") if n.strip()]
        count, size = math.prod(shape), info.file_size - start - length
        if count * dtype.itemsize != size:
            raise TaskError(
                f"{path}: {name} is damaged: its size and its shape {shape} do not agree"
            )
        if max(size, 4 * count) > LARGEST:
            raise TaskError(
                f"{path}: {name} holds {max(size, 4 * count) / 2**20:.0f} MiB, as float32; at most "
                f"{LARGEST >> 20} are read: leave out sequences, or every other time step"
            )
        values: NDArray[Any] = np.frombuffer(file.read(size), dtype)
    return values.reshape(shape, order="F" if order == "True" else "C")


# ---- .ts of the UCR and UEA archives --------------------------------------------------------

_TS_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)


def _ts(path: Path) -> Task:
    """NAME_TRAIN.ts with NAME_TEST.ts beside it keeps the archive's split."""
    stem, _, part = path.stem.rpartition("_")
    other = path.with_name(f"{stem}_TEST{path.suffix}")
    x, y = _read_ts(path)
    test = 0
    if part == "TRAIN" and other.is_file():
        more_x, more_y = _read_ts(other)
        if more_x.shape[1:] != x.shape[1:]:
            raise TaskError(
                f"{other.name} has sequences of {list(more_x.shape[1:])} [T, I], "
                f"{path.name} of {list(x.shape[1:])}"
            )
        if unknown := sorted(set(more_y) - set(y)):
            raise TaskError(f"{other.name} has the class {unknown[0]!r}, which {path.name} has not")
        test = len(more_y)
        x, y = np.concatenate([x, more_x]), y + more_y
    name = stem if test else path.stem
    return classify(label(name), f"{name}.ts" if test else path.name, x, np.array(y), test=test)


def _read_ts(path: Path) -> tuple[_Floats, list[str]]:
    """The cases [N, T, I] and the class of each. A line is one case: its dimensions and its class
    divided by colons, values by commas."""
    cases: list[_Floats] = []
    classes: list[str] = []
    tags: dict[str, str] = {}
    started = False
    for number, line in enumerate(io.StringIO(text(path, LARGEST_TEXT), newline="\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        if not started:
            started = _tag(where, line, tags)
            continue
        if line.count(",") + line.count(":") > LONGEST_CASE:
            raise TaskError(f"{where} holds more than {LONGEST_CASE:,} numbers; thin out the steps")
        *dimensions, name = line.split(":")
        if not dimensions or not name.strip():
            raise TaskError(f"{where} has no class after the last colon")
        case = [_values(where, part) for part in dimensions]
        first = cases[0].shape if cases else (len(case), len(case[0]))
        if len(case) != first[0]:
            raise TaskError(f"{where} has {len(case)} dimensions, the first case has {first[0]}")
        lengths = sorted({first[1], *map(len, case)})
        if len(lengths) > 1:
            raise TaskError(
                f"{where}: the series have different lengths ({lengths[0]} to "
                f"{lengths[-1]}); cut or pad them to one length"
            )
        cases.append(_narrow(np.array(case, dtype=np.float64)))
        classes.append(name.strip())
    if not cases:
        raise TaskError(
            f"{path} has no cases after a line @data; is it a .ts file of the UCR or UEA archive?"
        )
    return np.ascontiguousarray(np.array(cases).transpose(0, 2, 1)), classes


def _tag(where: str, line: str, tags: dict[str, str]) -> bool:
    """Read one line of the head; True at @data. Refuses what this reader cannot honour."""
    if not line.startswith("@"):
        raise TaskError(f"{where} stands before a line @data and begins with neither @ nor #")
    key, _, value = line[1:].partition(" ")
    tags[key.lower()] = value.strip().lower()
    if key.lower() != "data":
        return False
    if tags.get("timestamps") == "true":
        raise TaskError(f"{where}: series with time stamps are not read; write plain values")
    if tags.get("targetlabel") == "true" or tags.get("classlabel", "true").startswith("false"):
        raise TaskError(f"{where}: the cases have no classes, so there is nothing to tell apart")
    return True


def _values(where: str, part: str) -> list[float]:
    values = []
    for cell in map(str.strip, part.split(",")):
        if not _TS_NUMBER.fullmatch(cell):
            if cell.lower() in ("?", "nan", ""):
                raise TaskError(f"{where}: a value is missing ({cell!r}); fill it in")
            raise TaskError(f"{where}: {cell[:40]!r} is not a number")
        values.append(float(cell))
    return values
