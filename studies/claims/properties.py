"""Claims on the properties of a unit that matter: bounded, differentiable, monotone; and its second
derivative. The functions of the survey are the cases here, each with the mean over its runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .. import experiments, sources
from ..contrast import ROOM, contrast
from ..experiments import FORGET, plain
from ..findings import Findings
from ..grid import Arm
from ..lab import LEVEL
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import LOSS, TIME_MARGIN, holm_of, lacking, not_run
from ..survey import FUNCTIONS, PLACES, surveyed, surveyed_runs
from .on_paper import second_derivative_dies

__all__ = ["CLAIMS", "least_squares", "rank_correlation"]

MIN_FUNCTIONS = 15
"""Fewer cannot carry a regression on three properties."""
PROPERTIES = {"bounded": "unbounded", "differentiable": "with a kink", "monotone": "not monotone"}
COUNTEREXAMPLES = {
    "bounded": ("relu",),
    "differentiable": ("relu", "hard_tanh"),
    "monotone": ("sine",),
}
"""Units that lack a property, with the seeds that a test needs."""
NO_CORRELATION = 0.5
"""A rank correlation is called weak if its interval ends below this, declared beforehand."""


# ---- bounded, differentiable, monotone -------------------------------------------------------


def good_units(findings: Findings) -> Judgement:
    """For each property: a unit that lacks it and does no worse, and its effect over the survey."""
    sheets = findings.experiment("formulas").get("sheets", {})
    fits = {place: _fit(findings, place, sheets) for place in PLACES}
    tests = _counterexamples(findings)
    parts = [_property(findings, p, tests, fits) for p in PROPERTIES]
    return Judgement(tuple(parts))


Fit = dict[str, tuple[float, float, float, float]]
"""Property -> effect of lacking it, standard error, t quantiles of 90% and 95%."""


def _fit(findings: Findings, place: str, sheets: dict[str, Any]) -> Fit:
    """The loss of each function regressed on what it lacks; empty with too few functions."""
    rows, losses = [], []
    for name in FUNCTIONS:
        found = surveyed(findings, place, name)
        if found and name in sheets:
            rows.append([1.0, *(float(not sheets[name][p]) for p in PROPERTIES)])
            losses.append(float(np.mean(found)))
    if len(rows) < MIN_FUNCTIONS:
        return {}
    effects, errors, freedom = least_squares(np.array(rows), np.array(losses))
    t90, t95 = (float(stats.t.ppf(q, freedom)) for q in (0.95, 0.975))
    return {
        p: (float(effects[k]), float(errors[k]), t90, t95)
        for k, p in enumerate(PROPERTIES, start=1)
    }


def least_squares(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Coefficients of y = x b + noise, x [n, k] of full rank, their standard errors and the
    degrees of freedom n - k."""
    freedom = len(y) - x.shape[1]
    coefficients, *_ = np.linalg.lstsq(x, y, rcond=None)
    rest = y - x @ coefficients
    variance = float(rest @ rest) / freedom * np.linalg.inv(x.T @ x)
    errors = np.asarray(np.sqrt(np.diag(variance)), dtype=np.float64)
    return np.asarray(coefficients, dtype=np.float64), errors, int(freedom)


def _counterexamples(findings: Findings) -> dict[tuple[str, str], Any]:
    """(unit, place) -> its contrast with tanh and the corrected p value that it is not worse."""
    units = sorted({unit for units in COUNTEREXAMPLES.values() for unit in units})
    keys = [(unit, place) for unit in units for place in PLACES]
    found = {k: contrast(findings, Arm("adding", k[1], k[0]), plain("adding")) for k in keys}
    there = {k: c for k, c in found.items() if c is not None and lacking("", [c]) is None}
    corrected = holm_of([c.not_worse for c in there.values()], len(keys))
    return {k: (c, p) for (k, c), p in zip(there.items(), corrected, strict=True)}


