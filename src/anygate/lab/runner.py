"""Any trials, run side by side, each result written into a folder as it comes.

A folder holds trials/KEY.json (the same whenever and wherever a trial runs) and timing/KEY.json.
What lies there is not run again. One process at a time writes there (see lock.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from .engines import Engine, on_this_machine
from .files import write_json
from .lock import locked
from .records import StudyError, Timing, Trial, read
from .trial import TrialSpec

__all__ = ["Progress", "missing", "result_of", "run_placed", "run_trials"]

Progress = Callable[[int, int, str], None]
"""Called with trials done, trials in all and the key of the last."""


def run_trials(
    specs: Iterable[TrialSpec],
    directory: Path,
    *,
    jobs: int | None = None,
    engine: Engine = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> None:
    """Run the trials that the folder lacks, in their order. Stopped at any moment, even by kill -9,
    it loses only the trials in flight, and goes on from there when called again.

    jobs: processes; default one for each core of the engine. Raises FolderInUse if another process
    runs trials in the folder, WriteError if a result cannot be written, EngineGone if the engine
    lost its workers, and what a trial raises.
    """
    run_placed({directory: tuple(specs)}, jobs=jobs, engine=engine, progress=progress)


def run_placed(
    planned: Mapping[Path, Sequence[TrialSpec]],
    *,
    jobs: int | None = None,
    engine: Engine = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> None:
    """As run_trials for the trials of several folders at once, so that no process waits for the
    last trial of a folder. No two folders may share a trial."""
    total = sum(map(len, planned.values()))
    homes = {t.key: folder for folder, trials in planned.items() for t in trials}
    if len(homes) < total:
        raise ValueError("the same trial is planned twice")
    with ExitStack() as locks:
        if not all(_is_done(f, t) for f, trials in planned.items() for t in trials):
            for folder in planned:
                locks.enter_context(locked(folder))
        # Only now: until it was locked another process could have written there.
        todo = [t for folder, trials in planned.items() for t in missing(trials, folder)]
        done = total - len(todo)
        progress(done, total, "")
        for result, timing in engine(todo, jobs) if todo else ():
            key = result["key"]
            write_json(homes[key] / "timing" / f"{key}.json", timing)
            write_json(homes[key] / "trials" / f"{key}.json", result)  # last: it means done
            done += 1
            progress(done, total, key)


def missing(specs: Sequence[TrialSpec], directory: Path) -> tuple[TrialSpec, ...]:
    """Trials without a sound result in the folder; a damaged file is as good as none."""
    return tuple(s for s in specs if not _is_done(directory, s))


def result_of(spec: TrialSpec, directory: Path) -> Trial:
    """The trial's result. Raises StudyError if it is not there or damaged."""
    path = directory / "trials" / f"{spec.key}.json"
    try:
        return read(path, Trial)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error


def _is_done(directory: Path, spec: TrialSpec) -> bool:
    """Whether the folder holds the trial's result, whole, and no damaged timing beside it."""
    timing = directory / "timing" / f"{spec.key}.json"
    try:
        trial = result_of(spec, directory)
        if timing.exists():
            read(timing, Timing)
    except (StudyError, OSError):
        return False
    wanted = (spec.key, spec.activation.label, spec.seed)
    return (trial.key, trial.activation, trial.seed) == wanted
