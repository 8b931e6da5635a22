"""From the arguments that name activations to a Cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from sympy import Expr

from ..formulas.activation import Activation
from ..formulas.cell import PEEPHOLES, SLOTS, Cell
from ..formulas.errors import FormulaError
from ..formulas.lookup import resolve

__all__ = ["SHORTCUTS", "ActivationLike", "Trainable", "make_cell", "slot_summary", "widths"]

ActivationLike: TypeAlias = Activation | str | Expr
"""A name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression or an Activation."""

Trainable: TypeAlias = bool | str | Mapping[str, str]
"""Which parameters of activations are learnt: False none, True or "shared" all, one number each for
a layer and direction, "unit" all, one number for each hidden unit; or a dict such as
{"candidate.k": "unit"}."""

SHORTCUTS = {
    "activation": ("candidate", "cell_output"),
    "gate_activation": ("input_gate", "forget_gate", "output_gate"),
}
"""Arguments that set several slots at once."""


def make_cell(
    *,
    peephole: bool = False,
    coupled: bool = False,
    clip: float | None = None,
    trainable: Trainable = False,
    **choices: ActivationLike | None,
) -> Cell:
    """The Cell with these activations; None means not given.

    Keys: the five slots and the two shortcuts. A slot given by itself wins over its shortcut.
    Raises FormulaError naming the slot for an activation that cannot be used, ValueError for a
    clip that is not positive or a trainable that names no parameter.
    """
    chosen: dict[str, Any] = {}
    for key in (*SHORTCUTS, *SLOTS):
        spec = choices.get(key)
        if spec is None:
            continue
        try:
            activation = resolve(spec)
        except FormulaError as error:
            raise FormulaError(f"{key}: {error}") from None
        for slot in SHORTCUTS.get(key, (key,)):
            chosen[slot] = activation
    variant: dict[str, Any] = {"peephole": peephole, "coupled": coupled, "clip": clip}
    cell = Cell(**chosen, **variant)
    learnt = tuple(widths(cell, trainable))
    return cell if not learnt else Cell(**chosen, **variant, per_unit=(*cell.per_unit, *learnt))


def widths(cell: Cell, trainable: Trainable) -> dict[str, str]:
    """SLOT.PARAMETER -> "shared" or "unit" for the parameters that are learnt."""
    own = {name for name in cell.parameters if name not in PEEPHOLES}
    if cell.coupled:
        own = {name for name in own if not name.startswith("forget_gate.")}
    has = ", ".join(sorted(own)) or "none: the activations here have no parameters"
    if not trainable:
        return {}
    if not isinstance(trainable, Mapping):
        width = "shared" if trainable is True else trainable
        trainable = {name: width for name in cell.parameters if name in own}
        if not trainable:
            raise ValueError(f"trainable={width!r}: no parameter to learn; there are {has}")
    for name, width in trainable.items():
        if name not in own:
            raise ValueError(f"trainable: no parameter is called '{name}'; there are: {has}")
        if width not in ("shared", "unit"):
            raise ValueError(f"trainable: '{name}' must be 'shared' or 'unit', not {width!r}")
    return dict(trainable)


def slot_summary(cell: Cell) -> str:
    """The activations that differ from torch.nn.LSTM's, as arguments: "activation=relu"."""
    default = Cell().slots
    parts = []
    left = {slot: a for slot, a in cell.slots.items() if a != default[slot]}
    for shortcut, slots in SHORTCUTS.items():
        same = {left.get(slot) for slot in slots}
        if len(same) == 1 and (activation := same.pop()) is not None:
            parts.append(f"{shortcut}={activation.label}")
            left = {slot: a for slot, a in left.items() if slot not in slots}
    parts += [f"{slot}={activation.label}" for slot, activation in left.items()]
    parts += [f"{name}=True" for name in ("peephole", "coupled") if getattr(cell, name)]
    parts += [f"clip={cell.clip:g}"] if cell.clip is not None else []
    learnt = [name for name in cell.per_unit if name not in PEEPHOLES]
    parts += [f"trainable={'+'.join(learnt)}"] if learnt else []
    return ", ".join(parts)
