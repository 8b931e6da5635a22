"""The command line: a thin face over the public API. `python -m anygate` is the same.

Nothing heavy is imported before a command needs it: `anygate --help` waits for neither torch nor
SymPy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    from .lab.study import Study
    from .lab.tasks import Settings, Task
    from .symbolic import Activation

__all__ = ["Exit", "main"]


class Exit(IntEnum):
    """What the process returns. Anything else that goes wrong is a bug: a traceback and 1."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INTERRUPTED = 130


_EPILOG = """\
exit codes:
  0    done; runs that diverged are a result, not an error
  1    a bug: a traceback is shown, results so far are kept
  2    something you can mend: an unknown name, a formula that cannot be read, a missing package,
       a folder that cannot be written; what is done is kept
  130  interrupted; what is done is kept, and the command to go on is shown

examples:
  anygate compare tanh relu leaky_relu hard_tanh sigmoid
  anygate compare tanh "x*sigmoid(x)" --slot candidate --task adding --seeds 10
  anygate compare tanh relu --data my.csv --target price
  anygate show "where(x > 0, x, 0.1*x)"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns an `Exit` code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return Exit.DONE
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (ValueError, RuntimeError) as error:
        if not {kind.__name__ for kind in type(error).__mro__} & _MENDABLE:
            raise
        print(f"anygate: {error}", file=sys.stderr)
        return Exit.USAGE


# By name: importing them here would import SymPy and torch.
_MENDABLE = {"FormulaError", "EngineError", "TaskError", "StudyConflict", "StudyError",
             "WriteError", "UsageError"}  # fmt: skip
_LAB = ("altair", "jinja2", "joblib", "rich", "scipy", "sklearn", "vl_convert")


class UsageError(ValueError):
    """The command cannot be run as it was given; the message says what to do."""


def _need_lab() -> None:
    """Before a study starts, not after its training: all that it will need is installed."""
    from importlib.util import find_spec

    if missing := [name for name in _LAB if find_spec(name) is None]:
        raise UsageError(
            f"this command needs {', '.join(missing)}; install with pip install 'anygate[lab]'"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="anygate",
        description="LSTMs with any activation, and the evidence to choose one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"anygate {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_list(commands)
    _add_show(commands)
    _add_compare(commands)
    _add_report(commands)
    return parser


def _add(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str) -> Any:
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _add_list(commands: Any) -> None:
    parser = _add(commands, "list", _list, "List the built-in activations, or the tasks.")
    parser.add_argument("--tasks", action="store_true", help="the tasks of compare instead")


def _add_show(commands: Any) -> None:
    parser = _add(commands, "show", _show, "Show all that is known of an activation.")
    parser.add_argument("activation", help="a name, NAME(parameter=number), or a formula of x; one "
                        "that begins with a minus in parentheses, as '(-x)'")  # fmt: skip
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)  # for a better message


def _add_compare(commands: Any) -> None:
    text = "Train LSTMs with different activations on a task and compare them, paired by seed."
    parser = _add(commands, "compare", _compare, text)
    parser.add_argument(
        "activations",
        nargs="+",
        metavar="ACTIVATION",
        help="names, or formulas of x in quotes (one that begins with a minus in parentheses); all "
        "others are compared with the first",
    )
    add = parser.add_argument
    add("--slot", default="activation", help="which slots change: activation (candidate and "
        "cell_output, the default), gate_activation (the three gates), input_gate, forget_gate, "
        "candidate, output_gate or cell_output")  # fmt: skip
    parser.set_defaults(task="digits")  # not of the argument: its default would pass unseen below
    tasks = parser.add_mutually_exclusive_group()
    tasks.add_argument("--task", default=argparse.SUPPRESS, help="a task's name (default digits), "
        "chars:FILE, mnist:FOLDER, or MODULE:NAME; `anygate list --tasks` shows all")  # fmt: skip
    tasks.add_argument("--data", metavar="FILE", help="your own data: a CSV file of which a column "
        "is to be forecast, or sequences with classes as .npz or .ts")  # fmt: skip
    add("--target", metavar="COLUMN", help="the column of the CSV file to forecast")
    add("--window", type=_positive, metavar="N", help="past values for each forecast (default 24)")
    add("--seeds", type=_positive, default=8, metavar="N", help="seeds 0 to N-1 (default 8)")
    add("--margin", type=_above_zero, metavar="X", help="differences in the metric within X count "
        "as equivalent (accuracy: 0.01 is one point); declared before the first run")  # fmt: skip
    add("--stability", action="store_true", help="also map where training diverges: short runs "
        "over learning rates and forget biases")  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="results folder (default runs/TASK-SLOT...)")
    add("--fresh", action="store_true", help="forget results that the folder already holds")
    add("--jobs", type=_positive, metavar="N", help="processes (default: one for each core)")
    group = parser.add_argument_group("training (defaults: the task's own)")
    for name, kind in _SETTINGS.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", default=None)


def _add_report(commands: Any) -> None:
    text = "Write the report of a study folder again, also of one that is not finished."
    parser = _add(commands, "report", _report, text)
    parser.add_argument("directory", type=Path, metavar="DIR")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number of 1 or more is needed, not {text!r}")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"a number is needed, not {text!r}")
    return number


def _above_zero(text: str) -> float:
    number = _finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return number


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "hidden_size": _positive,
    "epochs": _positive,
    "batch_size": _positive,
    "learning_rate": _finite,
    "clip": _finite,
    "forget_bias": _finite,
}


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def _list(options: argparse.Namespace) -> int:
    if options.tasks:
        from .lab.tasks import OTHERS, TASKS

        tasks = [t.describe() | {"source": t.source} for t in TASKS.values()]
        if options.json:
            _print_json({"schema": 1, "tasks": tasks, "others": OTHERS})
        else:
            _columns([("task", "steps", "")] + [
                (t["name"], str(t["steps"]), t["description"]) for t in tasks])  # fmt: skip
            print()
            _columns([("also", ""), *OTHERS.items()])
        return Exit.DONE
    from .symbolic import ACTIVATIONS

    if options.json:
        entries = [
            {"name": a.name, "formula": a.formula, "parameters": dict(a.parameters),
             "aliases": list(a.aliases), "source": a.source, "note": a.note}
            for a in ACTIVATIONS.values()
        ]  # fmt: skip
        _print_json({"schema": 1, "activations": entries})
        return Exit.DONE
    _columns([("activation", "formula", "also called")] + [
        (_signature(a), a.formula, ", ".join(a.aliases)) for a in ACTIVATIONS.values()
    ])  # fmt: skip
    print("\nanygate show NAME tells more. A formula of your own works wherever a name does.")
    return Exit.DONE


def _signature(activation: Any) -> str:
    inner = ", ".join(f"{k}={v:.4g}" for k, v in activation.parameters.items())
    return f"{activation.name}({inner})" if inner else str(activation.name)


def _columns(rows: Sequence[tuple[str, ...]]) -> None:
    """A table with two spaces between the columns; the last column is not padded."""
    longest = 48  # a longer cell breaks its own line only
    widths = [
        max(len(row[k]) for row in rows if len(row[k]) <= longest) for k in range(len(rows[0]) - 1)
    ]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _show(options: argparse.Namespace) -> int:
    if options.rest:
        formula = " ".join([options.activation, *options.rest])
        raise UsageError(
            "show takes one activation. If this is one formula, quote it: "
            f"anygate show {shlex.quote(formula)}"
        )
    from .symbolic import describe, resolve, sheet

    found = sheet(resolve(options.activation))
    if options.json:
        _print_json({"schema": 1, **found.to_dict()})
    else:
        print(describe(found))
    return Exit.DONE


def _compare(options: argparse.Namespace) -> int:
    _need_lab()
    from .lab.files import WriteError
    from .lab.study import Study
    from .symbolic import FormulaError, resolve

    task = _task(options)
    settings = _settings(task, options)
    activations = tuple(resolve(text) for text in options.activations)
    try:
        study = Study(task, activations, options.slot, tuple(range(options.seeds)), settings,
                      options.margin)  # fmt: skip
    except ValueError as error:
        raise FormulaError(str(error)) from None
    directory = options.out or _default_folder(study)
    command = _command(options, directory)
    _say_same(activations)
    try:
        if not _run_study(study, directory, command, options):
            return Exit.INTERRUPTED
        if options.stability and not _run_map(study, directory, command, options):
            return Exit.INTERRUPTED
        return _finish(directory, options.json)
    except WriteError as error:
        remedy = "what is done is kept; choose another folder with --out, or make room"
        raise WriteError(f"{error}; {remedy}") from error


def _task(options: argparse.Namespace) -> Task:
    """The task that --task names, or that of the file of --data."""
    from .lab.tasks import file_task, find_task

    if options.data is not None:
        return file_task(options.data, options.target, options.window)
    for name in ("target", "window"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} belongs to a CSV file: say which with --data FILE")
    return find_task(options.task)


def _say_same(activations: Sequence[Activation]) -> None:
    """On stderr: which activations are one formula under several names."""
    groups: dict[Any, list[str]] = {}
    for activation in activations:
        groups.setdefault(activation.closed, []).append(activation.label)
    for labels in groups.values():
        if len(labels) > 1:
            names = " and ".join([", ".join(labels[:-1]), labels[-1]])
            theirs = "their difference shows" if len(labels) == 2 else "their differences show"
            print(f"{names} are the same formula: {theirs} nothing but rounding", file=sys.stderr)


def _settings(task: Task, options: argparse.Namespace) -> Settings:
    from dataclasses import replace

    given = {k: v for k in _SETTINGS if (v := getattr(options, k)) is not None}
    return replace(task.settings, **given)


def _default_folder(study: Study) -> Path:
    """runs/TASK-SLOT; with settings of one's own, a digest of them, so that they do not mix."""
    name = re.sub(r"[^\w.]+", "-", f"{study.task.name}-{study.slot}")
    if study.settings != study.task.settings:
        import hashlib

        name += "-" + hashlib.sha256(repr(study.settings).encode()).hexdigest()[:6]
    return Path("runs") / name


