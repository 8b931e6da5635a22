"""From the arguments that name activations to a Cell."""

from __future__ import annotations

from typing import TypeAlias

from sympy import Expr

from ..symbolic.activation import Activation
from ..symbolic.cell import SLOTS, Cell
from ..symbolic.errors import FormulaError
from ..symbolic.lookup import resolve

__all__ = ["SHORTCUTS", "ActivationLike", "make_cell", "slot_summary"]

ActivationLike: TypeAlias = Activation | str | Expr
"""A name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression or an Activation."""

SHORTCUTS = {
    "activation": ("candidate", "cell_output"),
    "gate_activation": ("input_gate", "forget_gate", "output_gate"),
}
"""Arguments that set several slots at once."""


def make_cell(**choices: ActivationLike | None) -> Cell:
    """The Cell with these activations; None means not given.

    Keys: the five slots and the two shortcuts. A slot given by itself wins over its shortcut.
    Raises FormulaError naming the slot for an activation that cannot be used.
    """
    chosen: dict[str, Activation] = {}
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
    return Cell(**chosen)


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
    return ", ".join(parts)
