"""The measurements of a trial inside its LSTM, against a float64 loop that keeps every gradient."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from loop import gradients, loop, statistics
from numpy.typing import NDArray
from torch import Tensor, nn

import anygate
from anygate.formulas import resolve
from anygate.lab.study.measure import (
    BINS,
    bin_edges,
    dead_units,
    health,
    place_of_divergence,
    snapshot,
)
from anygate.lab.study.store.files import checked, write_json
from anygate.lab.study.store.schema import Trial
from anygate.lab.study.trial import PROBE, Model, TrialSpec, run_trial
from anygate.lab.tasks import find_task
from anygate.nn import LSTM

Array = NDArray[np.float64]
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")


class Last(nn.Module):
    """An LSTM and a linear head after the last step."""

    def __init__(self, lstm: LSTM) -> None:
        super().__init__()
        self.lstm, self.head = lstm, nn.Linear(lstm.hidden_size, 1).to(lstm.weight_ih_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][-1])  # type: ignore[no-any-return]


def squares(outputs: Tensor) -> Tensor:
    return outputs.square().mean()


def looped(
    lstm: LSTM, x: Tensor, rest: Callable[[Tensor], Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Statistics of the slots and gradients, a number for each time step, from the loop; `rest`
    goes from the layer's outputs to the loss."""
    outputs, seen = loop(lstm, x)
    rest(outputs).backward(retain_graph=True)  # type: ignore[no-untyped-call]
    cells = np.array([c.detach().abs().max().item() for c in seen.c])
    return statistics(lstm, seen), {"max_abs_cell": cells, **gradients(seen)}


def by_bin(values: Any, edges: list[int], reduce: Callable[[Any], Any]) -> list[float]:
    return [float(reduce(values[a:b])) for a, b in pairwise(edges)]


def reduction(name: str) -> Callable[[Any], Any]:
    if name.startswith("grad") or name == "spread":
        return lambda values: math.sqrt(np.mean(np.square(values)))
    return {"max_abs_cell": np.max, "not_finite": np.sum}.get(name, np.mean)


def same(found: dict[str, Any], wanted: dict[str, Any], edges: list[int], rel: float) -> None:
    """All that the loop found is in the snapshot, and the other way round."""
    real = {
        n
        for n, v in wanted.items()
        if not np.isnan(v).all() and not (n == "not_finite" and not v.any())
    }
    assert found.keys() - {"edges", "slots"} == real
    for name in real:
        binned = by_bin(wanted[name], edges, reduction(name))
        assert found[name] == pytest.approx(binned, rel=rel, abs=1e-12), name


@pytest.mark.parametrize("steps", [5, 150])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sqrt(abs(x))"])
def test_a_snapshot_agrees_with_a_loop_in_float64(activation: str, steps: int) -> None:
    torch.manual_seed(0)
    model = Last(LSTM(3, 5, activation=activation).double())
    x = 2 * torch.randn(steps, 4, 3, dtype=torch.float64)
    found = snapshot(model, x, squares)
    assert all(p.grad is None for p in model.parameters())
    edges = found["edges"]
    assert len(edges) == min(steps, BINS) + 1 and edges[-1] == steps
    slots, states = looped(model.lstm, x, lambda h: squares(model.head(h[-1])))
    same(found, states, edges, 1e-9)
    for slot, wanted in slots.items():
        same(found["slots"][slot], wanted, edges, 1e-9)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_trial_on_adding_200_records_where_the_gradient_goes(
    activation: str, tmp_path: Path
) -> None:
    """The file's numbers, before training and after, are those of the float64 loop with the
    trial's own weights, data and loss; the direct norm is zero at all steps but the last."""
    task = find_task("adding:200")
    small = replace(task.settings, hidden_size=8, epochs=1, batch_size=1000)
    spec = TrialSpec(task, resolve(activation), "activation", 0, small)
    result, _ = run_trial(spec)
    write_json(tmp_path / "trial.json", result)
    seen = checked(json.loads((tmp_path / "trial.json").read_text()), Trial).inside
    assert set(seen) == {"start", "end"}

    torch.manual_seed(0)
    data = task.load(0)
    model = Model(spec, data.train_x.size(-1), data.every_step).double()
    x = data.test_x[:PROBE].transpose(0, 1).double()
    wanted = data.test_y[:PROBE].double()
    slots, states = looped(model.lstm, x, lambda h: task.loss(model.head(h[-1]), wanted))
    edges = list(seen["start"].edges)
    assert len(edges) == BINS + 1
    for name, values in states.items():
        binned = by_bin(values, edges, reduction(name))
        assert seen["start"].states[name] == pytest.approx(binned, rel=2e-3), name
    for slot, of_slot in slots.items():
        binned = by_bin(of_slot["mean"], edges, np.mean)
        assert seen["start"].slots[slot]["mean"] == pytest.approx(binned, rel=2e-3, abs=1e-4)
    total, direct = seen["start"].states["grad_h"], seen["start"].states["grad_h_direct"]
    assert all(total) and not any(direct[:-1]) and direct[-1] > 0
    assert seen["end"].states["grad_c"] != seen["start"].states["grad_c"]


