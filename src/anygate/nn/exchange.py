"""Another class for one recurrent module, worked out and checked before anything is changed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..cells import Cell, make
from .description import describe, sizes_of
from .design import learnt_in, shortcuts
from .gru import GRU, GRUCell
from .layers import RecurrentLayers
from .lstm import LSTM, LSTMCell
from .parameters import attribute
from .recurrent import Recurrent, RecurrentCell
from .rnn import RNN, RNNCell
from .step import StepCell
from .subclasses import obstacle, over, own_class

__all__ = [
    "KINDS",
    "OTHERS",
    "OURS",
    "TORCHS",
    "WRITTEN",
    "Cannot",
    "Plan",
    "Swapped",
    "arguments_added",
    "base_class",
    "family_of",
    "is_scripted",
    "kind_of",
    "plan_change",
    "shown_module",
    "shown_names",
]

OURS: dict[type, type] = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTMCell,
    nn.GRU: GRU,
    nn.GRUCell: GRUCell,
    nn.RNN: RNN,
    nn.RNNCell: RNNCell,
}
TORCHS: dict[type, type] = {ours: torchs for torchs, ours in OURS.items()}
WRITTEN = (Recurrent, RecurrentCell)
"""Ours alone: `swap` passes over them, a configuration does not."""
KINDS = (*OURS, *TORCHS)
OTHERS = (nn.RNNBase, nn.RNNCellBase)
"""Recurrent modules that are of none of these kinds are named in the summary."""
_META = torch.device("meta")
_COMPUTES = {"LSTM": "sigmoid and tanh", "GRU": "sigmoid and tanh", "RNN": "tanh or relu"}


@dataclass(frozen=True)
class Swapped:
    """One module that was changed.

    names: every name it has in the model ("" is the model itself). before, after: what it was and
    is, as text. cell: its activations now, those of the first layer where layers differ.
    new_parameters: names of parameters that it did not have, as peephole weights: an optimizer made
    before does not hold them. dropped_parameters: names of those it no longer has. description:
    what it is now as data, as `anygate.config` has it; None of torch's modules.
    """

    names: tuple[str, ...]
    before: str
    after: str
    cell: Cell
    new_parameters: tuple[str, ...] = ()
    dropped_parameters: tuple[str, ...] = ()
    description: dict[str, Any] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        text = f"{shown_names(self.names)}: {self.before} -> {self.after}"
        if self.new_parameters:
            text += f"; new, for the optimizer to be given: {listed_names(self.new_parameters)}"
        if self.dropped_parameters:
            text += f"; dropped: {listed_names(self.dropped_parameters)}"
        return text


class Cannot(Exception):
    """The reason why one module cannot be changed."""


def arguments_added(ours: type) -> tuple[str, ...]:
    """Arguments of anygate's class that torch's does not have: slots and options."""
    parameters = inspect.signature(ours).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def family_of(cls: type) -> str:
    """ "LSTM" of LSTM and LSTMCell."""
    return cls.__name__.removesuffix("Cell")


def is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) and (
        getattr(module, "original_name", "") in {cls.__name__ for cls in OURS}
    )


def shown_names(names: tuple[str, ...]) -> str:
    return " = ".join(name or "(the model itself)" for name in names)


def listed_names(names: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _arguments_of(module: Any) -> dict[str, Any]:
    """The arguments with which anygate's constructor makes such a module."""
    if not isinstance(module, RecurrentLayers | StepCell):
        plain = getattr(module, "nonlinearity", "tanh") == "tanh"
        return {} if plain else {"candidate": module.nonlinearity}
    default = make(module._torch_type).slots
    chosen = {slot: [c.slots[slot] for c in _cells(module)] for slot in module._design.cell.slots}
    slots = {
        slot: own if any(a != own[0] for a in own) else own[0]
        for slot, own in chosen.items()
        if any(a != default[slot] for a in own)
    }
    learnt = learnt_in(module._designs.values())
    found = {**slots, **module._options, "trainable": learnt or False}
    return found | ({"cell": module._torch_type} if isinstance(module, WRITTEN) else {})


def _cells(module: Any) -> list[Cell]:
    """The cell of each layer and direction."""
    return [design.cell for design in module._designs.values()]


