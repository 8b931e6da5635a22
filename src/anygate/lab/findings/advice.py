"""Advice on what to change together with an activation, each piece with what it stands on.

A suggestion stands on a measurement of the study, or on a fact of the activation's property sheet
(:func:`anygate.sheet`), and says which. What nothing speaks for is not suggested.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from ...formulas import Sheet
from ..study.store.results import StudyResults, stable_rate
from ..study.store.schema import ActivationInfo, Trial
from ..wording import join
from .arrival import arrival
from .sheets import sheet_of

_DEAD = 0.05  # share of units
_SATURATED = 0.5  # share of values
_VANISHED = 1e-3  # of the gradient at the last step
_OTHER_GAIN = 0.05  # relative


@dataclass(frozen=True)
class Advice:
    """One suggestion for ``label``, for all activations if that is empty: what to do, and the
    measurement or fact that speaks for it.

    ``arm`` and ``settings`` are an arm that does it, by name; none where there is no number to
    name. ``own``: in a training of the user's own. Each of ``code`` is Python for it.
    """

    label: str
    do: str
    because: str
    arm: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    own: bool = False

    @property
    def options(self) -> str:
        """The arm for the command line of `anygate compare`, behind the study's own command; or,
        in a training of the user's own, for the mapping of arms."""
        if not self.arm:
            return ""
        if self.own:
            return f"{self.arm!r}: {dict(self.settings)!r}"
        return shlex.join(["--arm", self.arm, *(f"{k}={v}" for k, v in self.settings.items())])


def advice(results: StudyResults) -> list[Advice]:
    """All suggestions: those for the whole study, then activation by activation in its order."""
    shared = list(_vanishing(results))
    own = [
        found
        for info in results.config.activations
        for rule in _RULES
        for found in rule(_Case(results, info))
    ]
    return sorted(shared + own, key=lambda a: ["", *results.labels].index(a.label))


class Trying(TypedDict):
    """The arm of a suggestion."""

    arm: str
    settings: dict[str, Any]
    own: bool


@dataclass(frozen=True)
class _Case:
    """One activation of a study, and what is known of it."""

    results: StudyResults
    info: ActivationInfo

    @property
    def label(self) -> str:
        return self.info.label

    @property
    def sheet(self) -> Sheet | None:
        return sheet_of(self.info.formula, self.info.label)

    def slots(self, *names: str) -> list[str]:
        """The slots of `names` where f stands: of an arm those with its main activation, whose
        property sheet is read, else those of the study's own slot."""
        config = self.results.config
        given = {k: v for k, v in self.info.settings.items() if k in _MEANT or k in _SLOTS}
        main = min(given, key=lambda name: "gate" in name, default="")
        words = [name for name, value in given.items() if value == given[main]]
        slots = [s for word in words for s in _MEANT.get(word, (word,))]
        if not self.info.settings:
            slots = [s for s in _MEANT.get(config.slot, (config.slot,)) if s in config.slots]
        return [slot for slot in names if slot in slots]

    def arm(self, changes: Mapping[str, Any], slots: Mapping[str, Any] | None = None) -> Trying:
        """This arm with changes of its settings, and in place of its activation those of
        ``slots``."""
        config = self.results.config
        base = dict(self.info.settings) or {config.slot: self.label}
        if slots is not None:
            base = dict(slots)
        rounded = {k: float(f"{v:g}") if isinstance(v, float) else v for k, v in changes.items()}
        told = " ".join(f"{k}={v}" for k, v in {**(slots or {}), **rounded}.items())
        return {
            "arm": f"{self.label}, {told}",
            "settings": {**base, **rounded},
            "own": config.task.own,
        }

    def setting(self, name: str) -> float:
        """The value of a numeric setting in its runs: what the arm says itself, else what the study
        does, or its own best where the study compares at those; NaN if it is not known."""
        config = self.results.config
        value: Any = self.info.settings.get(name, config.settings.get(name))
        chosen = config.learning_rates
        if not isinstance(value, int | float) and chosen is not None and chosen.setting == name:
            own = chosen.tuned.get(self.label)
            value = own.rate if own else value
        return float(value) if isinstance(value, int | float) else math.nan

    def share(self, slot: str, health: str) -> float:
        """The mean share of saturated or dead ones at the last epoch; NaN if not measured."""
        values = self.results.share(self.label, slot, health)  # type: ignore[arg-type]
        return float(values.mean()) if values.size else math.nan

    def largest_cell(self) -> float:
        """The largest |c| of any run at the end of any epoch, NaN if not measured."""
        values = self.results.curves(self.label, "max_abs_cell")
        return float(np.nanmax(values)) if np.isfinite(values).any() else math.nan


