"""swap: other activations in a model that exists, by changing the class of its modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape
from typing import Any, TypeAlias, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..cells import Cell, make
from ..formulas.errors import FormulaError
from ..formulas.lookup import resolve
from .design import ActivationLike, shortcuts
from .gru import GRU, GRUCell
from .layers import RecurrentLayers
from .lstm import LSTM, LSTMCell
from .rnn import RNN, RNNCell
from .step import StepCell

__all__ = ["Skipped", "SwapSummary", "Swapped", "swap"]

Match: TypeAlias = str | Iterable[str] | Callable[[str, nn.Module], bool]
"""Which modules: a name or glob ("encoder.*"), several of them, or (name, module) -> bool."""

Named: TypeAlias = tuple[nn.Module, tuple[str, ...]]
"""A module and all its names in the model."""

_OURS: dict[type, type] = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTMCell,
    nn.GRU: GRU,
    nn.GRUCell: GRUCell,
    nn.RNN: RNN,
    nn.RNNCell: RNNCell,
}
_TORCHS: dict[type, type] = {ours: torchs for torchs, ours in _OURS.items()}
_KINDS = (*_OURS, *_TORCHS)
_OTHERS = (nn.RNNBase, nn.RNNCellBase)
"""Recurrent modules that are of none of these kinds are named in the summary."""
_META = torch.device("meta")
_COMPUTES = {"LSTM": "sigmoid and tanh", "GRU": "sigmoid and tanh", "RNN": "tanh or relu"}


@dataclass(frozen=True)
class Swapped:
    """One module that was changed.

    names: every name it has in the model ("" is the model itself). before, after: what it was and
    is, as text. cell: its activations now. new_parameters: names of parameters that it did not
    have, as peephole weights: an optimizer made before does not hold them. dropped_parameters:
    names of those it no longer has.
    """

    names: tuple[str, ...]
    before: str
    after: str
    cell: Cell
    new_parameters: tuple[str, ...] = ()
    dropped_parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{_shown(self.names)}: {self.before} -> {self.after}"
        if self.new_parameters:
            text += f"; new, for the optimizer to be given: {_listed(self.new_parameters)}"
        if self.dropped_parameters:
            text += f"; dropped: {_listed(self.dropped_parameters)}"
        return text


@dataclass(frozen=True)
class Skipped:
    """One recurrent module that was left as it is, and why."""

    names: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{_shown(self.names)}: {self.reason}"


@dataclass(frozen=True)
class SwapSummary:
    """What `swap` did with each recurrent module of the model; printed, a line for each."""

    replaced: tuple[Swapped, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} replaced", *(f"  {entry}" for entry in self.replaced)]
        if self.skipped:
            lines += [f"{len(self.skipped)} skipped", *(f"  {entry}" for entry in self.skipped)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<SwapSummary: {len(self.replaced)} replaced, {len(self.skipped)} skipped>"

    def _repr_html_(self) -> str:
        """For notebooks: a row for each recurrent module."""
        rows = [(_shown(e.names), e.before, e.after) for e in self.replaced]
        rows += [(_shown(e.names), "skipped", e.reason) for e in self.skipped]
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        head = "".join(f"<th>{name}</th>" for name in ("module", "before", "after"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def swap(
    model: nn.Module,
    activation: ActivationLike | None = None,
    *,
    gate_activation: ActivationLike | None = None,
    match: Match | None = None,
    to: Any = None,
    engine: str | None = None,
    strict: bool = True,
    **options: Any,
) -> SwapSummary:
    """Makes every torch.nn.LSTM, GRU, RNN and their cells in `model` anygate's, in place.

        anygate.swap(model, activation="relu")           # candidate and cell output
        anygate.swap(model, "relu", match="decoder.*")   # some of them
        anygate.swap(model, forget_gate="hard_sigmoid")  # one slot
        anygate.swap(model)                              # same outputs, to rounding
        anygate.swap(model, to=torch.nn)                 # and back

    activation, gate_activation, engine and further keyword arguments are those of anygate.LSTM, GRU
    and RNN: a slot (forget_gate="hard_sigmoid"), peephole=True, clip=3.0 ... What is not given
    stays: tanh and sigmoid in torch's modules, in anygate's whatever they have.
    match: which modules, by name as in `model.named_modules()`: a name or a glob in which * also
    crosses dots ("encoder.*"), several of them, or a function (name, module) -> bool. A module
    with several names is taken if one of them fits.
    to: torch.nn makes torch's modules again; only where they compute the same, which is with
    sigmoid and tanh (RNN: tanh or relu) in all slots. A class (torch.nn.LSTM, anygate.GRU) means
    the modules of that name alone, cells included.
    strict: raise for a module that is meant but cannot be changed (a subclass with code of its own,
    TorchScript, a replaced `forward`, a slot that its kind does not have), and if none is meant.
    With False it is skipped, and the summary says why.

    The module objects stay the ones they are and only get another class, as torch's own
    parametrizations do it. So all that holds one of them goes on holding it, also where the model
    itself is one of them: parents, shared places, hooks and their handles, names in state_dict,
    attributes, buffers, parametrizations, pruning, training mode, device, dtype. The Parameter
    objects stay too: an optimizer that has them goes on training them, with its state. To keep the
    model as it is, swap a copy: `swap(copy.deepcopy(model), "relu")`.

    Returns a summary of what was changed and what was not. Everything is checked before anything
    is changed: where this raises, the model is as before. Raises FormulaError for an activation
    that cannot be used, EngineError for an unknown engine, TypeError for a wrong argument and
    ValueError for modules that cannot be changed, each with its name and reason.
    """
    named = {"activation": activation, "gate_activation": gate_activation, "engine": engine}
    given = {name: value for name, value in named.items() if value is not None} | options
    torchs, family = _read_to(to)
    _check_arguments(model, torchs, given)
    meant, skipped = _sort(model, match, family, strict)
    plans: list[_Plan] = []
    problems: list[Skipped] = []
    for module, names in meant:
        try:
            plan = _plan(module, names, given, torchs)
        except _Cannot as reason:
            problems.append(Skipped(names, str(reason)))
        else:
            already = Skipped(names, f"is {_text(module)} already")
            plans.append(plan) if plan else skipped.append(already)
    if strict and problems:
        raise ValueError(
            "swap changed nothing, because it cannot change all that is asked:"
            + "".join(f"\n  {problem}" for problem in problems)
            + "\nmatch= leaves modules out; strict=False changes the others and reports these"
        )
    for plan in plans:
        plan.apply()
    return SwapSummary(tuple(plan.entry for plan in plans), tuple(skipped + problems))


class _Cannot(Exception):
    """Why one module cannot be changed."""


def _read_to(to: Any) -> tuple[bool, str]:
    """Torch's modules are asked for; and the family that is meant ("LSTM"), or "" for all."""
    if to is None or getattr(to, "__name__", "") == "anygate":
        return False, ""
    if to is nn:
        return True, ""
    for torchs, ours in _OURS.items():
        if to in (torchs, ours):
            return to is torchs, _family(torchs)
    raise TypeError(
        f"swap: to= is torch.nn, or a class such as torch.nn.LSTM or anygate.GRU, not {to!r:.80}"
    )


