"""ReLU in an LSTM: does it saturate, does it stay finite?"""

from __future__ import annotations

from statistics import median

from .. import experiments, sources
from ..experiments import STABILITY, plain
from ..findings import Findings
from ..grid import Arm
from ..lab import LEVEL, MIN_SEEDS_FOR_CLAIM, paired_difference, wilson
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import measured, not_run

__all__ = ["CLAIMS"]


# ---- does it saturate, does it stay finite ---------------------------------------------------


def no_saturation(findings: Findings) -> Judgement:
    """The slope by formula; the state and its overflows in trained networks."""
    return Judgement(
        (
            _slope(findings),
            _clipped_divergence(findings),
            _grid_divergence(findings),
            _further(findings),
            _inside(findings),
        )
    )


def _slope(findings: Findings) -> Part:
    name = "for z > 0 the slope stays 1"
    unit = findings.experiment("formulas").get("units", {}).get("relu")
    if not unit:
        return not_run(name)
    held = all(unit["slope"][z] == 1 for z in ("0.5", "2", "10"))
    effects = (
        Effect("slope at z = 10", unit["slope"]["10"]),
        Effect("slope at z = -10", unit["slope"]["-10"]),
    )
    because = "By the formula; for z <= 0 it is exactly 0, on half of the line."
    return Part(name, Verdict.HELD if held else Verdict.REFUTED, because, effects)


def _clipped_divergence(findings: Findings) -> Part:
    """Every run of ReLU in both slots whose gradient was clipped, on every task and at every rate:
    none is left out."""
    name = "with clipping no run leaves the finite numbers"
    both = [Arm(task, "activation", "relu") for task in findings.scale.setups]
    arms = [arm for one in both for arm in (one, one.own) if findings.runs.get(arm.name)]
    runs = sum(len(findings.of(arm)) for arm in arms)
    if not runs:
        return not_run(name)
    bad = sum(findings.diverged(arm) for arm in arms)
    rate = wilson(bad, runs)
    effects = (
        Effect(
            "diverged runs of ReLU as both, clipped at 1",
            100 * bad / runs,
            "%",
            100 * rate.low,
            100 * rate.high,
            rate.confidence,
            runs,
            format=".0f",
            diverged=f"{bad} of {runs}",
        ),
        *(
            Effect(
                f"on {findings.scale.setups[arm.task].make().title}, at its {arm.rate} rate",
                100 * findings.diverged(arm) / len(findings.of(arm)),
                "%",
                n=len(findings.of(arm)),
                format=".0f",
                diverged=findings.diverged_of(arm),
            )
            for arm in arms
        ),
    )
    if bad:
        worst = max(arms, key=lambda arm: findings.diverged(arm) / len(findings.of(arm)))
        title = findings.scale.setups[worst.task].make().title
        because = f"{bad} of {runs} runs diverged, {findings.diverged_of(worst)} on the {title}."
        return Part(name, Verdict.REFUTED, because, effects)
    if runs < MIN_SEEDS_FOR_CLAIM:
        return Part(name, Verdict.UNDECIDED, f"Only {runs} runs.", effects)
    because = f"None of {runs} runs diverged; a rate of up to {rate.high:.0%} could stay unseen."
    return Part(name, Verdict.HELD, because, effects)


def _grid_divergence(findings: Findings) -> Part:
    """Without clipping: how many settings of rate and forget bias blow up, seed by seed."""
    name = "without clipping it is as stable as tanh"
    counts = {unit: _diverged_by_seed(findings, unit) for unit in ("relu", "tanh")}
    seeds = sorted(counts["relu"].keys() & counts["tanh"].keys())
    if not seeds:
        return not_run(name)
    relu, tanh = ([counts[u][s] for s in seeds] for u in ("relu", "tanh"))
    d = paired_difference(relu, tanh)
    cells = len(STABILITY) // 2
    runs = cells * len(seeds)
    effects = (
        *(
            Effect(
                f"diverged runs, {unit}",
                sum(found),
                f"of {runs}",
                format=".0f",
                diverged=f"{sum(found):.0f} of {runs}",
            )
            for unit, found in (("ReLU", relu), ("tanh", tanh))
        ),
        Effect(
            f"difference a seed, of {cells} settings",
            d.mean,
            "",
            d.interval.low,
            d.interval.high,
            d.interval.confidence,
            d.n,
            format="+.2f",
            diverged=f"{sum(relu):.0f} and {sum(tanh):.0f} of {runs}",
        ),
    )
    if d.n < MIN_SEEDS_FOR_CLAIM:
        return Part(name, Verdict.UNDECIDED, f"Only {d.n} paired seeds.", effects)
    if d.p_value <= LEVEL and d.mean > 0:
        return Part(name, Verdict.REFUTED, f"It diverges more: p = {d.p_value:.3f}.", effects)
    if not any(relu):
        unseen = wilson(0, runs).high
        because = (
            f"None of {runs} short runs of ReLU diverged; a rate of up to {unseen:.0%} could stay "
            "unseen, and no margin says what would be as stable."
        )
        return Part(name, Verdict.UNDECIDED, because, effects)
    return Part(name, Verdict.UNDECIDED, f"No difference is shown: p = {d.p_value:.3f}.", effects)


