"""Arms: what a study compares, each a named set of settings.

"relu"                                                     an activation alone
{"activation": "relu", "gate_activation": "hard_sigmoid"}  several slots
{"activation": "relu", "init": "identity", "clip": 10.0}   with initial weights and options
{"hidden_size": 64}                                        any setting of the training
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..cells import GRU, LSTM
from ..formulas import Activation, FormulaError, resolve
from ..nn.design import ActivationLike, shortcuts

_TYPES = (LSTM, GRU)
STANDARD: dict[str, Activation] = {
    "activation": resolve("tanh"),
    "gate_activation": resolve("sigmoid"),
    **{slot: usual for type in _TYPES for slot, usual in type.slots},
}
"""Argument of a module that sets slots -> the activation that they have without it."""
SLOT_ARGUMENTS = tuple(STANDARD)


class ArmError(ValueError):
    """An arm that cannot be: the message names it and says what to do."""


@dataclass(frozen=True)
class Arm:
    """One arm of a study.

    label: its name in tables. slots: argument of the module ("activation", "forget_gate" ...) ->
    activation; slots without one keep what they have. settings: everything else, by name.
    """

    label: str
    slots: Mapping[str, Activation] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_standard(self) -> bool:
        """True if it changes nothing: no setting, and only activations that the slots have
        anyway."""
        return not self.settings and all(
            a.closed == STANDARD[slot].closed for slot, a in self.slots.items()
        )

    @property
    def main(self) -> Activation | None:
        """The activation that stands for it in pictures: of the whole, else of a gate."""
        return next(iter(sorted(self.slots.items(), key=lambda s: "gate" in s[0])), ("", None))[1]

    def given(self) -> dict[str, Any]:
        """Its settings by name as they were given, activations as their names or formulas."""
        return {slot: told(a) for slot, a in self.slots.items()} | dict(self.settings)

    def describe(self) -> dict[str, Any]:
        """The same for files and tables."""
        return {name: plain(value) for name, value in self.given().items()}


ArmLike: TypeAlias = ActivationLike | Arm | Mapping[str, Any]
"""An activation, an arm, or its settings."""
Arms: TypeAlias = ActivationLike | Sequence[ArmLike] | Mapping[str, ArmLike]
"""The things that a study compares: activations and named arms."""


def read_arm(label: str, given: ArmLike, slot: str = "activation") -> Arm:
    """The arm of this name: an activation for ``slot``, or a mapping of settings. Raises ArmError
    for one that cannot be."""
    if isinstance(given, Arm):
        return given
    if not isinstance(given, Mapping):
        given = {slot: given}
    slots: dict[str, Activation] = {}
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ArmError(f"arm {label!r}: {name!r} is no name of a setting")
        if name not in SLOT_ARGUMENTS:
            settings[name] = value
            continue
        try:
            slots[name] = resolve(value)
        except FormulaError as error:
            raise ArmError(f"arm {label!r}: {name}: {error}") from error
    return Arm(label, slots, settings)


def read_arms(given: Arms, slot: str = "activation", *, standard: bool = True) -> tuple[Arm, ...]:
    """All arms, in order: of a mapping NAME -> arm, or of a list of activations, arms, or both.

    standard: the slot's usual activation comes first if no arm has it already. Raises ArmError for
    an arm that cannot be, or two of one name.
    """
    if slot not in SLOT_ARGUMENTS:
        raise ArmError(f"no slot is called {slot!r}; there are: {', '.join(SLOT_ARGUMENTS)}")
    arms = [read_arm(label, each, slot) for label, each in _arms_by_label(given, slot)]
    if not arms:
        raise ArmError("no activation is given: name one or more, such as ['tanh', 'relu']")
    if standard and not any(arm.is_standard for arm in arms):
        alike = all(set(arm.slots) == {slot} and not arm.settings for arm in arms)
        label = STANDARD[slot].label if alike else "standard"
        arms = [Arm(label, {slot: STANDARD[slot]}), *arms]
    labels = [arm.label for arm in arms]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ArmError(f"'{twice[0]}' is given twice")
    return tuple(arms)


def _arms_by_label(given: Arms, slot: str) -> list[tuple[str, ArmLike]]:
    if isinstance(given, Mapping):
        return [(str(label), each) for label, each in given.items()]
    if isinstance(given, str | Activation) or not isinstance(given, Sequence):
        given = [given]
    found: list[tuple[str, ArmLike]] = []
    for each in given:
        if isinstance(each, Mapping):
            if "name" not in each:
                raise ArmError(
                    "an arm in a list needs a name: {'name': 'mine', 'activation': 'relu'}; or "
                    "give a mapping of names to arms"
                )
            rest = {k: v for k, v in each.items() if k != "name"}
            found.append((str(each["name"]), rest))
        elif isinstance(each, Arm):
            found.append((each.label, each))
        else:
            try:
                activation = resolve(each)
            except FormulaError as error:
                raise ArmError(str(error)) from error
            found.append((activation.label, {slot: activation}))
    return found


def slots_of_arms(arms: Sequence[Arm]) -> tuple[str, ...]:
    """The slots of an LSTM or GRU that some arm changes, in the order of the equations."""
    groups = [shortcuts(type) for type in _TYPES]
    meant = {
        inner
        for arm in arms
        for name in arm.slots
        for inner in (groups[0].get(name) or groups[1].get(name) or (name,))
    }
    return tuple(s for s in SLOT_ARGUMENTS if s in meant)


def told(activation: Activation) -> str:
    """Its name where that says all, else its formula."""
    try:
        short = resolve(activation.label) == activation
    except FormulaError:
        short = False
    return activation.label if short else str(activation.closed)


def plain(value: Any) -> Any:
    """A setting as files hold it: what is no number, truth value or text as its text."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return str(value)


def describe_arm(arm: Arm) -> dict[str, Any]:
    """An arm as study.json holds it."""
    main = arm.main
    return {
        "label": arm.label,
        "formula": "" if main is None else str(main.closed),
        "source": "" if main is None else main.source,
        "settings": arm.describe(),
    }
