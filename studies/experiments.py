"""The experiments: which arms are trained, and in which order.

Within a stage the seeds are the outermost loop, so that whenever a stretch ends all arms of the
stage have the same seeds, or one more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .arms import BOTH, Arm, arm
from .results import SEEDS
from .setups import CORE, FACTORED, FURTHER, LONG

__all__ = [
    "ABLATIONS",
    "FACTORIAL",
    "FACTORS",
    "GATES",
    "HIGH_RATES",
    "MAP_BIASES",
    "MAP_CLIPS",
    "MAP_RATES",
    "MAP_SETUPS",
    "PLACES",
    "RATES",
    "SCHEDULE",
    "STAGES",
    "TUNED",
    "Stage",
    "ablation",
    "crossings",
    "factorial",
    "grid",
    "map_arm",
    "rated",
    "trials",
]

PLACES = ("candidate", "cell_output", BOTH)

# ---- centring, slope, amplitude -----------------------------------------------------------------

FACTORS = ("centring", "slope", "amplitude")
"""Of a*(sigmoid(k*x) - m): m is 1/2 or 0, k is 2 or 1, a is 2 or 1. All high is tanh, all low the
logistic sigmoid."""
FACTORIAL: dict[tuple[bool, bool, bool], str] = {
    (True, True, True): "tanh",
    (True, True, False): "sigmoid(2*x)-1/2",
    (True, False, True): "2*sigmoid(x)-1",
    (True, False, False): "sigmoid(x)-1/2",
    (False, True, True): "2*sigmoid(2*x)",
    (False, True, False): "sigmoid(2*x)",
    (False, False, True): "2*sigmoid(x)",
    (False, False, False): "sigmoid",
}
"""(centred, steep, wide) -> the formula."""
STEEPER = "sigmoid(4*x)"
"""Off-centre with tanh's slope of 1 at the origin."""


def factorial(setup: str, place: str, levels: tuple[bool, bool, bool]) -> Arm:
    """The arm of one cell of the factorial; tanh's is the usual LSTM."""
    if all(levels):
        return arm(setup)
    return arm(setup, f"{place}={FACTORIAL[levels]}")


def _factorials(setups: Iterable[str], places: Iterable[str]) -> Iterator[Arm]:
    for setup in setups:
        for place in places:
            yield from (factorial(setup, place, levels) for levels in FACTORIAL)


# ---- slot and activation ------------------------------------------------------------------------

QUESTION = ("relu", "leaky_relu", "hard_tanh")
"""The activations of the question, besides sigmoid, which stands in the factorial."""
OTHERS = ("softsign", "identity", "sine", "leaky_relu(k=0.3)", "softplus")
GATES = ("hard_sigmoid", "relu", "tanh")
SINGLE_GATES = ("input_gate", "forget_gate", "output_gate")


def grid(setup: str, place: str, activation: str) -> Arm:
    """One cell of slot x activation."""
    return arm(setup, f"{place}={activation}")


ABLATIONS: dict[str, tuple[tuple[str, ...], dict[str, bool]]] = {
    "NFG": (("forget_gate=1",), {}),
    "NIG": (("input_gate=1",), {}),
    "NOG": (("output_gate=1",), {}),
    "NIAF": (("candidate=identity",), {}),
    "NOAF": (("cell_output=identity",), {}),
    "CIFG": ((), {"coupled": True}),
    "peepholes": ((), {"peephole": True}),
}
"""Greff's variants. The usual LSTM here is his NP, without peepholes."""


def ablation(setup: str, name: str) -> Arm:
    """One part left out, or added."""
    slots, changes = ABLATIONS[name]
    return arm(setup, *slots, **changes)


# ---- the learning rate --------------------------------------------------------------------------

RATES = (1 / 3, 1.0, 3.0)
"""Of the setup's rate. An arm's own rate is chosen among these."""
HALF = 0.5
"""tanh at half its rate: a change that nobody would call a change of the network."""
TUNED = ("tanh", "sigmoid", "relu", "leaky_relu", "hard_tanh")


def rated(setup: str, activation: str, rate: float) -> Arm:
    """An activation in both places at a factor of the rate."""
    return arm(setup, *([] if activation == "tanh" else [f"{BOTH}={activation}"]), rate=rate)


# ---- the divergence map -------------------------------------------------------------------------

MAP_RATES = (1 / 3, 1.0, 3.0)
HIGH_RATES = (1.0, 3.0)
"""Rates at which ReLU is compared with tanh."""
MAP_BIASES = (1.0, 3.0)
MAP_CLIPS = (1.0, 0.0)
MAP_SETUPS = ("adding", LONG)


def map_arm(setup: str, activation: str, rate: float, bias: float, clip: float) -> Arm:
    """One cell of the map: `rate` as a factor of the setup's, `clip` 0 for none. At the setup's own
    forget bias and clipping it is the arm of the other experiments."""
    own = SETTINGS_OF_MAP
    changes = {
        name: value
        for name, value in (("forget_bias", bias), ("gradient_clip", clip))
        if value != own[name]
    }
    return arm(
        setup, *([] if activation == "tanh" else [f"{BOTH}={activation}"]), rate=rate, **changes
    )


