"""ReLU in tanh's place, on images, and leaky ReLU."""

from __future__ import annotations

import math
from statistics import median

from .. import experiments, sources
from ..contrast import Contrast, contrast
from ..experiments import PAIR, TASKS, plain
from ..findings import Findings
from ..grid import Arm
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import (
    LOSS,
    TIME_MARGIN,
    better_worse_same,
    from_contrasts,
    holm_of,
    lacking,
    measured,
    no_worse,
    not_run,
)

__all__ = ["CLAIMS"]

_WHERE = {"activation": "as both", "candidate": "as candidate", "cell_output": "as cell output"}


def _tuned(findings: Findings, arm: Arm) -> Arm:
    """The arm at its own rate where one was chosen, else as it is."""
    return arm.own if arm.task in findings.scale.tuned and findings.of(arm.own) else arm


def _fair(findings: Findings, arm: Arm, reference: Arm) -> Contrast | None:
    """The contrast at own rates where they were chosen, else at the shared one."""
    return contrast(findings, _tuned(findings, arm), _tuned(findings, reference))


# ---- in tanh's place -------------------------------------------------------------------------


def replaces_tanh(findings: Findings) -> Judgement:
    """ReLU as candidate, as cell output, as both: not worse than tanh on all of three tasks?"""
    groups = {
        _WHERE[slot]: [_fair(findings, Arm(task, slot, "relu"), plain(task)) for task in TASKS]
        for slot in PAIR
    }
    parts = no_worse(groups, len(PAIR))
    shared = from_contrasts(
        [
            contrast(findings, Arm(task, slot, "relu"), plain(task))
            for slot in PAIR
            for task in TASKS
        ]
    )
    beside = Part(
        "at the shared learning rate", None, "For comparison.", tuple(c.effect() for c in shared)
    )
    return Judgement((*parts, beside))


def vision(findings: Findings) -> Judgement:
    """ReLU on images read pixel by pixel, plain; with the identity for comparison."""
    relu, identity = (
        Arm("pixels", "activation", "relu", changes) for changes in ((), (("initial", "identity"),))
    )
    groups = {"plain ReLU is not worse than tanh": [_fair(findings, relu, plain("pixels"))]}
    beside = from_contrasts(
        [
            contrast(findings, relu, plain("pixels")),
            _fair(findings, identity, plain("pixels")),
            _fair(findings, identity, relu),
        ]
    )
    part = Part(
        "shared rate, and the identity as recurrent matrix",
        None,
        "For comparison. Layer normalisation, the other help that the literature names, is "
        "not in this library and was not run.",
        tuple(c.effect() for c in beside),
    )
    return Judgement((*no_worse(groups, 1), part))


# ---- leaky -----------------------------------------------------------------------------------

_SLOPES = {"0.01": "leaky_relu", "0.3": "leaky_relu(k=0.3)"}


def leaky(findings: Findings) -> Judgement:
    """The slope for z <= 0 by formula, and the outcome of training with two slopes on two tasks."""
    found = {
        (k, task): contrast(
            findings, Arm(task, "activation", name), Arm(task, "activation", "relu")
        )
        for k, name in _SLOPES.items()
        for task in ("adding", "rows")
    }
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
    because = (
        f"Better in none of {size} comparisons, and equivalence shown in "
        f"{outcome.count('same')} ({corrected})."
    )
    return Part(name, Verdict.UNDECIDED, because, effects)


def _dead(findings: Findings) -> Part:
    """Context: units whose slope is zero at every step of every sequence, and zero slopes."""
    effects = []
    for name in ("relu", *_SLOPES.values()):
        arm = Arm("adding", "activation", name)
        dead = [r.dead["candidate"] for r in findings.of(arm) if "candidate" in r.dead]
        zero = measured(findings, arm, "zero_slope", "candidate")
        if dead:
            effects.append(
                Effect(
                    f"units without any slope, {name}",
                    100 * math.fsum(dead) / len(dead),
                    "%",
                    n=len(dead),
                    format=".1f",
                    diverged=findings.diverged_of(arm),
                )
            )
        if zero:
            effects.append(
                Effect(
                    f"zero slopes, {name}",
                    100 * median(zero),
                    "%",
                    n=len(zero),
                    format=".1f",
                    diverged=findings.diverged_of(arm),
                )
            )
    return Part("dead units", None, "Of the candidate, after training on adding.", tuple(effects))


