"""A recurrent module as plain data for JSON, and back: class, sizes, activations, options.

    {"class": "LSTM",
     "sizes": {"input_size": 3, "hidden_size": 4, "num_layers": 1, ...},
     "activations": {"candidate": "relu", "forget_gate": "hard_sigmoid", ...},
     "options": {"peephole": true, "clip": null, ...}}

An activation is as in `cells.data`; a list has one for each layer and direction, in the order in
which torch stacks the states. "cell" is there for Recurrent and RecurrentCell: their equations.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from reprlib import repr as shown
from typing import Any, cast

from torch import nn

from ..cells import Cell
from ..cells.data import (
    activation_data,
    cell_type_data,
    read_activation,
    read_cell_type,
    read_fields,
)
from .design import learnt_in
from .gru import GRU, GRUCell
from .layers import RecurrentLayers
from .lstm import LSTM, LSTMCell
from .recurrent import Recurrent, RecurrentCell
from .rnn import RNN, RNNCell
from .step import StepCell

__all__ = ["Described", "build", "describe", "read", "sizes_of"]

CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell, Recurrent, RecurrentCell)
}
_WITH_CELL = (Recurrent, RecurrentCell)
_STEPS = (LSTMCell, GRUCell, RNNCell, RecurrentCell)
_FIELDS = {"class": str, "sizes": dict, "activations": dict, "options": dict, "cell": dict}
_SIZES = {
    "input_size": int,
    "hidden_size": (int, list),
    "num_layers": int,
    "bias": bool,
    "batch_first": bool,
    "dropout": (float, int),
    "bidirectional": bool,
    "proj_size": int,
}
_NUMBERS = ("input_size", "hidden_size", "num_layers", "proj_size")
_OPTIONS = {
    "peephole": bool,
    "coupled": bool,
    "reset_after": bool,
    "clip": (float, int, type(None)),
    "trainable": (bool, str, dict),
    "layer_norm": bool,
    "zoneout": (float, int, dict),
    "recurrent_dropout": (float, int),
    "engine": str,
}
_MOST_WEIGHTS = 1 << 28
_MOST_UNITS = 1 << 20
_MOST_LAYERS = 1000


def describe(module: nn.Module) -> dict[str, Any]:
    """The data of one of anygate's modules, ready for JSON; `build` makes an equal module of it,
    without the weights. Raises TypeError for a module of another kind."""
    cls = next((c for c in type(module).__mro__ if c in CLASSES.values()), None)
    if cls is None or not isinstance(module, RecurrentLayers | StepCell):
        raise TypeError(
            f"a recurrent module of anygate can be described, not {type(module).__name__}; "
            "anygate.swap makes torch's modules ours"
        )
    cells = [design.cell for design in module._designs.values()]
    learnt = learnt_in(module._designs.values())
    options = {k: dict(v) if isinstance(v, Mapping) else v for k, v in module._options.items()}
    found: dict[str, Any] = {
        "class": cls.__name__,
        "sizes": sizes_of(module, _sizes(cls)),
        "activations": {slot: _one_or_many(slot, cells) for slot in cells[0].slots},
        "options": {**options, "trainable": learnt or False},
    }
    if cls in _WITH_CELL:
        found["cell"] = cell_type_data(module._torch_type)
    return found


def sizes_of(module: Any, names: Iterable[str]) -> dict[str, Any]:
    """torch's arguments that a module was made with; hidden_size is a list where widths differ."""
    found = {name: getattr(module, name) for name in names}
    widths = vars(module).get("_widths")
    return found | ({"hidden_size": [*widths]} if widths and "hidden_size" in found else {})


def _one_or_many(slot: str, cells: list[Cell]) -> Any:
    chosen = [activation_data(cell.slots[slot]) for cell in cells]
    return chosen[0] if all(a == chosen[0] for a in chosen) else chosen


@lru_cache
def _keywords(cls: type) -> tuple[str, ...]:
    return tuple(inspect.signature(cls).parameters)


def _sizes(cls: type) -> tuple[str, ...]:
    """The names of the class's sizes, which are torch's arguments."""
    return tuple(name for name in _SIZES if name in _keywords(cls))


@dataclass(frozen=True)
class Described:
    """A description that was read: the class, torch's arguments, and anygate's."""

    cls: type
    sizes: dict[str, Any]
    arguments: dict[str, Any]

    def make(self, device: Any = None, dtype: Any = None) -> nn.Module:
        """A new module."""
        found = self.cls(**self.sizes, **self.arguments, device=device, dtype=dtype)
        return cast(nn.Module, found)


