"""The way of a gradient back along the memory: what arrives at c some steps before the end,
directly through the forget gates, and through h.

    python -m studies.lag

trains a few networks on adding with 30 steps, as the setup `adding30` says, and writes
results/lag.json: a minute or two on an idle core. These runs count for no verdict; they show what
the derived part "direct path" looks like in networks that learn.

Every unit's own forget gates are multiplied. The product of their means would not do: after
training a few units keep nearly everything and the rest nothing, and it is the few that carry the
gradient.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anygate.formulas import resolve

from .experiments import rated
from .lab import Array, Model, machine, one_thread, seeded
from .results import COMMITTED

__all__ = ["LAG", "UNITS", "WAYS", "load_lags", "measure_lags", "shares"]

LAG = COMMITTED / "lag.json"
UNITS = ("tanh", "sigmoid", "relu", "leaky_relu", "hard_tanh")
WAYS = ("total", "direct", "through h")
SETUP = "adding30"
SEEDS = tuple(range(9100, 9106))
PROBE = 64


def measure_lags(path: Path = LAG) -> None:
    """Measure, and write the file."""
    with one_thread():
        rows = [row for unit in UNITS for row in _unit(unit)]
    content = {
        "command": "python -m studies.lag",
        "setup": SETUP,
        "seeds": SEEDS,
        "machine": machine(),
        "rows": rows,
    }
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def load_lags(path: Path = LAG) -> list[dict[str, Any]]:
    """The committed rows: unit, when, way, and the shares by lag; none where there is no file."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def _unit(unit: str) -> Iterator[dict[str, Any]]:
    """The medians over the seeds, at the start and after training."""
    found: dict[str, list[Array]] = {"start": [], "trained": []}
    for seed in SEEDS:
        for when, held in _seed(unit, seed):
            found[when].append(held)
    for when, several in found.items():
        for way, row in zip(WAYS, np.median(several, axis=0), strict=True):
            values = [float(f"{v:.3g}") for v in row]
            yield {"unit": unit, "when": when, "way": way, "shares": values}


def _seed(unit: str, seed: int) -> Iterator[tuple[str, Array]]:
    """One network, before and after its training."""
    spec = rated(SETUP, unit, 1.0).spec(seed)
    settings, task = spec.settings, spec.task
    with seeded(seed):
        data = task.load(seed)
        model = Model(spec, data.train_x.size(-1), data.every_step)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        x, y = data.test_x[:PROBE].transpose(0, 1), data.test_y[:PROBE]

        def loss(answers: Tensor) -> Any:
            return task.loss(answers, y)

        yield "start", shares(model, unit, x, loss)
        for _ in range(settings.epochs):
            order: Any = torch.randperm(len(data.train_x))
            for rows in order.split(settings.batch_size):
                error: Any = task.loss(
                    model(data.train_x[rows].transpose(0, 1)), data.train_y[rows]
                )
                optimizer.zero_grad()
                error.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
                optimizer.step()
        yield "trained", shares(model, unit, x, loss)


def shares(model: Any, unit: str, x: Tensor, loss: Callable[[Tensor], Any]) -> Array:
    """The norms of dL/dc, of its direct part and of the rest, over that of dL/dc at the last step,
    ``[3, steps]``, the last step first. x ``[T, B, I]``; ``unit`` is candidate and cell output.

    The direct part at a step is dL/dc at the last one times the forget gates of all steps between.
    A plain loop over the steps in float64, apart from every engine.
    """
    activation = resolve(unit)
    w, r, b, head, bias = (
        p.detach().double()
        for p in (
            model.lstm.weight_ih_l0,
            model.lstm.weight_hh_l0,
            model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0,
            model.head.weight,
            model.head.bias,
        )
    )
    h = torch.zeros(x.size(1), r.size(1), dtype=torch.float64)
    c = torch.zeros_like(h, requires_grad=True)
    cells, gates = [], []
    for step in x.double():
        i, f, g, o = (step @ w.T + h @ r.T + b).chunk(4, dim=-1)
        gates.append(torch.sigmoid(f))
        c = gates[-1] * c + torch.sigmoid(i) * activation(g)
        c.retain_grad()
        cells.append(c)
        h = torch.sigmoid(o) * activation(c)
    loss(h @ head.T + bias).backward()
    last = cells[-1].grad
    direct, rows = last, [(last, last, torch.zeros_like(last))]
    for cell, following in zip(cells[-2::-1], gates[:0:-1], strict=True):
        direct = direct * following.detach()
        rows.append((cell.grad, direct, cell.grad - direct))
    return np.array([[float(part.norm() / last.norm()) for part in row] for row in rows]).T


if __name__ == "__main__":
    measure_lags()
    print(f"written: {LAG}")
