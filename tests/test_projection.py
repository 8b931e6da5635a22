"""A layer with a projected state, computed by the cell without: against a loop over its rows."""

from __future__ import annotations

import torch
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from anygate.cells import LSTM, cell_key, make
from anygate.engines.protocol import Layer, Result, load
from anygate.nn.projection import run_projected

KEY = cell_key(make(LSTM))
SIZES = st.integers(1, 4)


def by_hand(layer: Layer, weight_hr: Tensor, x: Tensor, h: Tensor, c: Tensor) -> list[Tensor]:
    """h at every step of one row x [T, I], and its last h and c."""
    outputs = []
    for x_t in reversed(x) if layer.reverse else x:
        z = layer.weight_ih @ x_t + layer.weight_hh @ h
        i, f, g, o = z.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = weight_hr @ (o.sigmoid() * c.tanh())
        outputs.append(h)
    return [torch.stack(outputs[::-1] if layer.reverse else outputs), h, c]


def run(layer: Layer) -> Result:
    return load("reference").run(KEY, layer, keep=True)


@examples(60)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    SIZES,
    SIZES,
    SIZES,
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_projected_layer_is_its_rows_by_hand(
    lengths: list[int],
    inputs: int,
    units: int,
    projected: int,
    reverse: bool,
    whole: bool,
    seed: int,
) -> None:
    """Whole batches and packs, both ways, with a state given and without."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    lengths = [lengths[0]] * len(lengths) if whole else sorted(lengths, reverse=True)
    rows = [normal(length, inputs) for length in lengths]
    started = bool(seed % 2)
    starts = normal(len(rows), projected) * started, normal(len(rows), units) * started
    weight_hr = normal(projected, units)
    weights = normal(4 * units, inputs), normal(4 * units, projected)
    pack = pack_sequence(rows)
    sizes = None if whole else pack.batch_sizes
    x = torch.stack(rows, 1) if whole else pack.data
    layer = Layer(x, starts, *weights, batch_sizes=sizes, reverse=reverse)
    found = run_projected(run, layer, weight_hr, started)
    assert found.kept is not None
    torch.testing.assert_close(found.kept[0], found.output)
    outputs = found.output if whole else pack._replace(data=found.output)
    padded = outputs if whole else torch.nn.utils.rnn.pad_packed_sequence(outputs)[0]
    for k, row in enumerate(rows):
        wanted = by_hand(layer, weight_hr, row, starts[0][k], starts[1][k])
        ours = padded[: len(row), k], found.states[0][k], found.states[1][k]
        torch.testing.assert_close(list(ours), wanted)
