"""Images read as sequences: the digits that scikit-learn ships, and MNIST from its IDX files."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .base import Data, Settings, Task, TaskError
from .metrics import ACCURACY
from .reading import contents, digest

__all__ = ["DIGITS", "MNIST_FORMS", "mnist"]


def scattered(count: int) -> Tensor:
    """One fixed permutation of 0 .. count-1: by SHA-256 of the number, so that it is the same with
    every version of every library."""
    by_digest = sorted(range(count), key=lambda k: hashlib.sha256(str(k).encode()).digest())
    return torch.tensor(by_digest)


# ---- digits ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _digit_images() -> tuple[Tensor, Tensor]:
    """The 1,797 images of 8x8 pixels in [0, 1] that scikit-learn ships, and their digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TaskError(
            "the digits come with scikit-learn, which is not installed; "
            "pip install 'anygate[lab]' brings it"
        ) from None
    pixels, digits = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)


def _digits(steps: int, permuted: bool, seed: int) -> Data:
    """A fifth of the images is for testing; which ones, the seed decides."""
    images, digits = _digit_images()
    if permuted:
        images = images[:, scattered(images.size(1))]
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    sequences = images.view(len(images), steps, -1)[order]
    test = len(images) // 5
    return Data(sequences[test:], digits[order][test:], sequences[:test], digits[order][:test])


def _digits_task(name: str, way: str, steps: int, *, permuted: bool = False) -> Task:
    spoken = "one pixel at a time" if steps == 64 else "one row at a time"
    if permuted:
        spoken += ", in one fixed random order"
    return Task(
        name=name,
        title=f"handwritten digits, {way}",
        description=f"Read an 8x8 image of a handwritten digit {spoken}, then name it.",
        metric=ACCURACY,
        baseline=0.1,
        solved=0.95,
        steps=steps,
        outputs=10,
        make=partial(_digits, steps, permuted),
        source="Alpaydin & Kaynak 1998, UCI; as sequences like MNIST in Le et al. 2015, "
        "arXiv:1504.00941. No published figure for these steps",
        needs=("sklearn",),
    )


DIGITS = {
    "digits": _digits_task("digits", "pixel by pixel", 64),
    "digits-rows": _digits_task("digits-rows", "row by row", 8),
    "digits-permuted": _digits_task("digits-permuted", "pixels permuted", 64, permuted=True),
}
"""Name -> task."""

# ---- MNIST ----------------------------------------------------------------------------------

MNIST_FORMS = {
    "mnist": "pixel by pixel",
    "mnist-rows": "row by row",
    "mnist-permuted": "pixels permuted",
}
"""Name before the colon -> how the images are read."""
_MNIST_SOLVED = {"mnist": 0.97, "mnist-rows": 0.97, "mnist-permuted": 0.9}
"""An identity RNN has 97% pixel by pixel (Le et al. 2015), LSTMs have 90 to 92% on permuted pixels
(Cooijmans et al. 2017, arXiv:1603.09025; Arjovsky et al. 2016)."""
LARGEST_IDX, MOST_PIXELS = 64 * 2**20, 16_384
"""Bytes of numbers in one IDX file, and pixels of an image; MNIST has 47 million and 784."""