_MEANT = {
    "activation": ("candidate", "cell_output"),
    "gate_activation": ("input_gate", "forget_gate", "output_gate"),
}
"""The slots that a shortcut means in an LSTM."""
_SLOTS = tuple(slot for slots in _MEANT.values() for slot in slots)


def _plain(slot: str) -> str:
    return slot.replace("_", " ")


# ------------------------------------------------------------------------------ runs that diverged


def describe_divergence(run: Trial) -> str:
    """A run that diverged in a sentence: the training step, the time step, the slot, the size."""
    d = run.diverged
    if d is None:
        return f"{run.activation} with seed {run.seed} did not diverge."
    steps = [f"training step {d.step}"] if d.step is not None else []
    steps += [f"epoch {d.epoch}"] if d.epoch is not None else []
    place = " at " + " of ".join(steps) if steps else ""
    text = f"{run.activation} with seed {run.seed} diverged{place}: "
    size = f"{d.max_abs_cell_before:.2g}" if math.isfinite(d.max_abs_cell_before) else ""
    if d.slot:
        text += f"the {_plain(d.slot)} is the first that is not finite"
        text += f", at time step {d.time_step}" if d.time_step is not None else ""
        return f"{text}; the largest |c| before it was {size}." if size else f"{text}."
    text += d.what
    if d.time_step is not None and math.isfinite(d.gradient_before):
        text += (
            f"; going back, the gradient overflows at time step {d.time_step}, where ‖∂L/∂c‖ was "
            f"{d.gradient_before:.2g} one step later"
        )
    if size:
        at = f" at time step {d.largest_at}" if d.largest_at is not None else ""
        text += "; all values of the forward pass are finite, and the largest |c|, which goes into "
        text += f"the cell output, is {size}{at}"
    return f"{text}."


def _step(run: Trial) -> float:
    """The training step at which it diverged."""
    step = run.diverged.step if run.diverged else None
    return math.inf if step is None else step


def info_of(results: StudyResults, label: str) -> ActivationInfo:
    """The arm of this name."""
    return results.config.activations[results.labels.index(label)]


def after_divergence(results: StudyResults, label: str) -> Advice | None:
    """Advice for an activation of which some run diverged, None if none did."""
    runs = results.diverged(label)
    if not runs:
        return None
    run = min(runs, key=_step)
    info = info_of(results, label)
    case, because = _Case(results, info), describe_divergence(run)
    if _step(run) == 1 and case.slots("cell_output"):
        return Advice(
            label,
            "Leave the cell output bounded, so that the hidden state is: change "
            "the candidate alone.",
            f"{because} No weight had been changed by then: it is not the learning rate.",
            **case.arm({}, slots={"candidate": label}),
        )
    rate, why = _smaller_rate(case)
    if math.isnan(rate):
        return Advice(label, "Lower the learning rate, and clip the gradient.", because)
    changes = {"learning_rate": rate}
    do = f"Lower the learning rate to {rate:g}"
    if case.setting("gradient_clip") == 0:
        changes["gradient_clip"] = 1.0
        do = f"{do}, and clip the norm of the gradient to 1"
    return Advice(label, f"{do}.", f"{because} {why}".strip(), **case.arm(changes))


def _smaller_rate(case: _Case) -> tuple[float, str]:
    """A tenth of the learning rate, or what the stability map shows; with the reason."""
    rate = case.setting("learning_rate")
    tenth = float(f"{rate / 10:.3g}")
    short_runs = [c for c in case.results.stability if c.activation == case.label]
    stable = stable_rate(short_runs)
    if stable is None or stable >= rate:
        return tenth, ""
    return stable, (
        f"In the stability map no run with {case.label} diverged up to a learning rate of "
        f"{stable:g}."
    )


