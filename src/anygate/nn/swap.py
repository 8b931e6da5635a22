"""swap: other activations in a model that exists, by changing the class of its LSTM modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..symbolic.cell import PEEPHOLES, SLOTS, Cell
from .cell import LSTMCell
from .lstm import LSTM
from .slots import SHORTCUTS, ActivationLike, make_cell

__all__ = ["Skipped", "SwapSummary", "Swapped", "swap"]

Match: TypeAlias = str | Iterable[str] | Callable[[str, nn.Module], bool]
"""Which modules: a name or glob ("encoder.*"), several of them, or (name, module) -> bool."""

Named: TypeAlias = tuple[nn.Module, tuple[str, ...]]
"""A module and all its names in the model."""

_OURS: dict[type, type] = {nn.LSTM: LSTM, nn.LSTMCell: LSTMCell}
_TORCHS: dict[type, type] = {ours: torchs for torchs, ours in _OURS.items()}
_KINDS = (*_OURS, *_TORCHS)
_OTHERS = (nn.GRU, nn.GRUCell, nn.RNN, nn.RNNCell)
_META = torch.device("meta")


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
    """What `swap` did with each LSTM of the model; printed, a line for each."""

    replaced: tuple[Swapped, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} replaced", *(f"  {entry}" for entry in self.replaced)]
        if self.skipped:
            lines += [f"{len(self.skipped)} skipped", *(f"  {entry}" for entry in self.skipped)]
        return "\n".join(lines)


def swap(
    model: nn.Module,
    activation: ActivationLike | None = None,
    *,
    gate_activation: ActivationLike | None = None,
    input_gate: ActivationLike | None = None,
    forget_gate: ActivationLike | None = None,
    candidate: ActivationLike | None = None,
    output_gate: ActivationLike | None = None,
    cell_output: ActivationLike | None = None,
    match: Match | None = None,
    to: type[nn.Module] | None = None,
    engine: str | None = None,
    strict: bool = True,
    **options: Any,
) -> SwapSummary:
    """Makes every torch.nn.LSTM and LSTMCell of `model` an anygate.LSTM or LSTMCell, in place.

        anygate.swap(model, activation="relu")           # candidate and cell output
        anygate.swap(model, "relu", match="decoder.*")   # some of them
        anygate.swap(model)                              # same outputs, to rounding
        anygate.swap(model, to=torch.nn.LSTM)            # and back

    activation to cell_output, engine and further keyword arguments are anygate.LSTM's. What is
    not given stays: tanh and sigmoid in torch's modules, in anygate's whatever they have.
    match: which modules, by name as in `model.named_modules()`: a name or a glob in which * also
    crosses dots ("encoder.*"), several of them, or a function (name, module) -> bool. A module
    with several names is taken if one of them fits.
    to: torch.nn.LSTM makes torch's modules again, cells included; only where they compute the
    same, which is with sigmoid and tanh in all slots.
    strict: raise for an LSTM that is meant but cannot be changed (a subclass with code of its own,
    TorchScript, a replaced `forward`), and if none is meant. With False it is skipped, and the
    summary says why.

    The module objects stay the ones they are and only get another class, as torch's own
    parametrizations do it. So all that holds one of them goes on holding it, also where the model
    itself is an LSTM: parents, shared places, hooks and their handles, names in state_dict,
    attributes, buffers, parametrizations, pruning, training mode, device, dtype. The Parameter
    objects stay too: an optimizer that has them goes on training them, with its state. To keep the
    model as it is, swap a copy: `swap(copy.deepcopy(model), "relu")`.

    Returns a summary of what was changed and what was not, other recurrent modules (GRU, RNN and
    their cells) included. Everything is checked before anything
    is changed: where this raises, the model is as before. Raises FormulaError for an activation
    that cannot be used, EngineError for an unknown engine, TypeError for a wrong argument and
    ValueError for modules that cannot be changed, each with its name and reason.
    """
    slots = (input_gate, forget_gate, candidate, output_gate, cell_output)
    named = dict(zip(SLOTS, slots, strict=True)) | {
        "activation": activation, "gate_activation": gate_activation, "engine": engine,
    }  # fmt: skip
    given = {name: value for name, value in named.items() if value is not None} | options
    _check_arguments(model, to, given)
    meant, skipped = _sort(model, match, strict)
    skipped += _others(model, match)
    plans: list[_Plan] = []
    problems: list[Skipped] = []
    for module, names in meant:
        try:
            plan = _plan(module, names, given, to)
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


def _check_arguments(model: Any, to: Any, given: dict[str, Any]) -> None:
    """Raises for what is wrong whatever the model holds."""
    if to not in (None, LSTM, nn.LSTM):
        raise TypeError(
            f"swap: to= is torch.nn.LSTM or anygate.LSTM (LSTMCells follow), not {to!r:.80}"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(f"swap: the model is a torch.nn.Module, not {type(model).__name__}")
    slots = (*SHORTCUTS, *SLOTS)
    known = (*slots, *_option_names(LSTM))
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(
            f"swap has no argument '{unknown[0]}'; of anygate.LSTM it takes: {', '.join(known)}"
        )
    if to is nn.LSTM and "engine" in given:
        raise TypeError("swap: torch.nn.LSTM has no engine to choose; leave engine= out")
    make_cell(**{name: value for name, value in given.items() if name in slots})


def _option_names(ours: type) -> tuple[str, ...]:
    """anygate's own arguments besides the activations: engine ..."""
    parameters = inspect.signature(ours).parameters.values()
    own = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return tuple(name for name in own if name not in (*SHORTCUTS, *SLOTS))


