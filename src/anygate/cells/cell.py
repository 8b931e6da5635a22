"""Cell: a cell type with an activation in each slot; its Programs, derived."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ..formulas.activation import Activation
from ..formulas.canonical import canonical, from_canonical
from ..formulas.errors import FormulaError
from ..formulas.program import Program
from .celltype import CellType, Product, before
from .derive import Derived, derive

__all__ = ["Cell", "cell_key", "cell_of", "make"]


@dataclass(frozen=True)
class Cell:
    """A recurrent cell that engines can run: a type, and what the user chose.

    type: the equations. activations: one for each slot of the type, in its order.
    clip: every activation's argument is limited to [-clip, clip], as ONNX defines it ("applied to
    the input of activations"). Others read it otherwise: ONNX Runtime leaves the LSTM's cell output
    alone (its issue 27224), TensorFlow's cell_clip limits the cell state itself.
    per_unit: parameters that are given when the cell runs, a value for each hidden unit: the type's
    vectors, and those parameters of activations, named SLOT.PARAMETER, that are learnt. The other
    parameters are numbers in the formulas.

    Frozen and hashable. Raises ValueError for a clip that is not positive or an unknown name in
    per_unit.
    """

    type: CellType
    activations: tuple[Activation, ...]
    clip: float | None = None
    per_unit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be a positive number, not {self.clip}")
        if len(self.activations) != len(self.type.slots):
            raise ValueError(
                f"{self.type.name} has {len(self.type.slots)} slots, not {len(self.activations)}"
            )
        vectors = tuple(name for name, _ in self.type.vectors if name not in self.per_unit)
        object.__setattr__(self, "per_unit", (*vectors, *self.per_unit))
        for name in self.per_unit:
            if self.per_unit.count(name) > 1:
                raise ValueError(f"per_unit names '{name}' twice")
            if name not in self.parameters:
                raise ValueError(f"no parameter is called '{name}'; there are: {self.parameters}")

    @cached_property
    def slots(self) -> dict[str, Activation]:
        """The activations by slot."""
        return {
            slot: activation
            for (slot, _), activation in zip(self.type.slots, self.activations, strict=True)
        }

    @cached_property
    def parameters(self) -> dict[str, float]:
        """The numbers that stand for the parameters where none is given: the type's vectors (0 for
        those that are drawn), and the activations' parameters as SLOT.PARAMETER."""
        return {
            **{name: value or 0.0 for name, value in self.type.vectors},
            **{
                f"{slot}.{key}": value
                for slot, activation in self.slots.items()
                for key, value in activation.parameters.items()
            },
        }

    @property
    def products(self) -> tuple[Product, ...]:
        """The products in the order in which engines lay them out: those of x alone first, of a
        state alone last. So those that see x, and those that see a state, stand side by side."""
        return tuple(sorted(self.type.products, key=lambda p: (not p.input) - (not p.recurrent)))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of `forward`: products, STATE_before, masks, parameters."""
        products = (product.name for product in self.products)
        states = (before(state) for state in self.type.states)
        return (*products, *states, *self.type.masks, *self.parameters)

    @property
    def _derived(self) -> Derived:
        return _derive(self)

    @property
    def saved(self) -> tuple[str, ...]:
        """The products and lines, by name, that backward needs of a step besides the states."""
        return self._derived.saved

    @property
    def forward(self) -> Program:
        """One step of one unit. Inputs: `inputs`. Outputs: each state's name, and "saved NAME" for
        each of `saved`. Exists where the type's kind is "one product" or "no recurrence"."""
        return self._derived.forward

    @property
    def backward(self) -> Program:
        """Back through one step of one unit. Inputs: "saved NAME", STATE_before, STATE,
        "grad STATE" (dL by the new states), masks, parameters. Outputs: "grad PRODUCT",
        "grad STATE_before" (without what goes through the products) and "grad PARAMETER"."""
        return self._derived.backward

    @property
    def carried(self) -> tuple[str, ...]:
        """The states whose value before the step is used by a line, and not by products alone: dL
        by them has a part besides R^T grad_z."""
        lines = {s.name for e in self.type.equations for s in e.expression.free_symbols}
        return tuple(state for state in self.type.states if before(state) in lines)

    def __str__(self) -> str:
        chosen = "\n".join(f"{slot} = {a}" for slot, a in self.slots.items())
        return f"{self.type}\n{chosen}"


