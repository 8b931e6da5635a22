"""Several studies as one: every task with every slot, each a study in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ..wording import Notice, to_stderr
from .devices import check_devices
from .executors import Executor, Progress, on_this_machine, run_placed
from .plan import Study
from .store.files import SCHEMA, FileName, StudyError, read, write_json, writing
from .store.folder import StudyConflict
from .tuning import TunedStudy

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Title of a part of the work -> where to tell its progress."""


def _silent(title: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, total, key: None)


def run_studies(
    studies: Mapping[Path, Study | TunedStudy],
    *,
    command: str = "",
    fresh: bool = False,
    jobs: int | None = None,
    executor: Executor = on_this_machine,
    stage: Stage = _silent,
    notice: Notice = to_stderr,
) -> None:
    """Run what is missing in these folders: all tuning first, then all comparisons, each over all
    studies at once. Resumes and raises as Study.run does."""
    if executor is on_this_machine:
        check_devices(device for study in studies.values() for device in study.devices)
    for folder, study in studies.items():
        study.prepare(folder, command=command, fresh=fresh, notice=notice)
    tuning = {
        folder / "tuning": s.tuning_trials
        for folder, s in studies.items()
        if isinstance(s, TunedStudy) and s.tuning_trials
    }
    asking = {f: s for f, s in studies.items() if isinstance(s, TunedStudy)}
    settings = {s.setting.replace("_", " ") for s in asking.values()}
    what = f"tuning the {' and the '.join(sorted(settings))}"
    if tuning:
        with stage(what) as progress:
            run_placed(tuning, jobs=jobs, executor=executor, progress=progress)
    while asked := {f / "tuning": t for f, s in asking.items() if (t := s.asked_trials(f))}:
        with stage(f"{what}, as Optuna asks") as progress:
            run_placed(asked, jobs=jobs, executor=executor, progress=progress)
    parts: dict[Path, Study] = {}
    for folder, study in studies.items():
        if isinstance(study, TunedStudy):
            parts |= study.settle(folder, command=command, notice=notice)
        else:
            parts[folder] = study
    with stage("training") as progress:
        run_placed(
            {folder: s.trials for folder, s in parts.items()},
            jobs=jobs,
            executor=executor,
            progress=progress,
        )


def place(directory: Path, studies: Sequence[Study | TunedStudy]) -> dict[Path, Study | TunedStudy]:
    """A folder for each study: the directory itself for one alone, TASK-SLOT in it for several.

    Raises ValueError where two would share a folder.
    """
    if len(studies) == 1:
        return {directory: studies[0]}
    placed: dict[Path, Study | TunedStudy] = {}
    for study in studies:
        folder = directory / re.sub(r"[^\w.]+", "-", f"{study.task.name}-{study.slot}")
        if folder in placed:
            raise ValueError(f"the task {study.task.name} is given twice for the slot {study.slot}")
        placed[folder] = study
    return placed


def claim_grid(directory: Path, folders: Sequence[Path], command: str) -> None:
    """Write grid.json, which names the studies of the grid.

    Raises StudyConflict for a folder with a single study or other things in it, and WriteError for
    one that cannot be written. What the folders of the studies hold is their own affair.
    """
    with writing(directory):
        if directory.exists() and not directory.is_dir():
            raise StudyConflict(f"{directory} is a file, not a folder; choose another --out")
        if (directory / "study.json").exists():
            raise StudyConflict(
                f"{directory} holds a single study, this is a grid of {len(folders)}; choose "
                "another --out"
            )
        held = {p.name for p in directory.iterdir()} if directory.is_dir() else set()
        if held and "grid.json" not in held:
            raise StudyConflict(f"{directory} is not empty and holds no grid; choose another --out")
    names = [folder.name for folder in folders]
    write_json(directory / "grid.json", {"schema": SCHEMA, "command": command, "studies": names})


def grid_folders(directory: Path) -> list[Path] | None:
    """The folders of the grid's studies; None if the folder holds no grid. Raises StudyError for a
    damaged grid.json."""
    path = directory / "grid.json"
    if not path.is_file():
        return None
    try:
        names = read(path, _Grid).studies
    except StudyError as error:
        raise StudyError(
            f"{path} is damaged: {error}; run the same `anygate compare` again, which replaces it"
        ) from error
    return [directory / name for name in dict.fromkeys(names)]


@dataclass(frozen=True)
class _Grid:
    """grid.json."""

    studies: Annotated[tuple[FileName, ...], Meta(min_length=1, max_length=200)]
