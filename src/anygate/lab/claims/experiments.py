"""All experiments by name: what is trained, and what is computed or timed without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..study.trial import PROBE, Model
from . import exact, speed
from .flow import flow
from .grid import Arm, Scale, arms, spec_of
from .survey import FUNCTIONS, PLACES

__all__ = ["ABLATIONS", "EXPERIMENTS", "FORGET", "INSIDE", "LOOKED", "MEASURED", "OUTSIDE", "PAIR",
           "SINGLE_GATES", "STABILITY", "TASKS", "Experiment", "on", "plain"]  # fmt: skip

TASKS = ("adding", "reber", "rows")
"""The three tasks of replacements and ablations."""
OUTSIDE = ("penalized_tanh", "relu", "exponential")
"""Gates whose range is not (0, 1): (-1/4, 1), [0, inf), (0, inf)."""
INSIDE = ("hard_sigmoid", "elliott")
SINGLE_GATES = ("input_gate", "forget_gate", "output_gate")
PAIR = ("activation", "candidate", "cell_output")
"""Both slots that tanh usually stands in, and each alone."""
FORGET = (0.0, 1.0, 3.0)
"""Forget biases whose gradient is measured at the start."""


@dataclass(frozen=True)
class Experiment:
    """title: what it is. arms: what is trained; `survey` says that these need a survey's seeds
    only. compute: what needs no training. alone: nothing else may run meanwhile."""

    title: str
    arms: tuple[Arm, ...] = ()
    survey: bool = False
    compute: Callable[[Scale], dict[str, Any]] | None = None
    alone: bool = False


def plain(task: str, **changes: Any) -> Arm:
    """The LSTM as it is: tanh and sigmoid."""
    return Arm(task, changes=tuple(sorted(changes.items())))


def both_rates(found: tuple[Arm, ...]) -> tuple[Arm, ...]:
    """Each at the shared rate and at its own."""
    return (*found, *(arm.own for arm in found))


def gates() -> tuple[Arm, ...]:
    """Other gates: all three on two tasks, and one at a time."""
    every = (*INSIDE, *OUTSIDE)
    return (
        plain("adding"),
        plain("reber"),
        *arms("adding", "gate_activation", every),
        *arms("reber", "gate_activation", every),
        *arms("adding", SINGLE_GATES, ("penalized_tanh", "relu")),
    )


STABILITY = tuple(
    Arm("adding", "activation", name,
        (("clip", 0.0), ("epochs", 5), ("forget_bias", bias), ("learning_rate", rate)))
    for name in ("tanh", "relu")
    for bias in (1.0, 3.0)
    for rate in (0.01, 0.03, 0.1)
)  # fmt: skip
"""Short trainings without clipping."""

ABLATIONS: dict[str, Arm] = {
    "no input gate (NIG)": Arm("", "input_gate", "1"),
    "no forget gate (NFG)": Arm("", "forget_gate", "1"),
    "no output gate (NOG)": Arm("", "output_gate", "1"),
    "no input activation (NIAF)": Arm("", "candidate", "identity"),
    "no output activation (NOAF)": Arm("", "cell_output", "identity"),
    "coupled gates (CIFG)": Arm("", changes=(("variant", "coupled"),)),
    "peepholes": Arm("", changes=(("variant", "peephole"),)),
}
"""Greff's variants by slot; the plain LSTM here is his NP, without peepholes."""


def on(task: str, arm: Arm) -> Arm:
    """An arm on another task."""
    return Arm(task, arm.slot, arm.activation, arm.changes, arm.rate)


MEASURED = frozenset({
    plain("adding"),
    *arms("adding", "activation", ("relu", "leaky_relu", "leaky_relu(k=0.3)")),
    *arms("rows", "activation", ("hard_tanh",)),
})  # fmt: skip
"""Arms of which a snapshot is taken after training."""
LOOKED = MEASURED | frozenset(gates())
"""Arms whose inside is looked at after training; a kernel that measures is compiled for each."""


def starts(place: str, scale: Scale) -> dict[str, Any]:
    """Gradients at initialisation on the adding problem, no training: every function of the survey
    in one place; a list of models for each."""
    return {name: _starts(Arm("adding", place, name), scale) for name in FUNCTIONS}