SETTINGS_OF_MAP = {"forget_bias": 1.0, "gradient_clip": 1.0}


def _map(activations: Iterable[str], rates: Iterable[float]) -> Iterator[Arm]:
    for activation in activations:
        for setup in MAP_SETUPS:
            for rate in rates:
                for bias in MAP_BIASES:
                    for clip in MAP_CLIPS:
                        yield map_arm(setup, activation, rate, bias, clip)


# ---- other settings -----------------------------------------------------------------------------

CROSSED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("orthogonal", {"init": "orthogonal"}),
    ("identity", {"init": "identity"}),
    ("chrono", {"init": "chrono"}),
    ("unclipped", {"gradient_clip": 0.0}),
    ("layer norm", {"layer_norm": True}),
    ("two layers", {"layers": 2}),
    ("64 units", {"hidden_size": 64}),
)
"""Name -> changes, crossed with tanh, ReLU and sigmoid in both places on the adding problem."""


def crossings(activation: str, changes: dict[str, Any]) -> Arm:
    """An activation in both places with other settings."""
    return arm("adding", *([] if activation == "tanh" else [f"{BOTH}={activation}"]), **changes)


# ---- stages -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """Arms that are run together."""

    name: str
    title: str
    arms: tuple[Arm, ...]


def _stage(name: str, title: str, arms: Iterable[Arm]) -> Stage:
    return Stage(name, title, tuple(dict.fromkeys(arms)))


STAGES = (
    _stage(
        "core",
        "centring, slope and amplitude; the activations of the question",
        (
            *(arm(setup) for setup in CORE),
            *_factorials(FACTORED, ("candidate", "cell_output")),
            *(grid(s, BOTH, a) for s in CORE for a in ("sigmoid", *QUESTION)),
            *(grid(s, p, "relu") for s in CORE for p in PLACES),
        ),
    ),
    _stage(
        "map",
        "where ReLU diverges: steps, rate, forget bias, clipping",
        (*_map(("relu",), MAP_RATES), *_map(("tanh",), HIGH_RATES)),
    ),
    _stage(
        "slots",
        "the rest of slot and activation, gates, and Greff's ablations",
        (
            *(grid(s, "gate_activation", g) for s in CORE for g in GATES),
            *(ablation(s, name) for s in CORE for name in ABLATIONS),
            *(grid(s, p, a) for s in CORE for p in PLACES[:2] for a in ("hard_tanh", "leaky_relu")),
            *(grid(s, "candidate", "sine") for s in CORE),
        ),
    ),
    _stage(
        "rates",
        "the five activations of the question at three rates; tanh at half its rate",
        (
            *(rated(s, a, r) for s in CORE for a in TUNED for r in RATES),
            *(rated(s, "tanh", HALF) for s in CORE),
        ),
    ),
    _stage(
        "tasks",
        "further tasks",
        (
            *(arm(s) for s in FURTHER),
            *(grid(s, p, a) for s in FURTHER for a in ("sigmoid", *QUESTION) for p in PLACES),
            *_factorials(FURTHER, ("candidate",)),
        ),
    ),
    _stage(
        "wide map",
        "leaky ReLU and hard tanh where ReLU diverges",
        (*_map(("leaky_relu", "hard_tanh"), MAP_RATES), *_map(("tanh",), MAP_RATES)),
    ),
    _stage(
        "others",
        "other functions, single gates, the functions of 1997, other settings",
        (
            *(grid(s, p, a) for s in CORE for p in PLACES for a in OTHERS),
            *(grid(s, g, "relu") for s in CORE for g in SINGLE_GATES),
            *(grid(s, p, STEEPER) for s in CORE for p in PLACES[:2]),
            *(arm(s, "candidate=lstm97_input", "cell_output=lstm97_output") for s in CORE),
            *(crossings(a, c) for _, c in CROSSED for a in ("tanh", "relu", "sigmoid")),
        ),
    ),
)
SCHEDULE = (
    ("core", 8),
    ("map", 8),
    ("core", 16),
    ("map", 16),
    ("slots", 16),
    ("rates", 16),
    ("tasks", 16),
    ("wide map", 16),
    ("others", 16),
    *((stage.name, 32) for stage in STAGES),
)
"""Stages, and up to how many seeds each is run, in this order."""


def trials(
    schedule: Iterable[tuple[str, int]] = SCHEDULE, seeds: tuple[int, ...] = SEEDS
) -> Iterator[tuple[Arm, int]]:
    """Every run in its order."""
    arms = {stage.name: stage.arms for stage in STAGES}
    done: set[tuple[str, int]] = set()
    for stage, count in schedule:
        for seed in seeds[:count]:
            for each in arms[stage]:
                if (each.name, seed) not in done:
                    done.add((each.name, seed))
                    yield each, seed
