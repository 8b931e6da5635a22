"""The cell of a module in its state_dict, so that weights never meet other equations in silence.

The entry "_extra_state" holds the description's cell (JSON, never pickled code) as a tensor, since
safetensors and loops over a state_dict know nothing else: one number for each byte. It is there
where torch's module of the same name does not compute the same; so plain checkpoints stay what they
are, and a plain torch module refuses one of another cell by its strictness ("Unexpected key").

The numbers are float32 and not uint8, because state_dicts are averaged and moved by arithmetic
(`ema.mul_(0.99).add_(0.01*new)`, sums divided by their number), which uint8 refuses or lets
overflow. The mean of equal cells is that cell again, and is rounded back; the mean of two different
ones is no text, which is an error, as it should be.

The rule of loading. The checkpoint names another cell: an error, with strict=False too, as for a
tensor of another size, since the numbers would mean something else; who wants them all the same
deletes the key. It names none, and the module's is not torch's: a warning, since the file may be
torch's (to begin from its weights is usual) or older than the entry; none where somebody made the
dict by hand, which then has not the versions that `Module.state_dict` adds.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from ..cells import Cell, CellType, cell_of, make
from ..cells import builtin as types
from ..cells.data import (
    activation_data,
    cell_type_data,
    read_activation,
    read_cell_type,
    read_fields,
)
from ..formulas.activation import Activation
from ..formulas.errors import FormulaError, printable
from ..formulas.lookup import resolve
from .design import Design

__all__ = ["KEY", "check_cell", "save_cell"]

KEY = "_extra_state"
"""torch's own name for what a module adds to its state_dict."""
_VERSION = 1
_MOST_BYTES = 1_000_000
_TORCHS = {"LSTM": types.LSTM, "GRU": types.GRU, "RNN": types.ELMAN}
"""Families of torch.nn and what they compute."""
_FIELDS = {
    "anygate": int,
    "cell": (str, dict),
    "activations": dict,
    "clip": (float, int, type(None)),
    "learnt": list,
}


def save_cell(module: Any, destination: dict[str, Any], prefix: str) -> None:
    """Adds the cell of one of anygate's modules to a state_dict, where torch's module of that name
    does not compute the same."""
    text = _own_text(module)
    if text and not _has_own(module):
        weight = next(module.parameters())
        numbers = torch.tensor(list(text.encode()), dtype=torch.float32)
        destination[prefix + KEY] = numbers if weight.is_meta else numbers.to(weight.device)


def check_cell(
    module: Any,
    state: Mapping[str, Any],
    prefix: str,
    of_module: bool,
    unexpected: list[str],
    problems: list[str],
) -> None:
    """Compares the cell in a state_dict with the module's: differences go to `problems`, which
    torch raises as one error. of_module: `Module.state_dict` made it. The entry is no unexpected
    key any more."""
    if _has_own(module):
        return
    key = prefix + KEY
    if key in unexpected:
        unexpected.remove(key)
    own, found = _own_text(module), state.get(key)
    kind = f"anygate.{type(module).__name__}"
    where = f"{kind} '{prefix.rstrip('.')}'" if prefix else kind
    if found is None or (isinstance(found, Tensor) and found.is_meta):
        has_weights = any(k.startswith(prefix + "weight_ih") for k in state)
        if own and found is None and of_module and has_weights:
            warnings.warn(
                f"the checkpoint does not say which cell its weights for {where} belong to, so "
                f"they are torch's, or older than the entry {key}; they are loaded into a module "
                f"of {_entry_in_words(own)}",
                stacklevel=_level(),
            )
        return
    try:
        there = _text_of(found)
        same = bool(own) and _meaning(there) == _meaning(own)
    except (ValueError, TypeError, RecursionError) as error:
        problems.append(
            f"{key} holds no cell that this anygate reads ({printable(str(error)):.200}); delete "
            "the key to load the weights without it"
        )
        return
    if same:
        return
    here = _entry_in_words(own) if own else "what torch's module computes"
    problems.append(
        f"the checkpoint's weights for {where} belong to {_entry_in_words(there)}, and the module "
        f"has {here}; make the module so (anygate.apply does, with the configuration that was "
        f"saved), or delete the key {key} to load the weights all the same"
    )


