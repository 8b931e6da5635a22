"""swap: other activations in a model that exists, by changing the class of its modules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import escape
from typing import Any, TypeAlias, cast

from torch import nn

from ..formulas.errors import FormulaError
from ..formulas.lookup import resolve
from .design import ActivationLikes, every_activation
from .exchange import (
    KINDS,
    OTHERS,
    OURS,
    TORCHS,
    Cannot,
    Plan,
    Swapped,
    arguments_added,
    base_class,
    family_of,
    is_scripted,
    plan_change,
    shown_module,
    shown_names,
)

__all__ = [
    "CONFIG_VERSION",
    "Skipped",
    "SwapSummary",
    "Swapped",
    "carry_out",
    "named_recurrent",
    "swap",
]

Match: TypeAlias = str | Iterable[str] | Callable[[str, nn.Module], bool]
"""The modules meant: a name or glob ("encoder.*"), several of them, or (name, module) -> bool."""

Named: TypeAlias = tuple[nn.Module, tuple[str, ...]]
"""A module and all its names in the model."""


CONFIG_VERSION = 1


@dataclass(frozen=True)
class Skipped:
    """One recurrent module that was left as it is, and why."""

    names: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{shown_names(self.names)}: {self.reason}"


@dataclass(frozen=True)
class SwapSummary:
    """The report of a `swap`: a line for each recurrent module, replaced or skipped."""

    replaced: tuple[Swapped, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} replaced", *(f"  {entry}" for entry in self.replaced)]
        if self.skipped:
            lines += [f"{len(self.skipped)} skipped", *(f"  {entry}" for entry in self.skipped)]
        return "\n".join(lines)

    @property
    def config(self) -> dict[str, Any]:
        """The modules of anygate that were made, by their first names: `anygate.apply` does the
        same with another model of this kind."""
        made = {e.names[0]: e.description for e in self.replaced if e.description}
        return {"anygate_config": CONFIG_VERSION, "modules": made}

    def to_json(self) -> str:
        """`config` as text, which `anygate.apply` takes too."""
        return json.dumps(self.config)

    def __repr__(self) -> str:
        return f"<SwapSummary: {len(self.replaced)} replaced, {len(self.skipped)} skipped>"

    def _repr_html_(self) -> str:
        """For notebooks: a row for each recurrent module."""
        rows = [(shown_names(e.names), e.before, e.after) for e in self.replaced]
        rows += [(shown_names(e.names), "skipped", e.reason) for e in self.skipped]
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        head = "".join(f"<th>{name}</th>" for name in ("module", "before", "after"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def swap(
    model: nn.Module,
    activation: ActivationLikes | None = None,
    *,
    gate_activation: ActivationLikes | None = None,
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
    strict: raise for a module that is meant but cannot be changed (TorchScript, a replaced
    `forward`, a slot that its kind does not have), and if none is meant. With False it is skipped,
    and the summary says why.

    A subclass with code of its own keeps it: its super().forward(...) arrives at anygate's. One
    that does not come to torch's computation by super() alone cannot be changed.

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
    plans: list[Plan] = []
    problems: list[Skipped] = []
    for module, names in meant:
        try:
            plan = plan_change(module, names, given, torchs)
        except Cannot as reason:
            problems.append(Skipped(names, str(reason)))
        else:
            already = Skipped(names, f"is {shown_module(module)} already")
            plans.append(plan) if plan else skipped.append(already)
    refusal = (
        "swap changed nothing, because it cannot change all that is asked:",
        "match= leaves modules out; strict=False changes the others and reports these",
    )
    return carry_out(plans, skipped, problems, refusal if strict else None)


def carry_out(
    plans: list[Plan],
    skipped: list[Skipped],
    problems: list[Skipped],
    refusal: tuple[str, str] | None,
) -> SwapSummary:
    """Apply all plans. refusal: the sentences before and after the problems of a ValueError, with
    which nothing is changed if there are problems; None: they are reported as skipped."""
    if refusal is not None and problems:
        raise ValueError("\n".join([refusal[0], *(f"  {p}" for p in problems), refusal[1]]))
    for plan in plans:
        plan.apply()
    return SwapSummary(tuple(plan.entry for plan in plans), tuple(skipped + problems))


def _read_to(to: Any) -> tuple[bool, str]:
    """The argument `to` read: True if it asks for torch's modules, and the family that it names
    ("LSTM"; "" for all)."""
    if to is None or getattr(to, "__name__", "") == "anygate":
        return False, ""
    if to is nn:
        return True, ""
    for torchs, ours in OURS.items():
        if to in (torchs, ours):
            return to is torchs, family_of(torchs)
    raise TypeError(
        f"swap: to= is torch.nn, or a class such as torch.nn.LSTM or anygate.GRU, not {to!r:.80}"
    )


def _check_arguments(model: Any, torchs: bool, given: dict[str, Any]) -> None:
    """Raises for what is wrong whatever the model holds."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"swap: the model is a torch.nn.Module, not {type(model).__name__}")
    known = tuple(dict.fromkeys(name for ours in TORCHS for name in arguments_added(ours)))
    if unknown := sorted(given.keys() - set(known)):
        raise TypeError(
            f"swap has no argument '{unknown[0]}'; of anygate's modules it takes: "
            f"{', '.join(known)}"
        )
    if torchs and "engine" in given:
        raise TypeError("swap: torch's modules have no engine to choose; leave engine= out")
    for name in given.keys() & _slot_names():
        try:
            for activation in every_activation(given[name]):
                resolve(activation)
        except FormulaError as error:
            raise FormulaError(f"{name}: {error}") from None