def _property(
    findings: Findings, name: str, tests: dict[tuple[str, str], Any], fits: dict[str, Fit]
) -> Part:
    title = f"a unit must be {name}"
    chosen = {k: v for k, v in tests.items() if k[0] in COUNTEREXAMPLES[name]}
    effects = [_effect(findings, fits[place][name], name, place) for place in PLACES if fits[place]]
    effects += [c.effect() for c, _ in chosen.values()]
    passing = [
        (unit, place, p)
        for (unit, place), (c, p) in chosen.items()
        if p <= LEVEL and not c.diverged[0]
    ]
    if passing:
        unit, place, p = min(passing, key=lambda x: x[2])
        because = (
            f"{unit} as {place.replace('_', ' ')} lacks it and did not do worse than tanh "
            f"by the margin (p = {p:.3f}, corrected for {len(tests)})."
        )
        return Part(title, Verdict.REFUTED, because, tuple(effects))
    if not all(fits.values()):
        return Part(title, Verdict.UNDECIDED, "Too few functions were run.", tuple(effects))
    margin = findings.scale.setups["adding"].margin
    here = [fits[place][name] for place in PLACES]
    room = 1 - float(np.mean(surveyed(findings, PLACES[0], "tanh")))
    if room >= ROOM * margin and all(abs(b) + t90 * e < margin for b, e, t90, _ in here):
        because = f"Its effect lies within the margin of {margin:.0%} of the epochs in both places."
        return Part(title, Verdict.REFUTED, because, tuple(effects))
    if all(b - t95 * e > 0 for b, e, _, t95 in here):
        because = "Units that lack it solve the task later in both places."
        return Part(title, Verdict.HELD, because, tuple(effects))
    because = "No unit without it was shown to do as well, and its effect is not settled."
    return Part(title, Verdict.UNDECIDED, because, tuple(effects))


def _effect(
    findings: Findings, fit: tuple[float, float, float, float], name: str, place: str
) -> Effect:
    runs = [run for f in FUNCTIONS for run in surveyed_runs(findings, place, f)]
    bad = sum(run.diverged is not None for run in runs)
    value, error, _, t95 = fit
    low, high = 100 * (value - t95 * error), 100 * (value + t95 * error)
    return Effect(
        f"effect of being {PROPERTIES[name]}, as {place.replace('_', ' ')}",
        100 * value,
        "% of the epochs",
        low,
        high,
        0.95,
        len(FUNCTIONS),
        format="+.1f",
        note="regression over functions",
        diverged=f"{bad} of {len(runs)}",
    )


# ---- the second derivative ---------------------------------------------------------------------


def second_derivative_sustains(findings: Findings) -> Judgement:
    """tanh'' lasts long (by formula), and a longer one lets more gradient through (measured)."""
    dies = {part.name: part for part in second_derivative_dies(findings).parts}
    lasts = [_opposite(part) for part in dies.values()]
    return Judgement((*lasts, _predicts(findings)))


def _opposite(part: Part) -> Part:
    """Point (a) says that tanh'' dies first; this claim says that it lasts."""
    turned = {Verdict.HELD: Verdict.REFUTED, Verdict.REFUTED: Verdict.HELD}
    verdict = turned.get(part.verdict, part.verdict) if part.verdict else part.verdict
    return Part(f"tanh'' lasts longest: {part.name}", verdict, part.because, part.effects)


