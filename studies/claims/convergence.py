"""Does tanh converge faster?"""

from __future__ import annotations

from .. import experiments, sources
from ..contrast import contrast
from ..experiments import PAIR, plain
from ..findings import Findings
from ..grid import Arm
from ..model import Claim, Judgement, Part, Question, Sentence, Verdict
from ..rules import LOSS, TIME_MARGIN, better_worse_same, from_contrasts, holm_of, lacking

__all__ = ["CLAIMS"]

_WHERE = {"activation": "as both", "candidate": "as candidate", "cell_output": "as cell output"}


def tanh_converges(findings: Findings) -> Judgement:
    """A part for the logistic sigmoid in each place, and one for every other unit in both."""
    logistic = {
        f"than the logistic sigmoid, {_WHERE[slot]}": Arm("adding", slot, "sigmoid")
        for slot in PAIR
    }
    others = {
        f"than {name}": Arm("adding", "activation", name)
        for name in ("relu", "softsign", "lecun_tanh")
    }
    return Judgement((*_parts(findings, logistic), *_parts(findings, others)))


def _parts(findings: Findings, rivals: dict[str, Arm]) -> list[Part]:
    """One family of rivals. Those that were tuned are judged at own rates, the shared beside."""
    shared, judged = {}, {}
    for name, arm in rivals.items():
        shared[name] = contrast(findings, arm, plain("adding"))
        tuned = findings.of(arm.own) and findings.of(plain("adding").own)
        own = contrast(findings, arm.own, plain("adding").own) if tuned else None
        judged[name] = own or shared[name]
    there = {k: c for k, c in judged.items() if c is not None and lacking(k, [c]) is None}
    different = holm_of([c.difference.p_value for c in there.values()], len(rivals))
    same = holm_of([c.same for c in there.values()], len(rivals))
    parts = []
    for name in rivals:
        if name not in there:
            part = lacking(name, [judged[name]])
            assert part is not None
            parts.append(part)
            continue
        c, place = there[name], list(there).index(name)
        who, because = better_worse_same(
            c,
            different[place],
            same[place],
            len(rivals),
            first="tanh",
            second=c.arm.activation,
        )
        verdicts = {"reference": Verdict.HELD, "open": Verdict.UNDECIDED}
        effects = [x.effect() for x in dict.fromkeys(from_contrasts([c, shared[name]]))]
        parts.append(Part(name, verdicts.get(who, Verdict.REFUTED), because, tuple(effects)))
    return parts


CLAIMS = (
    Claim(
        key="tanh-converges",
        row="2",
        sentence="tanh converges faster.",
        said_by=(
            sources.QUESTION,
            sources.LECUN_1998,
            sources.GLOROT_2010,
        ),
        experiments=(experiments.CONVERGENCE,),
        measure=f"{LOSS}, on adding; at own learning rates where both were tuned",
        held_if="tanh is sooner",
        refuted_if="the other is sooner, or both are equivalent within the margin",
        judge=tanh_converges,
        margin=TIME_MARGIN,
        family="over the three places of the sigmoid, and over the three other units; two-sided",
        answers=(
            Sentence(
                Question.TANH,
                "In both places at once tanh solved the adding problem sooner than the logistic "
                "sigmoid.",
                "In both places at once tanh did not solve the adding problem sooner than the "
                "logistic sigmoid: {because}.",
                "Whether tanh in both places is sooner than the logistic sigmoid is left open.",
                part="than the logistic sigmoid, as both",
            ),
            Sentence(
                Question.TANH,
                "It was sooner than ReLU.",
                "It was not sooner than ReLU: {because}.",
                "Between tanh and ReLU our runs do not decide which is sooner.",
                part="than relu",
            ),
        ),
    ),
)
