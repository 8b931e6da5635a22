"""record(units=...): the values of single hidden units, against the module's own results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import anygate

WIDE = torch.float64
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True},
    {"peephole": True, "clip": 0.5},
    {"zoneout": 0.3},
    {"recurrent_dropout": 0.3},
    {"activation": "leaky_relu", "trainable": "unit"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_states_are_the_modules_and_gates_give_them(options: Any, packed: bool) -> None:
    torch.manual_seed(0)
    module = anygate.LSTM(3, 5, dtype=WIDE, **options)
    x: Any = torch.randn(6, 4, 3, dtype=WIDE)
    if packed:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6, 5, 3, 1]))
    with anygate.record(module, units=[4, 1]) as recording:
        _, _, (hs, cs) = module(x, return_states=True)
    for record, h, c in zip(recording, hs, cs, strict=True):
        v = record.values
        for name, wanted in (("h", h), ("c", c)):
            wanted = wanted[..., [4, 1]].detach().numpy()
            np.testing.assert_allclose(v[name], wanted, rtol=1e-10, atol=1e-12)
        if "zoneout" not in options:
            np.testing.assert_allclose(
                v["h"], v["output_gate"] * v["cell_output"], rtol=1e-10, atol=1e-12
            )
        if not packed and "zoneout" not in options and not record.reverse:
            before = np.concatenate([np.zeros_like(v["c"][:1]), v["c"][:-1]])
            now = v["forget_gate"] * before + v["input_gate"] * v["candidate"]
            np.testing.assert_allclose(v["c"], now, rtol=1e-10, atol=1e-12)


def test_a_gru_and_steps_of_a_cell() -> None:
    torch.manual_seed(0)
    gru, cell = anygate.GRU(3, 5, dtype=WIDE), anygate.GRUCell(3, 5, dtype=WIDE)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in gru.state_dict().items()})
    x = torch.randn(6, 4, 3, dtype=WIDE)
    with anygate.record(gru, units=[2]) as whole:
        gru(x)

    with anygate.record(cell, units=[2]) as steps:
        h = x.new_zeros(4, 5)
        for now in x:
            h = cell(now, h)
    (one,), many = whole.records, steps.records
    found = np.concatenate([record.values["candidate"] for record in many])
    np.testing.assert_allclose(found, one.values["candidate"], rtol=1e-12, atol=1e-13)


def test_units_that_are_not_there() -> None:
    module = anygate.LSTM(3, 5)
    with pytest.raises(ValueError, match="units are numbers"), anygate.record(module, units=[-1]):
        pass
    with (
        pytest.raises(ValueError, match="there is no unit 5"),
        anygate.record(module, units=[5]),
    ):
        module(torch.randn(2, 1, 3))


def test_a_record_is_printed_without_its_arrays() -> None:
    module = anygate.LSTM(3, 5)
    with anygate.record(module, units=[0]) as recording:
        module(torch.randn(6, 4, 3))
    assert repr(recording.records[0]) == ("LayerRecord(step=0, layer='l0', call=0, reverse=False)")