def make(
    type: CellType,
    activations: Mapping[str, Activation] | None = None,
    clip: float | None = None,
    per_unit: tuple[str, ...] = (),
) -> Cell:
    """The cell of a type with these activations by slot, and the type's own in the others.
    Raises ValueError for a slot that the type does not have."""
    chosen = dict(activations or {})
    slots = tuple(chosen.pop(slot, default) for slot, default in type.slots)
    if chosen:
        has = ", ".join(slot for slot, _ in type.slots) or "none"
        raise ValueError(f"{type.name} has no slot '{next(iter(chosen))}'; it has: {has}")
    return Cell(type, slots, clip, per_unit)


@lru_cache(maxsize=256)
def _derive(cell: Cell) -> Derived:
    return derive(cell.type, cell.slots, cell.clip, cell.inputs, tuple(cell.parameters))


# ---- a cell as text, for an operator's argument ----------------------------------------------

_VERSION = 1
_FORMS: dict[str, type] = {
    **dict.fromkeys(("products", "states", "lines", "gates", "masks"), list),
    **dict.fromkeys(("activations", "per_unit"), list),
    **dict.fromkeys(("slots", "vectors"), dict),
    "output": str,
}
_MOST_TEXT = 1_000_000
_known: dict[str, Cell] = {}


@lru_cache(maxsize=512)
def cell_key(cell: Cell) -> str:
    """The cell as text: the same for equal cells in every process, and read back as an equal cell
    by `cell_of`."""
    kind = cell.type
    content = {
        "version": _VERSION,
        "name": kind.name,
        "products": [[p.name, p.input, p.recurrent, p.operand] for p in kind.products],
        "states": kind.states,
        "lines": kind.lines,
        "slots": {slot: _activation_text(a) for slot, a in kind.slots},
        "gates": kind.gates,
        "vectors": dict(kind.vectors),
        "masks": kind.masks,
        "output": kind.output,
        "activations": [_activation_text(a) for a in cell.activations],
        "clip": cell.clip,
        "per_unit": cell.per_unit,
    }
    key = json.dumps(content, separators=(",", ":"))
    _known[key] = cell
    return key


def cell_of(key: str) -> Cell:
    """The cell of a `cell_key`. Raises FormulaError for another text."""
    found = _known.get(key)
    if found is None:
        found = _known[key] = _read(key)
    return found


def _activation_text(activation: Activation) -> list[Any]:
    return [activation.name, canonical(activation.expression), dict(activation.parameters)]


def _activation_of(content: Any) -> Activation:
    name, expression, parameters = content
    return Activation(name, from_canonical(expression), parameters=parameters)


def _read(key: str) -> Cell:
    if len(key) > _MOST_TEXT:
        raise FormulaError(f"a cell's text has at most {_MOST_TEXT:,} characters")
    try:
        content = json.loads(key)
        if content["version"] != _VERSION:
            raise FormulaError(
                f"the cell is written in version {content['version']} of its form; this "
                f"anygate reads version {_VERSION}"
            )
        for field, form in _FORMS.items():
            if not isinstance(content[field], form):
                raise TypeError(f"'{field}' is no {form.__name__}")
        kind = CellType(
            content["name"],
            products=tuple(Product(*product) for product in content["products"]),
            states=tuple(content["states"]),
            lines=tuple(content["lines"]),
            slots={slot: _activation_of(a) for slot, a in content["slots"].items()},
            gates=tuple(content["gates"]),
            vectors=dict(content["vectors"]),
            masks=tuple(content["masks"]),
            output=content["output"],
        )
        activations = tuple(_activation_of(a) for a in content["activations"])
        return Cell(kind, activations, content["clip"], tuple(content["per_unit"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, FormulaError):
            raise
        raise FormulaError(f"this is not the text of a cell: {error}") from None
