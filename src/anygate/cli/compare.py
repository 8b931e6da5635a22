"""`anygate compare`."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lab.settings import DATA_OPTIONS
from .base import Exit, UsageError, add_command, need_lab, print_json, say
from .report import finish, print_done
from .request import OPTIONS, SETTINGS, merged

if TYPE_CHECKING:
    from ..formulas import Activation
    from ..lab.arms import Arm
    from ..lab.study.outlook import Part
    from ..lab.study.plan import Study
    from ..lab.study.tuning import TunedStudy
    from ..lab.tasks import Task

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    text = "Train LSTMs with different activations on a task and compare them, paired by seed."
    parser = add_command(commands, "compare", _compare, text)
    activations = parser.add_argument(
        "activations",
        nargs="+",
        metavar="ACTIVATION",
        help="names, or formulas of x in quotes (one that begins with a minus in parentheses); all "
        "others are compared with the first",
    )
    activations.required = False  # they may stand in the file of --config
    training = parser.add_argument_group("training (defaults: the task's own)")
    data = parser.add_argument_group("with --data")
    tasks = parser.add_mutually_exclusive_group()
    for name, option in OPTIONS.items():
        place = training if name in SETTINGS else tasks if name in ("task", "data") else parser
        place = data if name in DATA_OPTIONS else place
        flag = f"--{name.replace('_', '-')}"
        if option.kind is bool:
            place.add_argument(flag, action="store_const", const=True, help=option.help)
            continue
        place.add_argument(
            flag,
            type=option.kind,
            metavar=option.metavar,
            nargs="+" if option.many else None,
            choices=option.choices,
            help=option.help,
        )
    add = parser.add_argument
    add(
        "--arm",
        nargs="+",
        action="append",
        metavar=("NAME", "SETTING=VALUE"),
        help="one more arm to compare: a name, then any settings, such as --arm mine "
        "activation=relu gate_activation=hard_sigmoid init=chrono hidden_size=64; as often as you "
        "like (in a file: a table [arm.mine])",
    )
    add(
        "--config",
        metavar="FILE",
        help="a TOML file with any of these, such as task = "
        '["adding", "digits"], and activations = ["tanh", "relu"]; what the command line '
        "says counts more",
    )
    add(
        "--dry-run",
        action="store_true",
        help="show the trials that are left and about how long they take, and run nothing",
    )
    add(
        "--stability",
        action="store_true",
        help="also map where training diverges: short runs over learning rates and forget biases",
    )
    add("--keep-weights", action="store_true", help="keep trained weights in DIR/weights/KEY.pt")
    add(
        "--log",
        choices=("tensorboard",),
        help="live curves of all trials in DIR/tensorboard (tensorboard --logdir shows them)",
    )
    add("--fresh", action="store_true", help="forget results that the folder already holds")


def _compare(options: argparse.Namespace) -> int:
    need_lab()
    request = merged(options)
    from ..lab.study.devices import check_devices
    from ..lab.study.grid import claim_grid, place
    from ..lab.study.store.files import WriteError

    studies = _studies(request)
    if options.dry_run or request.executor == "local":
        check_devices(device for study in studies for device in study.devices)
    directory = Path(request.out) if request.out else _default_folder(studies)
    studies = [_kept(study, directory, options) for study in studies]
    command = _command(request, directory) + (" --stability" if options.stability else "")
    try:
        placed = place(directory, studies)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.dry_run:
        return _dry_run(placed, request.jobs, options)
    try:
        if len(placed) > 1:
            claim_grid(directory, list(placed), command)
        try:
            done = _run(placed, directory, command, request, options)
        except WriteError:
            print_done(directory)
            raise
        if not done:
            return Exit.INTERRUPTED
        return finish(directory, options.json)
    except WriteError as error:
        remedy = "what is done is kept; choose another folder with --out, or make room"
        raise WriteError(f"{error}; {remedy}") from error


def _studies(request: argparse.Namespace) -> list[Study | TunedStudy]:
    """A study for each task with each slot."""
    from ..formulas import resolve
    from ..lab.arms import read_arm

    tasks = _tasks(request)
    activations = tuple(resolve(text) for text in request.activations or ())
    arms = tuple(read_arm(name, given) for name, given in (request.arm or {}).items())
    try:
        studies = [
            _study(request, task, slot, activations, arms)
            for task in tasks
            for slot in request.slot
        ]
    except ValueError as error:
        raise UsageError(str(error)) from None
    _say_same(activations)
    return studies


def _kept(
    study: Study | TunedStudy, directory: Path, options: argparse.Namespace
) -> Study | TunedStudy:
    """The study with what it keeps beside its results."""
    from dataclasses import replace
    from importlib.util import find_spec

    from ..lab.study.tuning import TunedStudy

    log = directory.absolute() / "tensorboard" if options.log else None
    if log and find_spec("tensorboard") is None:
        raise UsageError("--log tensorboard needs it: pip install tensorboard")
    if isinstance(study, TunedStudy):
        inner = replace(study.study, keep_weights=options.keep_weights, log=log)
        return replace(study, study=inner)
    return replace(study, keep_weights=options.keep_weights, log=log)


def _tasks(request: argparse.Namespace) -> list[Task]:
    """The tasks that --task names, or those of the files of --data."""
    from ..lab.tasks import file_task, find_task

    if request.data is not None:
        given = {name: getattr(request, name) for name in DATA_OPTIONS}
        tasks = [file_task(path, **given) for path in request.data]
        for task, path in zip(tasks, request.data, strict=True):
            for note in task.notes:
                say(f"{path}: {note}" if len(tasks) > 1 else note, to_stderr=True)
        return tasks
    return [find_task(name) for name in request.task]


def _study(
    request: argparse.Namespace,
    task: Task,
    slot: str,
    activations: tuple[Activation, ...],
    arms: tuple[Arm, ...],
) -> Study | TunedStudy:
    from dataclasses import replace
    from importlib.util import find_spec

    from ..lab.settings import value_of
    from ..lab.study.plan import Study, with_standard
    from ..lab.study.tuning import TunedStudy, tuning_seeds

    given = {name: value for name in SETTINGS if (value := getattr(request, name)) is not None}
    settings = replace(task.settings, **given)
    study = Study(
        task,
        with_standard(activations, arms, slot, settings.cell),
        slot,
        tuple(request.seed_list or range(request.seeds)),
        settings,
        request.margin,
        arms,
    )
    if request.learning_rates is None and request.tune is None:
        return study
    if request.learning_rates is not None and request.tune is not None:
        raise UsageError("--learning-rates and --tune learning_rate are one; a study tunes one")
    name, *texts = request.tune or ("learning_rate",)
    values = request.learning_rates or [value_of(name, text) for text in texts]
    if request.tuner == "optuna" and find_spec("optuna") is None:
        raise UsageError("--tuner optuna needs it: pip install optuna")
    return TunedStudy(
        study,
        tuple(values),
        tuning_seeds(request.tuning_seeds),
        name in given,
        request.tuner,
        request.tuner_tries,
        name,
    )


def _say_same(activations: Sequence[Activation]) -> None:
    """On stderr: which activations are one formula under several names."""
    groups: dict[Any, list[str]] = {}
    for activation in activations:
        groups.setdefault(activation.closed, []).append(activation.label)
    for labels in groups.values():
        if len(labels) > 1:
            names = " and ".join([", ".join(labels[:-1]), labels[-1]])
            theirs = "their difference shows" if len(labels) == 2 else "their differences show"
            say(f"{names} are the same formula: {theirs} nothing but rounding", to_stderr=True)


def _default_folder(studies: Sequence[Study | TunedStudy]) -> Path:
    """runs/TASK-SLOT, of a grid all of them; -tuned where the learning rate is; with settings of
    one's own, a digest of them, so that they do not mix."""
    import hashlib

    from ..lab.study.tuning import TunedStudy

    words = [study.task.name for study in studies] + [study.slot for study in studies]
    name = re.sub(r"[^\w.]+", "-", "-".join(dict.fromkeys(words)))
    if isinstance(studies[0], TunedStudy):
        name += "-tuned"
    settings = [study.settings for study in studies]
    if settings != [study.task.settings for study in studies] or len(name) > 80:
        text = repr(settings[0]) if len(studies) == 1 else repr((words, settings))
        name = name[:80] + "-" + hashlib.sha256(text.encode()).hexdigest()[:6]
    return Path("runs") / name


