"""The answer, question by question: what a sentence stands on, and its words for each verdict."""

from __future__ import annotations

from statistics import median

from ..statistics import MIN_SEEDS_FOR_CLAIM
from .answer import Question, Said
from .contrast import contrast
from .experiments import ABLATIONS, TASKS, on, plain
from .findings import Findings
from .grid import Arm

__all__ = ["ANSWER"]

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
        found = [r.max_cell for r in findings.of(arm) if r.max_cell is not None]
        if found:
            sizes[name] = median(found)
    if len(sizes) < 2:
        return ""
    return (f"After training on adding the largest |c| was {sizes['ReLU']:.3g} with ReLU in both "
            f"slots and {sizes['tanh']:.3g} with tanh (medians, [5](#claim-5)).")  # fmt: skip


def _ablated(findings: Findings) -> str:
    """Which of our ablations have an interval without zero."""
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
    return (f"In our own ablations (table above, not corrected for their number) the 95 % interval "
            f"leaves zero out for these. {'. '.join(said)}.")  # fmt: skip


def _further_seeds(findings: Findings) -> str:
    """The divergences of seeds that were run later."""
    found = findings.experiment("further-seeds").get("arms", {})
    parts = [f"{len(seen['diverged'])} of {len(seen['seeds'])} runs of `{name}`"
             for name, seen in found.items()]  # fmt: skip
    if not parts:
        return ""
    return f"On further seeds there diverged {'; '.join(parts)} ([5](#claim-5))."


def _chrono(findings: Findings) -> str:
    """What chrono's biases did."""
    arms = {
        "chrono initialisation": plain("long", initial="chrono"),
        "a forget bias of 1": plain("long"),
    }
    if not all(findings.of(arm) for arm in arms.values()):
        return ""
    found = [f"{findings.solved(arm)} of {len(findings.of(arm))} runs with {name}"
             for name, arm in arms.items()]  # fmt: skip
    title = findings.scale.setups["long"].make().title
    return (f"For long memories start with larger forget biases [Tallec & Ollivier 2018]; on the "
            f"{title} {' and '.join(found)} solved the task (see the table above).")  # fmt: skip


# ---- the answer --------------------------------------------------------------------------------


def _gate(slot: str, name: str) -> Said:
    return Said(
        f"{name}, alone, every other range that we tried was worse.",
        f"{name}, alone, another range did no harm that counts: {{because}}.",
        f"{name}, alone, our runs leave that open: {{because}}.",
        "sigmoid-gates",
        slot,
    )


