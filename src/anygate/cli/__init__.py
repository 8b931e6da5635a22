"""The command line: a thin face over the public API. `python -m anygate` is the same.

A command is a module here with ``add(commands)``. Nothing heavy is imported before a command needs
it: `anygate --help` waits for neither torch nor SymPy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from . import compare, explore, export, lookup, report
from .base import Exit, say

__all__ = ["Exit", "main", "parser"]

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
  anygate compare tanh relu --task adding digits --learning-rates 0.001 0.003 0.01 0.03
  anygate compare tanh relu --data my.csv --target price
  anygate compare relu --arm mine activation=relu gate_activation=hard_sigmoid init=identity
  anygate compare --config study.toml --dry-run
  anygate export runs/digits-activation --csv
  anygate show "where(x > 0, x, 0.1*x)"
"""

# By name: importing them here would import SymPy and torch.
_MENDABLE = {
    "FormulaError",
    "EngineError",
    "ExecutorGone",
    "FolderInUse",
    "TaskError",
    "StudyConflict",
    "StudyError",
    "WriteError",
    "UsageError",
    "ArmError",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns an `Exit` code."""
    commands = parser()
    options = commands.parse_args(arguments)
    if options.command is None:
        commands.print_help()
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
        say(f"anygate: {error}", to_stderr=True)
        return Exit.USAGE


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    made = argparse.ArgumentParser(
        prog="anygate",
        description="Recurrent networks with any activation, and the evidence to choose one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"anygate {__version__}")
    commands = made.add_subparsers(dest="command", metavar="COMMAND")
    for command in (lookup, explore, compare, report, export):
        command.add(commands)
    return made
