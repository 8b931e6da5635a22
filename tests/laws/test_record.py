"""anygate.record: equal to a float64 loop that anyone can read, with torch's own retain_grad.

The loop uses nothing of the package: the cell is written out, its activations are torch's,
their slopes torch's gradients. Gradients by h and c are those of tensors in the loop.
"""

from __future__ import annotations

import copy
import io
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import anygate
from anygate.nn import LayerRecord
from anygate.nn.recording import Piece, Recording

Function = Callable[[Tensor], Tensor]
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")


@dataclass(frozen=True)
class Known:
    """An activation as torch has it, and what the record holds it against: the largest |f'|, where
    that is, and the bounds of f."""

    function: Function
    steepest: float | None
    split: float = 0.0
    bounds: tuple[float, float] | None = None


KNOWN = {
    "sigmoid": Known(torch.sigmoid, 0.25, bounds=(0, 1)),
    "tanh": Known(torch.tanh, 1, bounds=(-1, 1)),
    "relu": Known(torch.relu, 1),
    "leaky_relu(k=0.05)": Known(lambda x: nn.functional.leaky_relu(x, 0.05), 1),
    "softsign": Known(nn.functional.softsign, 1, bounds=(-1, 1)),
    "x": Known(lambda x: x * 1, 1),
    "1": Known(lambda x: x * 0 + 1, None),
    "exp(x)": Known(torch.exp, None),
    "sigmoid(x - 0.5)": Known(lambda x: torch.sigmoid(x - 0.5), 0.25, 0.5, (0, 1)),
    "max(x, 0) - max(x - 1, 0)": Known(lambda x: torch.relu(x) - torch.relu(x - 1), 1, 0.5, (0, 1)),
}


def slope(function: Function, a: Tensor) -> Tensor:
    """f'(a), by torch."""
    a = a.detach().requires_grad_()
    return torch.autograd.grad(function(a).sum(), a)[0]


def loop(
    weights: dict[str, Tensor],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    names: dict[str, str],
    reverse: bool,
) -> dict[str, list[Tensor]]:
    """One direction of one layer: each slot's argument and value, and h and c, at every t."""
    seen: dict[str, list[Any]] = {
        name: [None] * len(x) for name in ("h", "c", *SLOTS, *(f"a_{s}" for s in SLOTS))
    }
    for t in range(len(x) - 1, -1, -1) if reverse else range(len(x)):
        z = x[t] @ weights["weight_ih"].T + weights["bias_ih"] + weights["bias_hh"]
        z = z + h @ weights["weight_hh"].T
        values = {}
        for slot, a in zip(SLOTS[:4], z.chunk(4, -1), strict=True):
            values[slot] = KNOWN[names[slot]].function(a)
            seen[f"a_{slot}"][t] = a
        c = values["forget_gate"] * c + values["input_gate"] * values["candidate"]
        values["cell_output"] = KNOWN[names["cell_output"]].function(c)
        seen["a_cell_output"][t] = c
        h = values["output_gate"] * values["cell_output"]
        for name, value in {"h": h, "c": c, **values}.items():
            seen[name][t] = value
    for name in ("h", "c"):
        for state in seen[name]:
            state.retain_grad()
    return seen


def near(value: Tensor, *limits: float | None) -> int:
    """The number of values so near to a limit that rounding decides."""
    return sum(int(((value - x).abs() < 1e-5).sum()) for x in limits if x is not None)