@given(st.integers(1, 2000))
@examples(50)
def test_bins_cover_all_steps_evenly(steps: int) -> None:
    edges = bin_edges(steps)
    widths = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == steps and len(widths) <= BINS
    assert widths.min() >= 1 and widths.max() - widths.min() <= 1


def test_a_file_stays_small(tmp_path: Path) -> None:
    """The most that a trial can hold: bounds in every slot, all bins full."""
    task = find_task("adding:200")
    few = replace(task.settings, hidden_size=4, epochs=2, batch_size=1000)
    result, _ = run_trial(TrialSpec(task, resolve("tanh"), "activation", 0, few))
    write_json(tmp_path / "trial.json", result)
    assert (tmp_path / "trial.json").stat().st_size < 60_000


def test_lists_of_numbers_take_a_line_and_texts_stay_as_they_are(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None], "b": {"text": "[ 1,\n 2 ]", "c": [[1], ["[\n]"]], "d": []}}
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == content and '"a": [1, 2.5, null]' in text


# ---- health and dead units ------------------------------------------------------------------


def test_health_agrees_with_the_loop() -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 5, activation="relu").double()
    with torch.no_grad():
        lstm.bias_ih_l0[2 * 5] = -100.0  # the first unit's candidate never reaches above zero
    x = 2 * torch.randn(6, 4, 3, dtype=torch.float64)
    seen, dead = health(lstm, x), dead_units(lstm, x)
    with torch.no_grad():
        _, wanted = loop(lstm, x)
    assert seen["max_abs_cell"] == pytest.approx(torch.stack(wanted.c).abs().max().item())
    for slot, arguments in wanted.arguments.items():
        z = torch.stack(arguments)
        gate = slot not in ("candidate", "cell_output")
        share = z.sigmoid() * (1 - z.sigmoid()) / 0.25 if gate else (z > 0).double()
        saturated = (share < 0.1).double().mean().item()
        assert seen["slots"][slot]["saturated"] == pytest.approx(saturated)
        alone = (share == 0).flatten(0, 1).all(0).double().mean().item()
        assert seen["slots"][slot]["dead"] == dead[slot] == pytest.approx(alone)
    assert dead["candidate"] == 0.2


HARD = (lambda z: np.clip(0.2 * z + 0.5, 0, 1), lambda z: 0.2 * (np.abs(z) < 2.5))
"""hard_sigmoid_onnx and its slope."""


def plain_slopes(lstm: LSTM, x: Array) -> dict[str, Array]:
    """Slot of the cell -> slopes [T, B, H] by the equations of the cell, written out for gates of
    hard_sigmoid_onnx, a leaky_relu as candidate and a relu as cell output, with peepholes, coupled
    gates, an argument limited to [-clip, clip] and a learnt k for each unit where the LSTM has
    them."""
    own = {name: p.detach().numpy() for name, p in lstm.named_parameters()}
    coupled = "forget_gate" not in lstm.cell.slots
    cell, size = lstm.cell, lstm.hidden_size
    peep = {g: own.get(f"{g}_gate_peephole_l0", 0.0) for g in ("input", "forget", "output")}
    k = own.get("candidate_k_l0", cell.slots["candidate"].parameters["k"])
    bound = math.inf if cell.clip is None else cell.clip
    f, slope = HARD

    def gate(a: Array) -> tuple[Array, Array]:
        return f(np.clip(a, -bound, bound)), slope(a) * (np.abs(a) < bound)

    h = c = np.zeros((x.shape[1], size))
    found: dict[str, list[Array]] = {slot: [] for slot in SLOTS}
    for step in x:
        z = step @ own["weight_ih_l0"].T + h @ own["weight_hh_l0"].T
        z_i, z_f, z_g, z_o = np.split(z + own["bias_ih_l0"] + own["bias_hh_l0"], 4, axis=-1)
        i, slope_i = gate(z_i + peep["input"] * c)
        forget, slope_f = (1 - i, slope_i) if coupled else gate(z_f + peep["forget"] * c)
        g = np.clip(z_g, -bound, bound)
        c = forget * c + i * np.where(g > 0, g, k * g)
        o, slope_o = gate(z_o + peep["output"] * c)
        h = o * np.clip(np.clip(c, -bound, bound), 0, None)
        slopes = (
            slope_i,
            slope_f,
            np.where(z_g > 0, 1.0, k) * (np.abs(z_g) < bound),
            slope_o,
            (c > 0) * (np.abs(c) < bound),
        )
        for slot, s in zip(found, slopes, strict=True):
            found[slot].append(s)
    return {slot: np.stack(found[slot]) for slot in lstm.cell.slots}