ANSWER: tuple[Question, ...] = (
    Question(
        "Why sigmoid in the gates?",
        (
            Said("A gate multiplies. At 0 nothing passes, at 1 everything, and a forget gate that "
                 "learns both can keep a memory or drop it.", source="Gers et al. 2000"),
            Said(
                "Through the memory cell alone a gradient shrinks by the product of the forget "
                "gates and by nothing else: with a forget bias of 1 a fraction of {one:.2g} is "
                "left after 100 steps, with a bias of 5 it is {five:.2f}.",
                "The gradient through the memory cell did not follow the product of the forget "
                "gates.",
                "The gradient through the memory cell was not measured.",
                "forgetting",
                values=lambda judgement: {
                    name: judgement.part(f"forget bias {bias}").effects[1].value
                    for name, bias in (("one", 1), ("five", 5))
                },
            ),
            Said(
                "With another range in all three gates at once, every one that we tried was worse.",
                "The range from 0 to 1 is not necessary in all three gates: {because}.",
                "Whether all three gates could have another range is left open: {because}.",
                "sigmoid-gates", "all three gates",
            ),
            _gate("forget gate", "In the forget gate"),
            _gate("input gate", "In the input gate"),
            _gate("output gate", "In the output gate"),
            Said("Exponential gates are used elsewhere, with a normaliser and a stabiliser beside "
                 "them.", source="Beck et al. 2024"),
        ),
        command="anygate compare sigmoid hard_sigmoid penalized_tanh relu --slot forget_gate "
        "--task reber",
    ),
    Question(
        "Why tanh at the input and the output?",
        (
            Said("In the ablations of the literature the output activation is, with the forget "
                 "gate, the part that can least be left out; the reason given is that the memory "
                 "cell is not bounded.", source="Greff et al. 2017"),
            Said(
                "In both places at once tanh solved the adding problem sooner than the logistic "
                "sigmoid.",
                "In both places at once tanh did not solve the adding problem sooner than the "
                "logistic sigmoid: {because}.",
                "Whether tanh in both places is sooner than the logistic sigmoid is left open.",
                "tanh-converges", "than the logistic sigmoid, as both",
            ),
            Said(
                "It was sooner than ReLU.",
                "It was not sooner than ReLU: {because}.",
                "Between tanh and ReLU our runs do not decide which is sooner.",
                "tanh-converges", "than relu",
            ),
            Said(
                "The second derivative of tanh does last, and that goes with more gradient.",
                "The reason that is given, a second derivative that lasts, does not hold.",
                "That a lasting second derivative is the reason is not shown.",
                "second-derivative",
            ),
            Said(
                "Of the three, the second derivative of tanh dies first, before those of the "
                "sigmoid and of softsign.",
                "The second derivative of tanh does not die before those of the sigmoid and of "
                "softsign.",
                "Where the second derivative of tanh dies was not computed.",
                "second-derivative-dies",
            ),
            Said(
                "The derivative of tanh alone is cheaper than that of the sigmoid.",
                "The derivative of tanh alone is no cheaper than that of the sigmoid: both are one "
                "multiplication away from the value.",
                "Whether the derivative of tanh alone is cheaper than that of the sigmoid was not "
                "settled.",
                "tanh-gradient", "the derivative alone",
            ),
            Said(
                "A training step of a whole LSTM was cheaper with tanh than with the sigmoid.",
                "A training step of a whole LSTM was not cheaper with tanh than with the sigmoid.",
                "Whether a training step of a whole LSTM is cheaper with tanh was not settled.",
                "tanh-gradient", "a training step of an LSTM",
            ),
        ),
        command="anygate compare tanh sigmoid softsign relu --task adding:50",
    ),
    Question(
        "Is it just a nonlinearity?",
        (
            Said("No. Five functions stand in five places and do different jobs, and leaving one "
                 "out is critical in some places and not in others.", source="Greff et al. 2017"),
            Said("No activation of the input or output stands on the direct path of the gradient "
                 "through the memory: only the forget gate's value does.",
                 "The direct path of the gradient did not follow the forget gates.",
                 "The direct path of the gradient was not measured.", "forgetting"),
            Said(
                "As candidate and as cell output, units that are not bounded were worse in our "
                "survey.",
                "A unit need not be bounded: {because}.",
                "That a unit must be bounded is neither shown nor refuted by our survey.",
                "good-unit", "a unit must be bounded",
            ),
            Said(
                "Units with a kink were worse.",
                "A unit need not be differentiable everywhere: {because}.",
                "Whether a kink does harm is left open.",
                "good-unit", "a unit must be differentiable",
            ),
            Said(
                "Units that are not monotone were worse.",
                "A unit need not be monotone: {because}.",
                "Whether a unit must be monotone is left open.",
                "good-unit", "a unit must be monotone",
            ),
        ),
        (_ablated,),
        command="anygate compare tanh x --slot cell_output --task reber",
    ),
    Question(
        "Can I change both: ReLU, hard tanh, leaky ReLU?",
        (
            Said(
                "As candidate, with tanh kept at the output, ReLU was not worse on any of our "
                "three small tasks.",
                "As candidate, with tanh kept at the output, ReLU was worse on at least one of our "
                "three small tasks.",
                "As candidate, with tanh kept at the output, ReLU is left open on at least one of "
                "our three small tasks.",
                "relu-for-tanh", "as candidate",
            ),
            Said(
                "As cell output, with tanh kept at the input, it was not worse on any.",
                "As cell output, with tanh kept at the input, it was worse on at least one.",
                "As cell output, with tanh kept at the input, it is left open on at least one.",
                "relu-for-tanh", "as cell output",
            ),
            Said(
                "In both places at once it was not worse on any.",
                "In both places at once it was worse on at least one.",
                "In both places at once it is left open on at least one.",
                "relu-for-tanh", "as both",
            ),
            Said(
                "On images read pixel by pixel it was not worse than tanh.",
                "On images read pixel by pixel it was worse than tanh: success in computer vision "
                "did not carry over.",
                "On images read pixel by pixel our runs do not decide.",
                "relu-vision", "plain ReLU is not worse than tanh",
            ),
            Said(
                "Leaky ReLU was better than ReLU: {because}.",
                "Leaky ReLU was no better than ReLU: {because}.",
                "Whether leaky ReLU is better than ReLU is left open.",
                "leaky-relu", "and so it trains better than ReLU",
            ),
        ),
        command="anygate compare tanh relu leaky_relu hard_tanh --slot candidate --task adding:50 "
        "--learning-rates 0.005 0.02 0.04",
    ),
    Question(
        "What do I lose and win?",
        (
            Said(
                "Hard tanh made a training step cheaper than tanh at every size that was timed.",
                "Hard tanh made no training step 2 % cheaper than tanh at any size that was timed.",
                "Hard tanh made a training step cheaper than tanh at some sizes only, or not "
                "measurably.",
                "hard-tanh", "a training step of an LSTM",
            ),
            Said(
                "Beyond |z| = 1 the slope of hard tanh is exactly zero.",
                "Beyond |z| = 1 the slope of hard tanh is not zero.",
                "The slope of hard tanh beyond |z| = 1 was not computed.",
                "hard-tanh", "the slope beyond |z| = 1 is zero",
            ),
            Said(
                "The slope of ReLU stays 1 however large z is, and is exactly 0 for z <= 0.",
                "The slope of ReLU does not stay 1.",
                "The slope of ReLU was not computed.",
                "relu-no-saturation", "for z > 0 the slope stays 1",
            ),
            Said(
                "Leaky ReLU has a slope for z <= 0, ReLU has none.",
                "Leaky ReLU has no slope for z <= 0 either.",
                "The slope of leaky ReLU was not computed.",
                "leaky-relu", "for z <= 0 it passes an error on, ReLU does not",
            ),
            Said(
                "With clipping ReLU stayed within the finite numbers: {because}.",
                "Even with clipping ReLU left the finite numbers: {because}.",
                "Whether ReLU stays finite with clipping is left open.",
                "relu-no-saturation", "with clipping no run leaves the finite numbers",
            ),
            Said("On larger tasks others saw LSTMs with ReLU become NaN.",
                 source="Keras issues 2194, 13221"),
            Said("Unbounded ReLU candidates of a gated network exploded on large speech corpora "
                 "until they were normalised.", source="Li-GRU, arXiv:1710.00641"),
        ),
        (_state,),
        command="anygate show hard_tanh",
    ),
    Question(
        "What must I change with it?",
        (
            Said(
                "Initialisation: with ReLU in both places and the identity as recurrent matrix the "
                "state grows by sigmoid(b) + 1/4 a step, so keep the forget bias b below 1.1 or "
                "the recurrent weights smaller.",
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
                "Clipping: without it ReLU left the finite numbers more often than tanh, so clip "
                "the gradient's norm.",
                "Clipping: over the rates and biases tried, whether ReLU without it is less stable "
                "than tanh is left open: {because}.",
                "relu-no-saturation", "without clipping it is as stable as tanh",
            ),
        ),
        (_further_seeds, _chrono, _rates),
        command="anygate compare tanh relu --task adding:50 --clip 0 --forget-bias 3",
    ),
)  # fmt: skip
"""The questions, in order."""