def check_slots(
    record: LayerRecord, seen: dict[str, list[Tensor]], names: dict[str, str], tolerance: float
) -> None:
    for slot in SLOTS:
        known, found = KNOWN[names[slot]], record.slots[slot]
        for t, (a, value) in enumerate(zip(seen[f"a_{slot}"], seen[slot], strict=True)):
            a, value = a.detach(), value.detach()
            count, steep = value.numel(), slope(known.function, a).abs()
            assert found.mean[t] == pytest.approx(value.mean().item(), abs=tolerance)
            spread = value.std(correction=0).item()
            assert found.spread[t] == pytest.approx(spread, abs=tolerance + 1e-7)
            assert found.not_finite[t] == 0
            at_kinks = near(a, 0.0, 1.0)
            assert abs(found.zero_slope[t] * count - (steep == 0).sum()) <= at_kinks
            if known.steepest is None:
                assert math.isnan(found.saturated_low[t]) and math.isnan(found.saturated_high[t])
            else:
                small = steep < 0.1 * known.steepest
                doubtful = at_kinks + near(steep, 0.1 * known.steepest)
                low = (small & (a < known.split)).sum()
                assert abs(found.saturated_low[t] * count - low) <= doubtful
                high = (small & (a > known.split)).sum()
                assert abs(found.saturated_high[t] * count - high) <= doubtful
            if known.bounds is None:
                assert math.isnan(found.near_low[t]) and math.isnan(found.near_high[t])
            else:
                low, high = known.bounds
                edges = low + 0.1 * (high - low), high - 0.1 * (high - low)
                below, above = (value < edges[0]).sum(), (value > edges[1]).sum()
                assert abs(found.near_low[t] * count - below) <= near(value, edges[0])
                assert abs(found.near_high[t] * count - above) <= near(value, edges[1])
    for t, c in enumerate(seen["c"]):
        assert record.max_abs_c[t] == pytest.approx(c.detach().abs().max().item(), rel=1e-5)


def norms(values: list[Tensor]) -> list[float]:
    return [v.norm().item() for v in values]


def close(found: Any, wanted: list[float], tolerance: float) -> None:
    size = max(1e-300, *wanted)
    np.testing.assert_allclose(found, wanted, rtol=tolerance * 100, atol=tolerance * size)


def direct(
    seen: dict[str, list[Tensor]], names: dict[str, str], arriving: dict[str, Tensor], reverse: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """dL/dh_t and dL/dc_t without what comes through later steps: for h what arrives at the output,
    for c what of it comes through this step's h; at the last step also the end state's."""
    last = 0 if reverse else len(seen["h"]) - 1
    by_h, by_c = [], []
    for t, (o, c) in enumerate(zip(seen["output_gate"], seen["c"], strict=True)):
        grad_h = arriving["output"][t] + (arriving["h"] if t == last else 0)
        leaf = c.detach().requires_grad_()
        h = o.detach() * KNOWN[names["cell_output"]].function(leaf)
        grad_c = torch.autograd.grad(h, leaf, grad_h)[0] + (arriving["c"] if t == last else 0)
        by_h.append(grad_h)
        by_c.append(grad_c)
    return by_h, by_c


CASES = st.fixed_dictionaries(
    {
        "t": st.integers(1, 5),
        "b": st.integers(1, 4),
        "i": st.integers(1, 3),
        "h": st.sampled_from([1, 3, 8, 17, 40]),
        "reverse": st.booleans(),
        "seed": st.integers(0, 1000),
        "names": st.fixed_dictionaries({slot: st.sampled_from(sorted(KNOWN)) for slot in SLOTS}),
    }
)


def compare(engine: str, dtype: torch.dtype, case: dict[str, Any]) -> None:
    torch.manual_seed(case["seed"])
    names, sides = case["names"], 2 if case["reverse"] else 1
    lstm = anygate.LSTM(
        case["i"], case["h"], bidirectional=case["reverse"], engine=engine, dtype=dtype, **names
    )
    x = torch.randn(case["t"], case["b"], case["i"], dtype=dtype)
    start = [torch.randn(sides, case["b"], case["h"], dtype=dtype) for _ in range(2)]
    with anygate.record(lstm) as recording:
        output, (h_n, c_n) = lstm(x, (start[0], start[1]))
        given_ = {n: torch.randn_like(v) for n, v in (("output", output), ("h", h_n), ("c", c_n))}
        torch.autograd.backward([output, h_n, c_n], list(given_.values()))
    record = recording.records[-1]
    assert record.layer == ("l0_reverse" if case["reverse"] else "l0")
    ending = "_l0_reverse" if case["reverse"] else "_l0"
    weights = {
        n.removesuffix(ending): p.detach().double()
        for n, p in lstm.named_parameters()
        if n.endswith(ending)
    }
    states = [s[-1].double().requires_grad_() for s in start]
    seen = loop(weights, x.double(), *states, names, case["reverse"])
    width = case["h"]
    arriving = {
        "output": given_["output"].double()[..., -width:],
        "h": given_["h"][-1].double(),
        "c": given_["c"][-1].double(),
    }
    last = 0 if case["reverse"] else len(x) - 1
    torch.autograd.backward(
        [torch.stack(seen["h"]), seen["h"][last], seen["c"][last]], list(arriving.values())
    )
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    check_slots(record, seen, names, tolerance)
    close(record.grad_h, norms([h.grad for h in seen["h"]]), tolerance)
    close(record.grad_c, norms([c.grad for c in seen["c"]]), tolerance)
    by_h, by_c = direct(seen, names, arriving, case["reverse"])
    close(record.grad_h_direct, norms(by_h), tolerance)
    close(record.grad_c_direct, norms(by_c), tolerance)


@pytest.mark.parametrize("engine", ["reference", "eager", "cpu"])
@given(case=CASES)
@examples(15)
def test_equals_the_loop(engine: str, case: dict[str, Any]) -> None:
    compare(engine, torch.float64, case)


@given(case=CASES)
@examples(15)
def test_equals_the_loop_in_float32(case: dict[str, Any]) -> None:
    steep = {
        slot: "tanh" if case["names"][slot] == "exp(x)" else case["names"][slot] for slot in SLOTS
    }
    compare("cpu", torch.float32, {**case, "names": steep})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(3, 1, 2, 600), (40, 7, 3, 70)])