def _slot_names() -> set[str]:
    """Every slot and shortcut of every kind of module."""
    types = [cast(Any, ours)._torch_type for ours in TORCHS]
    return {s for t in types for s, _ in t.slots} | {"activation", "gate_activation"}


# ---- which modules ----------------------------------------------------------------------------


def _sort(
    model: nn.Module, match: Match | None, family: str, strict: bool
) -> tuple[list[Named], list[Skipped]]:
    """The modules that `match` and `to` mean, and those that are left out."""
    fits = _predicate(match)
    found = named_recurrent(model)
    meant: list[Named] = []
    skipped: list[Skipped] = []
    known: list[Named] = []
    for module, names in found:
        if not isinstance(module, KINDS) and not is_scripted(module):
            reason = (
                f"is a {base_class(module).__name__}, which has no class of torch.nn to swap with"
            )
            skipped.append(Skipped(names, reason))
            continue
        known.append((module, names))
        if not any(fits(name, module) for name in names):
            skipped.append(Skipped(names, "match= leaves it out"))
        elif family and family not in {family_of(cls) for cls in base_class(module).__mro__}:
            skipped.append(Skipped(names, f"to= means {family} alone"))
        else:
            meant.append((module, names))
    if strict and not known:
        raise ValueError(f"swap: no LSTM, GRU or RNN in this {type(model).__name__}")
    if strict and not meant:
        all_names = ", ".join(shown_names(names) for _, names in known)
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


def named_recurrent(model: nn.Module) -> list[Named]:
    """Every recurrent module with all its names, in the order of model.named_modules()."""
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    for name, module in _walk(model, "", ()):
        if isinstance(module, OTHERS) or is_scripted(module):
            found.setdefault(id(module), (module, []))[1].append(name)
    return [(module, tuple(names)) for module, names in found.values()]


def _walk(
    module: nn.Module, name: str, above: tuple[nn.Module, ...]
) -> Iterator[tuple[str, nn.Module]]:
    """As named_modules, but with every name of a shared module; `above` ends a cycle."""
    yield name, module
    for key, child in module._modules.items():
        if child is not None and not any(child is m for m in (*above, module)):
            yield from _walk(child, f"{name}.{key}" if name else key, (*above, module))
