"""A folder with one data file of every kind, and tasks by the names that the tests use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anygate.formulas import resolve
from anygate.lab.study.trial import TrialSpec
from anygate.lab.tasks import SERIES, TASKS, Task, file_task, find_task

SHORT = {
    "adding:7": 7,
    "copy:1": 21,
    "order-6a:10": 11,
    "order-6b:25": 27,
    "noise-3c:4": 4,
    "parity:2": 2,
    "reber:50": 50,
    "anbn:20": 41,
}
"""Names with a number -> their time steps."""
FILES = ("csv", "npz", "ts", "chars", "mnist", "mnist-rows", "mnist-permuted")
NAMES = [*TASKS, *SHORT, *SERIES, *FILES]


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_mnist(folder: Path, train: int = 60, test: int = 300) -> None:
    """Images of 4x4 pixels in which one row is bright: the digit is that row."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, 4, 4))
        images[np.arange(count), labels] += 150
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)


PHRASES = ("the cell keeps what the gate lets in. ", "a gate opens when the sum is large! ")


def fill(root: Path) -> Path:
    """Write one file of every kind."""
    rng = np.random.default_rng(0)
    wave = 50 + np.cumsum(rng.normal(0, 0.2, 200)) + 3 * np.sin(np.arange(200) / 3)
    (root / "my.csv").write_text("day,price\n" + "".join(f"{k},{v}\n" for k, v in enumerate(wave)))
    y = np.arange(600) % 2
    x = rng.normal(0, 1, (600, 12, 2)) + 2 * y[:, None, None]
    np.savez(root / "seq.npz", x=x, y=np.array(["up", "down"])[y])
    head = "# a comment\n@problemName toy\n@univariate false\n@classLabel true 0 1\n@data\n"
    lines = [
        ":".join(",".join(map(str, d)) for d in case.T) + f":{c}\n"
        for case, c in zip(x, y, strict=True)
    ]
    (root / "Toy_TRAIN.ts").write_text(head + "".join(lines[:300]))
    (root / "Toy_TEST.ts").write_text(head + "".join(lines[300:]))
    text = "".join(PHRASES[k] for k in rng.integers(0, 2, 80))
    (root / "book.txt").write_text(text)
    write_mnist(root / "mnist")
    return root


def task_of(name: str, folder: Path) -> Task:
    if name in SERIES:
        pytest.importorskip("statsmodels")
    if name not in FILES:
        return find_task(name)
    if name.startswith("mnist"):
        return find_task(f"{name}:{folder / 'mnist'}")
    paths = {"npz": "seq.npz", "ts": "Toy_TRAIN.ts"}
    if name == "csv":
        return file_task(str(folder / "my.csv"), "price")
    return (
        find_task(f"chars:{folder / 'book.txt'}")
        if name == "chars"
        else file_task(str(folder / paths[name]))
    )


TINY = {"hidden_size": 3, "epochs": 1, "batch_size": 500}


def spec(task: Task, seed: int = 0, activation: str = "tanh", **settings: Any) -> TrialSpec:
    changed = replace(task.settings, **(TINY | settings))
    return TrialSpec(task, resolve(activation), "activation", seed, changed)