def _command(options: argparse.Namespace, directory: Path) -> str:
    """The command that repeats or resumes this one."""
    words = ["anygate", "compare", *options.activations, "--slot", options.slot]
    words += ["--task", options.task] if options.data is None else ["--data", options.data]
    words += ["--seeds", str(options.seeds)]
    for name in ("target", "window", "margin", *_SETTINGS):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--stability"] if options.stability else []
    return shlex.join([*words, "--out", str(directory)])


def _run_study(study: Study, directory: Path, command: str, options: argparse.Namespace) -> bool:
    """Run with a progress bar on stderr. False if interrupted."""
    from .lab.progress import progress_bar

    waiting = len(study.trials) - (0 if options.fresh else len(study.missing(directory)))
    if waiting:
        print(f"{waiting} of {len(study.trials)} trials are already in {directory}",
              file=sys.stderr)  # fmt: skip
    try:
        with progress_bar(f"{study.task.title}: training") as progress:
            study.run(directory, command=command, fresh=options.fresh, jobs=options.jobs,
                      progress=progress)  # fmt: skip
    except KeyboardInterrupt:
        kept = len(study.trials) - len(study.missing(directory))
        print(
            f"\ninterrupted; {kept} of {len(study.trials)} trials are kept. Go on with:\n"
            f"  {command}",
            file=sys.stderr,
        )
        return False
    return True