def _arguments_of(module: nn.Module) -> dict[str, Any]:
    """The arguments with which anygate's constructor makes such a module; none for torch's."""
    if not isinstance(module, LSTM | LSTMCell):
        return {}
    default = Cell().slots
    slots = {slot: a for slot, a in module.cell.slots.items() if a != default[slot]}
    return {**slots, **{name: _option(module, name) for name in _option_names(_base(module))}}


def _option(module: LSTM | LSTMCell, name: str) -> Any:
    """The value that an argument of the constructor has."""
    if name == "trainable":
        return _trainable(module)
    return getattr(module._wiring if name == "engine" else module.cell, name)


def _trainable(module: LSTM | LSTMCell) -> dict[str, str] | Literal[False]:
    """What is learnt: SLOT.PARAMETER -> "shared" or "unit"; False for nothing."""
    names = [name for name in module.cell.per_unit if name not in PEEPHOLES]
    suffix = "_l0" if isinstance(module, nn.RNNBase) else ""
    values = {name: getattr(module, name.replace(".", "_") + suffix) for name in names}
    return {
        n: "shared" if v.numel() == 1 < module.hidden_size else "unit" for n, v in values.items()
    } or False


def _merged(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of anygate's constructor: those given, the rest as `module` has them. A slot that
    is given takes the parameters that its activation learnt with it."""
    touched = {slot for name in given for slot in SHORTCUTS.get(name, (name,))}
    kept = {k: v for k, v in _arguments_of(module).items() if k not in touched}
    if learnt := kept.get("trainable"):
        kept["trainable"] = {k: v for k, v in learnt.items() if k.split(".")[0] not in touched}
    return {**kept, **given}


# ---- which modules ----------------------------------------------------------------------------


def _sort(model: nn.Module, match: Match | None, strict: bool) -> tuple[list[Named], list[Skipped]]:
    """The LSTMs that `match` means, and those that it leaves out."""
    fits = _predicate(match)
    found = _lstms(model)
    meant: list[Named] = []
    rest: list[Named] = []
    for module, names in found:
        wanted = any(fits(name, module) for name in names)
        (meant if wanted else rest).append((module, names))
    if strict and not found:
        raise ValueError(f"swap: no LSTM or LSTMCell in this {type(model).__name__}")
    if strict and not meant:
        all_names = ", ".join(_shown(names) for _, names in found)
        raise ValueError(f"swap: match= fits none of the LSTMs, which are: {all_names}")
    return meant, [Skipped(names, "match= leaves it out") for _, names in rest]


def _others(model: nn.Module, match: Match | None) -> list[Skipped]:
    """The recurrent modules of other kinds that `match` means."""
    fits = _predicate(match)
    found: dict[nn.Module, list[str]] = {}
    for name, module in _named(model, "", ()):
        if isinstance(module, _OTHERS) and fits(name, module):
            found.setdefault(module, []).append(name)
    return [
        Skipped(tuple(names), f"{_path(_base(module))} is no LSTM, and has its own equations")
        for module, names in found.items()
    ]


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


def _lstms(model: nn.Module) -> list[Named]:
    """Every LSTM and LSTMCell with all its names, in the order of model.named_modules()."""
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in _named(model, "", ()):
        if isinstance(module, _KINDS) or _scripted(module):
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
        getattr(module, "original_name", "") in ("LSTM", "LSTMCell")
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
    module: nn.Module, names: tuple[str, ...], given: dict[str, Any], to: Any
) -> _Plan | None:
    """How to change a module; None if nothing changes. Raises _Cannot with the reason."""
    base = _base(module)
    _check_kind(module, base)
    torchs = _TORCHS.get(base, base)
    ours = _OURS[torchs]
    arguments = _merged(module, given)
    try:
        target = cast(Any, _build(ours, module, _META, **arguments))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise _Cannot(str(error)) from error
    cell = target.cell
    if to is nn.LSTM:
        _check_default(target)
        target = _build(torchs, module, _META)
    source: nn.Module = _build(base, module, _META, **_arguments_of(module))
    same_arguments = _arguments_of(source) == _arguments_of(cast(nn.Module, target))
    if type(target) is base and same_arguments:
        return None
    plain = vars(_build(torchs, module, _META)).keys()
    own = {k: v for k, v in vars(target).items() if k not in plain}
    before = vars(source).keys() - plain
    if taken := sorted(own.keys() & vars(module).keys() - before):
        raise _Cannot(f"it has an attribute '{taken[0]}' that anygate.LSTM needs; rename it")
    dropped, new = _parameters(module, source, target)
    added: dict[str, nn.Parameter | None] = {}
    if new:
        like = next(module.parameters())
        made = _build(type(target), module, like.device, like.dtype, **arguments)
        added = {name: made._parameters[name] for name in new}
    entry = Swapped(names, _text(module), _text(target), cell, tuple(new), tuple(dropped))
    return _Plan(
        module, _class(module, type(target)), entry, own, before - own.keys(), added, dropped
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
        raise _Cannot(f"it has an attribute '{taken[0]}' that anygate.LSTM needs; rename it")
    return dropped, added


def _remade(source: Any, target: Any) -> set[str]:
    """Parameters of the same name in both that are other ones: of another activation, or learnt
    for each unit and not for the layer."""
    if not (isinstance(source, LSTM | LSTMCell) and isinstance(target, LSTM | LSTMCell)):
        return set()
    found: set[str] = set()
    for name, width in (_trainable(source) or {}).items():
        slot, attribute = name.split(".")[0], name.replace(".", "_")
        same = source.cell.slots[slot] == target.cell.slots[slot]
        if not same or (_trainable(target) or {}).get(name) != width:
            found |= {
                n for n in source._parameters if n == attribute or n.startswith(f"{attribute}_l")
            }
    return found & target._parameters.keys()


def _check_kind(module: nn.Module, base: type) -> None:
    """Whether changing the class changes no code of the user's."""
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


def _check_default(module: LSTM | LSTMCell) -> None:
    """Whether torch's module computes the same; engine= does not matter for that."""
    default = Cell().slots
    other = {
        slot: activation.label
        for slot, activation in module.cell.slots.items()
        if activation.closed != default[slot].closed
    }
    remedy = ["activation='tanh', gate_activation='sigmoid'"] if other else []
    for name in _option_names(type(module)):
        usual = inspect.signature(type(module)).parameters[name].default
        if name != "engine" and (value := _option(module, name)) != usual:
            other[name] = value
            remedy.append(f"{name}={usual!r}")
    if other:
        here = ", ".join(f"{name}={value}" for name, value in other.items())
        raise _Cannot(
            f"torch.nn.LSTM computes sigmoid and tanh only, and here is {here}; to give that up, "
            f"say {', '.join(remedy)} in the same call"
        )


def _build(cls: type, module: Any, device: Any, dtype: Any = None, **arguments: Any) -> nn.Module:
    """A new module of the class and of the sizes of `module`; dropout, which it would warn of for
    one layer as the old one has done, is set afterwards."""
    sizes = (module.input_size, module.hidden_size)
    options: dict[str, Any] = {"bias": module.bias, "device": device, "dtype": dtype, **arguments}
    if not isinstance(module, nn.RNNBase):
        return cast(nn.Module, cls(*sizes, **options))
    for name in ("num_layers", "batch_first", "bidirectional", "proj_size"):
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
    return f"{'torch.nn' if cls in (*_OURS, *_OTHERS) else 'anygate'}.{cls.__name__}"