def _level() -> int:
    """The number of frames up to the line that is neither torch's nor ours."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _home(frame) in ("torch", "anygate"):
        level, frame = level + 1, frame.f_back
    return level


def _home(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _has_own(module: nn.Module) -> bool:
    """A subclass has an extra state of its own, which has the key."""
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _own_text(module: Any) -> str:
    designs: tuple[Design, ...] = tuple(module._designs.values())
    learnt = tuple(sorted({name for design in designs for name, _ in design.learnt}))
    family = module._stands_for.__name__.removesuffix("Cell")
    return _text(tuple(design.key for design in designs), learnt, family)


@lru_cache(maxsize=256)
def _text(keys: tuple[str, ...], learnt: tuple[str, ...], family: str) -> str:
    """The cells as JSON; "" where torch's module computes the same."""
    cells = [cell_of(key) for key in keys]
    torchs = _TORCHS.get(family)
    if torchs is not None and all(_is_torchs(cell, torchs) for cell in cells):
        return ""
    first = cells[0]
    chosen = {s: [activation_data(cell.slots[s]) for cell in cells] for s in first.slots}
    content = {
        "anygate": _VERSION,
        "cell": family if first.type == torchs else cell_type_data(first.type),
        "activations": {
            slot: own[0] if all(a == own[0] for a in own) else own for slot, own in chosen.items()
        },
        "clip": first.clip,
        "learnt": list(learnt),
    }
    return json.dumps(content, separators=(",", ":"))


def _is_torchs(cell: Cell, torchs: CellType) -> bool:
    if cell.type != torchs or cell.clip is not None or cell.per_unit:
        return False
    default = make(torchs).slots
    relu = resolve("relu").closed if torchs is types.ELMAN else None
    return all(a.closed in (default[slot].closed, relu) for slot, a in cell.slots.items())


def _text_of(found: Any) -> str:
    """The text of an entry."""
    if not isinstance(found, Tensor) or found.dim() != 1 or len(found) > _MOST_BYTES:
        raise ValueError(f"one number for each byte, at most {_MOST_BYTES:,}")
    numbers = found.detach().cpu().double()
    whole = numbers.round()
    if not ((numbers - whole).abs() < 0.25).all() or not ((whole >= 0) & (whole < 256)).all():
        raise ValueError("its numbers are no bytes: the mean of different cells?")
    return bytes(whole.to(torch.uint8).tolist()).decode()


@lru_cache(maxsize=256)
def _read_entry(text: str) -> tuple[Any, str]:
    """The cell that the weights compute, without names, and a text for people. Raises
    ValueError."""
    fields = read_fields(json.loads(text), _FIELDS, "", required=tuple(_FIELDS))
    if fields["anygate"] != _VERSION:
        raise FormulaError(f"version {fields['anygate']} of its form; install a newer anygate")
    if isinstance(fields["cell"], str):
        if fields["cell"] not in _TORCHS:
            raise FormulaError("cell: no family of torch.nn")
        kind = _TORCHS[fields["cell"]]
    else:
        kind = read_cell_type(fields["cell"], "cell")
    learnt, defaults = set(map(str, fields["learnt"])), dict(kind.slots)
    meanings, labels = [], []
    for slot, given in fields["activations"].items():
        many = given if isinstance(given, list) else [given]
        chosen = [read_activation(a, f"activations.{slot}") for a in many]
        found = [_fixed(a, slot, learnt) for a in chosen]
        meanings.append((slot, found[0] if all(f == found[0] for f in found) else tuple(found)))
        names = list(dict.fromkeys(a.label for a in chosen))
        if all(a == defaults.get(slot) for a in chosen):
            continue
        labels.append(f"{slot}={names[0] if len(names) == 1 else names}")
    vectors = tuple(name for name, _ in kind.vectors)
    equations = (kind.products, kind.states, kind.lines, vectors, kind.output)
    clip = fields["clip"]
    labels += [f"clip={clip:g}"] if clip else []
    shown = f"{kind.name} with {', '.join(labels)}" if labels else kind.name
    return (equations, tuple(sorted(meanings, key=lambda m: m[0])), clip), printable(shown)


def _fixed(activation: Activation, slot: str, learnt: set[str]) -> Any:
    """The formula with the numbers of the parameters that are not learnt."""
    return activation.with_numbers(
        [k for k in activation.parameters if f"{slot}.{k}" not in learnt]
    )


def _meaning(text: str) -> Any:
    return _read_entry(text)[0]


def _entry_in_words(text: str) -> str:
    return _read_entry(text)[1]