def read(data: Any, where: str = "the description") -> Described:
    """A description from anywhere, checked: every field's form and size. Formulas are parsed and
    never evaluated, and no weights are made. Raises ValueError naming the field and the remedy."""
    fields = read_fields(data, _FIELDS, where, required=("class", "sizes"))
    if fields["class"] not in CLASSES:
        raise ValueError(
            f"{where}.class: one of {', '.join(CLASSES)}, not {shown(fields['class'])}"
        )
    cls = CLASSES[fields["class"]]
    sizes = _read_sizes(fields["sizes"], cls, f"{where}.sizes")
    arguments = _read_options(fields.get("options", {}), cls, f"{where}.options")
    if (cls in _WITH_CELL) != ("cell" in fields):
        raise ValueError(
            f"{where}.cell: the equations of the cell, which Recurrent and RecurrentCell have and "
            f"no other; the class is {cls.__name__}"
        )
    if "cell" in fields:
        arguments["cell"] = read_cell_type(fields["cell"], f"{where}.cell")
    most = sizes.get("num_layers", 1) * (2 if sizes.get("bidirectional") else 1)
    slots = _slots(cls, arguments)
    if taken := sorted(set(slots) & set(_keywords(cls)) if cls in _WITH_CELL else ()):
        raise ValueError(f"{where}.cell.slots: {taken[0]} is an argument of {cls.__name__} already")
    for slot, chosen in fields.get("activations", {}).items():
        if slot not in slots:
            raise ValueError(
                f"{where}.activations: {cls.__name__} has no slot {shown(slot)}; "
                f"it has: {', '.join(slots)}"
            )
        here = f"{where}.activations.{slot}"
        if not isinstance(chosen, list):
            arguments[slot] = read_activation(chosen, here)
            continue
        if len(chosen) not in (most, sizes.get("num_layers", 1)):
            raise ValueError(
                f"{here}: a list has one activation for each layer and direction, {most}, not "
                f"{len(chosen)}"
            )
        arguments[slot] = [read_activation(a, f"{here}[{k}]") for k, a in enumerate(chosen)]
    return Described(cls, sizes, arguments)


def build(data: Any, *, device: Any = None, dtype: Any = None) -> nn.Module:
    """The module of a description, with new weights. Raises ValueError for a description that
    cannot be read, naming the field, and for one of more than 2**28 weights."""
    described = read(data)
    count = _weights(described)
    if count > _MOST_WEIGHTS:
        raise ValueError(
            f"the description's sizes ask for {count:,} weights; at most {_MOST_WEIGHTS:,} are "
            "made from data. Make the module of such sizes yourself, and anygate.apply the "
            "configuration to it"
        )
    return _make_or_refuse(described, "the description", device, dtype)


def _make_or_refuse(described: Described, where: str, device: Any, dtype: Any) -> nn.Module:
    try:
        return described.make(device, dtype)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{where}: {error}") from error


def _weights(described: Described) -> int:
    """An upper bound of the number of weights."""
    sizes = described.sizes
    ways = 2 if sizes.get("bidirectional") else 1
    widths = sizes["hidden_size"]
    hidden = max(widths) if isinstance(widths, list) else widths
    cell = described.arguments.get("cell")
    products = 4 if cell is None else len(cell.products)
    inputs = max(sizes["input_size"], hidden * ways)
    return int(sizes.get("num_layers", 1) * ways * products * hidden * (inputs + hidden))


def _read_sizes(data: Any, cls: type, where: str) -> dict[str, Any]:
    names = _sizes(cls)
    kinds = {name: _SIZES[name] for name in names}
    found = read_fields(data, kinds, where, required=("input_size", "hidden_size"))
    for name, value in found.items():
        least = 0 if name in ("input_size", "proj_size") else 1
        most = _MOST_LAYERS if name == "num_layers" else _MOST_UNITS
        if name not in _NUMBERS:
            continue
        for number in value if isinstance(value, list) else [value]:
            if type(number) is not int or not least <= number <= most:
                raise ValueError(f"{where}.{name}: from {least} to {most:,}, not {shown(number)}")
    if isinstance(found["hidden_size"], list):
        count = found.get("num_layers", 1)
        if cls in _STEPS or len(found["hidden_size"]) != count:
            raise ValueError(
                f"{where}.hidden_size: a number, or a list of {count}, one for each layer"
            )
    return found


def _read_options(data: Any, cls: type, where: str) -> dict[str, Any]:
    kinds = {name: _OPTIONS[name] for name in _OPTIONS if name in _keywords(cls)}
    found = read_fields(data, kinds, where)
    for name in ("trainable", "zoneout"):
        value = found.get(name)
        for key, inner in value.items() if isinstance(value, dict) else ():
            wanted = str if name == "trainable" else (int, float)
            if not isinstance(key, str) or not isinstance(inner, wanted):
                raise ValueError(f"{where}.{name}.{shown(key)}: {shown(inner)} has no meaning here")
    return found


def _slots(cls: type, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    kind = arguments.get("cell") or cast(Any, cls)._torch_type
    return tuple(slot for slot, _ in kind.slots)