def _diverged_by_seed(findings: Findings, unit: str) -> dict[int, float]:
    """Seed -> how many settings of the grid diverged; only seeds that all settings have."""
    grid = [findings.of(arm) for arm in STABILITY if arm.activation == unit]
    seeds = set.intersection(*({r.seed for r in runs} for runs in grid)) if grid else set()
    return {
        s: float(sum(r.diverged is not None for runs in grid for r in runs if r.seed == s))
        for s in seeds
    }


def _further(findings: Findings) -> Part:
    """Context: the same settings on seeds that were run later, for their divergences alone."""
    found = findings.experiment("further-seeds").get("arms", {})
    effects = tuple(
        Effect(
            f"`{name}`, seeds {seen['seeds'][0]} to {seen['seeds'][-1]}",
            100 * len(seen["diverged"]) / len(seen["seeds"]),
            "% diverged",
            n=len(seen["seeds"]),
            format=".0f",
            diverged=f"{len(seen['diverged'])} of {len(seen['seeds'])}",
        )
        for name, seen in found.items()
    )
    because = (
        "Run after this page had been published, by `python -m studies.further_seeds`, for their "
        "divergences alone; no verdict rests on them."
        if effects
        else "None were run."
    )
    return Part("further seeds", None, because, effects)


def _inside(findings: Findings) -> Part:
    """Context: the state, zero slopes and the gradient over lag in trained networks."""
    effects = []
    arms = {"ReLU": Arm("adding", "activation", "relu"), "tanh": plain("adding")}
    for unit, arm in arms.items():
        sizes = [r.max_cell for r in findings.of(arm) if r.max_cell is not None]
        if sizes:
            effects.append(
                Effect(
                    f"largest |c| after training, {unit}",
                    median(sizes),
                    n=len(sizes),
                    format=".3g",
                    diverged=findings.diverged_of(arm),
                )
            )
        for key, name, scale in (
            (("zero_slope", "candidate"), "zero slopes of the candidate", 100.0),
            (("cell_half",), "change of ||dL/dc|| over half of the steps", 1.0),
        ):
            if found := measured(findings, arm, *key):
                unit_of = "%" if scale == 100 else "decades"
                effects.append(
                    Effect(
                        f"{name}, {unit}",
                        scale * median(found),
                        unit_of,
                        n=len(found),
                        format=".2f",
                        diverged=findings.diverged_of(arm),
                    )
                )
    because = "Measured on the adding problem after training; medians over seeds."
    return Part("inside", None, because, tuple(effects))


CLAIMS = (
    Claim(
        key="relu-no-saturation",
        speaks_of=("relu",),
        row="5",
        sentence="ReLU does not saturate even for large values of z, so use it.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FORMULAS,
            experiments.REPLACEMENT,
            experiments.UNCLIPPED,
            experiments.LEAKY,
        ),
        measure="the slope; the share of diverged runs with clipping, on all tasks and at all "
        "rates, and without clipping over learning rates and forget biases",
        held_if="the slope is 1 for z > 0 and no run diverges with clipping; that no run diverges "
        "without clipping holds nothing, for no margin says what is as stable",
        refuted_if="a run diverges with clipping, or without it more settings diverge than with "
        "tanh",
        judge=no_saturation,
        family="none: each part is a question of its own",
        answers=(
            Sentence(
                Question.COST,
                "The slope of ReLU stays 1 however large z is, and is exactly 0 for z <= 0.",
                "The slope of ReLU does not stay 1.",
                "The slope of ReLU was not computed.",
                part="for z > 0 the slope stays 1",
            ),
            Sentence(
                Question.COST,
                "With clipping ReLU stayed within the finite numbers: {because}.",
                "Even with clipping ReLU left the finite numbers: {because}.",
                "Whether ReLU stays finite with clipping is left open.",
                part="with clipping no run leaves the finite numbers",
            ),
            Sentence(
                Question.CONSEQUENCES,
                "Clipping: without it ReLU was as stable as tanh over the rates and biases tried.",
                "Clipping: without it ReLU left the finite numbers more often than tanh, so clip "
                "the gradient's norm.",
                "Clipping: over the rates and biases tried, whether ReLU without it is less "
                "stable than tanh is left open: {because}.",
                part="without clipping it is as stable as tanh",
            ),
        ),
    ),
)