def test_equals_the_loop_however_the_work_is_shared(shape: Any, threads: int) -> None:
    """Shared by hidden units, and by rows."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        names = dict.fromkeys(SLOTS, "sigmoid") | {"candidate": "tanh", "cell_output": "relu"}
        t, b, i, h = shape
        case = {"t": t, "b": b, "i": i, "h": h, "reverse": False, "seed": 0, "names": names}
        compare("cpu", torch.float32, case)
    finally:
        torch.set_num_threads(before)


# ---- what stays the same, and what is not measured ------------------------------------------


class Model(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.lstm = anygate.LSTM(3, 20, 2, bidirectional=True, **options)
        self.head = nn.Linear(40, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][-1])


@pytest.mark.parametrize("activation", ["tanh", "relu", "x*sigmoid(x)"])
def test_the_model_computes_the_same_bits(activation: str) -> None:
    torch.manual_seed(0)
    model = Model(activation=activation)
    twin, x = copy.deepcopy(model), torch.randn(9, 5, 3)
    model(x).sum().backward()
    with anygate.record(twin) as recording:
        twin(x).sum().backward()
    assert len(recording) == 4
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def test_every_nth_call_is_measured_and_nothing_afterwards() -> None:
    model, x = Model(), torch.randn(4, 2, 3)
    with anygate.record(model, every=3) as recording:
        for _ in range(7):
            model(x).sum().backward()
    model(x)
    assert [r.step for r in recording] == [0] * 4 + [3] * 4 + [6] * 4
    assert recording.layers == ["lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse"]
    assert not model._forward_pre_hooks and not model._forward_hooks


def test_without_gradients_only_the_forward_is_measured() -> None:
    lstm = anygate.LSTM(2, 5)
    with torch.no_grad(), anygate.record(lstm) as recording:
        lstm(torch.randn(3, 2, 2))
    (record,) = recording
    assert record.grad_h is None and record.grad_c_direct is None
    assert (record.slots["forget_gate"].mean > 0).all()


def test_parts_called_by_the_training_loop_count_for_themselves() -> None:
    model = Model()
    with anygate.record(model, every=2) as recording:
        for _ in range(4):
            model.lstm(torch.randn(3, 2, 3))
    assert [r.step for r in recording] == [0] * 4 + [2] * 4


def test_a_cells_calls_are_its_time_steps() -> None:
    """LSTMCell in a loop and LSTM measure the same."""
    torch.manual_seed(0)
    lstm = anygate.LSTM(3, 6, activation="relu", dtype=torch.float64)

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = anygate.LSTMCell(3, 6, activation="relu", dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            state, outputs = None, []
            for step in x:
                state = self.cell(step, state)
                outputs.append(state[0])
            return torch.stack(outputs)

    model = Loop()
    with torch.no_grad():
        for p, q in zip(model.cell.parameters(), lstm.parameters(), strict=True):
            p.copy_(q)
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    with anygate.record(model) as by_cell, anygate.record(lstm) as by_lstm:
        for _ in range(2):
            model(x).square().sum().backward()
            lstm(x)[0].square().sum().backward()
    assert [r.time_steps for r in by_cell] == [5, 5]
    for ours, theirs in zip(by_cell, by_lstm, strict=True):
        assert ours.layer == "cell" and ours.grad_h_direct is None
        np.testing.assert_allclose(ours.grad_h, theirs.grad_h, rtol=1e-12)
        np.testing.assert_allclose(ours.grad_c, theirs.grad_c, rtol=1e-12)
        for slot in SLOTS:
            for name in ("mean", "spread", "zero_slope"):
                values = getattr(ours.slots[slot], name), getattr(theirs.slots[slot], name)
                np.testing.assert_allclose(*values, rtol=1e-12, atol=1e-12)


def _losses(output: Tensor, states: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Losses of a sequence's outputs, of the states after its last step, and of both."""
    outputs, last = output.square().sum(), sum(s.sum() for s in states)
    return {"outputs": outputs, "states": last, "both": outputs + last}


