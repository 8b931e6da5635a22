"""The options of `anygate compare`: on the command line, in a TOML file, or in both."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ..lab.settings import (
    DATA_OPTIONS,
    SETTINGS,
    Bounds,
    Option,
    above_zero,
    finite,
    positive,
    unknown,
    value_of,
)
from .base import UsageError

__all__ = ["DEFAULTS", "OPTIONS", "SETTINGS", "Option", "merged", "read_config"]


OPTIONS: dict[str, Option] = {
    "slot": Option(
        str,
        "which slots change: activation (candidate and cell_output, the default), "
        "gate_activation (the three gates), input_gate, forget_gate, candidate, "
        "output_gate or cell_output; several make a study each",
        "SLOT",
        many=True,
    ),
    "task": Option(
        str,
        "a task's name (default digits), chars:FILE, mnist:FOLDER, or MODULE:NAME; "
        "`anygate list --tasks` shows all; several make a study each",
        "TASK",
        many=True,
    ),
    "data": Option(
        str,
        "your own data: a table (CSV, Parquet) of which columns are to be forecast, or "
        "sequences with classes or values (.npz, .ts); several make a study each",
        "FILE",
        many=True,
    ),
    **DATA_OPTIONS,
    "seeds": Option(Bounds(int, 1, 1_000), "seeds 0 to N-1 (default 8)"),
    "seed_list": Option(Bounds(int, 0, 2**53 - 1), "these seeds, in place of --seeds", many=True),
    "margin": Option(
        above_zero,
        "differences in the metric within X count as equivalent "
        "(accuracy: 0.01 is one point); declared before the first run",
        "X",
    ),
    "learning_rates": Option(
        finite,
        "tune the learning rate: choose for each activation among "
        "these, on seeds of their own, then compare at one rate for all "
        "(--learning-rate, else the best for the first) and at each one's "
        "own",
        "X",
        many=True,
    ),
    "tune": Option(
        str,
        "the same with any numeric setting, as in --tune gradient_clip 0 0.5 1 5: its name, then "
        "the values to choose among",
        "SETTING X",
        many=True,
    ),
    "tuning_seeds": Option(
        Bounds(int, 1, 1_000), "seeds for that, counted from 1,000,000 (default 3)"
    ),
    "tuner": Option(
        str,
        "grid tries each of --learning-rates (or --tune); optuna searches between the smallest and "
        "the largest of them, for each activation by what its earlier ones reached",
        "NAME",
        choices=("grid", "optuna"),
    ),
    "tuner_tries": Option(Bounds(int, 1, 1_000), "values that Optuna tries (default 8)"),
    "out": Option(str, "results folder (default: below runs/)", "DIR"),
    "jobs": Option(
        positive,
        "processes (default: one for each core; with --device cuda, at most 8 for each GPU)",
    ),
    "executor": Option(
        str,
        "what runs the trials: local (this machine, the default), ray or dask",
        "NAME",
        choices=("local", "ray", "dask"),
    ),
    "address": Option(
        str, "of a running Ray or Dask cluster (default: one is started on this machine)", "ADDRESS"
    ),
    **SETTINGS,
}
"""All but the activations."""

SLOTS = (
    "activation",
    "gate_activation",
    "input_gate",
    "forget_gate",
    "candidate",
    "output_gate",
    "cell_output",
    "reset_gate",
    "update_gate",
)
ARM_KEYS: dict[str, Option] = {
    **{slot: Option(str, f"the activation of {slot}", "ACTIVATION") for slot in SLOTS},
    **SETTINGS,
}
"""The settings that an arm can change."""

LARGEST = 2**20
"""Bytes of a TOML file."""
DEFAULTS: dict[str, Any] = {
    "slot": ["activation"],
    "seeds": 8,
    "tuning_seeds": 3,
    "tuner": "grid",
    "tuner_tries": 8,
    "executor": "local",
}


def merged(options: argparse.Namespace) -> argparse.Namespace:
    """The command line's options over those of the file, over the defaults; None where nothing is
    said. Raises UsageError for what cannot be together."""
    given = {
        name: value
        for name in ("activations", *OPTIONS)
        if (value := getattr(options, name)) is not None
    }
    if options.arm is not None:
        given["arm"] = dict(_arm_of(words) for words in options.arm)
    held = read_config(Path(options.config)) if options.config is not None else {}
    if "task" in held and "data" in held:
        raise UsageError(f"{options.config}: task and data exclude each other; keep one of them")
    for one, other in (("task", ("data", *DATA_OPTIONS)), ("data", ("task",))):
        if one in given:  # what the file says of the other does not count
            held = {name: value for name, value in held.items() if name not in other}
    if "arm" in held and "arm" in given:
        given["arm"] = {**held["arm"], **given["arm"]}
    nothing = dict.fromkeys(("activations", "arm", *OPTIONS))
    found = argparse.Namespace(**{**nothing, **DEFAULTS, **held, **given})
    if not found.activations and not found.arm:
        raise UsageError(
            "no activation is given; they come first, before options that take several values: "
            "anygate compare tanh relu --task adding digits"
        )
    if found.data is None:
        found.task = found.task or ["digits"]
        for name in DATA_OPTIONS:
            if getattr(found, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} belongs to a data file: say which with --data FILE")
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The options that a TOML file holds: keys as on the command line, ``activations`` for the
    activations. Raises UsageError, naming the key and what to do."""
    from ..lab.study.store.files import StudyError, content

    try:
        raw = tomllib.loads(content(path, LARGEST).decode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except StudyError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply; all keys stand at the top") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise UsageError(
            f"{path} is not TOML: {error}; a line is such as seeds = 8, text stands in quotes and "
            'several values in brackets: task = ["adding", "digits"]'
        ) from None
    found: dict[str, Any] = {}
    known = {"activations": Option(str, "", many=True), **OPTIONS}
    for key, value in raw.items():
        if key == "arm":
            found["arm"] = _arms(path, value)
            continue
        if isinstance(value, dict):
            raise UsageError(
                f"{path}: [{key}] is a table; all keys stand at the top, without one, but for "
                "those of an arm, such as [arm.mine]"
            )
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(_unknown(path, key, known))
        if name in found:
            raise UsageError(f"{path}: {key} is given twice, with - and with _; keep one of them")
        try:
            found[name] = _values(known[name], value)
        except ValueError as error:
            raise UsageError(f"{path}: {key}: {error}") from None
    return found


