"""ReLU and leaky ReLU in an LSTM: saturation, stability, and in tanh's place."""

from __future__ import annotations

import math
from statistics import median

from ...statistics import LEVEL, MIN_SEEDS_FOR_CLAIM, paired_difference, wilson
from ..contrast import Contrast, contrast
from ..experiments import PAIR, STABILITY, TASKS, plain
from ..findings import Findings
from ..grid import Arm
from ..model import Effect, Judgement, Part, Verdict
from .common import better_worse_same, from_contrasts, holm_of, lacking, measured, no_worse, not_run

__all__ = ["leaky", "no_saturation", "replaces_tanh", "vision"]

_WHERE = {"activation": "as both", "candidate": "as candidate", "cell_output": "as cell output"}


def _tuned(findings: Findings, arm: Arm) -> Arm:
    """The arm at its own rate where one was chosen, else as it is."""
    return arm.own if arm.task in findings.scale.tuned and findings.of(arm.own) else arm


def _fair(findings: Findings, arm: Arm, reference: Arm) -> Contrast | None:
    """The contrast at own rates where they were chosen, else at the shared one."""
    return contrast(findings, _tuned(findings, arm), _tuned(findings, reference))


# ---- does it saturate, does it stay finite ---------------------------------------------------


def no_saturation(findings: Findings) -> Judgement:
    """The slope by formula; the state and its overflows in trained networks."""
    return Judgement((
        _slope(findings),
        _clipped_divergence(findings),
        _grid_divergence(findings),
        _further(findings),
        _inside(findings),
    ))  # fmt: skip


def _slope(findings: Findings) -> Part:
    name = "for z > 0 the slope stays 1"
    unit = findings.experiment("formulas").get("units", {}).get("relu")
    if not unit:
        return not_run(name)
    held = all(unit["slope"][z] == 1 for z in ("0.5", "2", "10"))
    effects = (Effect("slope at z = 10", unit["slope"]["10"]),
               Effect("slope at z = -10", unit["slope"]["-10"]))  # fmt: skip
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
        Effect("diverged runs of ReLU as both, clipped at 1", 100 * bad / runs, "%",
               100 * rate.low, 100 * rate.high, rate.confidence, runs, format=".0f",
               diverged=f"{bad} of {runs}"),
        *(Effect(f"on {findings.scale.setups[arm.task].make().title}, at its {arm.rate} rate",
                 100 * findings.diverged(arm) / len(findings.of(arm)), "%", n=len(findings.of(arm)),
                 format=".0f", diverged=findings.diverged_of(arm)) for arm in arms),
    )  # fmt: skip
    if bad:
        worst = max(arms, key=lambda arm: findings.diverged(arm) / len(findings.of(arm)))
        title = findings.scale.setups[worst.task].make().title
        because = (f"{bad} of {runs} runs diverged, {findings.diverged_of(worst)} on the "
                   f"{title}.")  # fmt: skip
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
        *(Effect(f"diverged runs, {unit}", sum(found), f"of {runs}", format=".0f",
                 diverged=f"{sum(found):.0f} of {runs}")
          for unit, found in (("ReLU", relu), ("tanh", tanh))),
        Effect(f"difference a seed, of {cells} settings", d.mean, "", d.interval.low,
               d.interval.high, d.interval.confidence, d.n, format="+.2f",
               diverged=f"{sum(relu):.0f} and {sum(tanh):.0f} of {runs}"),
    )  # fmt: skip
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
    return {s: float(sum(r.diverged is not None for runs in grid for r in runs if r.seed == s))
            for s in seeds}  # fmt: skip


