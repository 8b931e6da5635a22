"""Refusals of a call: the same exception as torch's, and a message that says what was expected
and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from truth import ANYGATE, Kind

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
zeros = torch.zeros
T, B, I, H = 3, 2, 4, 5  # noqa: E741
X, S = (T, B, I), (1, B, H)

# input, (h0, c0) or None, options, error, words that the message has.
SHAPES: tuple[tuple[Any, Any, dict[str, Any], type[Exception], str], ...] = (
    ((), None, {}, ValueError, "Expected input to be 2D or 3D, got 0D instead"),
    ((I,), None, {}, ValueError, "Expected input to be 2D or 3D, got 1D instead"),
    ((1, T, B, I), None, {}, ValueError, "Expected input to be 2D or 3D, got 4D instead"),
    ((T, B, 7), None, {}, RuntimeError, r"equal to input_size. Expected 4, got 7"),
    ((T, 7), None, {}, RuntimeError, r"equal to input_size. Expected 4, got 7"),
    ((0, B, I), None, {}, RuntimeError, "Expected sequence length to be larger than 0"),
    ((0, I), None, {}, RuntimeError, "Expected sequence length to be larger than 0"),
    ((B, 0, I), None, {"batch_first": True}, RuntimeError, "length to be larger than 0"),
    (X, ((1, 3, H), S), {}, RuntimeError, r"hidden\[0\] size \(1, 2, 5\), got .1, 3, 5"),
    (X, (S, (1, 3, H)), {}, RuntimeError, r"hidden\[1\] size \(1, 2, 5\), got .1, 3, 5"),
    (X, ((1, B, 6), S), {}, RuntimeError, r"hidden\[0\] size \(1, 2, 5\), got .1, 2, 6"),
    (X, (S, (1, B, 6)), {}, RuntimeError, r"hidden\[1\] size \(1, 2, 5\), got .1, 2, 6"),
    (X, ((2, B, H), S), {}, RuntimeError, r"hidden\[0\] size \(1, 2, 5\), got .2, 2, 5"),
    (X, (S, (2, B, H)), {}, RuntimeError, r"hidden\[1\] size \(1, 2, 5\), got .2, 2, 5"),
    (X, (S, S), {"num_layers": 2}, RuntimeError, r"size \(2, 2, 5\), got .1, 2, 5"),
    (X, (S, S), {"bidirectional": True}, RuntimeError, r"size \(2, 2, 5\), got .1, 2, 5"),
    (X, (S, S), {"batch_first": True}, RuntimeError, r"size \(1, 3, 5\), got .1, 2, 5"),
    (X, (S, S), {"proj_size": 3}, RuntimeError, r"hidden\[0\] size \(1, 2, 3\), got .1, 2, 5"),
    (
        X,
        ((1, B, 3), (1, B, 3)),
        {"proj_size": 3},
        RuntimeError,
        r"hidden\[1\] size \(1, 2, 5\), got .1, 2, 3",
    ),
    (X, ((B, H), (B, H)), {}, RuntimeError, r"also be 3-D but got \(2-D, 2-D\)"),
    (X, (S, (B, H)), {}, RuntimeError, r"also be 3-D but got \(3-D, 2-D\)"),
    ((T, I), ((1, 1, H), (1, 1, H)), {}, RuntimeError, r"also be 2-D but got \(3-D, 3-D\)"),
    ((T, I), ((1, H), (1, 1, H)), {}, RuntimeError, r"also be 2-D but got \(2-D, 3-D\)"),
    ((T, I), ((2, H), (1, H)), {}, RuntimeError, r"hidden\[0\] size \(1, 1, 5\), got .2, 1, 5"),
)


@pytest.mark.parametrize(("input", "hx", "options", "error", "words"), SHAPES)
def test_shapes(lstm: Kind, input: Any, hx: Any, options: Any, error: Any, words: str) -> None:
    module = lstm(I, H, **options)
    state = None if hx is None else tuple(zeros(s) for s in hx)
    with pytest.raises(error, match=words) as raised:
        module(zeros(input), state)
    assert raised.type is error


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.complex64, torch.bfloat16])
def test_dtype_of_the_input(lstm: Kind, dtype: torch.dtype) -> None:
    """The message names both dtypes and both ways out."""
    words = rf"{dtype}.*torch.float32.*input.to\(torch.float32\).*model"
    with pytest.raises(ValueError, match=words):
        lstm(I, H)(zeros(X, dtype=dtype))
    with pytest.raises(ValueError, match=r"torch.float32.*torch.float64.*model.to\(torch.float32"):
        lstm(I, H).double()(zeros(X))


@pytest.mark.parametrize("wrong", [(True, True), (True, False), (False, True)])
def test_dtype_of_the_state(lstm: Kind, wrong: tuple[bool, bool]) -> None:
    h, c = (zeros(S).double() if w else zeros(S) for w in wrong)
    with pytest.raises(RuntimeError) as raised:
        lstm(I, H)(zeros(X), (h, c))
    if lstm is ANYGATE:  # torch's own says "unsupported data type"
        assert "float64" in str(raised.value) and "float32" in str(raised.value)


def test_dtype_of_one_weight(lstm: Kind) -> None:
    module = lstm(I, H)
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach().double())
    with pytest.raises((RuntimeError, ValueError), match="type"):
        module(zeros(X))


@pytest.mark.parametrize("which", ["input", "state"])
def test_devices(lstm: Kind, which: str) -> None:
    """Never a result from two devices; the meta device stands for any other."""
    x, hx = zeros(X), (zeros(S), zeros(S))
    x, hx = (x.to("meta"), None) if which == "input" else (x, tuple(s.to("meta") for s in hx))
    with pytest.raises(RuntimeError, match=r"not at the same device|cpu.*meta|meta.*cpu"):
        lstm(I, H)(x, hx)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_number_of_states(lstm: Kind, count: int) -> None:
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)) as raised:
        lstm(I, H)(zeros(X), (zeros(S),) * count)
    if lstm is ANYGATE:  # torch's own says "tuple index out of range" for one
        assert "h" in str(raised.value) and "2" in str(raised.value)


@pytest.mark.parametrize("input", [[[[0.0]]], None, np.zeros(X, np.float32)])
def test_input_is_no_tensor(lstm: Kind, input: Any) -> None:
    with pytest.raises((AttributeError, TypeError), match=type(input).__name__):
        lstm(I, H)(input)


@pytest.mark.parametrize("hx", [(None, None), "ab", (torch.zeros(S), None)])
def test_state_is_no_tensor(lstm: Kind, hx: Any) -> None:
    with pytest.raises((AttributeError, TypeError), match=r"NoneType|str"):
        lstm(I, H)(zeros(X), hx)


def test_no_arguments(lstm: Kind) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'input'"):
        lstm(I, H)()


# ---- packed ---------------------------------------------------------------------------------


def pack(features: int = I, dtype: torch.dtype = torch.float32) -> PackedSequence:
    return pack_padded_sequence(zeros(T, B, features, dtype=dtype), [3, 2])


def by_hand(rows: int, sizes: list[int]) -> PackedSequence:
    return PackedSequence(zeros(rows, I), torch.tensor(sizes, dtype=torch.int64))


# Ours name what torch's accidents ("mat1 and mat2 shapes cannot be multiplied") do not.
PACKED: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], str]] = {
    "features": (lambda: pack(7), None, {}, "4.*7|7.*4"),
    "data of 3 dimensions": (
        lambda: PackedSequence(zeros(5, 1, I), torch.tensor([2, 2, 1])),
        None,
        {},
        "3",
    ),
    "h batch": (pack, ((1, 3, H), S), {}, r"hidden\[0\] size \(1, 2, 5\), got .1, 3, 5"),
    "h batch of one": (pack, ((1, 1, H), S), {}, r"hidden\[0\] size \(1, 2, 5\), got .1, 1, 5"),
    "c batch": (pack, (S, (1, 3, H)), {}, r"hidden\[1\] size \(1, 2, 5\), got .1, 3, 5"),
    "h size": (pack, ((1, B, 6), S), {}, r"hidden\[0\] size \(1, 2, 5\), got .1, 2, 6"),
    "h layers": (pack, (S, S), {"num_layers": 2}, r"size \(2, 2, 5\), got .1, 2, 5"),
    "h projected": (pack, (S, S), {"proj_size": 3}, r"hidden\[0\] size \(1, 2, 3\), got"),
    "c projected": (
        pack,
        ((1, B, 3), (1, B, 3)),
        {"proj_size": 3},
        r"hidden\[1\] size \(1, 2, 5\), got",
    ),
    "sizes that grow": (lambda: by_hand(5, [2, 1, 2]), None, {}, "batch_sizes"),
    "too few rows": (lambda: by_hand(4, [2, 2, 1]), None, {}, "batch_sizes"),
}


@pytest.mark.parametrize("case", PACKED)
def test_packed(lstm: Kind, case: str) -> None:
    make, hx, options, words = PACKED[case]
    state = None if hx is None else tuple(zeros(s) for s in hx)
    with pytest.raises((RuntimeError, ValueError), match=words if lstm is ANYGATE else None):
        lstm(I, H, **options)(make(), state)


def test_dtype_of_a_pack(lstm: Kind) -> None:
    with pytest.raises((RuntimeError, ValueError), match="dtype") as raised:
        lstm(I, H)(pack(dtype=torch.float64))
    if lstm is ANYGATE:
        assert "torch.float64" in str(raised.value) and "torch.float32" in str(raised.value)


# ---- one step -------------------------------------------------------------------------------

# input, (h, c) or None, error, words of both, words of ours.
CELL: tuple[tuple[Any, Any, type[Exception], str, str], ...] = (
    ((), None, ValueError, "Expected input to be 1D or 2D, got 0D", ""),
    ((1, B, I), None, ValueError, "Expected input to be 1D or 2D, got 3D", ""),
    ((B, 7), None, RuntimeError, "inconsistent input_size: got 7 expected 4", ""),
    ((7,), None, RuntimeError, "inconsistent input_size: got 7 expected 4", ""),
    ((B, I), ((B, 6), (B, H)), RuntimeError, "6", "5"),
    ((B, I), ((B, H), (B, 6)), RuntimeError, "6", "5"),
    ((B, I), ((3, H), (B, H)), RuntimeError, "3", "2"),
    ((B, I), ((B, H), (3, H)), RuntimeError, "3", "2"),
    ((B, I), ((1, H), (1, H)), RuntimeError, "1", "2"),
    ((B, I), ((1, B, H), (B, H)), ValueError, r"hx\[0\] to be 1D or 2D, got 3D", ""),
    ((B, I), ((B, H), (1, B, H)), ValueError, r"hx\[1\] to be 1D or 2D, got 3D", ""),
    ((B, I), ((H,), (H,)), RuntimeError, "5", "2"),
    ((I,), ((1, H), (1, H)), RuntimeError, "1", "5"),
    ((I,), ((6,), (H,)), RuntimeError, "6", "5"),
)


@pytest.mark.parametrize(("input", "hx", "error", "words", "ours"), CELL)
def test_cell_shapes(lstm: Kind, input: Any, hx: Any, error: Any, words: str, ours: str) -> None:
    state = None if hx is None else tuple(zeros(s) for s in hx)
    with pytest.raises(error, match=words) as raised:
        lstm.cell(I, H)(zeros(input), state)
    assert raised.type is error
    if lstm is ANYGATE:
        assert ours in str(raised.value)


@pytest.mark.parametrize("which", ["input", "h"])
def test_cell_dtypes(lstm: Kind, which: str) -> None:
    x, h, c = zeros(B, I), zeros(B, H), zeros(B, H)
    x, h = (x.double(), h) if which == "input" else (x, h.double())
    with pytest.raises((RuntimeError, ValueError), match="type"):
        lstm.cell(I, H)(x, (h, c))


@pytest.mark.parametrize("count", [1, 3])
def test_cell_number_of_states(lstm: Kind, count: int) -> None:
    with pytest.raises((RuntimeError, ValueError), match=r"two|2"):
        lstm.cell(I, H)(zeros(B, I), (zeros(B, H),) * count)
