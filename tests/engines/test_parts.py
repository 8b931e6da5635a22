"""The parts that engines share: checks before machine code reads memory, packs in stretches, what
can be measured, and the OpenMP library."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from drawn_layers import draw
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from anygate.cells import GRU_RESET_BEFORE, LSTM, cell_key, lstm_type, make
from anygate.engines.checks import check_layer
from anygate.engines.eager.scan import recurrent_by_scan
from anygate.engines.layout import layout_of
from anygate.engines.measuring import check_measurable
from anygate.engines.openmp import SYMBOLS, openmp_symbols, team_size
from anygate.engines.packed import run_packed
from anygate.engines.protocol import EngineError, Layer, Measures, Result

T, B, INPUTS, H = 3, 2, 4, 5


def arguments(**changes: Any) -> dict[str, Any]:
    """The arguments of check_layer for an LSTM with peepholes, with changes."""
    found: dict[str, Any] = {
        "layout": layout_of(make(lstm_type(peephole=True))),
        "x": torch.ones(T, B, INPUTS),
        "states": (torch.ones(B, H), torch.ones(B, H)),
        "weight_ih": torch.ones(4 * H, INPUTS),
        "weight_hh": torch.ones(4 * H, H),
        "vectors": torch.ones(3, H),
        "masks": None,
        "rows": T * B,
    }
    return found | changes


def test_a_layer_that_fits_passes() -> None:
    assert check_layer(**arguments()) is None


WRONG: tuple[tuple[type[Exception], str, dict[str, Any]], ...] = (
    (ValueError, "do not fit together", {"states": (torch.ones(B, H),)}),
    (ValueError, "do not fit together", {"states": (torch.ones(B, H), torch.ones(B, H + 1))}),
    (ValueError, "do not fit together", {"rows": T * B + 1}),
    (ValueError, "weight_hh", {"weight_hh": torch.ones(4 * H, H - 1)}),
    (ValueError, "weight_hh", {"weight_hh": torch.ones(3 * H, H)}),
    (ValueError, "weight_ih", {"weight_ih": torch.ones(4 * H, INPUTS - 1)}),
    (ValueError, "vectors must be", {"vectors": None}),
    (ValueError, "vectors must be", {"vectors": torch.ones(2, H)}),
    (ValueError, "one dtype", {"weight_hh": torch.ones(4 * H, H, dtype=torch.float64)}),
    (ValueError, "one dtype", {"vectors": torch.ones(3, H, dtype=torch.float16)}),
    (RuntimeError, "must all be on the CPU", {"x": torch.ones(T, B, INPUTS, device="meta")}),
    (RuntimeError, "must all be on one CUDA device", {"device": "cuda"}),
)


@pytest.mark.parametrize(("kind", "said", "changes"), WRONG)
def test_nothing_is_read_that_is_not_there(
    kind: type[Exception], said: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(kind, match=said):
        check_layer(**arguments(**changes))


def _sums(layer: Layer, measures: Measures | None = None, go_on: int = 0) -> Result:
    """An engine whose state and output are sums of x so far."""
    x = layer.x.flip(0) if layer.reverse else layer.x
    sums = layer.states[0] + x.cumsum(0)
    output = sums.flip(0) if layer.reverse else sums
    return Result(output, (sums[-1],), (output,))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_pack_in_stretches_is_each_row_by_itself(reverse: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = [5, 5, 3, 1]
    rows = [torch.randn(n, H, generator=draw) for n in lengths]
    pack = torch.nn.utils.rnn.pack_sequence(rows)
    starts = torch.randn(len(rows), H, generator=draw)
    nothing = torch.empty(0)
    layer = Layer(pack.data, (starts,), nothing, nothing)
    layer = layer._replace(batch_sizes=pack.batch_sizes, reverse=reverse)
    found = run_packed(_sums, layer, keep=True)
    packed = torch.nn.utils.rnn.PackedSequence(found.output, pack.batch_sizes)
    padded = torch.nn.utils.rnn.pad_packed_sequence(packed)[0]
    for k, row in enumerate(rows):
        one = Layer(row.unsqueeze(1), (starts[k : k + 1],), nothing, nothing, reverse=reverse)
        alone = _sums(one)
        torch.testing.assert_close(padded[: len(row), k], alone.output[:, 0])
        torch.testing.assert_close(found.states[0][k], alone.states[0][0])
    assert found.kept is not None
    torch.testing.assert_close(found.kept[0], found.output)


def test_a_pack_without_rows() -> None:
    nothing, starts = torch.empty(0), torch.ones(0, H)
    layer = Layer(torch.ones(0, H), (starts,), nothing, nothing)
    layer = layer._replace(batch_sizes=torch.empty(0, dtype=torch.int64))
    found = run_packed(_sums, layer, keep=True)
    assert found.output.shape == (0, H) and found.kept is not None


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    assert check_measurable(make(LSTM)) is None
    with pytest.raises(EngineError, match="one product"):
        check_measurable(make(GRU_RESET_BEFORE))


@examples(40)
@given(
    st.sampled_from(("lstm", "peephole", "gru", "zoneout lstm", "dropout gru", "mixed")),
    *[st.integers(1, 4)] * 4,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_scan_gives_what_the_operator_gives(
    cell: str, t: int, b: int, i: int, h: int, bias: bool, reverse: bool, keep: bool
) -> None:
    """For programs of plain operators: with masks, both ways, with every state kept."""
    case = draw(cell, t, b, i, h, bias=bias, reverse=reverse)
    x, states, *rest, _ = case.layer
    key = cell_key(case.known.cell)
    call = (x, torch.stack(states), *rest, key, reverse, False, keep)
    wanted = torch.ops.anygate.recurrent(*call, engine="reference")
    torch.testing.assert_close(recurrent_by_scan(*call), wanted)


@pytest.mark.skipif(find_spec("llvmlite") is None, reason="llvmlite is not installed")
@examples(100)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=3), st.data())
def test_one_changed_bit_changes_the_fingerprint(sizes: list[int], data: st.DataObject) -> None:
    """Of weights of any sizes, in any word; the same bytes elsewhere have the same."""
    from anygate.engines.cpu.compiler import kernels

    weights = [np.arange(size, dtype=np.float32) for size in sizes]
    copies = [weight.copy() for weight in weights]
    code = kernels(make(LSTM), "float32", False)

    def fingerprint(arrays: list[np.ndarray]) -> int:
        table = np.array([(a.ctypes.data, a.nbytes) for a in arrays], np.int64)
        return code.fingerprint(table.ctypes.data, len(arrays))

    before = fingerprint(weights)
    assert fingerprint(copies) == before
    changed = data.draw(st.sampled_from(copies)).view(np.uint32)
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert fingerprint(copies) != before


def test_the_team_is_as_large_as_torchs() -> None:
    symbols = openmp_symbols()
    if symbols is None:
        pytest.skip("this torch uses no OpenMP library with GOMP_parallel")
    assert set(symbols) == set(SYMBOLS) and all(symbols.values())
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert team_size() == count
    finally:
        torch.set_num_threads(before)