def _further(findings: Findings) -> Part:
    """Context: the same settings on seeds that were run later, for their divergences alone."""
    found = findings.experiment("further-seeds").get("arms", {})
    effects = tuple(
        Effect(f"`{name}`, seeds {seen['seeds'][0]} to {seen['seeds'][-1]}",
               100 * len(seen["diverged"]) / len(seen["seeds"]), "% diverged",
               n=len(seen["seeds"]), format=".0f",
               diverged=f"{len(seen['diverged'])} of {len(seen['seeds'])}")
        for name, seen in found.items()
    )  # fmt: skip
    because = (
        "Run after this page had been published, by benchmarks/divergence.py, for their "
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
            effects.append(Effect(f"largest |c| after training, {unit}", median(sizes),
                                  n=len(sizes), format=".3g",
                                  diverged=findings.diverged_of(arm)))  # fmt: skip
        for key, name, scale in (
            (("zero_slope", "candidate"), "zero slopes of the candidate", 100.0),
            (("cell_half",), "change of ||dL/dc|| over half of the steps", 1.0),
        ):
            if found := measured(findings, arm, *key):
                unit_of = "%" if scale == 100 else "decades"
                effects.append(Effect(f"{name}, {unit}", scale * median(found), unit_of,
                                      n=len(found), format=".2f",
                                      diverged=findings.diverged_of(arm)))  # fmt: skip
    because = "Measured on the adding problem after training; medians over seeds."
    return Part("inside", None, because, tuple(effects))


# ---- in tanh's place -------------------------------------------------------------------------


def replaces_tanh(findings: Findings) -> Judgement:
    """ReLU as candidate, as cell output, as both: not worse than tanh on all of three tasks?"""
    groups = {
        _WHERE[slot]: [_fair(findings, Arm(task, slot, "relu"), plain(task)) for task in TASKS]
        for slot in PAIR
    }
    parts = no_worse(groups, len(PAIR))
    shared = from_contrasts([
        contrast(findings, Arm(task, slot, "relu"), plain(task)) for slot in PAIR for task in TASKS
    ])  # fmt: skip
    beside = Part("at the shared learning rate", None, "For comparison.",
                  tuple(c.effect() for c in shared))  # fmt: skip
    return Judgement((*parts, beside))


def vision(findings: Findings) -> Judgement:
    """ReLU on images read pixel by pixel, plain; with the identity for comparison."""
    relu, identity = (Arm("pixels", "activation", "relu", changes)
                      for changes in ((), (("initial", "identity"),)))  # fmt: skip
    groups = {"plain ReLU is not worse than tanh": [_fair(findings, relu, plain("pixels"))]}
    beside = from_contrasts([
        contrast(findings, relu, plain("pixels")),
        _fair(findings, identity, plain("pixels")),
        _fair(findings, identity, relu),
    ])  # fmt: skip
    part = Part("shared rate, and the identity as recurrent matrix", None,
                "For comparison. Layer normalisation, the other help that the literature names, is "
                "not in this library and was not run.",
                tuple(c.effect() for c in beside))  # fmt: skip
    return Judgement((*no_worse(groups, 1), part))


# ---- leaky -----------------------------------------------------------------------------------

_SLOPES = {"0.01": "leaky_relu", "0.3": "leaky_relu(k=0.3)"}


def leaky(findings: Findings) -> Judgement:
    """What it passes by formula, and whether that helps, for two slopes on two tasks."""
    found = {
        (k, task): contrast(findings, Arm(task, "activation", name),
                            Arm(task, "activation", "relu"))
        for k, name in _SLOPES.items() for task in ("adding", "rows")
    }  # fmt: skip
    return Judgement((_passes(findings), _outcome(found), _dead(findings)))


def _passes(findings: Findings) -> Part:
    name = "for z <= 0 it passes an error on, ReLU does not"
    units = findings.experiment("formulas").get("units")
    if not units:
        return not_run(name)
    leak, none = (units[u]["slope"]["-2"] for u in ("leaky_relu", "relu"))
    effects = (Effect("slope of leaky ReLU at z = -2", leak), Effect("slope of ReLU there", none))
    held = leak != 0 and none == 0
    return Part(name, Verdict.HELD if held else Verdict.REFUTED, "By the formula.", effects)


def _outcome(found: dict[tuple[str, str], Contrast | None]) -> Part:
    name = "and so it trains better than ReLU"
    if (part := lacking(name, list(found.values()))) is not None:
        return part
    contrasts = from_contrasts(list(found.values()))
    size = len(contrasts)
    different = holm_of([c.difference.p_value for c in contrasts], size)
    same = holm_of([c.same for c in contrasts], size)
    outcome = [
        better_worse_same(c, p, q, size, first="relu", second=c.arm.activation)[0]
        for c, p, q in zip(contrasts, different, same, strict=True)
    ]
    effects = tuple(c.effect() for c in contrasts)
    corrected = f"corrected for {size}"
    if "arm" in outcome:
        p = min(p for p, o in zip(different, outcome, strict=True) if o == "arm")
        where = outcome.count("arm")
        because = f"Better in {where} of {size} comparisons (p = {p:.3f}, {corrected})."
        return Part(name, Verdict.HELD, because, effects)
    if all(o in ("same", "reference") for o in outcome):
        because = f"Equivalent or worse in all {size} comparisons ({corrected})."
        return Part(name, Verdict.REFUTED, because, effects)
    because = (f"Better in none of {size} comparisons, and equivalence shown in "
               f"{outcome.count('same')} ({corrected}).")  # fmt: skip
    return Part(name, Verdict.UNDECIDED, because, effects)


def _dead(findings: Findings) -> Part:
    """Context: units whose slope is zero at every step of every sequence, and zero slopes."""
    effects = []
    for name in ("relu", *_SLOPES.values()):
        arm = Arm("adding", "activation", name)
        dead = [r.dead["candidate"] for r in findings.of(arm) if "candidate" in r.dead]
        zero = measured(findings, arm, "zero_slope", "candidate")
        if dead:
            effects.append(Effect(f"units without any slope, {name}", 100 * math.fsum(dead)
                                  / len(dead), "%", n=len(dead), format=".1f",
                                  diverged=findings.diverged_of(arm)))  # fmt: skip
        if zero:
            effects.append(Effect(f"zero slopes, {name}", 100 * median(zero), "%", n=len(zero),
                                  format=".1f", diverged=findings.diverged_of(arm)))  # fmt: skip
    return Part("dead units", None, "Of the candidate, after training on adding.", tuple(effects))