@pytest.mark.parametrize("clip", [None, 2.0])
@pytest.mark.parametrize("trainable", [False, "unit", "shared"])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("peephole", [False, True])
def test_dead_units_and_saturation_are_those_of_the_cell_as_it_is(
    peephole: bool, coupled: bool, trainable: Any, clip: float | None
) -> None:
    """The lab's figures against the recorder's and against the written-out equations, in every
    variant of the cell and with parameters as training leaves them: not the initial ones."""
    torch.manual_seed(1)
    lstm = LSTM(
        3,
        6,
        gate_activation="hard_sigmoid_onnx",
        candidate="leaky_relu",
        cell_output="relu",
        peephole=peephole,
        coupled=coupled,
        clip=clip,
        trainable={"candidate.k": trainable} if trainable else False,
    ).double()
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
        lstm.bias_ih_l0[:2] = 40.0  # two input gates held open: flat
        lstm.bias_ih_l0[6:9] = -40.0  # three rows that coupled gates do not use
        lstm.bias_ih_l0[12:16] = -1.9 if clip else -60.0  # candidates below zero
        if trainable:
            lstm.candidate_k_l0.fill_(0.0)
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    slopes = plain_slopes(lstm, x.numpy())
    found = health(lstm, x)
    with anygate.record(lstm) as recording, torch.no_grad():
        lstm(x)
    largest = {"candidate": 1.0, "cell_output": 1.0}
    assert found["slots"].keys() == slopes.keys()
    for slot, wanted in slopes.items():
        alone = (wanted == 0).all((0, 1)).mean()
        seen, recorded = found["slots"][slot], recording.records[0].slots[slot]
        assert seen["dead"] == alone, slot
        assert np.mean(recorded.zero_slope) == pytest.approx((wanted == 0).mean()), slot
        assert seen["saturated"] == pytest.approx(np.mean(recorded.saturated)), slot
        tenth = 0.1 * largest.get(slot, 0.2)
        assert seen["saturated"] == pytest.approx((np.abs(wanted) < tenth).mean()), slot
    assert found["slots"]["input_gate"]["dead"] >= 1 / 3
    if trainable and not clip:
        assert found["slots"]["candidate"]["dead"] >= 2 / 3


# ---- where a run stopped being finite -------------------------------------------------------


def filled(lstm: LSTM, value: float) -> Last:
    model = Last(lstm)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)
    return model


def test_a_state_that_overflows_is_named_with_its_slot_step_and_size() -> None:
    model = filled(LSTM(1, 2, candidate="exp(x)"), 1.0)
    x = torch.tensor([0.0, 0.0, 1e4, 0.0]).view(4, 1, 1)
    found = place_of_divergence(model, x, squares)
    # exp(1e4) is infinite, and so is the candidate
    assert (found["slot"], found["time_step"]) == ("candidate", 3)
    _, seen = loop(model.lstm, x[:2])
    wanted = torch.stack(seen.c).abs().max().item()
    assert found["max_abs_cell_before"] == pytest.approx(wanted, rel=1e-5)


def test_a_gradient_that_overflows_is_named_with_its_step_and_size() -> None:
    """Each step back multiplies dL/dc by 1e20: finite at the last two of five steps."""
    model = filled(
        LSTM(
            1,
            1,
            candidate="0*x",
            cell_output="0*x + x",
            forget_gate="0*x + 1e20",
            input_gate="0*x",
            output_gate="0*x + 1",
        ),
        0.0,
    )
    with torch.no_grad():
        model.head.weight.fill_(1.0)
    x = torch.zeros(5, 1, 1)
    found = place_of_divergence(model, x, lambda y: y.sum())
    assert "slot" not in found
    assert found["time_step"] == 3
    assert found["gradient_before"] == pytest.approx(1e20, rel=1e-5)
    assert found["max_abs_cell_before"] == 0.0


def test_a_loss_that_overflows_by_itself_has_a_size_and_no_place() -> None:
    model = filled(
        LSTM(1, 1, activation="identity", input_gate="0*x + 1e15", output_gate="0*x + 1e10"), 1.0
    )
    found = place_of_divergence(model, torch.ones(1, 1, 1), squares)
    assert set(found) == {"max_abs_cell_before", "largest_at"}
    assert found["max_abs_cell_before"] > 1e15 and found["largest_at"] == 1
