"""Sequences and targets from a .ts file of the UCR, UEA and TSER archives."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import TaskError
from .reading import shown, text
from .sequences import Features, Padded, check_size, pad
from .tables import NUMBER

__all__ = ["Cases", "read_cases", "read_ts"]

LARGEST_TEXT, LONGEST_CASE = 64 * 2**20, 1_000_000
"""Bytes of a .ts file, and numbers in one of its lines."""


@dataclass(frozen=True)
class Cases:
    """The cases of a .ts file: sequences [T_k, I] with NaN for '?', and what the file says of each:
    the names of classes, or values."""

    sequences: list[Features]
    targets: list[str]
    of_values: bool


def read_ts(path: Path, allow_missing: bool) -> tuple[Padded, NDArray[Any], int, str]:
    """The sequences, their targets, how many at the end are for testing, and the name:
    NAME_TRAIN.ts with NAME_TEST.ts beside it keeps the archive's split. Raises TaskError, also for
    a missing value unless it is allowed."""
    stem, _, part = path.stem.rpartition("_")
    other = path.with_name(f"{stem}_TEST{path.suffix}")
    cases = read_cases(path, allow_missing)
    name, test = path.name, 0
    sequences, targets = cases.sequences, cases.targets
    if part == "TRAIN" and other.is_file():
        more = read_cases(other, allow_missing)
        _check_pair(path, cases, other, more)
        test, name = len(more.targets), f"{stem}.ts"
        sequences, targets = sequences + more.sequences, targets + more.targets
    values = np.array(targets, dtype=np.float64 if cases.of_values else None)
    return pad(str(path), sequences), values, test, name


def _check_pair(path: Path, cases: Cases, other: Path, more: Cases) -> None:
    features, others = (c.sequences[0].shape[1] for c in (cases, more))
    if features != others:
        raise TaskError(f"{other.name} has {others} dimensions, {path.name} has {features}")
    if cases.of_values != more.of_values:
        raise TaskError(f"one of {path.name} and {other.name} has classes, the other values")
    unknown = sorted(set(more.targets) - set(cases.targets))
    if unknown and not cases.of_values:
        raise TaskError(f"{other.name} has the class {unknown[0]!r}, which {path.name} has not")


def read_cases(path: Path, allow_missing: bool = False) -> Cases:
    """The cases of one file. A line is one case: its dimensions and its target divided by colons,
    values by commas."""
    sequences: list[Features] = []
    targets: list[str] = []
    tags: dict[str, str] = {}
    started, steps = False, 0
    for number, line in enumerate(io.StringIO(text(path, LARGEST_TEXT), newline="\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}, line {number}"
        if not started:
            started = _tag(where, line, tags)
            continue
        if line.count(",") + line.count(":") > LONGEST_CASE:
            raise TaskError(f"{where} holds more than {LONGEST_CASE:,} numbers; thin out the steps")
        *dimensions, target = line.split(":")
        if not dimensions or not target.strip():
            raise TaskError(f"{where} has no class after the last colon")
        case = [_values(where, part) for part in dimensions]
        if sequences and len(case) != sequences[0].shape[1]:
            raise TaskError(
                f"{where} has {len(case)} dimensions, the first case has {sequences[0].shape[1]}"
            )
        if not allow_missing and any(map(math.isnan, chain(*case))):
            raise TaskError(
                f"{where}: a value is missing ('?'); fill it in, or say --missing forward, linear, "
                "drop or mask"
            )
        lengths = sorted(set(map(len, case)))
        if len(lengths) > 1:
            raise TaskError(
                f"{where}: its dimensions have different lengths ({lengths[0]} to {lengths[-1]}); "
                "write ? for what is missing"
            )
        steps = max(steps, lengths[0])
        check_size(str(path), len(sequences) + 1, steps, len(case))
        with np.errstate(over="ignore"):
            sequences.append(np.array(case, dtype=np.float64).T.astype(np.float32))
        targets.append(target.strip())
    if not sequences:
        raise TaskError(
            f"{path} has no cases after a line @data; is it a .ts file of the UCR or UEA archive?"
        )
    of_values = tags.get("targetlabel", "").startswith("true")
    if of_values and (bad := [t for t in targets if not NUMBER.fullmatch(t)]):
        raise TaskError(f"{path}: the target {shown(bad[0])!r} is not a number")
    return Cases(sequences, targets, of_values)


def _tag(where: str, line: str, tags: dict[str, str]) -> bool:
    """Read one line of the head; True at @data. Refuses what this reader cannot honour."""
    if not line.startswith("@"):
        raise TaskError(f"{where} stands before a line @data and begins with neither @ nor #")
    key, _, value = line[1:].partition(" ")
    tags[key.lower()] = value.strip().lower()
    if key.lower() != "data":
        return False
    if tags.get("timestamps") == "true":
        raise TaskError(f"{where}: series with time stamps are not read; write plain values")
    of_values = tags.get("targetlabel", "").startswith("true")
    if not of_values and tags.get("classlabel", "true").startswith("false"):
        raise TaskError(f"{where}: the cases have no classes, so there is nothing to tell apart")
    return True


def _values(where: str, part: str) -> list[float]:
    values = []
    for cell in map(str.strip, part.split(",")):
        if cell.lower() in ("?", "nan"):
            values.append(math.nan)
        elif NUMBER.fullmatch(cell):
            values.append(float(cell))
        elif cell:
            raise TaskError(f"{where}: {cell[:40]!r} is not a number")
        else:
            raise TaskError(f"{where}: a value is missing (''); write ? for one that is not known")
    return values