def _command(request: argparse.Namespace, directory: Path) -> str:
    """The command that repeats or resumes this one, without what cannot change a result."""
    words = ["anygate", "compare", *(request.activations or ())]
    for name, given in (request.arm or {}).items():
        words += ["--arm", name, *(f"{k}={_as_text(v)}" for k, v in given.items())]
    kept = [name for name in OPTIONS if name not in ("out", "jobs", "executor", "address")]
    if request.learning_rates is None and request.tune is None:
        kept = [name for name in kept if name not in ("tuning_seeds", "tuner", "tuner_tries")]
    for name in kept:
        value = getattr(request, name)
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            if value is True:
                continue
            words += map(str, value) if isinstance(value, list) else [str(value)]
    return shlex.join([*words, "--out", str(directory)])


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(
    placed: Mapping[Path, Study | TunedStudy],
    directory: Path,
    command: str,
    request: argparse.Namespace,
    options: argparse.Namespace,
) -> bool:
    """Run with a progress bar on stderr, and then the stability maps if they are asked for. False
    if interrupted."""
    from ..lab.study.costs import measure_costs
    from ..lab.study.executors import open_executor
    from ..lab.study.grid import run_studies
    from ..lab.study.progress import progress_bar, waiting
    from ..lab.study.stability import map_of
    from ..lab.study.tuning import TunedStudy

    if not options.fresh and not _present(placed).startswith("0 "):
        say(f"{_present(placed)} trials are already in {directory}", to_stderr=True)
    titles = {study.task.title for study in placed.values()}
    title = f"{titles.pop()}: " if len(titles) == 1 else ""
    try:
        with open_executor(request.executor, request.address, request.jobs) as executor:
            run_studies(
                placed,
                command=command,
                fresh=options.fresh,
                jobs=request.jobs,
                executor=executor,
                stage=lambda part: progress_bar(f"{title}{part}"),
            )
            for folder, study in placed.items():
                with waiting("timing training steps, in turn"):
                    measure_costs(study.study if isinstance(study, TunedStudy) else study, folder)
            for folder, study in placed.items() if options.stability else ():
                with progress_bar(f"{study.task.title}: stability map") as progress:
                    map_of(study).run(
                        folder, jobs=request.jobs, executor=executor, progress=progress
                    )
    except KeyboardInterrupt:
        where = [
            f"--{name} {shlex.quote(str(value))}"
            for name in ("jobs", "executor", "address")
            if (value := getattr(request, name)) not in (None, "local")
        ]
        say(
            f"\ninterrupted; {_present(placed)} trials are kept. Go on with:\n"
            f"  {' '.join([command, *where])}",
            to_stderr=True,
        )
        return False
    return True