def _family(cls: type) -> str:
    """ "LSTM" of LSTM and LSTMCell."""
    return cls.__name__.removesuffix("Cell")


def _check_arguments(model: Any, torchs: bool, given: dict[str, Any]) -> None:
    """Raises for what is wrong whatever the model holds."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"swap: the model is a torch.nn.Module, not {type(model).__name__}")
    known = tuple(dict.fromkeys(name for ours in _TORCHS for name in _own_arguments(ours)))
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(
            f"swap has no argument '{unknown[0]}'; of anygate's modules it takes: "
            f"{', '.join(known)}"
        )
    if torchs and "engine" in given:
        raise TypeError("swap: torch's modules have no engine to choose; leave engine= out")
    for name in given.keys() & _slot_names():
        try:
            resolve(given[name])
        except FormulaError as error:
            raise FormulaError(f"{name}: {error}") from None


def _own_arguments(ours: type) -> tuple[str, ...]:
    """Arguments of anygate's class that torch's does not have: slots and options."""
    parameters = inspect.signature(ours).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def _slot_names() -> set[str]:
    """Every slot and shortcut of every kind of module."""
    types = [cast(Any, ours)._torch_type for ours in _TORCHS]
    return {s for t in types for s, _ in t.slots} | {"activation", "gate_activation"}


def _arguments_of(module: Any) -> dict[str, Any]:
    """The arguments with which anygate's constructor makes such a module."""
    if isinstance(module, nn.RNN | nn.RNNCell):
        return {} if module.nonlinearity == "tanh" else {"candidate": module.nonlinearity}
    if not isinstance(module, RecurrentLayers | StepCell):
        return {}
    default = make(module._torch_type).slots
    slots = {slot: a for slot, a in module.cell.slots.items() if a != default[slot]}
    return {**slots, **module._options, "trainable": dict(module._design.learnt) or False}


