"""Must a gate lie between 0 and 1?"""

from __future__ import annotations

from statistics import median

from .. import experiments, sources
from ..contrast import Contrast, contrast
from ..experiments import INSIDE, OUTSIDE, SINGLE_GATES, plain
from ..findings import Findings
from ..grid import Arm
from ..lab import LEVEL
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import LOSS, TIME_MARGIN, from_contrasts, holm_of, lacking

__all__ = ["CLAIMS"]


def sigmoid_gates(findings: Findings) -> Judgement:
    """A part for all three gates together on two tasks, one for each gate alone on one."""
    together = {
        gate: [
            contrast(findings, Arm(task, "gate_activation", gate), plain(task))
            for task in ("adding", "reber")
        ]
        for gate in OUTSIDE
    }
    parts = [_part(findings, "all three gates", together)]
    for slot in SINGLE_GATES:
        alone = {
            gate: [contrast(findings, Arm("adding", slot, gate), plain("adding"))]
            for gate in ("penalized_tanh", "relu")
        }
        parts.append(_part(findings, slot.replace("_", " "), alone))
    return Judgement((*parts, _inside(findings)))


def _part(findings: Findings, name: str, groups: dict[str, list[Contrast | None]]) -> Part:
    flat = [c for group in groups.values() for c in group]
    if (part := lacking(name, flat)) is not None:
        return part
    found = {gate: from_contrasts(group) for gate, group in groups.items()}
    size = len(found)
    good = holm_of([max(c.not_worse for c in g) for g in found.values()], size)
    worse = holm_of([min(1.0, len(g) * min(c.worse for c in g)) for g in found.values()], size)
    effects = tuple(_effect(findings, c) for g in found.values() for c in g)
    clean = [not any(c.diverged[0] for c in g) for g in found.values()]
    passing = [g for g, p, ok in zip(found, good, clean, strict=True) if p <= LEVEL and ok]
    if passing:
        least = min(p for g, p in zip(found, good, strict=True) if g in passing)
        because = (
            f"{' and '.join(passing)} did not do worse than the sigmoid by the margin, and "
            f"no run diverged (p = {least:.3f}, corrected for {size} gates)."
        )
        return Part(name, Verdict.REFUTED, because, effects)
    if all(p <= LEVEL for p in worse):
        because = f"Every gate of another range did worse (p at most {max(worse):.3f}, corrected)."
        return Part(name, Verdict.HELD, because, effects)
    shown = [g for g, p in zip(found, worse, strict=True) if p <= LEVEL]
    because = "No gate of another range was shown to do as well"
    because += f"; {' and '.join(shown)} did worse." if shown else ", and none to do worse."
    return Part(name, Verdict.UNDECIDED, because, effects)


def _effect(findings: Findings, c: Contrast) -> Effect:
    """The contrast, with the median of the largest |c|."""
    found = c.effect()
    sizes = [
        [r.max_cell for r in findings.of(a) if r.max_cell is not None] for a in (c.arm, c.reference)
    ]
    if not all(sizes):
        return found
    note = f"{found.note}; largest |c| {median(sizes[0]):.3g}, the other {median(sizes[1]):.3g}"
    return Effect(**{**vars(found), "note": note.lstrip("; ")})


def _inside(findings: Findings) -> Part:
    """Context: other gates within (0, 1)."""
    found = from_contrasts(
        [
            contrast(findings, Arm(task, "gate_activation", gate), plain(task))
            for gate in INSIDE
            for task in ("adding", "reber")
        ]
    )
    return Part(
        "other gates between 0 and 1",
        None,
        "For comparison, not part of the claim.",
        tuple(_effect(findings, c) for c in found),
    )


def _gate(slot: str, name: str) -> Sentence:
    return Sentence(
        Question.GATES,
        f"{name}, alone, every other range that we tried was worse.",
        f"{name}, alone, another range did no harm that counts: {{because}}.",
        f"{name}, alone, our runs leave that open: {{because}}.",
        part=slot,
    )


CLAIMS = (
    Claim(
        key="sigmoid-gates",
        row="1",
        sentence="A gate must give values between 0 and 1, as the sigmoid does, to let through "
        "anything from nothing to everything.",
        said_by=(
            sources.QUESTION,
            sources.TALLEC_2018,
        ),
        experiments=(experiments.GATES,),
        measure=f"{LOSS}, on adding and Reber for all three gates, on adding for each alone",
        held_if="every gate of another range is worse on at least one task",
        refuted_if="a gate of another range is not worse than the sigmoid by the margin on all "
        "tasks, and no run of it diverged",
        judge=sigmoid_gates,
        margin=TIME_MARGIN,
        family="within each part, over its gates (3 or 2), one-sided",
        answers=(
            Sentence(
                Question.GATES,
                "With another range in all three gates at once, every one that we tried was worse.",
                "The range from 0 to 1 is not necessary in all three gates: {because}.",
                "Whether all three gates could have another range is left open: {because}.",
                part="all three gates",
            ),
            _gate("forget gate", "In the forget gate"),
            _gate("input gate", "In the input gate"),
            _gate("output gate", "In the output gate"),
        ),
    ),
)