CLAIMS = (
    Claim(
        key="relu-vision",
        row="6",
        sentence="ReLU found much success in computer vision, so it is good here too.",
        said_by=(
            sources.QUESTION,
            sources.LE_2015,
            sources.COOIJMANS_2017,
        ),
        experiments=(experiments.VISION,),
        measure="test error on 8x8 digits read pixel by pixel, at own learning rates",
        held_if="plain ReLU is not worse than tanh by the margin",
        refuted_if="plain ReLU is worse than tanh",
        judge=vision,
        margin="2 points of accuracy (full: 1)",
        family="none: one comparison, one-sided",
        answers=(
            Sentence(
                Question.REPLACEMENT,
                "On images read pixel by pixel ReLU was not worse than tanh.",
                "On images read pixel by pixel ReLU was worse than tanh: success in computer "
                "vision did not carry over.",
                "On images read pixel by pixel our runs do not decide between ReLU and tanh.",
                part="plain ReLU is not worse than tanh",
            ),
        ),
    ),
    Claim(
        key="leaky-relu",
        row="7",
        sentence="Leaky ReLU lets an error propagate for z <= 0, which ReLU does not.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FORMULAS,
            experiments.LEAKY,
        ),
        measure=f"the slope; {LOSS}, on adding, and the test error on digits by rows, for the "
        "slopes 0.01 and 0.3",
        held_if="the slope is not zero; leaky ReLU is better in at least one comparison",
        refuted_if="it is equivalent within the margin, or worse, in all of them",
        judge=leaky,
        margin=f"{TIME_MARGIN}; 2 points of accuracy (full: 1)",
        family="over the four comparisons, two-sided",
        answers=(
            Sentence(
                Question.REPLACEMENT,
                "Leaky ReLU was better than ReLU: {because}.",
                "Leaky ReLU was no better than ReLU: {because}.",
                "Whether leaky ReLU is better than ReLU is left open.",
                part="and so it trains better than ReLU",
            ),
            Sentence(
                Question.COST,
                "Leaky ReLU has a slope for z <= 0, ReLU has none.",
                "Leaky ReLU has no slope for z <= 0 either.",
                "The slope of leaky ReLU was not computed.",
                part="for z <= 0 it passes an error on, ReLU does not",
            ),
        ),
    ),
    Claim(
        key="relu-for-tanh",
        row="9",
        sentence="ReLU can be used in place of tanh.",
        said_by=(
            sources.QUESTION,
            sources.LIGRU,
            sources.KERAS_ISSUES,
        ),
        experiments=(experiments.REPLACEMENT,),
        measure=f"{LOSS}, on adding and Reber, and the test error on digits by rows",
        held_if="ReLU is not worse than tanh by the margin on all three tasks",
        refuted_if="it is worse on at least one of them",
        judge=replaces_tanh,
        margin=f"{TIME_MARGIN}; 2 points of accuracy (full: 1)",
        family="over the three places, one-sided",
        answers=(
            Sentence(
                Question.REPLACEMENT,
                "As candidate, with tanh kept at the output, ReLU was not worse on any of our "
                "three small tasks.",
                "As candidate, with tanh kept at the output, ReLU was worse on at least one of "
                "our three small tasks.",
                "As candidate, with tanh kept at the output, ReLU is left open on at least one of "
                "our three small tasks.",
                part="as candidate",
            ),
            Sentence(
                Question.REPLACEMENT,
                "As cell output, with tanh kept at the input, it was not worse on any.",
                "As cell output, with tanh kept at the input, it was worse on at least one.",
                "As cell output, with tanh kept at the input, it is left open on at least one.",
                part="as cell output",
            ),
            Sentence(
                Question.REPLACEMENT,
                "In both places at once it was not worse on any.",
                "In both places at once it was worse on at least one.",
                "In both places at once it is left open on at least one.",
                part="as both",
            ),
        ),
    ),
)