@pytest.mark.parametrize("of", ["outputs", "states", "both"])
@pytest.mark.parametrize("lengths", [[6, 4, 1], [4, 4, 4], [5, 5, 2, 2, 1], [3]], ids=str)
@pytest.mark.parametrize("engine", ["reference", "eager", "cpu"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_pack_counts_the_rows_that_are_there(
    reverse: bool, engine: str, lengths: list[int], of: str
) -> None:
    """Each time step's numbers are those over the sequences that reach it, each run alone by the
    reference engine; a row's last step has the gradient of the states that are returned."""
    torch.manual_seed(0)
    lstm = anygate.LSTM(2, 5, bidirectional=reverse, engine=engine, dtype=torch.float64)
    alone_lstm = anygate.LSTM(2, 5, bidirectional=reverse, engine="reference", dtype=torch.float64)
    alone_lstm.load_state_dict(lstm.state_dict())
    rows, steps = len(lengths), max(lengths)
    x = torch.randn(steps, rows, 2, dtype=torch.float64)
    begin = torch.randn(2, 1 + reverse, rows, 5, dtype=torch.float64)
    with anygate.record(lstm) as whole:
        output, states = lstm(pack_padded_sequence(x, lengths), (begin[0], begin[1]))
        _losses(output.data, states)[of].backward()
    with anygate.record(alone_lstm) as single:
        for row, length in enumerate(lengths):
            own = begin[:, :, row : row + 1]
            _losses(*alone_lstm(x[:length, row : row + 1], (own[0], own[1])))[of].backward()
    layers = [[r for r in rec if r.layer == whole.layers[-1]] for rec in (whole, single)]
    (found,), alone = layers
    assert len(whole) == 1 + reverse and found.time_steps == steps
    for t in range(steps):
        there = [r for r in alone if r.time_steps > t]
        for slot in SLOTS:
            for name in ("mean", "zero_slope", "saturated_low", "saturated_high"):
                mean = np.mean([getattr(r.slots[slot], name)[t] for r in there])
                assert getattr(found.slots[slot], name)[t] == pytest.approx(mean), (slot, name)
        largest = max(r.max_abs_c[t] for r in there)
        assert found.max_abs_c[t] == pytest.approx(largest)
        for name in ("grad_h", "grad_c", "grad_h_direct", "grad_c_direct"):
            norm = math.sqrt(sum(getattr(r, name)[t] ** 2 for r in there))
            assert getattr(found, name)[t] == pytest.approx(norm), name


@pytest.mark.parametrize(
    "options",
    [
        {"peephole": True},
        {"coupled": True},
        {"clip": 0.3},
        {"proj_size": 3},
        {"activation": "leaky_relu", "trainable": "unit"},
        {"dtype": torch.bfloat16},
    ],
)
def test_variants_agree_with_the_reference_engine(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    dtype = options.setdefault("dtype", torch.float64)
    ours = anygate.LSTM(3, 6, engine="cpu", **options)
    truth = anygate.LSTM(3, 6, engine="reference", **options)
    with torch.no_grad():
        for p in ours.parameters():
            p.uniform_(-1, 1)
    truth.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 3).to(dtype)
    found = []
    for lstm in (ours, truth):
        with anygate.record(lstm) as recording:
            lstm(x)[0].sum().backward()
        found.append(recording.arrays())
    loose = {"rtol": 0.1, "atol": 0.06} if dtype == torch.bfloat16 else {"rtol": 1e-9, "atol": 1e-9}
    for name, values in found[1].items():
        np.testing.assert_allclose(found[0][name], values, err_msg=name, **loose)


# ---- numbers that are not finite ------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "eager", "cpu"])
def test_the_first_bad_step_is_named(engine: str) -> None:
    lstm = anygate.LSTM(1, 2, activation="relu", engine=engine)
    with torch.no_grad():
        for p in lstm.parameters():
            p.fill_(1.0)
        lstm.weight_hh_l0.fill_(30.0)
    with anygate.record(lstm) as recording:
        lstm(torch.ones(300, 2, 1))
    (record,) = recording
    bad = record.first_bad()
    assert bad is not None
    slot, t = bad
    assert slot in ("candidate", "cell_output") and 5 < t < 300
    before = [record.slots[s].not_finite[:t].sum() for s in SLOTS]
    assert before == [0] * 5 and record.slots[slot].not_finite[t] > 0
    assert np.isfinite(record.max_abs_c[:t]).all() and record.max_abs_c[t - 1] > 1e6
    assert "not finite" in str(recording)


def test_nan_in_is_counted() -> None:
    lstm = anygate.LSTM(1, 3, bidirectional=True)
    x = torch.zeros(5, 2, 1)
    x[2, 0] = math.nan
    with anygate.record(lstm) as recording:
        lstm(x)
    forward, backward = recording
    assert forward.first_bad() == ("input_gate", 2) and backward.first_bad() == ("input_gate", 2)
    assert list(forward.slots["candidate"].not_finite) == [0, 0, 3, 3, 3]
    assert list(backward.slots["candidate"].not_finite) == [3, 3, 3, 0, 0]


def test_tables_of_a_gpu_are_fetched_together() -> None:
    """64 at a time, and those whose backward came after that with the next 64."""

    class OnGpu:
        shape = (1, 2, 41)
        fetched = 0

        def cpu(self) -> Tensor:
            OnGpu.fetched += 1
            return torch.zeros(self.shape, dtype=torch.float64)

    recording, cell = Recording(), anygate.LSTM(1, 2).cell
    for k in range(65):
        piece = Piece(k, "l0", 0, cell, 1, 2, False)
        recording.append(piece)
        piece.forward(OnGpu())
    assert OnGpu.fetched == 64
    recording.pieces[0].backward(OnGpu())
    assert all(isinstance(p.tables["forward"], Tensor) for p in recording.pieces[:64])
    assert len(recording.records) == 65 and OnGpu.fetched == 66


def test_an_empty_batch_has_no_mean() -> None:
    lstm = anygate.LSTM(2, 3)
    with anygate.record(lstm) as recording:
        lstm(torch.zeros(4, 0, 2))
    (record,) = recording
    assert np.isnan(record.slots["candidate"].mean).all() and not record.max_abs_c.any()


# ---- what it refuses ------------------------------------------------------------------------


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"anygate\.swap"), anygate.record(nn.LSTM(1, 1)):
        pass
    with (
        pytest.raises(ValueError, match="no recurrent module of anygate"),
        anygate.record(nn.Linear(1, 1)),
    ):
        pass
    lstm = anygate.LSTM(1, 2)
    for every in (0, True, 1.5):
        with pytest.raises(ValueError, match="every must"), anygate.record(lstm, every=every):
            pass
    with anygate.record(lstm):
        lstm(torch.zeros(1, 1, 1))
        with pytest.raises(ValueError, match="already"), anygate.record(nn.Sequential(lstm)):
            pass
    with (
        pytest.raises(ValueError, match="compile"),
        anygate.record(torch.compile(lstm, backend="eager")),
    ):
        pass
    with pytest.warns(UserWarning, match="measured nothing"), anygate.record(lstm):
        pass


@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_what_cannot_be_measured_is_refused(engine: str) -> None:
    lstm = anygate.LSTM(2, 3, engine=engine)
    x = torch.randn(3, 2, 2)
    with anygate.record(lstm):
        loss = lstm(x)[0].sum()
        with pytest.raises(RuntimeError, match="create_graph"):
            torch.autograd.grad(loss, list(lstm.parameters()), create_graph=True)
        with pytest.raises(RuntimeError, match="plain calls"):
            torch.func.vmap(lambda rows: lstm(rows)[0], in_dims=1)(x.unsqueeze(1))
    lstm(x)[0].sum().backward()


def test_a_model_that_fails_leaves_nothing_behind() -> None:
    model = Model()
    with pytest.raises(RuntimeError), anygate.record(model) as recording:
        model(torch.randn(4, 2, 99))
    assert len(recording) == 0 and not model._forward_hooks
    with anygate.record(model) as again:
        model(torch.randn(4, 2, 3))
    assert len(again) == 4


# ---- forms ----------------------------------------------------------------------------------


def test_table_arrays_and_tensorboard() -> None:
    lstm = anygate.LSTM(2, 3, activation="relu")
    with anygate.record(lstm, every=2) as recording:
        for steps in (4, 4, 6):
            lstm(torch.randn(steps, 2, 2))[0].sum().backward()
    rows = recording.table()
    assert len(rows) == 5 * (4 + 6)
    assert rows[0]["slot"] == "input_gate" and rows[-1]["t"] == 5 and rows[-1]["step"] == 2
    arrays = recording.arrays()
    assert arrays["l0/step"].tolist() == [0, 2] and arrays["l0/grad_h"].shape == (2, 6)
    assert np.isnan(arrays["l0/grad_h"][0, 4:]).all()
    last = recording.records[-1]
    np.testing.assert_array_equal(
        arrays["l0/candidate/zero_slope"][1], last.slots["candidate"].zero_slope
    )

    class Writer:
        def __init__(self) -> None:
            self.told: list[tuple[str, float, int]] = []

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            self.told.append((tag, value, step))

    writer = Writer()
    recording.to_tensorboard(writer)
    told = {(tag, step): value for tag, value, step in writer.told}
    assert told["anygate/l0/candidate/mean", 2] == pytest.approx(
        last.slots["candidate"].mean.mean()
    )
    assert told["anygate/l0/grad_h/first_time_step", 2] == last.grad_h[0]
    assert ("anygate/l0/candidate/near_low", 2) not in told  # ReLU has no upper bound


# ---- which call is which ------------------------------------------------------------------------


class _Stepped(nn.Module):
    """Two cells, one after the other at each time step; stops where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = anygate.LSTMCell(2, 3), anygate.LSTMCell(3, 3)
        self.stop: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        one = two = None
        for row in x:
            one = self.first(row, one)
            two = self.second(one[0], two)
            if self.stop is not None:
                raise self.stop
        assert two is not None
        return two[0]


def _told(recording: Any) -> list[tuple[int, str, int]]:
    return [(r.step, r.layer, r.time_steps) for r in recording.records]


def test_cells_that_take_turns() -> None:
    model = _Stepped()
    with anygate.record(model) as recording:
        model(torch.randn(4, 1, 2))
        model(torch.randn(5, 1, 2))
    assert _told(recording) == [
        (0, "first", 4),
        (0, "second", 4),
        (1, "first", 5),
        (1, "second", 5),
    ]


@pytest.mark.parametrize("where", ["a hook", "the model"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_a_call_that_failed(where: str, error: type[BaseException]) -> None:
    """Later calls are counted as if it had not failed; the failed one counts."""
    model = _Stepped()
    x = torch.randn(4, 1, 2)

    def fail(module: Any, arguments: Any) -> None:
        if wanted:
            raise error

    wanted: list[bool] = []
    model.register_forward_pre_hook(fail)
    with anygate.record(model) as recording:
        model(x)
        wanted.extend([True] if where == "a hook" else [])
        model.stop = error() if where == "the model" else None
        with pytest.raises(error):
            model(x)
        wanted.clear()
        model.stop = None
        model(x)
        model.first(x[0])
        model(x)
    whole = [r for r in _told(recording) if r[1] == "first" and r[2] == 4]
    assert whole == [(0, "first", 4), (2, "first", 4), (3, "first", 4)]
    alone = [r for r in _told(recording) if r[1] == "first" and r[2] == 1]
    failed = [(1, "first", 1)] if where == "the model" else []
    assert alone == [*failed] or [r for r in alone if r not in failed] == [(0, "first", 1)]


def test_copies_made_meanwhile_have_no_hooks() -> None:
    model = _Stepped()
    x = torch.randn(4, 1, 2)
    with anygate.record(model) as recording:
        model(x)
        file = io.BytesIO()
        torch.save(model, file)
        copies = [copy.deepcopy(model), torch.optim.swa_utils.AveragedModel(model)]
        file.seek(0)
        copies.append(torch.load(file, weights_only=False))
        for made in copies:
            for module in made.modules():
                assert not module._forward_hooks and not module._forward_pre_hooks
            made(x)
        assert {r[0] for r in _told(recording)} == {0}, "a copy's calls were recorded"
    assert not nn.modules.module._global_forward_pre_hooks
    assert not nn.modules.module._global_forward_hooks


def test_threads_are_in_calls_of_their_own() -> None:
    """Four threads call one model, each with its own length and all of them at once."""
    model = _Stepped()
    lengths = [3, 4, 5, 6]
    together = threading.Barrier(len(lengths), timeout=60)
    interval = sys.getswitchinterval()

    def work(steps: int) -> None:
        together.wait()
        for _ in range(5):
            with torch.no_grad():
                model(torch.randn(steps, 1, 2))

    sys.setswitchinterval(1e-6)
    try:
        with anygate.record(model) as recording:
            threads = [threading.Thread(target=work, args=(n,)) for n in lengths]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
    finally:
        sys.setswitchinterval(interval)
    for layer in ("first", "second"):
        found = [r for r in _told(recording) if r[1] == layer]
        assert sorted(r[0] for r in found) == list(range(20))
        assert sorted(r[2] for r in found) == sorted(lengths * 5)
