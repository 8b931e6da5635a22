"""The folder of a study: claimed by one study, and refused to every other."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .files import write_json, writing
from .lock import refuse_if_running
from .records import StudyConfig, StudyError, Trial, checked, read
from .words import printable

__all__ = ["Notice", "StudyConflict", "claim", "to_stderr"]

Notice = Callable[[str], None]
"""Called with a sentence that the user should read."""


class StudyConflict(ValueError):
    """The folder holds another study."""


def to_stderr(text: str) -> None:
    """The usual notice."""
    print(printable(text), file=sys.stderr)


def claim(
    directory: Path,
    config: dict[str, Any],
    keys: Mapping[tuple[str, int], str],
    *,
    fresh: bool = False,
    notice: Notice = to_stderr,
) -> None:
    """Write `config` as study.json, or find that the folder holds the same study.

    keys: (activation, seed) -> the key of its trial in this folder. fresh: forget earlier results
    first. Raises StudyConflict for a folder with another study or with other things, FolderInUse
    for one that another process writes into, WriteError for one that cannot be written, and
    StudyError for a study of which no report could be made.
    """
    try:
        checked(config, StudyConfig)
    except StudyError as error:
        raise StudyError(f"the study cannot be run: {error}") from error
    with writing(directory):
        _check_folder(directory)
        refuse_if_running(directory)
        if fresh:
            _forget(directory)
        held = _held(directory, notice)
        if held is None:
            _refuse_strangers(directory, keys)
        else:
            _refuse_another(directory, held, config)
        write_json(directory / "study.json", config)


def _refuse_strangers(directory: Path, keys: Mapping[tuple[str, int], str]) -> None:
    """Where no study.json vouches for the trials, those of other settings must not mix in."""
    for path in sorted((directory / "trials").glob("*.json")):
        try:
            trial = read(path, Trial)
        except StudyError:
            continue
        if keys.get((trial.activation, trial.seed), trial.key) != trial.key:
            raise StudyConflict(
                f"{directory} has lost its study.json and holds results of other settings, "
                f"such as {path.name}; choose another --out, or --fresh to delete them"
            )


def _difference(held: Any, wanted: Any) -> str:
    if isinstance(held, dict) and isinstance(wanted, dict):
        parts = [k for k in {**wanted, **held} if held.get(k) != wanted.get(k)]
        return ", ".join(f"{k} {held.get(k)} there, {wanted.get(k)} here" for k in parts[:3])
    return f"{held} there, {wanted} here"


_PARTS = {"task": "another task", "slot": "another slot", "settings": "other settings"}
"""What every trial of a folder must share."""
_RESULTS = ("trials", "timing", "stability", "figures", "tuning", "rates", "own")
_OURS = {"study.json", "report.html", "summary.json", *_RESULTS}


def _refuse_another(directory: Path, held: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise StudyConflict unless both studies share the parts that all trials depend on."""
    for part, name in _PARTS.items():
        if held.get(part) != config[part]:
            raise StudyConflict(
                f"{directory} holds a study with {name} "
                f"({_difference(held.get(part), config[part])}); choose another --out, or "
                "--fresh to delete its results"
            )


def _check_folder(directory: Path) -> None:
    """Refuse what is no folder, and a folder with other things and no study in it."""
    if directory.exists() and not directory.is_dir():
        raise StudyConflict(f"{directory} is a file, not a folder; choose another --out")
    if directory.is_dir() and not (directory / "study.json").exists() and not _is_ours(directory):
        raise StudyConflict(f"{directory} is not empty and holds no study; choose another --out")


def _is_ours(directory: Path) -> bool:
    return {p.name for p in directory.iterdir() if p.suffix != ".part"} <= _OURS


def _forget(directory: Path) -> None:
    """Delete the results of a folder that holds a study."""
    for part in _RESULTS:
        if (directory / part).is_symlink():
            (directory / part).unlink()
        shutil.rmtree(directory / part, ignore_errors=True)
    (directory / "study.json").unlink(missing_ok=True)


def _held(directory: Path, notice: Notice) -> dict[str, Any] | None:
    """The study.json of the folder; None if there is none, or none that can be read."""
    path = directory / "study.json"
    if not path.exists():
        return None
    try:
        read(path, StudyConfig)
    except StudyError as error:
        if str(error).startswith("schema "):
            raise StudyConflict(
                f"{path}: {error} by this anygate; choose another --out, or --fresh to delete its "
                "results"
            ) from error
        if not _is_ours(directory):
            raise StudyConflict(
                f"{path} is damaged ({error}) and lies among other files; choose another --out"
            ) from error
        notice(f"{path} was damaged ({error}); it is written anew, the trials are kept")
        return None
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