def _present(placed: Mapping[Path, Study | TunedStudy]) -> str:
    """``3 of 16``: the trials that the folders hold."""
    from ..lab.study.outlook import outlook

    parts = [part for folder, study in placed.items() for part in outlook(folder, study)]
    most = "at most " if any(part.open for part in parts) else ""
    return f"{sum(p.done for p in parts)} of {most}{sum(p.trials for p in parts)}"


def _dry_run(
    placed: Mapping[Path, Study | TunedStudy], jobs: int | None, options: argparse.Namespace
) -> int:
    """Print what is left of each study and about how long it takes; write nothing."""
    from ..lab.study.devices import usual_jobs
    from ..lab.study.outlook import left_seconds, outlook
    from ..lab.study.progress import waiting

    parts = {f: outlook(f, study, fresh=options.fresh) for f, study in placed.items()}
    with waiting("timing a few training steps of each activation"):
        seconds = sum(left_seconds(study, parts[folder]) for folder, study in placed.items())
    left = sum(part.trials - part.done for found in parts.values() for part in found)
    devices = [device for study in placed.values() for device in study.devices]
    workers = max(1, min(jobs or usual_jobs(devices), left))
    if options.json:
        studies = [
            {
                "folder": str(folder),
                "task": study.task.name,
                "slot": study.slot,
                "parts": [{**asdict(part), "done": part.done} for part in parts[folder]],
            }
            for folder, study in placed.items()
        ]
        print_json(
            {
                "schema": 1,
                "studies": studies,
                "processes": workers,
                "estimated_seconds": seconds / workers,
            }
        )
    else:
        named = {(study.task.name, study.slot): parts[f] for f, study in placed.items()}
        say(_grid_text(named, left, seconds / workers, workers))
    return Exit.DONE


def _grid_text(
    parts: Mapping[tuple[str, str], Sequence[Part]], left: int, seconds: float, workers: int
) -> str:
    from ..lab.report.terminal import text_table
    from ..lab.study.outlook import STEPS
    from ..lab.wording import plural

    rows: list[tuple[str, ...]] = []
    for (task, slot), found in parts.items():
        for k, part in enumerate(found):
            names = ("", "") if k else (task, slot)
            most = "at most " if part.open else ""
            rows.append(
                (
                    *names,
                    part.name,
                    f"{most}{part.trials}",
                    str(part.done),
                    f"{most}{part.trials - part.done}",
                )
            )
    table = text_table(("task", "slot", "part", "trials", "done", "left"), rows)
    if not left:
        return f"{table}\n\nNothing is left to run."
    most = "at most " if any(part.open for found in parts.values() for part in found) else ""
    return "\n".join(
        [
            table,
            "",
            f"{most}{plural(left, 'trial')} left: {most}about {_duration(seconds)} in "
            f"{workers} process{'' if workers == 1 else 'es'}.".capitalize(),
            f"An estimate from {STEPS} training steps of each activation, timed alone on one core; "
            "processes side by side can be slower.",
        ]
    )


def _duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
