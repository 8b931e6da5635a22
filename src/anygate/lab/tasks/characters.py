"""A character model of any text: predict the next character at every step."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .base import Data, Settings, Task, TaskError
from .metrics import BITS
from .reading import digest, label, text
from .sizes import passes
from .synthetic import one_hot

LARGEST = 64 * 2**20
"""Bytes of a text file."""
MOST = 200_000
"""Characters that are used, from the beginning: an epoch must end on two cores."""
ALPHABET = 128
"""Different characters; the rarest of more share one class."""
STEPS = 50
_TESTED = 5  # the last fifth is for testing
LEAST = 20 * STEPS
"""Characters that are needed at least."""


def characters(path: Path) -> Task:
    """The task of a text file. Raises TaskError."""
    content = text(path, LARGEST)
    used = content[:MOST]
    if len(used) < LEAST:
        raise TaskError(f"{path} has {len(used)} characters; {LEAST} or more are needed")
    codes, size = _codes(used)
    if size < 2:
        raise TaskError(f"{path} repeats one character: there is nothing to predict")
    split = len(codes) - len(codes) // _TESTED
    guess, pairs = _guessed(codes[:split], codes[split:], size)
    some = f"the first {MOST:,} characters of " if len(content) > MOST else ""
    return Task(
        name=label("chars", path.stem),
        title=f"characters of {path.name}",
        description=f"Predict the next character of {some}{path.name}, {STEPS} at a time, from "
        f"{size} different ones; the last fifth is for testing. Guessing knows how often each "
        "character comes; solved is what pairs of characters tell, so what needs no memory.",
        metric=BITS,
        baseline=guess,
        solved=pairs,
        steps=STEPS,
        outputs=size,
        make=partial(_chunks, codes, size, split),
        settings=Settings(
            hidden_size=64,
            epochs=passes(split // STEPS, 32, 600),
            batch_size=32,
            learning_rate=0.005,
        ),
        data=digest(used),
        source=f"the file {path.name}",
    )


def _codes(used: str) -> tuple[NDArray[np.int64], int]:
    """Every character as a number, the commonest first, and how many numbers there are."""
    ranked = sorted(Counter(used).items(), key=lambda item: (-item[1], item[0]))
    number = {character: min(k, ALPHABET - 1) for k, (character, _) in enumerate(ranked)}
    return np.array([number[c] for c in used], dtype=np.int64), min(len(ranked), ALPHABET)


def _guessed(known: NDArray[np.int64], tested: NDArray[np.int64], size: int) -> tuple[float, float]:
    """Bits per character of the test part, from the frequencies of characters and of pairs in the
    training part; one is added to each character's count, and the characters' shares, once, to
    those of each pair."""
    single = np.bincount(known, minlength=size) + 1.0
    single /= single.sum()
    pairs = np.zeros((size, size))
    np.add.at(pairs, (known[:-1], known[1:]), 1.0)
    pairs = (pairs + single) / (pairs.sum(1, keepdims=True) + 1.0)
    before, after = tested[:-1], tested[1:]
    return float(-np.log2(single[after]).mean()), float(-np.log2(pairs[before, after]).mean())


def _chunks(codes: NDArray[np.int64], size: int, split: int, seed: int) -> Data:
    """Pieces of 50 characters; each starts from a state of zeros. The seed decides where the first
    piece for training begins, the test pieces are the same for all."""
    start = int(np.random.default_rng(seed).integers(STEPS))
    train_x, train_y = _pieces(codes[start:split], size)
    test_x, test_y = _pieces(codes[split:], size)
    return Data(train_x, train_y, test_x, test_y)


def _pieces(codes: NDArray[np.int64], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    count = (len(codes) - 1) // STEPS
    x = codes[: count * STEPS].reshape(count, STEPS)
    y = codes[1 : count * STEPS + 1].reshape(count, STEPS)
    return torch.from_numpy(one_hot(x, size)), torch.from_numpy(y.copy())
