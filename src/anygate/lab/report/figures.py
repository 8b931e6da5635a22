"""The figures of a report: for each, the charts, one sentence of what is seen, and the numbers.

``figures(results, shapes)`` gives them in reading order. A figure without data (nothing timed, no
epoch recorded) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..results import StudyResults
from . import across, flow, inside, outcome, rates
from .formulas import Shape
from .parts import Figure


def figures(results: StudyResults, shapes: Mapping[str, Shape | None]) -> list[Figure]:
    """All figures for which there is data, in reading order."""
    made = [
        outcome.learning(results),
        outcome.final(results),
        outcome.differences(results),
        across.pairwise(results),
        rates.tuning(results),
        inside.formulas(results, shapes),
        inside.health(results),
        flow.saturation(results),
        flow.gradients(results),
        inside.over_epochs(results, "gradient_norm", "Gradient norm", "norm of the gradient"),
        inside.over_epochs(results, "max_abs_cell", "Size of the cell state", "largest |c|"),
        across.stability(results),
        inside.cost(results),
        across.cost_and_outcome(results),
    ]
    return [figure for figure in made if figure is not None]
