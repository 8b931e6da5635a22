"""The answer to the question, in sentences that follow from verdicts.

A sentence names the claim (and part) that it stands on and has a wording for each verdict; or it
names a source. Nothing is worded before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .claims import CLAIMS
from .findings import Findings
from .grid import Arm
from .model import Judgement, Verdict

__all__ = ["ANSWER", "Question", "Said", "answer"]

Judgements = Mapping[str, Judgement]


@dataclass(frozen=True)
class Said:
    """One sentence. claim: what it stands on, part: of that claim ("" for the whole). held,
    refuted, undecided: its wordings. source: for a sentence that stands on a source alone, held
    being its only wording."""

    held: str
    refuted: str = ""
    undecided: str = ""
    claim: str = ""
    part: str = ""
    source: str = ""

    def text(self, judged: Judgements) -> str:
        """The wording for the verdict, with its reference; nothing if the claim was not judged."""
        if self.source:
            return f"{self.held} [{self.source}]"
        if self.claim not in judged:
            return ""
        whole = judged[self.claim]
        verdict = whole.part(self.part).verdict if self.part else whole.verdict
        words = {Verdict.HELD: self.held, Verdict.REFUTED: self.refuted}
        row = CLAIMS[self.claim].row
        return f"{words.get(verdict or Verdict.UNDECIDED, self.undecided)} ([{row}](#claim-{row}))"


@dataclass(frozen=True)
class Question:
    """A question with its sentences; `numbers` makes more from the findings."""

    title: str
    said: tuple[Said, ...]
    numbers: Callable[[Findings], str] | None = None


def answer(judged: Judgements, findings: Findings) -> list[tuple[str, str]]:
    """Each question with its paragraph."""
    made = []
    for question in ANSWER:
        sentences = [said.text(judged) for said in question.said]
        if question.numbers:
            sentences.append(question.numbers(findings))
        made.append((question.title, " ".join(s for s in sentences if s)))
    return made


# ---- sentences that are made of numbers ------------------------------------------------------


def _rates(findings: Findings) -> str:
    """Which learning rates were chosen."""
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
    """How large the state grows."""
    arms = {"tanh": Arm("adding"), "ReLU": Arm("adding", "activation", "relu")}
    sizes = {}
    for name, arm in arms.items():
        found = sorted(r.max_cell for r in findings.of(arm) if r.max_cell is not None)
        if found:
            sizes[name] = found[len(found) // 2]
    if len(sizes) < 2:
        return ""
    return (f"After training on adding the largest |c| was {sizes['ReLU']:.3g} with ReLU in both "
            f"slots and {sizes['tanh']:.3g} with tanh (medians, [5](#claim-5)).")  # fmt: skip


_FORGET = Said(
    "Through the memory cell alone a gradient shrinks by the product of the forget gates and by "
    "nothing else: with a forget bias of 1 a fraction of 2.5e-14 is left after 100 steps, with a "
    "bias of 5 about half.",
    "The gradient through the memory cell did not follow the product of the forget gates.",
    "The gradient through the memory cell was not measured.",
    "forgetting",
)

ANSWER: tuple[Question, ...] = (
    Question(
        "Why sigmoid in the gates?",
        (
            Said(
                "A gate multiplies. At 0 nothing passes, at 1 everything, and a forget gate that "
                "learns both can keep a memory or drop it.",
                source="Gers et al. 2000",
            ),
            _FORGET,
            Said(
                "In our runs gates of another range were worse when all three had it.",
                "Yet the range (0, 1) is not necessary: with all three gates of another range we "
                "found one that did no worse.",
                "Whether all three gates could have another range is left open by our runs.",
                "sigmoid-gates",
                "all three gates",
            ),
            Said(
                "The forget gate alone was worse with any other range that we tried.",
                "The forget gate alone may have another range: one that we tried did no worse on "
                "the adding problem.",
                "For the forget gate alone our runs do not decide.",
                "sigmoid-gates",
                "forget gate",
            ),
            Said(
                "The input gate alone was worse with any other range that we tried.",
                "The input gate alone may have another range: one that we tried did no worse.",
                "For the input gate alone our runs do not decide.",
                "sigmoid-gates",
                "input gate",
            ),
            Said(
                "The output gate alone was worse with any other range that we tried.",
                "The output gate alone may have another range: one that we tried did no worse.",
                "For the output gate alone our runs do not decide.",
                "sigmoid-gates",
                "output gate",
            ),
            Said(
                "Exponential gates are used elsewhere, with a normaliser and a stabiliser beside "
                "them.",
                source="Beck et al. 2024",
            ),
        ),
    ),
    Question(
        "Why tanh at the input and the output?",
        (
            Said(
                "In the ablations of the literature the output activation is, with the forget "
                "gate, the part that can least be left out; the reason given is that the memory "
                "cell is not bounded.",
                source="Greff et al. 2017",
            ),
            Said(
                "As both, tanh reached the solution sooner than the logistic sigmoid.",
                "As both, tanh did not reach the solution sooner than the logistic sigmoid.",
                "Whether tanh as both is sooner than the logistic sigmoid is left open.",
                "tanh-converges",
                "than the logistic sigmoid, as both",
            ),
            Said(
                "It was sooner than ReLU too.",
                "It was not sooner than ReLU.",
                "Against ReLU our runs do not decide that.",
                "tanh-converges",
                "than relu",
            ),
            Said(
                "Its second derivative does last, and that goes with more gradient.",
                "Its second derivative is not the reason.",
                "That its second derivative is the reason is not shown.",
                "second-derivative",
            ),
            Said(
                "It dies before those of the sigmoid and of softsign.",
                "It does not die before those of the sigmoid and of softsign.",
                "Where it dies was not computed.",
                "second-derivative-dies",
            ),
            Said(
                "Its gradient is cheaper than that of the sigmoid.",
                "Nor is its gradient cheaper in all that was timed.",
                "Whether its gradient is cheaper was not settled.",
                "tanh-gradient",
            ),
        ),
    ),
    Question(
        "Is it just a nonlinearity?",
        (
            Said(
                "No. Five functions stand in five places and do different jobs; Greff's ablations "
                "find some of them critical and others not.",
                source="Greff et al. 2017",
            ),
            Said(
                "No activation of the input or output stands on the direct path of the gradient "
                "through the memory: only the forget gate's value does.",
                "The direct path of the gradient did not follow the forget gates.",
                "The direct path of the gradient was not measured.",
                "forgetting",
            ),
            Said(
                "Units that are not bounded were worse in our survey.",
                "A unit need not be bounded: the counterexample or the regression of our survey "
                "shows it.",
                "That a unit must be bounded is neither shown nor refuted by our survey.",
                "good-unit",
                "a unit must be bounded",
            ),
            Said(
                "Units with a kink were worse.",
                "It need not be differentiable everywhere.",
                "Whether a kink does harm is left open.",
                "good-unit",
                "a unit must be differentiable",
            ),
            Said(
                "Units that are not monotone were worse.",
                "It need not be monotone.",
                "Whether it must be monotone is left open.",
                "good-unit",
                "a unit must be monotone",
            ),
        ),
    ),
    Question(
        "Can I change both: ReLU, hard tanh, leaky ReLU?",
        (
            Said("Yes, by one word; the question is what happens then.", source="anygate.LSTM"),
            Said(
                "ReLU as candidate, with tanh kept at the output, was not worse on any of our "
                "three small tasks.",
                "ReLU as candidate was worse on at least one of our three small tasks.",
                "For ReLU as candidate our runs leave it open on at least one task.",
                "relu-for-tanh",
                "as candidate",
            ),
            Said(
                "ReLU as cell output was not worse either.",
                "ReLU as cell output was worse on at least one.",
                "For ReLU as cell output it stays open.",
                "relu-for-tanh",
                "as cell output",
            ),
            Said(
                "In both places at once it was not worse.",
                "In both places at once it was worse on at least one.",
                "In both places at once it stays open.",
                "relu-for-tanh",
                "as both",
            ),
            Said(
                "On images read pixel by pixel it was not worse than tanh.",
                "On images read pixel by pixel it was worse than tanh: success in vision does not "
                "carry over.",
                "On images read pixel by pixel our runs do not decide.",
                "relu-vision",
                "plain ReLU is not worse than tanh",
            ),
            Said(
                "Leaky ReLU was better than ReLU in at least one comparison.",
                "Leaky ReLU passes errors on where ReLU does not, and it made no difference that "
                "counts.",
                "Leaky ReLU passes errors on where ReLU does not; whether that helps is left open.",
                "leaky-relu",
                "and so it trains better than ReLU",
            ),
        ),
    ),
    Question(
        "What do I lose and win?",
        (
            Said(
                "Hard tanh makes a training step cheaper at every size that was timed.",
                "Hard tanh makes no training step cheaper that counts: the matrix products are "
                "what an LSTM's time goes into.",
                "Hard tanh makes a training step cheaper at some sizes only, or not measurably.",
                "hard-tanh",
                "a training step of an LSTM",
            ),
            Said(
                "Beyond |z| = 1 its slope is exactly zero.",
                "Beyond |z| = 1 its slope is not zero.",
                "Its slope beyond |z| = 1 was not computed.",
                "hard-tanh",
                "the slope beyond |z| = 1 is zero",
            ),
            Said(
                "ReLU's slope stays 1 however large z is, and is exactly 0 for z <= 0.",
                "ReLU's slope does not stay 1.",
                "ReLU's slope was not computed.",
                "relu-no-saturation",
                "for z > 0 the slope stays 1",
            ),
            Said(
                "At its own learning rate, with clipping, no run of ReLU left the finite numbers.",
                "Even at its own learning rate runs of ReLU left the finite numbers.",
                "Whether ReLU stays finite at its own learning rate is left open.",
                "relu-no-saturation",
                "at its own learning rate no run leaves the finite numbers",
            ),
            Said(
                "On larger tasks others saw LSTMs with ReLU become NaN.",
                source="Keras issues 2194, 13221",
            ),
            Said(
                "ReLU candidates explode there without normalisation.",
                source="Li-GRU, arXiv:1710.00641, and its authors' code",
            ),
        ),
        _state,
    ),
    Question(
        "What must I change with it?",
        (
            Said(
                "Initialisation: with ReLU in both places and the identity as recurrent matrix the "
                "state grows by sigmoid(b) + 1/4 a step, so keep the forget bias b below 1.1 or "
                "make the recurrent weights smaller.",
                "The growth of a ReLU LSTM did not follow sigmoid(b) + 1/4.",
                "The growth of a ReLU LSTM was not computed.",
                "relu-growth",
            ),
            Said(
                "Do not pair chrono initialisation with a hard sigmoid: most gates would start "
                "without a gradient.",
                "Chrono initialisation and a hard sigmoid went together.",
                "Chrono initialisation with a hard sigmoid was not computed.",
                "chrono-hard",
            ),
            Said(
                "Clipping: without it ReLU was as stable as tanh over the rates and biases tried.",
                "Clipping: without it ReLU diverged where tanh did not; clip the gradient's norm.",
                "Clipping: over the rates and biases tried, a difference in stability without it "
                "is not shown.",
                "relu-no-saturation",
                "without clipping it is as stable as tanh",
            ),
        ),
        _rates,
    ),
)
"""The questions, in order."""
