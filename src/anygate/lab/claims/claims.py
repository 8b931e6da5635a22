"""The claims: ten of the question, and five points that were derived on paper."""

from __future__ import annotations

from collections.abc import Mapping

from . import judges
from .model import Claim

__all__ = ["CLAIMS"]

_LOSS = "the share of the epochs until the task is solved (1 if never or diverged)"
_TIME_MARGIN = "0.2 of the epochs (full: 0.1)"

_ALL = (
    # ---- what the question says -------------------------------------------------------------
    Claim(
        key="sigmoid-gates",
        row="1",
        sentence="A gate must give values between 0 and 1, as the sigmoid does, to let through "
        "anything from nothing to everything.",
        said_by=("question", "tallec2018"),
        experiments=("gates",),
        measure=f"{_LOSS}, on adding and Reber for all three gates, on adding for each alone",
        held_if="every gate of another range is worse on at least one task",
        refuted_if="a gate of another range is not worse than the sigmoid by the margin on all "
        "tasks, and no run of it diverged",
        judge=judges.sigmoid_gates,
        margin=_TIME_MARGIN,
        family="within each part, over its gates (3 or 2), one-sided",
    ),
    Claim(
        key="tanh-converges",
        row="2",
        sentence="tanh converges faster.",
        said_by=("question", "lecun1998", "glorot2010"),
        experiments=("convergence",),
        measure=f"{_LOSS}, on adding; at own learning rates where both were tuned",
        held_if="tanh is sooner",
        refuted_if="the other is sooner, or both are equivalent within the margin",
        judge=judges.tanh_converges,
        margin=_TIME_MARGIN,
        family="over the three places of the sigmoid, and over the three other units; two-sided",
    ),
    Claim(
        key="tanh-gradient",
        row="3",
        sentence="The gradient of tanh is cheaper to compute.",
        said_by=("question",),
        experiments=("functions", "layers"),
        measure="time of tanh over that of sigmoid within rounds of alternated measurements, one "
        "thread, float32, in this library's kernels",
        held_if="the interval of the median ratio lies below 0.98 everywhere",
        refuted_if="it lies above 0.98 everywhere",
        judge=judges.tanh_gradient,
        margin="2 % of the time",
        family="none: intervals at 95 % each",
    ),
    Claim(
        key="hard-tanh",
        row="4",
        sentence="Hard tanh is computationally cheaper than tanh, and saturates for |z| above 1.",
        said_by=("question",),
        experiments=("functions", "layers", "formulas", "hard-tanh"),
        measure="time of hard tanh over that of tanh, an element and a whole LSTM; the slope",
        held_if="the interval of the median ratio lies below 0.98 everywhere; the slope is zero",
        refuted_if="the ratio lies above 0.98 everywhere; the slope is not zero",
        judge=judges.hard_tanh,
        margin="2 % of the time",
        family="none: intervals at 95 % each",
    ),
    Claim(
        key="relu-no-saturation",
        row="5",
        sentence="ReLU does not saturate even for large values of z, so use it.",
        said_by=("question",),
        experiments=("formulas", "replacement", "stability", "leaky"),
        measure="the slope; the share of diverged runs with clipping, on all tasks and at all "
        "rates, and without clipping over learning rates and forget biases",
        held_if="the slope is 1 for z > 0 and no run diverges with clipping; that no run diverges "
        "without clipping holds nothing, for no margin says what is as stable",
        refuted_if="a run diverges with clipping, or without it more settings diverge than with "
        "tanh",
        judge=judges.no_saturation,
        family="none: each part is a question of its own",
    ),
    Claim(
        key="relu-vision",
        row="6",
        sentence="ReLU found much success in computer vision, so it is good here too.",
        said_by=("question", "le2015", "cooijmans2017"),
        experiments=("vision",),
        measure="test error on 8x8 digits read pixel by pixel, at own learning rates",
        held_if="plain ReLU is not worse than tanh by the margin",
        refuted_if="plain ReLU is worse than tanh",
        judge=judges.vision,
        margin="2 points of accuracy (full: 1)",
        family="none: one comparison, one-sided",
    ),
    Claim(
        key="leaky-relu",
        row="7",
        sentence="Leaky ReLU lets an error propagate for z <= 0, which ReLU does not.",
        said_by=("question",),
        experiments=("formulas", "leaky"),
        measure=f"the slope; {_LOSS}, on adding, and the test error on digits by rows, for the "
        "slopes 0.01 and 0.3",
        held_if="the slope is not zero; leaky ReLU is better in at least one comparison",
        refuted_if="it is equivalent within the margin, or worse, in all of them",
        judge=judges.leaky,
        margin=f"{_TIME_MARGIN}; 2 points of accuracy (full: 1)",
        family="over the four comparisons, two-sided",
    ),
    Claim(
        key="good-unit",
        row="8",
        sentence="A good unit must be bounded, differentiable and monotone.",
        said_by=("question",),
        experiments=("formulas", "survey", "counterexamples"),
        measure=f"{_LOSS}, on adding, of 17 functions as candidate and as cell output, regressed "
        "on the three properties; and of single units that lack one",
        held_if="lacking the property delays the solution in both places (95 %), and no "
        "counterexample is found",
        refuted_if="a unit that lacks it is not worse than tanh by the margin, or the effect lies "
        "within the margin in both places (90 %)",
        judge=judges.good_units,
        margin=_TIME_MARGIN,
        family="counterexamples: over 3 units in 2 places, one-sided",
    ),
    Claim(
        key="relu-for-tanh",
        row="9",
        sentence="ReLU can be used in place of tanh.",
        said_by=("question", "ligru", "keras2194"),
        experiments=("replacement",),
        measure=f"{_LOSS}, on adding and Reber, and the test error on digits by rows",
        held_if="ReLU is not worse than tanh by the margin on all three tasks",
        refuted_if="it is worse on at least one of them",
        judge=judges.replaces_tanh,
        margin=f"{_TIME_MARGIN}; 2 points of accuracy (full: 1)",
        family="over the three places, one-sided",
    ),
    Claim(
        key="second-derivative",
        row="10",
        sentence="tanh overcomes vanishing gradients because its second derivative sustains for a "
        "long range before going to zero.",
        said_by=("question",),
        experiments=("formulas", "starts-candidate", "starts-cell_output", "starts-forget"),
        measure="where f'' dies; over 17 functions, the rank correlation of that width with the "
        "gradient that arrives half of the sequence earlier, before training",
        held_if="tanh'' dies last; the correlation is positive in both places (95 %)",
        refuted_if="tanh'' dies first; the correlation's interval ends below 0.5 in both places "
        "while that of the forget gates' product begins above",
        judge=judges.second_derivative_sustains,
        family="none: intervals at 95 % each",
    ),
    # ---- derived on paper -------------------------------------------------------------------
    Claim(
        key="second-derivative-dies",
        row="a",
        sentence="The second derivative of tanh dies before those of the sigmoid and softsign.",
        said_by=("here", "lecun1998"),
        experiments=("formulas",),
        measure="the |x| beyond which |f''| stays below 0.01, and below a hundredth of its peak",
        held_if="that of tanh is the smallest of the three",
        refuted_if="it is not",
        judge=judges.second_derivative_dies,
    ),
    Claim(
        key="sigmoid-derivative",
        row="b",
        sentence="The derivative of the sigmoid is exp(-z)/(1 + exp(-z))^2; the question prints it "
        "with a wrong sign.",
        said_by=("here",),
        experiments=("formulas",),
        measure="the largest difference from the limit of the difference quotient at four points",
        held_if="the formula agrees and the printed one does not",
        refuted_if="otherwise",
        judge=judges.sigmoid_derivative,
    ),
    Claim(
        key="chrono-hard",
        row="c",
        sentence="With chrono initialisation and a hard sigmoid, most forget gates start without "
        "any gradient, and as many input gates exactly closed.",
        said_by=("here", "tallec2018", "keras"),
        experiments=("limits",),
        measure="the share of units by formula, and counted over drawn biases, for T = 100 and 784",
        held_if="it is more than half, and both agree within 2 points",
        refuted_if="otherwise",
        judge=judges.chrono_hard,
    ),
    Claim(
        key="relu-growth",
        row="d",
        sentence="With ReLU as candidate and cell output, gates frozen at their start and the "
        "identity as recurrent matrix, the state grows by sigmoid(b) + 1/4 a step: it is stable "
        "only for forget biases b below ln 3 = 1.10.",
        said_by=("here",),
        experiments=("limits",),
        measure="the factor a step and the step of float32's overflow, by formula and in an LSTM",
        held_if="both agree (0.1 %; the overflow 2 %), and the border lies there",
        refuted_if="otherwise",
        judge=judges.growth,
    ),
    Claim(
        key="forgetting",
        row="e",
        sentence="Through the memory alone, sigmoid(b)^T of a gradient arrives T steps earlier: "
        "whatever the units are, the forget bias decides.",
        said_by=("here", "jozefowicz2015"),
        experiments=("limits",),
        measure="sigmoid(b)^100, by formula and as the gradient of an LSTM without other weights",
        held_if="both agree (0.1 %)",
        refuted_if="otherwise",
        judge=judges.forgetting,
    ),
)

CLAIMS: Mapping[str, Claim] = {claim.key: claim for claim in _ALL}
"""By key, in the order in which they are reported."""