def _diverged(case: _Case) -> Iterator[Advice]:
    found = after_divergence(case.results, case.label)
    if found is not None:
        yield found


# ------------------------------------------------------------------------------ facts of the sheet


def _unbounded(case: _Case) -> Iterator[Advice]:
    slots = case.slots("candidate", "cell_output")
    if not slots or case.sheet is None or case.sheet.bounded.value:
        return
    because = f"f has no bound (property sheet), and it is the {join([_plain(s) for s in slots])}"
    size, first = case.largest_cell(), _Case(case.results, case.results.config.activations[0])
    if math.isfinite(size):
        because += f"; the largest |c| measured is {size:.3g}"
        if first.label != case.label and math.isfinite(first.largest_cell()):
            because += f", with {first.label} {first.largest_cell():.3g}"
    if not case.results.diverged(case.label):
        because += ". No run diverged here; longer sequences and larger rates ask for more"
    unclipped = case.setting("gradient_clip") == 0
    changes: dict[str, Any] = {"init": "identity", "clip": 10.0}
    changes |= {"gradient_clip": 1.0} if unclipped else {}
    clip = "Clip the gradient, b" if unclipped else "B"
    yield Advice(
        case.label,
        f"{clip}egin with the identity or orthogonal recurrent weights, and limit what goes into "
        "the activations.",
        f"{because}.",
        code=(
            "anygate.init.identity_(lstm)",
            "anygate.init.orthogonal_(lstm)",
            "anygate.LSTM(..., clip=10)",
        ),
        **case.arm(changes),
    )


def _growing(case: _Case) -> Iterator[Advice]:
    if not case.slots("forget_gate") or case.sheet is None:
        return
    size = max(abs(case.sheet.low.value), abs(case.sheet.high.value))
    if size <= 1:
        return
    because = f"f reaches {'beyond every bound' if math.isinf(size) else f'{size:.4g}'} "
    because += "(property sheet): a forget gate above 1 makes the cell state grow with every step"
    mean = _mean_at_end(case, "forget_gate")
    if math.isfinite(mean):
        because += f"; its mean after training is {mean:.3g}"
    yield Advice(
        case.label,
        "Keep the forget gate within 0 and 1: leave it sigmoid, or scale f.",
        f"{because}.",
        code=('anygate.LSTM(..., forget_gate="sigmoid")',),
        **case.arm({"forget_gate": "sigmoid"}),
    )


def _mean_at_end(case: _Case, slot: str) -> float:
    values = [
        v
        for s in case.results.snapshots(case.label, "end")
        for v in s.slots.get(slot, {}).get("mean", ())
    ]
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


def _no_chrono(case: _Case) -> Iterator[Advice]:
    steps = case.results.task.steps
    if not case.slots("forget_gate") or case.sheet is None or not steps or steps < 4:
        return
    ends = [a for a, b in case.sheet.dead_region.value if math.isinf(b)]
    if not ends:
        return
    # chrono_ draws the bias as log(u), u uniform from 1 to T - 1
    share = min(1.0, max(0.0, (steps - 1 - math.exp(ends[0])) / (steps - 2)))
    if share <= 0:
        return
    yield Advice(
        case.label,
        f"Do not begin with chrono biases; set the forget gate’s bias below {ends[0]:.3g}.",
        f"f′ is exactly zero above {ends[0]:.3g} (property sheet): at {steps} time steps "
        f"anygate.init.chrono_ would put {share:.0%} of the units there, where no gradient passes "
        "through the gate.",
        code=(f"anygate.init.forget_bias_(lstm, {min(1.0, ends[0] / 2):.2g})",),
        **case.arm({"forget_bias": float(f"{min(1.0, ends[0] / 2):.2g}")}),
    )