def _arms(path: Path, tables: object) -> dict[str, dict[str, Any]]:
    """The tables [arm.NAME], keys with - or _."""
    if not isinstance(tables, dict) or not all(isinstance(v, dict) for v in tables.values()):
        raise UsageError(f"{path}: an arm is a table with a name, such as [arm.mine]")
    found: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        found[name] = {}
        for key, value in table.items():
            setting = key.replace("-", "_")
            if setting not in ARM_KEYS:
                raise UsageError(f"{path}: [arm.{name}]: {unknown(setting, ARM_KEYS)}")
            try:
                found[name][setting] = _value(ARM_KEYS[setting], value)
            except ValueError as error:
                raise UsageError(f"{path}: [arm.{name}]: {key}: {error}") from None
    return found


def _arm_of(words: list[str]) -> tuple[str, dict[str, Any]]:
    """An arm from NAME SETTING=VALUE ..."""
    name, *rest = words
    found = {}
    for word in rest:
        key, equals, text = word.partition("=")
        setting = key.replace("-", "_")
        if not equals:
            raise UsageError(f"--arm {name}: SETTING=VALUE is needed, not {word[:40]!r}")
        if setting not in ARM_KEYS:
            raise UsageError(f"--arm {name}: {unknown(setting, ARM_KEYS)}")
        try:
            found[setting] = value_of(setting, text)
        except ValueError as error:
            raise UsageError(f"--arm {name}: {error}") from None
    if not rest:
        raise UsageError(
            f"--arm {name}: say what it sets, such as --arm {name} activation=relu init=identity"
        )
    return name, found


def _unknown(path: Path, key: str, known: Mapping[str, Option]) -> str:
    names = [name.replace("_", "-") for name in known]
    near = difflib.get_close_matches(key.lower().replace("_", "-"), names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{path}: {key} is no key of a study{hint}; there are: {', '.join(names)}"


def _values(option: Option, value: object) -> Any:
    if not option.many:
        return _value(option, value)
    several = value if isinstance(value, list) else [value]
    if not several:
        raise ValueError("the list is empty; leave the key out or name a value")
    return [_value(option, each) for each in several]


def _value(option: Option, value: object) -> Any:
    """The value, held against the schema that the files of a study are read by."""
    import msgspec

    from ..lab.study.store.files import Line

    if isinstance(value, str) and option.many and option.metavar != "FILE":
        value = " ".join(value.split())  # a formula may take several lines
    kind: Any = option.kind
    if isinstance(kind, Bounds):
        needed = f"{kind} without quotes"
        kind = Annotated[kind.kind, msgspec.Meta(ge=kind.kind(kind.least), le=kind.kind(kind.most))]
    elif kind is bool:
        needed = "true or false"
    elif option.choices:
        needed, kind = f"one of {', '.join(option.choices)}", Literal[option.choices]
    else:
        needed, kind = "one line of text in quotes", Line
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        shown = "a list" if isinstance(value, list) else repr(value)[:40]
        raise ValueError(f"{needed} is needed, not {shown}") from None
