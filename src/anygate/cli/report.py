"""`anygate report`, with which `anygate compare` ends too."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Exit, add_command, need_lab, say

if TYPE_CHECKING:
    from ..lab.study.store.results import StudyResults

__all__ = ["add", "finish", "print_done"]


def add(commands: Any) -> None:
    """Add the command."""
    text = "Write the report of a study folder again, also of one that is not finished."
    parser = add_command(commands, "report", _report, text)
    parser.add_argument("directory", type=Path, metavar="DIR")


def _report(options: argparse.Namespace) -> int:
    need_lab()
    return finish(options.directory, options.json)


def finish(directory: Path, as_json: bool) -> int:
    """Write the report of a study, or of every study of a grid, then print tables and verdicts."""
    from ..lab.report import write, write_grid
    from ..lab.study.grid import grid_folders
    from ..lab.study.progress import waiting
    from ..lab.study.store.files import WriteError
    from ..lab.study.store.results import load

    folders = grid_folders(directory)
    found: dict[Path, StudyResults] = {}
    unfinished: dict[Path, str] = {}
    if folders is None:
        found[directory] = load(directory)
    else:
        found, unfinished = _load_all(folders)
    try:
        with waiting("writing the report"):
            if folders is None:
                page = write(found[directory], directory)
            else:
                page = write_grid(found, unfinished, directory)
    except WriteError:  # a full disk: the tables are told all the same
        for results in found.values():
            _print(results, short=folders is not None)
        raise
    if as_json:
        print((directory / "summary.json").read_text(encoding="utf-8"), end="")
    else:
        for results in found.values():
            _print(results, short=folders is not None)
    say(f"\nreport: {page}", to_stderr=as_json)
    return Exit.DONE


def _load_all(folders: Sequence[Path]) -> tuple[dict[Path, StudyResults], dict[Path, str]]:
    """The results of a grid's studies, and why some have none yet. Raises StudyError if all."""
    from ..lab.study.store.files import StudyError
    from ..lab.study.store.results import load

    found: dict[Path, StudyResults] = {}
    unfinished: dict[Path, str] = {}
    for folder in folders:
        try:
            found[folder] = load(folder)
        except StudyError as error:
            if folder == folders[-1] and not found:
                raise
            unfinished[folder] = str(error)
            say(str(error), to_stderr=True)
    return found, unfinished


def print_done(directory: Path) -> None:
    """The tables of what a folder holds, where it holds anything; nothing is written."""
    from ..lab.study.grid import grid_folders
    from ..lab.study.store.files import StudyError
    from ..lab.study.store.results import load

    for folder in grid_folders(directory) or [directory]:
        try:
            results = load(folder)
        except StudyError:
            continue
        if results.present:
            _print(results, short=True)


def _print(results: StudyResults, short: bool) -> None:
    """Table and verdict; of a study among several what matters most, under its name."""
    from ..lab.findings.verdict import judge
    from ..lab.report.terminal import table, wrapped

    found = judge(results)
    sentences = found.sentences()
    if short:
        sentences = found.answer + found.comparisons + found.tuning + found.own
        title = f"{results.task.title}, {results.config.slot}"
        say(f"\n{title}\n{'=' * len(title)}\n")
    say(table(results))
    if results.own is not None:
        chosen = results.config.learning_rates
        word = "learning rate" if chosen is None else chosen.word
        say(f"\nat each one's own {word}:\n\n{table(results.own)}")
    say("")
    for sentence in sentences:
        say(wrapped(sentence))