def _predicts(findings: Findings) -> Part:
    name = "the wider f'', the more gradient arrives"
    starts = {place: findings.experiment(f"starts-{place}") for place in PLACES}
    biases = findings.experiment("starts-forget")
    sheets = findings.experiment("formulas").get("sheets", {})
    if not (all(starts.values()) and biases and sheets):
        return not_run(name)
    wide = [
        math.inf if sheets[f]["second_dies"] is None else sheets[f]["second_dies"]
        for f in FUNCTIONS
    ]
    effects, high, positive = [], [], []
    for place in PLACES:
        gradient = [_mean(starts[place][f], "cell_half") for f in FUNCTIONS]
        rho, low, top = rank_correlation(wide, gradient)
        where = place.replace("_", " ")
        effects.append(
            Effect(
                f"rank correlation of width and gradient, as {where}",
                rho,
                "",
                low,
                top,
                0.95,
                len(FUNCTIONS),
                format="+.2f",
            )
        )
        high.append(top)
        positive.append(low > 0)
    forget, product = [], []
    for bias in FORGET:
        for row in biases[f"{bias:g}"]:
            forget.append(row["cell_half"])
            product.append(row["forget_half"])
    rho, low, top = rank_correlation(product, forget)
    effects.append(
        Effect(
            "the same with the product of forget gates",
            rho,
            "",
            low,
            top,
            0.95,
            len(forget),
            format="+.2f",
        )
    )
    if all(positive):
        return Part(
            name, Verdict.HELD, "The correlation is positive in both places.", tuple(effects)
        )
    if max(high) < NO_CORRELATION and low > NO_CORRELATION:
        because = (
            f"Its correlation ends below {NO_CORRELATION} in both places; that of the "
            "forget gates' product does not."
        )
        return Part(name, Verdict.REFUTED, because, tuple(effects))
    because = "The intervals are too wide to call the correlation weak, or to call it positive."
    return Part(name, Verdict.UNDECIDED, because, tuple(effects))


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    found = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(found)) if found else -math.inf


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rho with a 95% interval by Fisher's z, whose variance is (1 + rho^2/2)/(n - 3)
    (Bonett & Wright 2000)."""
    ranks = [stats.rankdata(x) for x in (a, b)]
    rho = float(np.corrcoef(*ranks)[0, 1])
    z = math.atanh(max(-0.999999, min(0.999999, rho)))
    half = 1.959964 * math.sqrt((1 + rho * rho / 2) / (len(a) - 3))
    return rho, math.tanh(z - half), math.tanh(z + half)


CLAIMS = (
    Claim(
        key="good-unit",
        row="8",
        sentence="A good unit must be bounded, differentiable and monotone.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FORMULAS,
            experiments.SURVEY,
            experiments.COUNTEREXAMPLES,
        ),
        measure=f"{LOSS}, on adding, of 17 functions as candidate and as cell output, regressed "
        "on the three properties; and of single units that lack one",
        held_if="lacking the property delays the solution in both places (95 %), and no "
        "counterexample is found",
        refuted_if="a unit that lacks it is not worse than tanh by the margin, or the effect lies "
        "within the margin in both places (90 %)",
        judge=good_units,
        margin=TIME_MARGIN,
        family="counterexamples: over 3 units in 2 places, one-sided",
        answers=(
            Sentence(
                Question.NONLINEARITY,
                "As candidate and as cell output, units that are not bounded were worse in our "
                "survey.",
                "A unit need not be bounded: {because}.",
                "That a unit must be bounded is neither shown nor refuted by our survey.",
                part="a unit must be bounded",
            ),
            Sentence(
                Question.NONLINEARITY,
                "Units with a kink were worse.",
                "A unit need not be differentiable everywhere: {because}.",
                "Whether a kink does harm is left open.",
                part="a unit must be differentiable",
            ),
            Sentence(
                Question.NONLINEARITY,
                "Units that are not monotone were worse.",
                "A unit need not be monotone: {because}.",
                "Whether a unit must be monotone is left open.",
                part="a unit must be monotone",
            ),
        ),
    ),
    Claim(
        key="second-derivative",
        row="10",
        sentence="tanh overcomes vanishing gradients because its second derivative sustains for a "
        "long range before going to zero.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FORMULAS,
            *experiments.STARTS,
        ),
        measure="where f'' dies; over 17 functions, the rank correlation of that width with the "
        "gradient that arrives half of the sequence earlier, before training",
        held_if="tanh'' dies last; the correlation is positive in both places (95 %)",
        refuted_if="tanh'' dies first; the correlation's interval ends below 0.5 in both places "
        "while that of the forget gates' product begins above",
        judge=second_derivative_sustains,
        family="none: intervals at 95 % each",
        answers=(
            Sentence(
                Question.TANH,
                "The second derivative of tanh does last, and that goes with more gradient.",
                "The reason that is given, a second derivative that lasts, does not hold.",
                "That a lasting second derivative is the reason is not shown.",
            ),
        ),
    ),
)