def mnist(kind: str, folder: Path) -> Task:
    """The task of the four IDX files of a folder (each may be gzipped). Raises TaskError."""
    if not folder.is_dir():
        raise TaskError(f"{folder} is not a folder; mnist:FOLDER wants the four IDX files of MNIST")
    parts: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
    for part in ("train", "t10k"):
        image_path = _find(folder, f"{part}-images", 3)
        label_path = _find(folder, f"{part}-labels", 1)
        images, labels = _idx(image_path, 3), _idx(label_path, 1)
        if len(images) != len(labels):
            raise TaskError(
                f"{image_path.name} holds {len(images)} images, {label_path.name} "
                f"{len(labels)} labels"
            )
        parts.append((images, labels))
    (train, train_labels), (test, test_labels) = parts
    if train.shape[1:] != test.shape[1:]:
        raise TaskError(
            f"the images for training are {train.shape[1]}x{train.shape[2]} pixels, "
            f"those for testing {test.shape[1]}x{test.shape[2]}"
        )
    counts = np.bincount(test_labels)
    rows, columns = train.shape[1:]
    steps = rows if kind == "mnist-rows" else rows * columns
    return Task(
        name=kind,
        title=f"MNIST digits, {MNIST_FORMS[kind]}",
        description=f"Read a {rows}x{columns} image of a handwritten digit as {steps} steps, then "
        "name it. Every seed has the same images for training and for testing.",
        metric=ACCURACY,
        baseline=float(counts.max() / counts.sum()),
        solved=_MNIST_SOLVED[kind],
        steps=steps,
        outputs=int(max(train_labels.max(), test_labels.max())) + 1,
        make=partial(_mnist, steps, kind == "mnist-permuted", *parts[0], *parts[1]),
        settings=Settings(hidden_size=100, epochs=10, batch_size=100, learning_rate=0.001),
        data=digest(*(array for part in parts for array in part)),
        source="LeCun et al. 1998; as sequences: Le et al. 2015, arXiv:1504.00941",
        same_data=True,
    )


def _mnist(
    steps: int,
    permuted: bool,
    train: NDArray[np.uint8],
    train_labels: NDArray[np.uint8],
    test: NDArray[np.uint8],
    test_labels: NDArray[np.uint8],
    seed: int,
) -> Data:
    """The split is that of the files; the seed decides nothing here."""
    halves = []
    for images, labels in ((train, train_labels), (test, test_labels)):
        pixels = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32)) / 255
        if permuted:
            pixels = pixels[:, scattered(pixels.size(1))]
        halves += [pixels.view(len(images), steps, -1), torch.from_numpy(labels.astype(np.int64))]
    return Data(halves[0], halves[1], halves[2], halves[3])


def _find(folder: Path, part: str, dimensions: int) -> Path:
    names = [f"{part}{dot}idx{dimensions}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise TaskError(f"{folder} holds no {names[0]} (or {names[0]}.gz)")


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file: two zeros, the type 8, the number of dimensions,
    each as a big-endian 32-bit number, then the bytes."""
    raw = contents(path, LARGEST_IDX)
    if path.suffix == ".gz":
        raw = _gunzip(path, raw)
    head = 4 + 4 * dimensions
    if len(raw) < head or raw[:4] != bytes([0, 0, 8, dimensions]):
        raise TaskError(f"{path} is no IDX file of bytes with {dimensions} dimensions")
    shape = [int.from_bytes(raw[k : k + 4], "big") for k in range(4, head, 4)]
    if math.prod(shape) > LARGEST_IDX or math.prod(shape[1:]) > MOST_PIXELS:
        raise TaskError(
            f"{path} says that it holds {'x'.join(map(str, shape))} bytes; at most "
            f"{LARGEST_IDX:,} and images of {MOST_PIXELS:,} pixels are read: leave out images, or "
            "make them smaller"
        )
    if math.prod(shape) != len(raw) - head:
        raise TaskError(
            f"{path} says that it holds {'x'.join(map(str, shape))} bytes and holds "
            f"{len(raw) - head}; it may be cut off"
        )
    if not math.prod(shape):
        raise TaskError(f"{path} is empty")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape).copy()


def _gunzip(path: Path, raw: bytes) -> bytes:
    """At most LARGEST_IDX bytes, so that a small file cannot fill the memory."""
    try:
        with gzip.open(path) as file:
            unpacked = file.read(LARGEST_IDX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{path} cannot be unpacked: {error}") from None
    if len(unpacked) > LARGEST_IDX:
        raise TaskError(f"{path} unpacks to more than {LARGEST_IDX >> 20} MiB")
    return unpacked
