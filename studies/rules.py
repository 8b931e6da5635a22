"""The rules are frozen: the files that decide what is run and how it is judged, their digest, and
the commit that holds them. Confirming runs are made by one set of rules, but for amendments, which
are listed here."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "AMENDMENTS",
    "FILES",
    "Amendment",
    "RulesChanged",
    "accepted",
    "commit",
    "digest",
    "refuse_other_rules",
]

HERE = Path(__file__).parent
FILES = (
    "arms.py",
    "claims.py",
    "effects.py",
    "experiments.py",
    "judge.py",
    "results.py",
    "setups.py",
)
"""Within this folder."""


@dataclass(frozen=True)
class Amendment:
    """A change of the rules while the confirming run was under way, which no outcome could have
    suggested. before, after: the digests. known: what was known of the runs. reason: what was
    changed."""

    before: str
    after: str
    known: str
    reason: str


AMENDMENTS = (
    Amendment(
        "b44a82e43c6930ca",
        "23840ddb18b17043",
        "the first look at the stage `core`; no run of the parts concerned",
        "wording only: the parts CIFG and peepholes said worse where their rule expects not worse; "
        "and a year that could not be confirmed left the citation of the answer",
    ),
    Amendment(
        "23840ddb18b17043",
        "eee744f0ff72e110",
        "the first look at the stages `core`, `map`, `slots` and `rates`",
        "the wording of six docstrings, in effects.py, experiments.py, results.py and setups.py",
    ),
)
"""In their order."""


class RulesChanged(ValueError):
    """The rules are not those of the runs that there are; the message says what to do."""


def digest() -> str:
    """Of the rules as they lie here."""
    found = hashlib.sha256()
    for name in FILES:
        found.update(name.encode() + b"\0" + (HERE / name).read_bytes() + b"\0")
    return found.hexdigest()[:16]


def accepted() -> set[str]:
    """The digests of the rules as they lie here and as they were before amendments."""
    found = {digest()}
    for each in reversed(AMENDMENTS):
        if each.after in found:
            found.add(each.before)
    return found


def commit() -> str:
    """The last commit that touched the rules. Raises RulesChanged if they lie here otherwise, or
    outside of a git checkout."""
    names = [str(HERE / name) for name in FILES]
    try:
        changed = _git("status", "--porcelain", "--", *names)
        found = "" if changed else _git("log", "-1", "--format=%H", "--", *names)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RulesChanged(
            "confirming runs need a git checkout, whose commit of the rules they record"
        ) from error
    if changed:
        raise RulesChanged(f"commit the rules before any confirming run:\n{changed}")
    return found


def refuse_other_rules(stretches: list[dict[str, object]]) -> None:
    """Raise RulesChanged if runs were made by rules other than those that lie here, but for
    amendments."""
    if not stretches or stretches[-1]["digest"] in accepted():
        return
    raise RulesChanged(
        f"the runs that there are were made by the rules of commit {stretches[-1]['rules']}, which "
        "differ from those here. Go back to them, or begin again with seeds that nobody has seen "
        "(results.py) and list the old runs in history.py"
    )


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(HERE), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
