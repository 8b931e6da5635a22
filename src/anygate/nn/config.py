"""config and apply: the cells of a whole model as plain data, and from there into another."""

from __future__ import annotations

import json
from reprlib import repr as shown
from typing import Any

from torch import nn

from ..cells.data import read_fields
from ..engines.protocol import EngineError
from ..formulas.errors import FormulaError
from .description import Described, describe, read, sizes_of
from .exchange import (
    KINDS,
    OURS,
    WRITTEN,
    Cannot,
    Plan,
    base_class,
    is_scripted,
    kind_of,
    plan_change,
    shown_module,
)
from .layers import RecurrentLayers
from .step import StepCell
from .swap import CONFIG_VERSION, Skipped, SwapSummary, carry_out, named_recurrent

__all__ = ["apply", "config"]

_MOST_TEXT = 50_000_000
_MOST_MODULES = 10_000
_FIXED = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
"""Sizes in which the model and the description must agree, with proj_size. Dropout is a matter of
training and stays the model's."""


def config(model: nn.Module) -> dict[str, Any]:
    """Every anygate module of a model as plain data, ready for JSON:

        {"anygate_config": 1, "modules": {"encoder.rnn": {"class": "LSTM", "sizes": {...},
         "activations": {"candidate": "relu", ...}, "options": {"peephole": False, ...}}}}

    by its name as in `model.named_modules()` ("" is the model itself), the first where it has
    several. Sizes are torch's arguments. An activation is a name or a formula ("leaky_relu(k=0.2)",
    "x*sigmoid(x)"), or {"name", "formula", "parameters"}; a list where layers and directions
    differ. A cell of the user's own is there with its equations, under "cell". `apply` reads it.
    """
    modules = {
        name: describe(module)
        for name, module in model.named_modules()
        if isinstance(module, RecurrentLayers | StepCell)
    }
    return {"anygate_config": CONFIG_VERSION, "modules": modules}


def apply(model: nn.Module, config: Any, *, strict: bool = True) -> SwapSummary:
    """Gives the recurrent modules of `model` the cells of a configuration, in place, as `swap`
    does: torch's modules become anygate's, the Parameter objects stay.

        model = Model()                                   # with torch's LSTMs, or anygate's
        anygate.apply(model, json.load(open("cells.json")))
        model.load_state_dict(torch.load("weights.pt"))

    config: what `anygate.config(model)` or `SwapSummary.config` gave, or their JSON as text.
    Modules that it does not name stay as they are.
    strict: raise where a named module is not there or cannot be changed. With False it is skipped,
    and the summary says why.

    The configuration may come from anywhere: formulas are parsed and never evaluated, the form and
    size of every field is checked, and no weights are made but those that a cell adds to the
    model's own sizes. Raises ValueError naming the field and the remedy; the model is as before.
    """
    named = {name: (module, names) for module, names in named_recurrent(model) for name in names}
    plans: list[Plan] = []
    skipped: list[Skipped] = []
    problems: list[Skipped] = []
    for name, described in _read(config).items():
        if name not in named:
            known = ", ".join(named) or "none"
            problems.append(Skipped((name,), f"no such module; the recurrent ones are: {known}"))
            continue
        module, names = named[name]
        try:
            plan = _plan(module, names, described)
        except Cannot as reason:
            problems.append(Skipped(names, str(reason)))
            continue
        already = Skipped(names, f"is {shown_module(module)} already")
        plans.append(plan) if plan else skipped.append(already)
    refusal = (
        "apply changed nothing, because the model and the configuration do not fit:",
        "strict=False changes the others and reports these",
    )
    return carry_out(plans, skipped, problems, refusal if strict else None)


def _read(data: Any) -> dict[str, Described]:
    """The modules of a configuration by name."""
    if isinstance(data, str):
        if len(data) > _MOST_TEXT:
            raise ValueError(f"config: a text of at most {_MOST_TEXT:,} characters is read")
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"config: this text is no JSON: {error}") from None
    if not isinstance(data, dict) or "anygate_config" not in data:
        raise ValueError(
            'config: an object {"anygate_config": 1, "modules": {...}}, as anygate.config(model) '
            f"gives it, not {shown(data)}"
        )
    kinds = {"anygate_config": int, "modules": dict}
    fields = read_fields(data, kinds, "config", required=("modules",))
    if fields["anygate_config"] != CONFIG_VERSION:
        raise ValueError(
            f"config.anygate_config: version {shown(fields['anygate_config'])} of the form; this "
            f"anygate reads version {CONFIG_VERSION}. Install a newer one"
        )
    if len(fields["modules"]) > _MOST_MODULES:
        raise ValueError(f"config.modules: at most {_MOST_MODULES:,} are read")
    return {
        name: read(described, f"config.modules[{shown(name)}]")
        for name, described in fields["modules"].items()
    }


def _plan(module: nn.Module, names: tuple[str, ...], described: Described) -> Plan | None:
    """The way to change one module. Raises Cannot where it is of another kind or size."""
    base = kind_of(base_class(module))
    if is_scripted(module) or base not in (*KINDS, *WRITTEN):
        raise Cannot(f"is a {base.__name__}, which no configuration changes")
    own = OURS.get(base, base)
    if own is not described.cls:
        raise Cannot(f"is a {own.__name__}, and the configuration has a {described.cls.__name__}")
    here = sizes_of(module, (s for s in (*_FIXED, "proj_size") if hasattr(module, s)))
    for size, found in here.items():
        wanted = described.sizes.get(size)
        if wanted is not None and wanted != found:
            raise Cannot(f"has {size}={found}, and the configuration {wanted}")
    try:
        return plan_change(module, names, described.arguments, False)
    except (FormulaError, EngineError) as error:
        raise Cannot(str(error)) from error
