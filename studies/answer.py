"""The answer to the question: what the literature says, and what follows from verdicts.

A sentence is the literature's, with its source (`Cited`), or a claim's (`Sentence`, in the claim
itself), with a wording for each verdict, or it is made of numbers. Nothing is worded before it is
judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from .claims import CLAIMS
from .contrast import contrast
from .experiments import ABLATIONS, TASKS, on, plain
from .findings import Findings
from .grid import Arm
from .lab import MIN_SEEDS_FOR_CLAIM
from .model import Claim, Judgement, Question, Sentence, Verdict

__all__ = ["ANSWER", "answer", "worded"]


@dataclass(frozen=True)
class Cited:
    """A sentence that stands on a source alone."""

    text: str
    source: str

    def __str__(self) -> str:
        return f"{self.text} [{self.source}]"


@dataclass(frozen=True)
class Paragraph:
    """The frame of the claims' sentences on a question. opening, closing: the literature's.
    numbers: sentences made from the findings, "" where those are not there. command: to try it."""

    command: str
    opening: tuple[Cited, ...] = ()
    closing: tuple[Cited, ...] = ()
    numbers: tuple[Callable[[Findings], str], ...] = ()


def answer(judged: Mapping[str, Judgement], findings: Findings) -> list[tuple[str, str, str]]:
    """Each question with its paragraph and its command."""
    return [
        (question.value, _text(question, around, judged, findings), around.command)
        for question, around in ANSWER.items()
    ]


def _text(
    question: Question, around: Paragraph, judged: Mapping[str, Judgement], findings: Findings
) -> str:
    said = [
        worded(sentence, CLAIMS[key], judgement)
        for key, judgement in judged.items()
        for sentence in CLAIMS[key].answers
        if sentence.question is question
    ]
    numbers = [number(findings) for number in around.numbers]
    every = [*map(str, around.opening), *said, *map(str, around.closing), *numbers]
    return " ".join(text for text in every if text)


def worded(sentence: Sentence, claim: Claim, judgement: Judgement) -> str:
    """The wording for the verdict, with a link to the claim."""
    part = judgement.part(sentence.part) if sentence.part else None
    verdict = part.verdict if part else judgement.verdict
    link = f"([{claim.row}](#claim-{claim.row}))"
    because = part.because.rstrip(".") if part else ""
    if verdict in (None, Verdict.UNDECIDED, Verdict.WITHDRAWN):
        return f"{sentence.undecided.format(because=_inside_a_sentence(because))} {link}"
    wording = sentence.held if verdict is Verdict.HELD else sentence.refuted
    if not wording.startswith("{because}"):
        because = _inside_a_sentence(because)
    return f"{wording.format(because=because, **sentence.values(judgement))} {link}"


def _inside_a_sentence(reason: str) -> str:
    """Without its capital, unless that is a name's (ReLU)."""
    first = reason.split(" ", 1)[0]
    return reason if first[1:] != first[1:].lower() else reason[:1].lower() + reason[1:]


# ---- sentences that are made of numbers ------------------------------------------------------


def _rates(findings: Findings) -> str:
    """The learning rates that were chosen."""
    chosen = []
    for task in findings.scale.tuned:
        found = {
            unit: findings.rates.get(Arm(task, "activation", unit).own.name)
            for unit in ("tanh", "relu", "sigmoid")
        }
        said = [f"{rate:g} for {unit}" for unit, rate in found.items() if rate]
        if len(said) > 1:
            title = findings.scale.setups[task].make().title
            chosen.append(f"{', '.join(said)} on {title}")
    if not chosen:
        return ""
    seeds = findings.scale.tuning
    return (
        f"Learning rates that were best on {seeds} seeds of their own, of a coarse grid: "
        f"{'; '.join(chosen)}. A rate that is shared by all can make either look bad."
    )


def _state(findings: Findings) -> str:
    """The largest |c| with ReLU and with tanh."""
    arms = {"tanh": Arm("adding"), "ReLU": Arm("adding", "activation", "relu")}
    sizes = {}
    for name, arm in arms.items():
        found = [r.max_cell for r in findings.of(arm) if r.max_cell is not None]
        if found:
            sizes[name] = median(found)
    if len(sizes) < 2:
        return ""
    return (
        f"After training on adding the largest |c| was {sizes['ReLU']:.3g} with ReLU in both "
        f"slots and {sizes['tanh']:.3g} with tanh (medians, [5](#claim-5))."
    )


