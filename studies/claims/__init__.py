"""The claims, found in the modules of this package: each has a tuple CLAIMS.

A claim is added by one file here, or by one more entry of a file: its sentence, sources,
experiments, rule, judge and the words of the answer are data of that one `Claim`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules

from ..experiments import REPRODUCED
from ..model import Claim, Experiment

__all__ = ["CLAIMS"]


def _all() -> Iterable[Claim]:
    for module in iter_modules(__path__):
        yield from import_module(f"{__name__}.{module.name}").CLAIMS


def _place(claim: Claim) -> tuple[bool, int, str]:
    """Numbers before letters."""
    number = claim.row.isdigit()
    return (not number, int(claim.row) if number else 0, claim.row)


def collect(found: Iterable[Claim]) -> tuple[Mapping[str, Claim], Mapping[str, Experiment]]:
    """Claims by key, in the order of their rows, and experiments by name. Raises ValueError if two
    claims share a key or row, or two different experiments a name."""
    claims = sorted(found, key=_place)
    for name in ("key", "row"):
        values = [getattr(claim, name) for claim in claims]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ValueError(f"several claims have the {name} {', '.join(sorted(twice))}")
    experiments: dict[str, Experiment] = {}
    for experiment in (*(e for claim in claims for e in claim.experiments), *REPRODUCED):
        if experiments.setdefault(experiment.name, experiment) != experiment:
            raise ValueError(f"several experiments are called {experiment.name}")
    return {claim.key: claim for claim in claims}, experiments


CLAIMS, EXPERIMENTS = collect(_all())
"""By key, in the order in which they are reported; and by name, all that can be run."""