def _run_map(study: Study, directory: Path, command: str, options: argparse.Namespace) -> bool:
    """The stability map with a progress bar. False if interrupted."""
    from .lab.progress import progress_bar
    from .lab.stability import StabilityMap

    try:
        with progress_bar("stability map: short trainings") as progress:
            StabilityMap(study).run(directory, jobs=options.jobs, progress=progress)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what is done is kept. Go on with:\n  {command}", file=sys.stderr)
        return False
    return True


def _report(options: argparse.Namespace) -> int:
    _need_lab()
    return _finish(options.directory, options.json)


def _finish(directory: Path, as_json: bool) -> int:
    """Write the report, then print the table and the verdict."""
    from .lab.progress import waiting
    from .lab.results import load
    from .lab.table import table
    from .lab.verdict import verdict

    results = load(directory)
    with waiting("writing the report"):
        from .lab.report import write

        page = write(results, directory)
    if as_json:
        print((directory / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        print(table(results))
        print()
        for sentence in verdict(results):
            print(_wrapped(sentence))
    print(f"\nreport: {page}", file=sys.stderr if as_json else sys.stdout)
    return Exit.DONE


def _wrapped(sentence: str) -> str:
    import textwrap

    return textwrap.fill(sentence, 96, initial_indent="- ", subsequent_indent="  ")


if __name__ == "__main__":
    sys.exit(main())
