"""Tasks of formal languages: predict the next symbol of a string."""

from __future__ import annotations

from functools import partial

import numpy as np

from .base import Data, Settings, Task
from .metrics import ACCURACY, IGNORE, SEQUENCE_ACCURACY
from .synthetic import Form, halves, one_hot

__all__ = ["FORMS", "reber_string"]

# ---- continual embedded Reber grammar -------------------------------------------------------

REBER_SYMBOLS = "BTSXPVE"
_REBER = {
    0: (("B", 1),),
    1: (("T", 2), ("P", 3)),
    2: (("S", 2), ("X", 4)),
    3: (("T", 3), ("V", 5)),
    4: (("X", 3), ("S", 6)),
    5: (("P", 4), ("V", 6)),
    6: (("E", 7),),
}
"""The Reber grammar: node -> symbols that may follow, each with the node it leads to."""


def reber_string(rng: np.random.Generator) -> str:
    """An embedded Reber string, such as BTBTXSETE: its second symbol, T or P, comes again as the
    last but one."""
    outer, node, inner = "TP"[rng.integers(2)], 0, ""
    while node < 7:
        ways = _REBER[node]
        symbol, node = ways[rng.integers(len(ways))]
        inner += symbol
    return f"B{outer}{inner}{outer}E"


STREAMS, TEST_STREAMS = 500, 200


def _reber(steps: int, seed: int) -> Data:
    """Streams of embedded Reber strings without any mark between them; the target of each step is
    the next symbol. The test counts only the symbol that must be remembered."""
    rng = np.random.default_rng([seed, steps])
    symbols = np.empty((STREAMS + TEST_STREAMS, steps + 1), dtype=np.int64)
    outer = np.zeros(symbols.shape, dtype=bool)
    for stream, marks in zip(symbols, outer, strict=True):
        filled = 0
        while filled <= steps:
            string = reber_string(rng)
            part = [REBER_SYMBOLS.index(s) for s in string][: steps + 1 - filled]
            stream[filled : filled + len(part)] = part
            if filled + len(string) - 2 <= steps:
                marks[filled + len(string) - 2] = True
            filled += len(string)
    y = symbols[:, 1:].copy()
    y[STREAMS:][~outer[STREAMS:, 1:]] = IGNORE
    return halves(one_hot(symbols[:, :-1], len(REBER_SYMBOLS)), y, STREAMS)


def _reber_task(name: str, steps: int) -> Task:
    return Task(
        name=name,
        title=f"continual embedded Reber grammar, streams of {steps} symbols",
        description="Predict a stream of strings that nothing separates, and near the end of each "
        "string the symbol that stood at its beginning (only this is counted).",
        metric=ACCURACY,
        baseline=0.5,
        # 99.7% with a forget gate, 55% without, in a replication
        # (github.com/cybertronai/schmidhuber-problems).
        solved=0.99,
        steps=steps,
        outputs=len(REBER_SYMBOLS),
        make=partial(_reber, steps),
        settings=Settings(hidden_size=16, epochs=30, batch_size=25, learning_rate=0.01),
        source="Gers, Schmidhuber & Cummins 2000, Learning to forget, Neural Computation 12(10)",
    )


# ---- a^n b^n --------------------------------------------------------------------------------

SHORT = 10
"""Training has n from 1 to 10."""
A, B, END = 0, 1, 2
_START = 2  # as an input; the end is never an input


def _anbn(longest: int, seed: int) -> Data:
    """A start symbol, n times a, n times b. From the first b on the next symbol is certain, and
    asked for: b, and after the last one the end. Training: n from 1 to 10, drawn; test: every n
    from 11 to `longest`, once."""
    rng = np.random.default_rng([seed, longest])
    numbers = np.concatenate(
        [rng.integers(1, SHORT + 1, ANBN_TRAIN), rng.permutation(np.arange(SHORT + 1, longest + 1))]
    )[:, None]
    step = np.arange(1 + 2 * longest)
    x = np.select([step == 0, step <= numbers, step <= 2 * numbers], [_START, A, B], -1)
    y = np.select(
        [step <= numbers, step < 2 * numbers, step == 2 * numbers], [IGNORE, B, END], IGNORE
    )
    return halves(one_hot(x, 3), y, ANBN_TRAIN)


ANBN_TRAIN = 1000


def _guessed(longest: int) -> float:
    """The share of test strings that one fixed answer for each time step gets right. The end is
    right at step 2n alone, and the b's before it contradict any other string that has an end
    there: of the strings accepted, each has more than twice the a's of the one before."""
    accepted, n = 0, longest
    while n > SHORT:
        accepted, n = accepted + 1, n // 2
    return accepted / (longest - SHORT)


def _anbn_task(name: str, longest: int) -> Task:
    return Task(
        name=name,
        title=f"a^n b^n, trained to n = {SHORT}, tested to n = {longest}",
        description="Say when a string of n a's and n b's ends, for n longer than ever seen: this "
        "needs counting. A string is right if every prediction after the first b is.",
        metric=SEQUENCE_ACCURACY,
        baseline=_guessed(longest),
        solved=0.95,
        steps=1 + 2 * longest,
        outputs=3,
        make=partial(_anbn, longest),
        settings=Settings(hidden_size=8, epochs=40, batch_size=25, learning_rate=0.02),
        source="Gers & Schmidhuber 2001, IEEE Transactions on Neural Networks 12(6)",
    )


FORMS: dict[str, Form] = {
    "reber": Form(_reber_task, usual=100, least=50),
    "anbn": Form(_anbn_task, usual=30, least=2 * SHORT, most=1000, meaning="a's (N)"),
}
"""Name -> its form."""