def _merged(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of anygate's constructor: those given, the rest as `module` has them. A slot that
    is given takes the parameters that its activation learnt with it."""
    kind = kind_of(base_class(module))
    ours = cast(Any, OURS.get(kind, kind))
    type = cast(Any, module if kind in WRITTEN else ours)._torch_type
    groups = shortcuts(type)
    given = {k: v for k, v in given.items() if groups.get(k, True)}  # an RNN has no gates
    touched = {slot for name in given for slot in groups.get(name, (name,))}
    kept = {k: v for k, v in _arguments_of(module).items() if k not in touched}
    if given.get("coupled"):
        kept.pop("forget_gate", None)
    if learnt := kept.get("trainable"):
        kept["trainable"] = {k: v for k, v in learnt.items() if k.split(".")[0] not in touched}
    return {**kept, **given}


def base_class(module: nn.Module) -> type:
    """The module's class, looking through the one that torch's parametrizations put before it."""
    cls = type(module)
    above = cls.__bases__[0]
    injected = cls.__name__ == f"Parametrized{above.__name__}"
    return above if injected and parametrize.is_parametrized(module) else cls


def kind_of(base: type) -> type:
    """The class of torch or anygate that `base` is, or whose code a subclass of it calls."""
    return next((cls for cls in base.__mro__ if cls in (*KINDS, *WRITTEN)), base)


@dataclass
class Plan:
    """All that changes one module, worked out and checked."""

    module: nn.Module
    cls: type
    entry: Swapped
    attributes: dict[str, Any]
    removed: set[str]
    added: dict[str, nn.Parameter | None]
    dropped: list[str]

    def apply(self) -> None:
        cast(Any, self.module).__class__ = self.cls
        state = vars(self.module)
        for name in self.removed:
            state.pop(name, None)
        state.update(self.attributes)
        for name in self.dropped:
            del self.module._parameters[name]
        self.module._parameters.update(self.added)


def plan_change(
    module: nn.Module, names: tuple[str, ...], given: dict[str, Any], back: bool
) -> Plan | None:
    """The way to change a module; None if nothing changes. Raises Cannot with the reason."""
    base = base_class(module)
    _check_kind(module, base)
    kind = kind_of(base)
    torchs = TORCHS.get(kind, kind)
    ours = OURS.get(torchs, torchs)
    arguments = _merged(module, given)
    known = arguments.keys() if kind in WRITTEN else set(arguments_added(ours))
    if unknown := sorted(arguments.keys() - known):
        raise Cannot(f"anygate.{ours.__name__} has no argument {unknown[0]}")
    try:
        target = cast(Any, _build(ours, module, _META, **arguments))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise Cannot(str(error)) from error
    cell = target._design.cell
    plain_arguments: dict[str, Any] = {}
    if back:
        if "_widths" in vars(target):
            raise Cannot(f"torch.nn.{torchs.__name__} has one width in all layers")
        plain_arguments = _check_default(target)
        target = _build(torchs, module, _META, **plain_arguments)
    own_arguments = {} if kind in OURS else _arguments_of(module)
    if kind in (nn.RNN, nn.RNNCell):
        own_arguments = {"nonlinearity": module.nonlinearity}
    source: nn.Module = _build(kind, module, _META, **own_arguments)
    same_arguments = _arguments_of(source) == _arguments_of(target)
    if type(target) is kind and same_arguments:
        return None
    bare = nn.RNN if isinstance(module, nn.RNNBase) else nn.RNNCell
    plain = vars(_build(bare if kind in WRITTEN else torchs, module, _META)).keys()
    own = {k: v for k, v in vars(target).items() if k not in plain}
    named = {k: vars(target)[k] for k in ("mode", "nonlinearity") if k in vars(target)}
    before = vars(source).keys() - plain
    if taken := sorted(own.keys() & vars(module).keys() - before):
        raise Cannot(f"it has an attribute '{taken[0]}' that anygate's module needs; rename it")
    dropped, new = _parameters(module, source, target)
    added: dict[str, nn.Parameter | None] = {}
    if new:
        like = next(module.parameters())
        made = _build(type(target), module, like.device, like.dtype, **arguments)
        added = {name: made._parameters[name] for name in new}
    entry = Swapped(
        names,
        shown_module(module),
        shown_module(target, own_class(base)),
        cell,
        tuple(new),
        tuple(dropped),
        None if back else describe(target),
    )
    return Plan(
        module,
        _class(module, _goal(base, type(target))),
        entry,
        own | named,
        before - own.keys(),
        added,
        dropped,
    )


def _parameters(
    module: nn.Module, source: nn.Module, target: nn.Module
) -> tuple[list[str], list[str]]:
    """Names of the parameters that go and of those that come: of peepholes, and of activations
    that learn theirs. Raises Cannot where they cannot."""
    old, new = source._parameters, target._parameters
    remade = _remade(source, target)
    for name in (old.keys() & new.keys()) - remade:
        before, after = (getattr(p[name], "shape", ()) for p in (old, new))
        if before != after:
            raise Cannot(f"{name} would change its shape from {[*before]} to {[*after]}")
    dropped = [name for name in old if name not in new or name in remade]
    added = [name for name in new if name not in old or name in remade]
    if lost := [name for name in dropped if name not in module._parameters]:
        raise Cannot(f"{lost[0]} is parametrized or pruned; remove that first")
    if taken := [name for name in added if name not in dropped and hasattr(module, name)]:
        raise Cannot(f"it has an attribute '{taken[0]}' that anygate's module needs; rename it")
    return dropped, added


def _remade(source: Any, target: Any) -> set[str]:
    """Parameters of the same name in both that are other ones: of another activation, or learnt
    for each unit and not for the layer."""
    ours = (RecurrentLayers, StepCell)
    if not (isinstance(source, ours) and isinstance(target, ours)):
        return set()
    found: set[str] = set()
    for suffix, name, width in (
        (suffix, *learnt) for suffix, d in source._designs.items() for learnt in d.learnt
    ):
        slot, old, new = name.split(".")[0], source._designs[suffix], target._designs[suffix]
        same = old.cell.slots[slot] == new.cell.slots.get(slot)
        if not same or dict(new.learnt).get(name) != width:
            found.add(attribute(name, suffix))
    return found & target._parameters.keys()


def _check_kind(module: nn.Module, base: type) -> None:
    """Raises Cannot where code of the user's would be lost or would pass by anygate's."""
    if is_scripted(module):
        raise Cannot("it is TorchScript, compiled for good; swap the model before scripting it")
    kind, own = kind_of(base), own_class(base)
    if kind in OURS and own is not kind and (reason := obstacle(own, kind, OURS[kind])):
        raise Cannot(
            f"{own.__name__} is a subclass of {_path(kind)} with code of its own, and {reason}. "
            f"Make it a subclass of {_path(OURS[kind])}"
        )
    if "forward" in vars(module):
        raise Cannot(
            "its forward was replaced on the module itself, so another class would not be called; "
            "swap before what wraps it"
        )


def _check_default(module: Any) -> dict[str, Any]:
    """The arguments of torch's module that computes the same; engine= does not matter for that.
    Raises Cannot where there is none."""
    default = make(module._torch_type).slots
    other: dict[str, Any] = {}
    for slot in module._design.cell.slots:
        own = [cell.slots[slot] for cell in _cells(module)]
        if any(a.closed != default[slot].closed for a in own):
            labels = list(dict.fromkeys(a.label for a in own))
            other[slot] = labels[0] if len(labels) == 1 else f"[{', '.join(labels)}]"
    found: dict[str, Any] = {}
    if isinstance(module, RNN | RNNCell) and other.get("candidate") == "relu":
        found = {"nonlinearity": other.pop("candidate")}
    defaults = [f"{a}={s!r}" for a, s in (("activation", "tanh"), ("gate_activation", "sigmoid"))]
    remedy = [", ".join(defaults[: 2 if module._torch_type.gates else 1])] if other else []
    for name, value in module._options.items():
        usual = inspect.signature(type(module)).parameters[name].default
        value = learnt_in(module._designs.values()) or False if name == "trainable" else value
        if name != "engine" and value != usual:
            other[name] = value
            remedy.append(f"{name}={usual!r}")
    if other:
        here = ", ".join(f"{name}={value}" for name, value in other.items())
        raise Cannot(
            f"torch.nn.{type(module).__name__} computes {_COMPUTES[family_of(type(module))]} only, "
            f"and here is {here}; "
            f"to give that up, say {', '.join(remedy)} in the same call"
        )
    return found


def _build(cls: type, module: Any, device: Any, dtype: Any = None, **arguments: Any) -> nn.Module:
    """A new module of the class and of the sizes of `module`; dropout, which it would warn of for
    one layer as the old one has done, is set afterwards."""
    sizes = sizes_of(module, ("input_size", "hidden_size", "bias"))
    if cls in OURS:
        sizes["hidden_size"] = module.hidden_size
    options: dict[str, Any] = {**sizes, "device": device, "dtype": dtype, **arguments}
    if not isinstance(module, nn.RNNBase):
        return cast(nn.Module, cls(**options))
    sizes_too = ("num_layers", "batch_first", "bidirectional")
    for name in (*sizes_too, *(["proj_size"] if issubclass(cls, nn.LSTM | LSTM) else [])):
        options[name] = getattr(module, name)
    built = cls(**options)
    built.dropout = module.dropout
    return cast(nn.Module, built)


def _goal(base: type, target: type) -> type:
    """The class that a module of class `base` gets: `target`, under the code of a subclass."""
    own = own_class(base)
    if own in (*KINDS, *WRITTEN):
        return target
    torchs = TORCHS.get(target, target)
    if issubclass(own, target):
        return own
    if not issubclass(own, torchs):
        raise Cannot(
            f"{own.__name__} is a subclass of {_path(kind_of(own))}, whose own code needs it"
        )
    return over(own, target, torchs)


def _class(module: nn.Module, cls: type) -> type:
    """The class for `module`: `cls`, behind what torch's parametrizations put before it."""
    old = type(module)
    if old is base_class(module):
        return cls
    hidden = ("__dict__", "__weakref__", "__doc__")
    body = {name: value for name, value in vars(old).items() if name not in hidden}
    return type(f"Parametrized{cls.__name__}", (cls,), body)


def shown_module(module: nn.Module, own: type | None = None) -> str:
    """A module as text. own: the class with code of a user's that it has or gets."""
    base = base_class(module)
    kind, own = kind_of(base), own or own_class(base)
    text = f"{_path(kind)}({module.extra_repr()})"
    return text if own in (*KINDS, *WRITTEN) else f"{own.__name__} over {text}"


def _path(cls: type) -> str:
    return f"{'torch.nn' if cls in OURS else 'anygate'}.{cls.__name__}"
