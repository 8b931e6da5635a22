"""From the arguments of a module to the cells that it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sympy import Expr

from ..cells import Cell, CellType, cell_key, make
from ..cells.builtin import with_layer_norm, with_recurrent_dropout, with_zoneout
from ..engines.protocol import load, names
from ..formulas.activation import Activation
from ..formulas.errors import FormulaError
from ..formulas.lookup import resolve

__all__ = [
    "ActivationLike",
    "Design",
    "Trainable",
    "Zoneout",
    "learnt_parameters",
    "make_design",
    "shortcuts",
    "summary",
]

ActivationLike: TypeAlias = Activation | str | Expr
"""A name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression or an Activation."""

Trainable: TypeAlias = bool | str | Mapping[str, str]
"""Which parameters of activations are learnt: False none, True or "shared" all, one number each for
a layer and direction, "unit" all, one number for each hidden unit; or a dict such as
{"candidate.k": "unit"}."""

Zoneout: TypeAlias = float | Mapping[str, float]
"""The probability with which a unit keeps its state: of all states, or by state."""


def shortcuts(type: CellType) -> dict[str, tuple[str, ...]]:
    """The arguments that set several slots at once, and which."""
    slots = tuple(slot for slot, _ in type.slots)
    return {
        "activation": tuple(slot for slot in slots if slot not in type.gates),
        "gate_activation": type.gates,
    }


@dataclass(frozen=True)
class Design:
    """The cells that a module runs, and the choices that they were made from.

    base: the cell type before noise is added. cell: what runs in evaluation. training_cell: what
    runs in training; another one where there is noise, with masks. zoneout: rates by state.
    recurrent_dropout: the probability that a unit of h is dropped for a sequence. learnt:
    SLOT.PARAMETER -> "shared" or "unit". engine: the engine that was asked for. key and
    training_key: the two cells as text.
    """

    base: CellType
    cell: Cell
    training_cell: Cell
    zoneout: tuple[tuple[str, float], ...] = ()
    recurrent_dropout: float = 0.0
    learnt: tuple[tuple[str, str], ...] = ()
    engine: str = "auto"
    key: str = field(init=False, repr=False)
    training_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", cell_key(self.cell))
        object.__setattr__(self, "training_key", cell_key(self.training_cell))

    @property
    def noisy(self) -> bool:
        """True if training differs from evaluation."""
        return self.training_key != self.key

    @property
    def projectable(self) -> bool:
        """True if a projection of the first state can be taken out of the loop; projection.py."""
        products = all(p.input and p.recurrent for p in self.training_cell.type.products)
        same = self.training_cell.type.states == self.cell.type.states
        first = self.base.states[0]
        return products and same and first not in self.training_cell.carried


def make_design(
    type: CellType,
    choices: Mapping[str, ActivationLike | None],
    *,
    clip: float | None = None,
    trainable: Trainable = False,
    layer_norm: bool = False,
    zoneout: Zoneout = 0.0,
    recurrent_dropout: float = 0.0,
    engine: str = "auto",
) -> Design:
    """The design with these activations; None means not given.

    choices: by slot or shortcut; a slot given by itself wins over its shortcut.
    Raises FormulaError naming the slot for an activation that cannot be used, ValueError for
    another argument that cannot be, EngineError for an unknown engine.
    """
    if engine != "auto" and engine not in names():
        load(engine)  # raises, naming those there are
    activations = _chosen(type, choices)
    base = _with_norms(type) if layer_norm else type
    rates = _rates(base, zoneout)
    if not 0 <= recurrent_dropout < 1:
        raise ValueError(
            f"recurrent_dropout is a probability from 0 to below 1, not {recurrent_dropout}"
        )
    plain = make(base, activations, clip)
    learnt = learnt_parameters(plain, trainable)
    per_unit = (*plain.per_unit, *learnt)

    def cell(training: bool) -> Cell:
        noisy = with_zoneout(base, rates, training) if rates else base
        if training and recurrent_dropout:
            noisy = with_recurrent_dropout(noisy)
        return make(noisy, activations, clip, per_unit)

    return Design(
        base,
        cell(training=False),
        cell(training=True),
        tuple(rates.items()),
        recurrent_dropout,
        tuple(learnt.items()),
        engine,
    )


def _chosen(type: CellType, choices: Mapping[str, ActivationLike | None]) -> dict[str, Activation]:
    """The activations that were given, by slot."""
    groups = shortcuts(type)
    slots = [slot for slot, _ in type.slots]
    given = {name: spec for name, spec in choices.items() if spec is not None}
    if unknown := sorted(given.keys() - {*groups, *slots}):
        raise ValueError(
            f"{type.name} has no slot '{unknown[0]}'; it has: {', '.join((*groups, *slots))}"
        )
    chosen: dict[str, Activation] = {}
    for name in (*groups, *slots):
        if name not in given:
            continue
        try:
            activation = resolve(given[name])
        except FormulaError as error:
            raise FormulaError(f"{name}: {error}") from None
        chosen |= dict.fromkeys(groups.get(name, (name,)), activation)
    return chosen


def _with_norms(type: CellType) -> CellType:
    if type.kind != "one product":
        raise ValueError(f"layer_norm=True knows cells of one product a step; {type.name} has more")
    inner = tuple(state for state in type.states if state != type.output)
    return with_layer_norm(type, inner)


def _rates(type: CellType, zoneout: Zoneout) -> dict[str, float]:
    rates = dict(zoneout) if isinstance(zoneout, Mapping) else dict.fromkeys(type.states, zoneout)
    for state, rate in rates.items():
        if state not in type.states:
            raise ValueError(f"zoneout: {type.name} has no state '{state}': {type.states}")
        if not 0 <= rate <= 1:
            raise ValueError(f"zoneout: {state}'s rate is a probability, not {rate}")
    return {state: float(rate) for state, rate in rates.items() if rate}


def learnt_parameters(cell: Cell, trainable: Trainable) -> dict[str, str]:
    """SLOT.PARAMETER -> "shared" or "unit" for the activations' parameters that are learnt."""
    own = [name for name in cell.parameters if "." in name]
    has = ", ".join(sorted(own)) or "none: the activations here have no parameters"
    if not trainable:
        return {}
    if not isinstance(trainable, Mapping):
        width = "shared" if trainable is True else trainable
        trainable = dict.fromkeys(own, width)
        if not trainable:
            raise ValueError(f"trainable={width!r}: no parameter to learn; there are {has}")
    vectors = {name for name, _ in cell.type.vectors}
    for name, width in trainable.items():
        if name not in own:
            raise ValueError(f"trainable: no parameter is called '{name}'; there are: {has}")
        if width not in ("shared", "unit"):
            raise ValueError(f"trainable: '{name}' must be 'shared' or 'unit', not {width!r}")
        if name.replace(".", "_") in vectors:
            raise ValueError(
                f"trainable: '{name}' and the cell's own {name.replace('.', '_')} would have one "
                "name in the state_dict; rename the parameter of the formula"
            )
    return dict(trainable)


def summary(design: Design, type: CellType, options: Mapping[str, Any]) -> str:
    """The arguments by which a module differs from torch's: "activation=relu, peephole=True".
    type: the cell whose activations are torch's; options: further arguments with their values."""
    default = make(type).slots
    slots = design.cell.slots
    left = {slot: a for slot, a in slots.items() if a != default.get(slot)}
    parts = []
    for shortcut, group in shortcuts(type).items():
        same = {left.get(slot) for slot in group if slot in slots}
        if len(same) == 1 and (activation := same.pop()) is not None:
            parts.append(f"{shortcut}={activation.label}")
            left = {slot: a for slot, a in left.items() if slot not in group}
    parts += [f"{slot}={activation.label}" for slot, activation in left.items()]
    for name, value in options.items():
        if name == "trainable":
            value = "+".join(name for name, _ in design.learnt)
        value = value or False
        if value != (name == "reset_after") and name != "engine":
            parts.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return ", ".join(parts)