def _merged(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of anygate's constructor: those given, the rest as `module` has them. A slot that
    is given takes the parameters that its activation learnt with it."""
    ours = cast(Any, _OURS.get(_TORCHS.get(_base(module), _base(module))))
    groups = shortcuts(ours._torch_type)
    given = {k: v for k, v in given.items() if groups.get(k, True)}  # an RNN has no gates
    touched = {slot for name in given for slot in groups.get(name, (name,))}
    kept = {k: v for k, v in _arguments_of(module).items() if k not in touched}
    if given.get("coupled"):
        kept.pop("forget_gate", None)
    if learnt := kept.get("trainable"):
        kept["trainable"] = {k: v for k, v in learnt.items() if k.split(".")[0] not in touched}
    return {**kept, **given}


# ---- which modules ----------------------------------------------------------------------------


def _sort(
    model: nn.Module, match: Match | None, family: str, strict: bool
) -> tuple[list[Named], list[Skipped]]:
    """The modules that `match` and `to` mean, and those that are left out."""
    fits = _predicate(match)
    found = _recurrent(model)
    meant: list[Named] = []
    skipped: list[Skipped] = []
    known: list[Named] = []
    for module, names in found:
        if not isinstance(module, _KINDS) and not _scripted(module):
            reason = f"is a {_base(module).__name__}, which has no class of torch.nn to swap with"
            skipped.append(Skipped(names, reason))
            continue
        known.append((module, names))
        if not any(fits(name, module) for name in names):
            skipped.append(Skipped(names, "match= leaves it out"))
        elif family and family not in {_family(cls) for cls in _base(module).__mro__}:
            skipped.append(Skipped(names, f"to= means {family} alone"))
        else:
            meant.append((module, names))
    if strict and not known:
        raise ValueError(f"swap: no LSTM, GRU or RNN in this {type(model).__name__}")
    if strict and not meant:
        all_names = ", ".join(_shown(names) for _, names in known)
        raise ValueError(f"swap: match= and to= fit none of the modules, which are: {all_names}")
    return meant, skipped


def _predicate(match: Match | None) -> Callable[[str, nn.Module], bool]:
    if match is None:
        return lambda name, module: True
    if callable(match):
        return match
    patterns = (match,) if isinstance(match, str) else tuple(match)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(
            "swap: match= is a name, a glob ('encoder.*'), several of them, "
            "or a function (name, module) -> bool"
        )
    return lambda name, module: any(fnmatchcase(name, pattern) for pattern in patterns)


def _recurrent(model: nn.Module) -> list[Named]:
    """Every recurrent module with all its names, in the order of model.named_modules()."""
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in _named(model, "", ()):
        if isinstance(module, _OTHERS) or _scripted(module):
            found.setdefault(id(module), (module, []))[1].append(name)
    return [(module, tuple(names)) for module, names in found.values()]


def _named(
    module: nn.Module, name: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, nn.Module]]:
    """As named_modules, but with every name of a shared module; `above` ends a cycle."""
    yield name, module
    for key, child in module._modules.items():
        if child is not None and not any(child is m for m in (*above, module)):
            yield from _named(child, f"{name}.{key}" if name else key, (*above, module))


def _scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) and (
        getattr(module, "original_name", "") in {cls.__name__ for cls in _OURS}
    )


def _shown(names: tuple[str, ...]) -> str:
    return " = ".join(name or "(the model itself)" for name in names)


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# ---- one module -------------------------------------------------------------------------------


def _base(module: nn.Module) -> type:
    """The module's class, looking through the one that torch's parametrizations put before it."""
    cls = type(module)
    above = cls.__bases__[0]
    injected = cls.__name__ == f"Parametrized{above.__name__}"
    return above if injected and parametrize.is_parametrized(module) else cls


@dataclass
class _Plan:
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


def _plan(
    module: nn.Module, names: tuple[str, ...], given: dict[str, Any], back: bool
) -> _Plan | None:
    """How to change a module; None if nothing changes. Raises _Cannot with the reason."""
    base = _base(module)
    _check_kind(module, base)
    torchs = _TORCHS.get(base, base)
    ours = _OURS[torchs]
    arguments = _merged(module, given)
    if unknown := sorted(arguments.keys() - set(_own_arguments(ours))):
        raise _Cannot(f"anygate.{ours.__name__} has no argument {unknown[0]}")
    try:
        target = cast(Any, _build(ours, module, _META, **arguments))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise _Cannot(str(error)) from error
    cell = target.cell
    plain_arguments: dict[str, Any] = {}
    if back:
        plain_arguments = _check_default(target)
        target = _build(torchs, module, _META, **plain_arguments)
    own_arguments = {} if base in _OURS else _arguments_of(module)
    if isinstance(module, nn.RNN | nn.RNNCell):
        own_arguments = {"nonlinearity": module.nonlinearity}
    source: nn.Module = _build(base, module, _META, **own_arguments)
    same_arguments = _arguments_of(source) == _arguments_of(target)
    if type(target) is base and same_arguments:
        return None
    plain = vars(_build(torchs, module, _META)).keys()
    own = {k: v for k, v in vars(target).items() if k not in plain}
    named = {k: vars(target)[k] for k in ("mode", "nonlinearity") if k in vars(target)}
    before = vars(source).keys() - plain
    if taken := sorted(own.keys() & vars(module).keys() - before):
        raise _Cannot(f"it has an attribute '{taken[0]}' that anygate's module needs; rename it")
    dropped, new = _parameters(module, source, target)
    added: dict[str, nn.Parameter | None] = {}
    if new:
        like = next(module.parameters())
        made = _build(type(target), module, like.device, like.dtype, **arguments)
        added = {name: made._parameters[name] for name in new}
    entry = Swapped(names, _text(module), _text(target), cell, tuple(new), tuple(dropped))
    return _Plan(
        module,
        _class(module, type(target)),
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
    that learn theirs. Raises _Cannot where they cannot."""
    old, new = source._parameters, target._parameters
    remade = _remade(source, target)
    dropped = [name for name in old if name not in new or name in remade]
    added = [name for name in new if name not in old or name in remade]
    if lost := [name for name in dropped if name not in module._parameters]:
        raise _Cannot(f"{lost[0]} is parametrized or pruned; remove that first")
    if taken := [name for name in added if name not in dropped and hasattr(module, name)]:
        raise _Cannot(f"it has an attribute '{taken[0]}' that anygate's module needs; rename it")
    return dropped, added


def _remade(source: Any, target: Any) -> set[str]:
    """Parameters of the same name in both that are other ones: of another activation, or learnt
    for each unit and not for the layer."""
    ours = (RecurrentLayers, StepCell)
    if not (isinstance(source, ours) and isinstance(target, ours)):
        return set()
    found: set[str] = set()
    widths = dict(target._design.learnt)
    for name, width in source._design.learnt:
        slot, attribute = name.split(".")[0], name.replace(".", "_")
        same = source.cell.slots[slot] == target.cell.slots.get(slot)
        if not same or widths.get(name) != width:
            found |= {
                n for n in source._parameters if n == attribute or n.startswith(f"{attribute}_l")
            }
    return found & target._parameters.keys()


def _check_kind(module: nn.Module, base: type) -> None:
    """True if changing the class changes no code of the user's."""
    if _scripted(module):
        raise _Cannot("it is TorchScript, compiled for good; swap the model before scripting it")
    if base not in _KINDS:
        parent = next(cls for cls in base.__mro__ if cls in _KINDS)
        raise _Cannot(
            f"{base.__name__} is a subclass of {_path(parent)}, whose own code would be lost; "
            f"make it a subclass of {_path(_OURS.get(parent, parent))}, or swap before the model "
            "is wrapped in another class"
        )
    if "forward" in vars(module):
        raise _Cannot(
            "its forward was replaced on the module itself, so another class would not be called; "
            "swap before what wraps it"
        )


def _check_default(module: Any) -> dict[str, Any]:
    """The arguments of torch's module that computes the same; engine= does not matter for that.
    Raises _Cannot where there is none."""
    default = make(module._torch_type).slots
    other = {
        slot: activation.label
        for slot, activation in module.cell.slots.items()
        if activation.closed != default[slot].closed
    }
    found: dict[str, Any] = {}
    if isinstance(module, RNN | RNNCell) and other.get("candidate") == "relu":
        found = {"nonlinearity": other.pop("candidate")}
    defaults = [f"{a}={s!r}" for a, s in (("activation", "tanh"), ("gate_activation", "sigmoid"))]
    remedy = [", ".join(defaults[: 2 if module._torch_type.gates else 1])] if other else []
    for name, value in module._options.items():
        usual = inspect.signature(type(module)).parameters[name].default
        value = dict(module._design.learnt) or False if name == "trainable" else value
        if name != "engine" and value != usual:
            other[name] = value
            remedy.append(f"{name}={usual!r}")
    if other:
        here = ", ".join(f"{name}={value}" for name, value in other.items())
        raise _Cannot(
            f"torch.nn.{type(module).__name__} computes {_COMPUTES[_family(type(module))]} only, "
            f"and here is {here}; "
            f"to give that up, say {', '.join(remedy)} in the same call"
        )
    return found


def _build(cls: type, module: Any, device: Any, dtype: Any = None, **arguments: Any) -> nn.Module:
    """A new module of the class and of the sizes of `module`; dropout, which it would warn of for
    one layer as the old one has done, is set afterwards."""
    sizes = (module.input_size, module.hidden_size)
    options: dict[str, Any] = {"bias": module.bias, "device": device, "dtype": dtype, **arguments}
    if not isinstance(module, nn.RNNBase):
        return cast(nn.Module, cls(*sizes, **options))
    sizes_too = ("num_layers", "batch_first", "bidirectional")
    for name in (*sizes_too, *(["proj_size"] if issubclass(cls, nn.LSTM | LSTM) else [])):
        options[name] = getattr(module, name)
    built = cls(*sizes, **options)
    built.dropout = module.dropout
    return cast(nn.Module, built)


def _class(module: nn.Module, cls: type) -> type:
    """The class for `module`: `cls`, behind what torch's parametrizations put before it."""
    old = type(module)
    if old is _base(module):
        return cls
    hidden = ("__dict__", "__weakref__", "__doc__")
    body = {name: value for name, value in vars(old).items() if name not in hidden}
    return type(f"Parametrized{cls.__name__}", (cls,), body)


def _text(module: nn.Module) -> str:
    return f"{_path(_base(module))}({module.extra_repr()})"


def _path(cls: type) -> str:
    return f"{'torch.nn' if cls in _OURS else 'anygate'}.{cls.__name__}"
