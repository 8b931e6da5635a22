"""A study that looks at its results before all seeds are run: what a look may spend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from .values import Array

_NODES = 201
_FAR = 9.0  # a normal value lies beyond it with probability 2e-19
_x, _w = np.polynomial.legendre.leggauss(_NODES)


def spending(looks: Sequence[int] = (16, 32, 64), alpha: float = 0.05) -> list[float]:
    """The two-sided p value that a result needs at each look, at these numbers of seeds.

    O'Brien and Fleming's (1979) boundaries by the spending function of Lan and DeMets (1983): up
    to the share t of the seeds each side may have spent ``2 - 2*Phi(z/sqrt(t))``, with ``z`` the
    normal quantile of ``1 - alpha/4``, which is ``alpha/2`` at the last look. A look that rejects
    where ``p <= level`` keeps the chance of a false claim at any look at ``alpha``. Early looks
    need a great deal; the last one pays little for them:
    (16, 32, 64) gives 0.000015, 0.0030, 0.0490. An exact sign-flip p value of 16 seeds is at least
    0.00003, so that this first look can stop nothing that way. The levels are those of a mean
    whose sum grows by independent normal steps, as test statistics of growing samples do nearly;
    the chance to have crossed is found by integrating from look to look (Armitage, McPherson and
    Rowe 1969). Raises ``ValueError`` for looks that do not rise from 1 or more, or an alpha outside
    (0, 1).
    """
    if not looks or looks[0] < 1 or any(b <= a for a, b in itertools.pairwise(looks)):
        raise ValueError(f"spending: looks must rise, from 1 or more, got {tuple(looks)}")
    if not 0 < alpha < 1:
        raise ValueError(f"spending: alpha must lie strictly between 0 and 1, not {alpha}")
    shares = [look / looks[-1] for look in looks]
    z = stats.norm.isf(alpha / 4)
    spent = [2 * float(stats.norm.sf(z / math.sqrt(share))) for share in shares]
    bound = float(stats.norm.isf(spent[0]))
    bounds = [bound]
    sums, weights = _inside(bound, shares[0])
    density = stats.norm.pdf(sums, scale=math.sqrt(shares[0]))
    for before, share, left in zip(shares, shares[1:], np.diff(spent), strict=False):
        step = math.sqrt(share - before)
        mass = density * weights

        def over(
            bound: float,
            *,
            share: float = share,
            sums: Array = sums,
            mass: Array = mass,
            step: float = step,
            left: float = float(left),
        ) -> float:
            """Above zero while the bound lets more through on one side than is left."""
            beyond = stats.norm.sf((bound * math.sqrt(share) - sums) / step)
            return float(mass @ beyond) - left

        bound = float(optimize.brentq(over, 0.0, 40.0, xtol=1e-10))
        bounds.append(bound)
        new, new_weights = _inside(bound, share)
        density = stats.norm.pdf((new[:, None] - sums) / step) / step @ mass
        sums, weights = new, new_weights
    return [2 * float(stats.norm.sf(bound)) for bound in bounds]


def _inside(bound: float, share: float) -> tuple[Array, Array]:
    """Nodes and weights of an integral over the sums that go on: those within the bound."""
    half = min(bound, _FAR) * math.sqrt(share)
    return half * _x, half * _w
