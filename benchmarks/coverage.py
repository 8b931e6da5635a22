"""The coverage of anygate's intervals and the errors of its tests, by simulation.

    python benchmarks/coverage.py --out benchmarks/results/coverage.json    6 minutes, one core
    python benchmarks/coverage.py --replications 200                        a quick look

Every interval of anygate.lab.statistics that has a nominal 95% is drawn for 6, 10 and 20 seeds from
distributions whose true value is known; ``coverage`` is the share that holds it. Every test is
drawn at the border of its null hypothesis; ``false_claims`` is the share of p values of at most 5%.
A share s of R replications has a standard error of sqrt(s*(1-s)/R). Each row has a random stream of
its own, so that any of them can be repeated alone.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.random import Generator
from scipy import stats

from anygate.lab import statistics as ours
from anygate.lab.statistics.aggregate import percentile_interval, replicates

SEEDS = (6, 10, 20)
REPLICATIONS = 4000
RESAMPLES = 2000
"""Of a bootstrap, a fifth of the default, to save time; the ends move by 1% of the width."""

Array = ours.Array
Draw = Callable[[Generator, Any], Array]
COLUMNS = ("method", "quantity", "data")


@dataclass(frozen=True)
class Interval:
    """An interval of ``quantity``, whose true value is ``truth``, from a number of seeds."""

    method: str
    quantity: str
    data: str
    truth: float
    draw: Callable[[Generator, int, int], ours.Interval]

    def measure(self, rng: Generator, seeds: int, replications: int) -> dict[str, float]:
        found = [self.draw(rng, seeds, r) for r in range(replications)]
        hits = sum(i.contains(self.truth) for i in found)
        said = math.fsum(i.confidence for i in found) / replications
        return {"coverage": hits / replications, "confidence": round(said, 6)}


@dataclass(frozen=True)
class Test:
    """A p value under a null hypothesis that is just true."""

    method: str
    quantity: str
    data: str
    draw: Callable[[Generator, int, int], float]

    def measure(self, rng: Generator, seeds: int, replications: int) -> dict[str, float]:
        hits = sum(self.draw(rng, seeds, r) <= ours.LEVEL for r in range(replications))
        return {"false_claims": hits / replications}


def normal(rng: Generator, size: Any) -> Array:
    return rng.normal(size=size)


def skewed(rng: Generator, size: Any) -> Array:
    """Exponential, moved to mean 0."""
    return rng.exponential(size=size) - 1


DATA: dict[str, Draw] = {"normal": normal, "skewed": skewed}
SHIFTS = np.arange(4.0)  # of the tasks, where there are four


def _student(values: Array) -> ours.Interval:
    half = stats.t.ppf(0.975, values.size - 1) * stats.sem(values)
    return ours.Interval(values.mean() - half, values.mean() + half, 0.95)


def _mean(method: str, draw: Draw, rng: Generator, n: int, seed: int) -> ours.Interval:
    values = draw(rng, n)
    if method == "sign-flip":
        return ours.mean_interval(values, seed=seed)
    if method == "Student t":
        return _student(values)
    kind: Any = "bca" if method == "BCa" else "percentile"
    return ours.bootstrap_interval(values, method=kind, resamples=RESAMPLES, seed=seed)


def _iqm_truth(name: str, tasks: int) -> float:
    """The IQM of the distribution itself: of a fine grid of its quantiles."""
    grid = (np.arange(100_000) + 0.5) / 100_000
    quantiles = stats.norm.ppf(grid) if name == "normal" else stats.expon.ppf(grid) - 1
    return ours.iqm(quantiles[:, None] + SHIFTS[:tasks])


def _iqm(draw: Draw, tasks: int, rng: Generator, n: int, seed: int) -> ours.Interval:
    scores = draw(rng, (n, tasks)) + SHIFTS[:tasks]
    return ours.aggregate_iqm(scores, resamples=RESAMPLES, seed=seed).interval


def _iqm_difference(draw: Draw, tasks: int, rng: Generator, n: int, seed: int) -> ours.Interval:
    shared = rng.normal(size=(n, tasks)) + SHIFTS[:tasks]
    a, b = shared + 0.5 + draw(rng, (n, tasks)), shared + draw(rng, (n, tasks))
    return ours.iqm_difference(a, b, resamples=RESAMPLES, seed=seed).interval


def _rate(p: float, rng: Generator, n: int, seed: int) -> ours.Interval:
    return ours.wilson(int(rng.binomial(n, p)), n)


UNEVEN = np.array([0.5, 0.7, 0.9, 0.99])  # of four tasks, the chance to be better


def _share_of_tasks(rng: Generator, n: int, seed: int) -> ours.Interval:
    better = rng.random((n, 4)) < UNEVEN
    return ours.probability_of_improvement(better * 1.0, 0.5 * np.ones((n, 4))).interval


def _unpaired(method: str, name: str, rng: Generator, n: int, seed: int) -> ours.Interval:
    """P(a > b) = 0.8 for new seeds: shifted normals, or exponentials with means 4 and 1."""
    if name == "normal":
        a, b = rng.normal(math.sqrt(2) * stats.norm.ppf(0.8), size=n), rng.normal(size=n)
    else:
        a, b = rng.exponential(4.0, n), rng.exponential(1.0, n)
    if method == "Wilson":
        return ours.probability_of_improvement(a, b, paired=False).interval
    drawn = [
        replicates(lambda s: s[..., 0], x[:, None], resamples=RESAMPLES, seed=2 * seed + k)
        for k, x in enumerate((a, b))
    ]
    return percentile_interval((drawn[0][:, :, None] > drawn[1][:, None]).mean((1, 2)), 0.95)


SOLVED = 0.7  # the share that solves before the horizon
HORIZON = {"exponential": stats.expon.ppf(SOLVED), "log-normal": stats.lognorm.ppf(SOLVED, 1)}
MEDIAN = {"exponential": math.log(2), "log-normal": 1.0}


def _restricted_truth(name: str, scale: float = 1.0) -> float:
    """The mean of min(time, horizon) of the distribution with that scale."""
    law = stats.expon(scale=scale) if name == "exponential" else stats.lognorm(1, scale=scale)
    steps = np.linspace(0, HORIZON[name], 20_001)
    return float(scipy.integrate.simpson(law.sf(steps), x=steps))


def _times(name: str, rng: Generator, n: int, scale: float = 1.0) -> ours.CensoredTimes:
    drawn = rng.exponential(size=n) if name == "exponential" else rng.lognormal(size=n)
    solved = scale * drawn <= HORIZON[name]
    times = np.where(solved, scale * drawn, HORIZON[name])
    return ours.CensoredTimes(tuple(times.tolist()), tuple(solved.tolist()))


def _median_time(name: str, rng: Generator, n: int, seed: int) -> ours.Interval:
    return ours.time_to_solve(_times(name, rng, n), HORIZON[name]).median.interval


def _restricted(name: str, rng: Generator, n: int, seed: int) -> ours.Interval:
    return ours.time_to_solve(_times(name, rng, n), HORIZON[name]).restricted_mean.interval


def _time_saved(name: str, rng: Generator, n: int, seed: int) -> ours.Interval:
    a, b = _times(name, rng, n, 0.5), _times(name, rng, n)
    return ours.paired_times(a, b, HORIZON[name]).restricted.interval


def _rank_p(name: str, rng: Generator, n: int, seed: int) -> float:
    return ours.paired_times(_times(name, rng, n), _times(name, rng, n), HORIZON[name]).p_value


def _same_p(draw: Draw, rng: Generator, n: int, seed: int) -> float:
    return ours.paired_difference(draw(rng, n), draw(rng, n), seed=seed).p_value


def _mean_p(draw: Draw, rng: Generator, n: int, seed: int) -> float:
    return ours.sign_flip_p(draw(rng, n), seed=seed)


def _equivalence_p(
    method: str, draw: Draw, sign: float, rng: Generator, n: int, seed: int
) -> float:
    """The mean difference is the margin, so that equivalence is just not so."""
    differences = 3.0 + sign * draw(rng, n)
    if method == "sign-flip TOST":
        return ours.equivalence(differences, np.zeros(n), 3.0, seed=seed).p_value
    tails = (("greater", -3.0), ("less", 3.0))
    return max(float(stats.ttest_1samp(differences, m, alternative=k).pvalue) for k, m in tails)


def intervals() -> list[Interval]:
    rows = []
    for method in ("sign-flip", "percentile", "BCa", "Student t"):
        rows += [Interval(method, "mean", k, 0.0, partial(_mean, method, DATA[k])) for k in DATA]
    for tasks, where in ((1, "one task"), (4, "four tasks")):
        for k in DATA:
            rows.append(
                Interval(
                    "stratified percentile",
                    f"IQM, {where}",
                    k,
                    _iqm_truth(k, tasks),
                    partial(_iqm, DATA[k], tasks),
                )
            )
            rows.append(
                Interval(
                    "stratified percentile",
                    f"paired difference of IQM, {where}",
                    k,
                    0.5,
                    partial(_iqm_difference, DATA[k], tasks),
                )
            )
    rows += [Interval("Wilson", "rate", f"p = {p}", p, partial(_rate, p)) for p in (0.5, 0.8, 0.95)]
    rows.append(
        Interval(
            "Wilson",
            "probability of improvement, four tasks",
            "p = 0.5 to 0.99",
            float(UNEVEN.mean()),
            _share_of_tasks,
        )
    )
    rows += [
        Interval(
            method,
            "probability of improvement, not paired",
            f"{k}, p = 0.8",
            0.8,
            partial(_unpaired, method, k),
        )
        for method in ("Wilson", "stratified percentile")
        for k in DATA
    ]
    for k in HORIZON:
        truth = _restricted_truth(k)
        saved = _restricted_truth(k, 0.5) - truth
        rows += [
            Interval(
                "order statistics",
                "median time, 30% censored",
                k,
                MEDIAN[k],
                partial(_median_time, k),
            ),
            Interval(
                "sign-flip", "restricted mean time, 30% censored", k, truth, partial(_restricted, k)
            ),
            Interval(
                "sign-flip",
                "paired difference of restricted mean times",
                k,
                saved,
                partial(_time_saved, k),
            ),
        ]
    return rows


def tests() -> list[Test]:
    rows = [Test("sign-flip", "no difference", k, partial(_same_p, DATA[k])) for k in DATA]
    rows.append(
        Test("sign-flip", "mean difference 0", "skewed differences", partial(_mean_p, skewed))
    )
    for method in ("sign-flip TOST", "Student t TOST"):
        for k, data, sign in (
            ("normal", normal, 1),
            ("skewed outwards", skewed, 1),
            ("skewed inwards", skewed, -1),
        ):
            rows.append(
                Test(
                    method,
                    "difference equal to the margin",
                    k,
                    partial(_equivalence_p, method, data, sign),
                )
            )
    rows += [
        Test("sign-flip of ranks", "same times, 30% censored", k, partial(_rank_p, k))
        for k in HORIZON
    ]
    return rows


def measure(row: Interval | Test, seeds: int, replications: int) -> dict[str, Any]:
    """One row of the result, from a random stream that its name and the seeds decide."""
    names = {c: getattr(row, c) for c in COLUMNS}
    rng = np.random.default_rng([zlib.crc32("/".join(names.values()).encode()), seeds])
    return {**names, "seeds": seeds, **row.measure(rng, seeds, replications)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--out", type=Path, help="write the result there instead of to stdout")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"intervals": [], "tests": []}
    for part, rows in (("intervals", intervals()), ("tests", tests())):
        for row in rows:
            for seeds in SEEDS:
                found[part].append(measure(row, seeds, options.replications))
                print(*found[part][-1].values(), file=sys.stderr)
    text = json.dumps(
        {
            "schema": 1,
            "command": f"python benchmarks/coverage.py --replications {options.replications}",
            "nominal": 0.95,
            "level": ours.LEVEL,
            "replications": options.replications,
            "resamples": RESAMPLES,
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "scipy": scipy.__version__,
            },
            **found,
        },
        indent=1,
    )
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