def _gain(case: _Case) -> Iterator[Advice]:
    if not case.slots("candidate") or case.sheet is None:
        return
    from ...nn.init import gain

    try:
        own, usual = gain(case.sheet.activation), gain("tanh")
    except ValueError:
        return
    if abs(own / usual - 1) < _OTHER_GAIN:
        return
    yield Advice(
        case.label,
        f"Draw the candidate’s weights with the gain of f, {own:.3g}.",
        f"At standard normal z the size √E[f(z)²] of f is {1 / own:.3g}, tanh’s is {1 / usual:.3g} "
        f"(computed from the formula): weights made for tanh are {abs(usual / own - 1):.0%} too "
        f"{'large' if usual > own else 'small'} for it.",
        code=("anygate.init.glorot_(lstm)",),
        **case.arm({"init": "glorot"}),
    )


# ------------------------------------------------------------------------------ measurements alone


def _dead(case: _Case) -> Iterator[Advice]:
    shares = {s: case.share(s, "dead") for s in case.slots("candidate", "cell_output")}
    shares = {slot: share for slot, share in shares.items() if share >= _DEAD}
    if not shares:
        return
    bounded = case.sheet is not None and case.sheet.bounded.value
    other = "softsign" if bounded else "leaky_relu"
    measured = join([f"{share:.0%} in the {_plain(slot)}" for slot, share in shares.items()])
    arguments = ", ".join(f'{slot}="{other}"' for slot in shares)
    yield Advice(
        case.label,
        f"Take an activation whose slope is nowhere zero, such as {other}, or a smaller learning "
        "rate.",
        f"Units that are dead at the last epoch: {measured}. Their slope is zero at every step of "
        "every sequence.",
        code=(f"anygate.LSTM(..., {arguments})",),
        **case.arm(dict.fromkeys(shares, other)),
    )


def _saturated(case: _Case) -> Iterator[Advice]:
    for slot in case.slots("candidate", "cell_output"):
        share = case.share(slot, "saturated")
        if not math.isfinite(share) or share < _SATURATED or case.share(slot, "dead") >= _DEAD:
            continue
        if case.sheet is not None and not case.sheet.bounded.value:
            continue  # one side off is what a rectifier is for
        yield Advice(
            case.label,
            f"Begin with smaller weights or learn more slowly; or take for the {_plain(slot)} one "
            "that flattens later, such as softsign.",
            f"{share:.0%} of the {_plain(slot)}’s values are saturated at the last epoch: little "
            "gradient passes them.",
        )


def _vanishing(results: StudyResults) -> Iterator[Advice]:
    """For the whole study if it is so with every activation, else for each."""
    steps = results.task.steps or 0
    known = {x: found for x in results.labels if (found := arrival(results, x, "start"))}
    low = {label: found for label, found in known.items() if found.share < _VANISHED}
    if not low or "forget_gate" in results.config.slots or steps < 2:
        return
    kept = 0.1 ** (1 / steps)
    bias = round(math.log(kept / (1 - kept)), 1)
    present = results.config.settings.get("forget_bias")
    if isinstance(present, int | float) and bias <= present:
        return
    text = {
        label: f"{found.share:.2g} with {label} (a factor of {found.per_step:.3g} a step)"
        for label, found in low.items()
    }
    groups = (
        [("", list(text.values()))]
        if low.keys() == set(results.labels)
        else [(label, [shown]) for label, shown in text.items()]
    )
    for label, shown in groups:
        yield Advice(
            label,
            f"Open the forget gate at the beginning: with a bias of {bias:g} a sigmoid lets a "
            f"tenth of the gradient through {steps} steps.",
            "Before training, of ‖∂L/∂c‖ at the last time step there arrives at the first: "
            f"{join(shown)}. Along the cell state that factor is the forget gate’s value.",
            **_Case(results, info_of(results, label or results.first)).arm({"forget_bias": bias}),
            code=(
                f"anygate.init.forget_bias_(lstm, {bias:g})",
                f"anygate.init.chrono_(lstm, {steps})",
            ),
        )


_RULES: tuple[Callable[[_Case], Iterator[Advice]], ...] = (
    _diverged,
    _unbounded,
    _growing,
    _no_chrono,
    _gain,
    _dead,
    _saturated,
)