def _ablated(findings: Findings) -> str:
    """Our ablations whose interval leaves zero out."""
    found: dict[str, list[str]] = {"Worse": [], "Better": []}
    for name, arm in ABLATIONS.items():
        for task in TASKS:
            c = contrast(findings, on(task, arm), plain(task))
            if c is None or c.n < MIN_SEEDS_FOR_CLAIM or c.difference.interval.contains(0):
                continue
            title = findings.scale.setups[task].make().title
            found["Worse" if c.difference.mean > 0 else "Better"].append(f"{name} on {title}")
    said = [f"{label}: {'; '.join(names)}" for label, names in found.items() if names]
    if not said:
        return ""
    return (
        f"In our own ablations (table above, not corrected for their number) the 95 % interval "
        f"leaves zero out for these. {'. '.join(said)}."
    )


def _further_seeds(findings: Findings) -> str:
    """The divergences of seeds that were run later."""
    found = findings.experiment("further-seeds").get("arms", {})
    parts = [
        f"{len(seen['diverged'])} of {len(seen['seeds'])} runs of `{name}`"
        for name, seen in found.items()
    ]
    if not parts:
        return ""
    return f"On further seeds there diverged {'; '.join(parts)} ([5](#claim-5))."


def _chrono(findings: Findings) -> str:
    """The effect of chrono's biases."""
    arms = {
        "chrono initialisation": plain("long", initial="chrono"),
        "a forget bias of 1": plain("long"),
    }
    if not all(findings.of(arm) for arm in arms.values()):
        return ""
    found = [
        f"{findings.solved(arm)} of {len(findings.of(arm))} runs with {name}"
        for name, arm in arms.items()
    ]
    title = findings.scale.setups["long"].make().title
    return (
        f"For long memories start with larger forget biases [Tallec & Ollivier 2018]; on the "
        f"{title} {' and '.join(found)} solved the task (see the table above)."
    )


# ---- the frame of the claims' sentences -------------------------------------------------------

ANSWER: Mapping[Question, Paragraph] = {
    Question.GATES: Paragraph(
        "anygate compare sigmoid hard_sigmoid penalized_tanh relu --slot forget_gate --task reber",
        opening=(
            Cited(
                "A gate multiplies. At 0 nothing passes, at 1 everything, and a forget gate that "
                "learns both can keep a memory or drop it.",
                "Gers et al. 2000",
            ),
        ),
        closing=(
            Cited(
                "Exponential gates are used elsewhere, with a normaliser and a stabiliser beside "
                "them.",
                "Beck et al. 2024",
            ),
        ),
    ),
    Question.TANH: Paragraph(
        "anygate compare tanh sigmoid softsign relu --task adding:50",
        opening=(
            Cited(
                "In the ablations of the literature the output activation is, with the forget "
                "gate, the part that can least be left out; the reason given is that the memory "
                "cell is not bounded.",
                "Greff et al. 2017",
            ),
        ),
    ),
    Question.NONLINEARITY: Paragraph(
        "anygate compare tanh x --slot cell_output --task reber",
        opening=(
            Cited(
                "No. Five functions stand in five places and do different jobs, and leaving one "
                "out is critical in some places and not in others.",
                "Greff et al. 2017",
            ),
        ),
        numbers=(_ablated,),
    ),
    Question.REPLACEMENT: Paragraph(
        "anygate compare tanh relu leaky_relu hard_tanh --slot candidate --task adding:50 "
        "--learning-rates 0.005 0.02 0.04",
    ),
    Question.COST: Paragraph(
        "anygate show hard_tanh",
        closing=(
            Cited(
                "On larger tasks others saw LSTMs with ReLU become NaN.",
                "Keras issues 2194, 13221",
            ),
            Cited(
                "Unbounded ReLU candidates of a gated network exploded on large speech corpora "
                "until they were normalised.",
                "Li-GRU, arXiv:1710.00641",
            ),
        ),
        numbers=(_state,),
    ),
    Question.CONSEQUENCES: Paragraph(
        "anygate compare tanh relu --task adding:50 --gradient-clip 0 --forget-bias 3",
        numbers=(_further_seeds, _chrono, _rates),
    ),
}
"""In the order of the page."""
