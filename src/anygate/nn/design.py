"""From the arguments of a module to the cells that it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    "ActivationLikes",
    "Design",
    "Trainable",
    "Zoneout",
    "every_activation",
    "learnt_in",
    "learnt_parameters",
    "make_design",
    "make_designs",
    "shortcuts",
    "summary",
]

ActivationLike: TypeAlias = Activation | str | Expr
"""A name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression, an Activation, or a function or
module of torch, Keras or JAX that is one of those known (nn.ReLU(), F.silu)."""

ActivationLikes: TypeAlias = ActivationLike | Sequence[Any] | Mapping[str, Any]
"""An activation; one for each layer, or for each layer and direction in the order in which torch
stacks the states, in a list; or {"forward": ..., "backward": ...}."""

Trainable: TypeAlias = bool | str | Mapping[str, str]
"""The parameters of activations that are learnt: False none, True or "shared" all, one number each
for a layer and direction, "unit" all, one number for each hidden unit; or a dict such as
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


def make_designs(
    type: CellType,
    choices: Mapping[str, Any],
    num_layers: int,
    bidirectional: bool,
    *,
    trainable: Trainable = False,
    **options: Any,
) -> tuple[Design, ...]:
    """The design of each layer and direction, in the order in which torch stacks the states; a
    single one where all are the same.

    choices: as in `make_design`, and besides for each an activation for each layer, or for each
    layer and direction, in a list; or {"forward": ..., "backward": ...}.
    Raises ValueError for a list of another length, and where there is no backward direction.
    """
    if not any(isinstance(c, list | tuple | Mapping) for c in choices.values()):
        return (make_design(type, choices, trainable=trainable, **options),)
    ways = ("forward", "backward")[: 2 if bidirectional else 1]
    places = [(layer, way) for layer in range(num_layers) for way in ways]
    picked = [
        {name: _pick(name, c, layer, way, num_layers, ways) for name, c in choices.items()}
        for layer, way in places
    ]
    if not trainable:
        return tuple(make_design(type, own, **options) for own in picked)
    plain = [make_design(type, own, **options) for own in picked]
    has = {n for d in plain for n in d.cell.parameters if "." in n}
    if not has or (isinstance(trainable, Mapping) and not trainable.keys() <= has):
        richest = max(plain, key=lambda d: len(d.cell.parameters))
        learnt_parameters(richest.cell, trainable)  # raises, naming those there are
    if isinstance(trainable, Mapping):
        wanted = dict(trainable)
    else:
        wanted = dict.fromkeys(has, trainable if isinstance(trainable, str) else "shared")
    return tuple(
        make_design(
            type,
            own,
            trainable={n: w for n, w in wanted.items() if n in design.cell.parameters},
            **options,
        )
        for own, design in zip(picked, plain, strict=True)
    )


def every_activation(choice: Any) -> Iterator[Any]:
    """The single ones in a choice that may be one for each layer or direction."""
    if isinstance(choice, Mapping | list | tuple):
        for inner in choice.values() if isinstance(choice, Mapping) else choice:
            yield from every_activation(inner)
    else:
        yield choice


def _pick(
    name: str, choice: Any, layer: int, way: str, num_layers: int, ways: tuple[str, ...]
) -> Any:
    """The part of a choice for one layer and direction."""
    if isinstance(choice, Mapping):
        if set(choice) != {"forward", "backward"} or len(ways) < 2:
            raise ValueError(
                f"{name}: a dict is {{'forward': ..., 'backward': ...}}, for bidirectional=True"
            )
        return _pick(name, choice[way], layer, way, num_layers, ways)
    if not isinstance(choice, list | tuple):
        return choice
    count = num_layers * len(ways)
    if len(choice) not in (num_layers, count):
        both = f" or {count} (one for each layer and direction)" if len(ways) > 1 else ""
        raise ValueError(
            f"{name}: a list of {num_layers} activations (one for each layer){both}, "
            f"not of {len(choice)}"
        )
    place = layer if len(choice) == num_layers else layer * len(ways) + ways.index(way)
    return _pick(name, choice[place], layer, way, num_layers, ways)


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


def summary(designs: Sequence[Design], type: CellType, options: Mapping[str, Any]) -> str:
    """The differences from torch's module, as arguments: "activation=relu, peephole=True". designs:
    of all layers and directions; type: the one whose activations are torch's; options: further
    arguments with their values."""
    default = make(type).slots
    labels: dict[str, str] = {}
    for slot in designs[0].cell.slots:
        chosen = [design.cell.slots[slot] for design in designs]
        if any(a != default.get(slot) for a in chosen):
            same = all(a == chosen[0] for a in chosen)
            own = [a.label for a in chosen]
            labels[slot] = own[0] if same else f"[{', '.join(own)}]"
    parts = []
    for shortcut, group in shortcuts(type).items():
        together = {labels.get(slot) for slot in group if slot in designs[0].cell.slots}
        if len(together) == 1 and (label := together.pop()) is not None:
            parts.append(f"{shortcut}={label}")
            labels = {slot: text for slot, text in labels.items() if slot not in group}
    parts += [f"{slot}={label}" for slot, label in labels.items()]
    for name, value in options.items():
        if name == "trainable":
            value = "+".join(learnt_in(designs))
        value = value or False
        if value != (name == "reset_after") and name != "engine":
            parts.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
    return ", ".join(parts)


def learnt_in(designs: Iterable[Design]) -> dict[str, str]:
    """SLOT.PARAMETER -> "shared" or "unit", of all layers and directions together."""
    return {name: width for design in designs for name, width in design.learnt}