def forget_starts(scale: Scale) -> dict[str, Any]:
    """The same for tanh with several forget biases."""
    return {f"{b:g}": _starts(plain("adding", forget_bias=b), scale) for b in FORGET}


def _starts(arm: Arm, scale: Scale) -> list[dict[str, Any]]:
    return [_start(arm, seed, scale) for seed in range(scale.starts)]


def _start(arm: Arm, seed: int, scale: Scale) -> dict[str, Any]:
    spec = spec_of(arm, seed, scale)
    torch.manual_seed(seed)
    data = spec.task.load(seed)
    model = Model(spec, data.train_x.size(-1), data.every_step)
    x = data.test_x[:PROBE].transpose(0, 1)
    found = flow(model, spec.task.loss, x, data.test_y[:PROBE])
    return {k: None if v is None else float(f"{v:.6g}") for k, v in found.items()}


_IDENTITY = {"initial": "identity"}

EXPERIMENTS: Mapping[str, Experiment] = {
    "formulas": Experiment("derivatives, second derivatives, properties", compute=exact.formulas),
    "limits": Experiment("biases, growth and forgetting, by formula and in an LSTM",
                         compute=exact.limits),
    "functions": Experiment("cost of f and f' an element", compute=speed.functions, alone=True),
    "layers": Experiment("cost of a whole LSTM", compute=speed.layers, alone=True),
    "starts-candidate": Experiment("gradients over lag before training, by candidate",
                                   compute=partial(starts, "candidate")),
    "starts-cell_output": Experiment("gradients over lag before training, by cell output",
                                     compute=partial(starts, "cell_output")),
    "starts-forget": Experiment("gradients over lag before training, by forget bias",
                                compute=forget_starts),
    "gates": Experiment("other gates", arms=gates()),
    "convergence": Experiment(
        "tanh against other units, as candidate and output, in both and in each",
        arms=(*both_rates((plain("adding"), *arms("adding", "activation", ("sigmoid", "relu")))),
              *arms("adding", "activation", ("softsign", "lecun_tanh")),
              *arms("adding", PLACES, ("sigmoid",))),
    ),
    "hard-tanh": Experiment("hard tanh on digits",
                            arms=(plain("rows"), *arms("rows", "activation", ("hard_tanh",)))),
    "replacement": Experiment(
        "ReLU for tanh: as candidate, as cell output, as both",
        arms=both_rates(tuple(
            arm for task in TASKS
            for arm in (plain(task), *arms(task, PAIR, ("relu",)))
        )),
    ),
    "vision": Experiment(
        "ReLU on images, plain and with the identity as recurrent matrix",
        arms=both_rates((plain("pixels"), *arms("pixels", "activation", ("relu",)),
                         *arms("pixels", "activation", ("relu",), **_IDENTITY))),
    ),
    "leaky": Experiment(
        "leaky ReLU against ReLU",
        arms=(*arms("adding", "activation", ("relu", "leaky_relu", "leaky_relu(k=0.3)")),
              *arms("rows", "activation", ("relu", "leaky_relu", "leaky_relu(k=0.3)"))),
    ),
    "stability": Experiment("forget bias x learning rate without clipping", arms=STABILITY),
    "survey": Experiment(
        "many functions as candidate and as cell output",
        arms=(plain("adding"), *arms("adding", PLACES, [f for f in FUNCTIONS if f != "tanh"])),
        survey=True,
    ),
    "counterexamples": Experiment(
        "units that are not bounded, not differentiable, not monotone",
        arms=(plain("adding"), *arms("adding", PLACES, ("relu", "hard_tanh", "sine"))),
    ),
    "ablations": Experiment(
        "one part of the LSTM left out",
        arms=tuple(arm for task in TASKS
                   for arm in (plain(task), *(on(task, a) for a in ABLATIONS.values()))),
    ),
    "chrono": Experiment(
        "chrono initialisation; ReLU on a longer adding problem",
        arms=(plain("long"), plain("long", initial="chrono"),
              *arms("long", "activation", ("relu",))),
    ),
}  # fmt: skip
