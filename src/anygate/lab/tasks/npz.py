"""Sequences and targets from a .npz file, of which nothing is unpickled."""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import TaskError
from .reading import contents, shown
from .sequences import Features, Padded, pad
from .sizes import LARGEST

__all__ = ["read_npz"]

MOST_ENTRIES = 1_000
"""Arrays in an archive."""
_REMEDY = "write it with np.savez(file, x=x, y=y), x [N, T, I] of numbers and y [N] of classes"
_RAGGED = (
    "write np.savez(file, x=np.concatenate(xs), lengths=[len(x) for x in xs], y=y) for sequences "
    "xs of uneven lengths"
)
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


def read_npz(path: Path) -> tuple[Padded, NDArray[Any]]:
    """The sequences of x and the targets y. x is [N, T, I] or [N, T]; beside `lengths` [N] either
    so, padded, or all sequences one after another, [sum of lengths, I] or [sum of lengths]."""
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
            lengths = _array(path, archive, "lengths") if "lengths" in names else None
    except TaskError:
        raise
    except _BROKEN as error:
        raise TaskError(f"{path} is no sound .npz file ({shown(str(error))}); {_REMEDY}") from None
    if x.dtype.kind not in "biuf":
        raise TaskError(f"{path}: x must hold real numbers, not {x.dtype}")
    if lengths is not None:
        return _uneven(path, x, lengths), y
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise TaskError(
            f"{path}: x must be [N, T, I] or [N, T] and y [N], not {list(x.shape)} and "
            f"{list(y.shape)}"
        )
    return Padded(_narrow(x)), y


def _uneven(path: Path, x: NDArray[Any], lengths: NDArray[Any]) -> Padded:
    """Sequences of these lengths, padded or one after another."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
        raise TaskError(f"{path}: lengths must be [N] of whole numbers, not {lengths.dtype}")
    longest, least = int(lengths.max()), int(lengths.min())
    if least < 1 or longest > LARGEST:
        raise TaskError(f"{path}: lengths must be 1 or more, not {least} to {longest}")
    steps = lengths.astype(np.int64)
    if x.ndim in (1, 2) and len(x) == int(steps.sum()):
        return pad(str(path), np.split(_narrow(x), np.cumsum(steps)[:-1]))
    padded = x[:, :, None] if x.ndim == 2 else x
    if padded.ndim != 3 or len(padded) != len(steps) or longest > padded.shape[1]:
        raise TaskError(
            f"{path}: with lengths [N], x must be [N, T, I] of at least the longest, or all "
            f"sequences one after another, [{int(steps.sum())}, I]; it is {list(x.shape)}"
        )
    kept = _narrow(padded[:, :longest])
    kept[np.arange(longest) >= steps[:, None]] = 0
    return Padded(kept, steps)


def _narrow(x: NDArray[Any]) -> Features:
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
                f"ragged? {_RAGGED}"
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
