"""The property sheet: all that can be known of an activation before anything runs.

Each property says whether it is proved (by the formula's structure, or by interval arithmetic
over all of float64) or sampled (computed with 25 digits on a grid from -1e300 to 1e300).
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any

import mpmath
from sympy import Expr, Symbol

from .activation import Activation
from .closed import VALUE, derivative_in_value
from .derivative import differentiate
from .intervals import bound_below
from .meanings import meanings
from .precise import CONTEXT as mp
from .precise import OPS
from .primitives import VARIABLE, is_straight_through
from .program import Program, lower
from .properties import Kink, Property, Sheet
from .samples import Samples, rounded, tiny
from .structure import parity

__all__ = ["survey"]

_DEAD_SECOND = 0.01  # |f''| under this has died out
_NOISE = mp.mpf("1e-15")  # relative; smaller steps may be rounding
_SLACK = 1e-3  # how near a proved bound must come to the sampled value


def survey(activation: Activation) -> Sheet:
    """The sheet of an activation, at CONTEXT's working precision."""
    return _Maker(activation).make()


class _Maker:
    """Works out the properties from a formula and its values on a grid."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.expression = activation.closed
        self.samples = samples = Samples(self.expression)
        self.at, self.grid = samples.at, samples.grid
        self.f, self.slope, self.second = samples.values
        self.boxes = min(250, 8_000 // samples.size) if samples.is_large else 250
        self.steps = is_straight_through(self.expression)

    def make(self) -> Sheet:
        low, high = self._range()
        left, right = self._limit(-1), self._limit(1)
        self.kinks = self._kinks()
        self.whole = not any(k.kind != "kink" for k in self.kinks.value)
        peaks = self.samples.extremes(1, abs)
        slope = self._largest_slope(peaks)
        jumps = self.steps or self._breaks_off()
        lipschitz = Property(math.inf, "sampled") if jumps else slope
        odd = self._odd()
        mean = self._mean()
        if odd.value and not math.isnan(mean.value):
            mean = Property(0.0, odd.how)
        limit = 0 if math.isinf(slope.value) else mp.mpf(slope.value) / 10 * (1 - mp.mpf("1e-20"))
        saturated, flat_again = self.samples.regions(lambda x: abs(self.at(1, x)) < limit, peaks)
        dead, dead_again = self.samples.regions(self.samples.is_dead, peaks)
        finite = low.value > -math.inf and high.value < math.inf
        monotone = self._monotone()
        # Proved bounds show that it is bounded; that it is not is seen from its growth.
        bounded = Property(finite, low.how if finite and low.how == high.how else "sampled")
        return Sheet(
            activation=self.activation,
            low=low,
            high=high,
            limit_left=left,
            limit_right=right,
            bounded=bounded,
            monotone=monotone,
            odd=odd,
            mean_output=mean,
            zero_centred=Property(abs(mean.value) < 0.05, mean.how),
            kinks=self.kinks,
            lipschitz=lipschitz,
            largest_slope=slope,
            saturated_region=Property(saturated, "sampled"),
            dead_region=Property(dead, "sampled"),
            second_peak=self._second_peak(),
            second_dies=self._second_dies(),
            closes=self._closes(),
            undefined=self._undefined(),
            slots=meanings(low.value, high.value, dead, monotone.value),
            repeats=flat_again or dead_again,
            skipped=self.samples.skipped,
            straight_through=self.steps,
        )

    def _finite(self, values: list[Any]) -> list[Any]:
        return [v for v in values if not mp.isnan(v)]

    def _range(self) -> tuple[Property, Property]:
        values = self._finite(self.f)
        values += [s * mp.inf for s in self.samples.poles()]
        if not values:
            return Property(math.nan, "sampled"), Property(math.nan, "sampled")
        low = min([*values, *(self.at(0, x) for x in self.samples.extremes(0, mp.fneg))])
        high = max([*values, *(self.at(0, x) for x in self.samples.extremes(0, mp.mpf))])
        limits = (self._limit(-1), self._limit(1))
        mirrored = self._bound(_negative(self.expression), -high, *map(_negated, limits))
        return self._bound(self.samples.programs[0], low, *limits), _negated(mirrored)

    def _bound(self, program: Program, sampled: Any, *limits: Property) -> Property:
        """The infimum: proved where interval arithmetic comes within a thousandth of it."""
        if sampled == -mp.inf or any(limit.value == -math.inf for limit in limits):
            return Property(-math.inf, "sampled")
        finite = [mp.mpf(m.value) for m in limits if m.value is not None]
        sampled = min([sampled, *(v for v in finite if mp.isfinite(v))])
        slack = _SLACK * max(1, abs(sampled))
        bound, proved = bound_below(program, {}, sampled - slack, self.boxes)
        if proved and bound > sampled:  # the bound is tighter only by its own widening
            bound = sampled
        return Property(rounded(sampled), "proved" if proved else "sampled")

    def _limit(self, side: int) -> Property:
        values = [self.at(0, side * mp.mpf(10) ** k) for k in (3, 6, 12, 25, 50, 100, 200, 300)]
        last, before = values[-1], values[-2]
        if mp.isnan(last):
            return Property(None, "sampled")
        if mp.isfinite(last) and abs(last - before) <= 1e-9 * max(1, abs(last)):
            return Property(rounded(last), "sampled")
        sizes = [abs(v) for v in values]
        grows = all(b > a or mp.isinf(b) for a, b in itertools.pairwise(sizes))
        return Property(math.copysign(math.inf, last) if grows else None, "sampled")

    def _breaks_off(self) -> bool:
        """True if f jumps or has a pole: no Lipschitz bound."""
        return any(k.kind in ("jump", "pole") for k in self.kinks.value)

    def _largest_slope(self, places: list[Any]) -> Property:
        sizes = [abs(s) for s in self.slope if not mp.isnan(s)]
        largest = max(sizes, default=mp.nan)
        if not mp.isfinite(largest):
            return Property(math.inf, "sampled")
        peaks = [abs(self.at(1, x)) for x in places]
        largest = max([largest, *peaks])
        slack = _SLACK * max(1, largest)
        slope = differentiate(self.expression)
        proved = all(
            bound_below(program, {}, -largest - slack, self.boxes)[1]
            for program in (self.samples.programs[1], _negative(slope))
        )
        if not proved and largest > 1e6:
            return Property(math.inf, "sampled")
        proved = proved and self.samples.known
        return Property(rounded(largest), "proved" if proved else "sampled")

    def _monotone(self) -> Property:
        slopes = [s for s, v in zip(self.slope, self.f, strict=True) if mp.isfinite(v)]
        slopes = self._finite(slopes)
        room = _NOISE * max((abs(s) for s in slopes if mp.isfinite(s)), default=mp.zero)
        up, down = any(s > room for s in slopes), any(s < -room for s in slopes)
        if self.steps:  # the slopes are not f's own
            up = down = False
        values = [v for v in self.f if mp.isfinite(v)]
        pairs = [p for p in itertools.pairwise(values) if p[0] != p[1]]
        falls = any(a - b > _NOISE * max(abs(a), abs(b)) for a, b in pairs)
        rises = any(b - a > _NOISE * max(abs(a), abs(b)) for a, b in pairs)
        if (up and down) or (rises and falls):
            return Property("no", "proved")  # two points show it
        if not rises and not falls:
            same = not self.expression.has(VARIABLE)
            return Property("constant", "proved" if same else "sampled")
        slope = differentiate(self.expression)
        program = self.samples.programs[1] if rises else _negative(slope)
        sure = self.whole and self.samples.known and not self.steps
        proved = sure and bound_below(program, {}, mp.zero, self.boxes)[1]
        return Property("increasing" if rises else "decreasing", "proved" if proved else "sampled")

    def _odd(self) -> Property:
        if parity(self.expression) == "odd":
            return Property(True, "proved")
        for x, value in zip(self.grid, self.f, strict=True):
            other = self.at(0, -x)
            if mp.isnan(value) != mp.isnan(other):
                return Property(False, "proved")
            if mp.isfinite(value) and abs(value + other) > 1e-15 * max(1, abs(value)):
                return Property(False, "proved")
        return Property(True, "sampled")

    def _mean(self) -> Property:
        """The mean of f(x), x standard normal, by Gauss's rule between the breaks: to many digits
        where the pieces are smooth."""
        if self.samples.poles():
            return Property(math.nan, "sampled")
        step = 16 if self.steps else 2 if not self.samples.is_large else 1
        cuts = {mp.mpf(k) / step for k in range(-8 * step, 8 * step + 1)} | {
            mp.mpf(-12),
            mp.mpf(12),
        }
        ends = sorted(cuts | {b for b in self.samples.breaks if abs(b) < 12})
        total = mp.zero
        for a, b in itertools.pairwise(ends):
            for place, weight in _gauss():
                x = (a + b) / 2 + (b - a) / 2 * place
                total += (b - a) / 2 * weight * self.at(0, x) * OPS["normal_pdf"](x)
        return Property(rounded(total) if mp.isfinite(total) else math.nan, "sampled")

    def _kinks(self) -> Property:
        kinks = []
        for x in self.samples.breaks:
            kind = self.samples.kind(x)
            if kind:
                sides = (self.at(1, x + s * tiny(x)) for s in (-1, 1))
                kinks.append(Kink(rounded(x), kind, *map(rounded, sides)))
        return Property(tuple(kinks), "proved" if self.samples.known else "sampled")

    def _second_peak(self) -> Property:
        """The largest |f''| on the grid and between its points; infinite where it grows without
        bound towards an infinite x or a pole."""
        sizes = [
            (abs(s), -abs(x), x)
            for x, s in zip(self.grid, self.second, strict=True)
            if not mp.isnan(s)
        ]
        for side in (-1, 1):
            outside = [
                abs(self.at(2, side * mp.mpf(10) ** k)) for k in (3, 6, 12, 25, 50, 100, 200)
            ]
            grows = all(b > a or mp.isinf(b) for a, b in itertools.pairwise(outside))
            if grows and outside[-1] > 1e6:
                return Property((math.inf, side * math.inf), "sampled")
        for x in (b for b in self.samples.breaks if any(self.samples.grows(b, s) for s in (-1, 1))):
            return Property((math.inf, rounded(x)), "sampled")
        sizes += [(abs(self.at(2, x)), -abs(x), x) for x in self.samples.extremes(2, abs)]
        size, _, x = max(((rounded(s), *at) for s, *at in sizes), default=(math.nan, 0, mp.zero))
        return Property((rounded(size), rounded(x)), "sampled")

    def _second_dies(self) -> Property:
        alive = [
            abs(x)
            for x, s in zip(self.grid, self.second, strict=True)
            if mp.isnan(s) or abs(s) >= _DEAD_SECOND
        ]
        if not alive:
            return Property(0.0, "sampled")
        if max(alive) > 1e5:
            return Property(None, "sampled")
        low = max(alive)
        high = min(abs(x) for x in self.grid if abs(x) > low)
        for _ in range(60 if not self.samples.is_large else 20):
            middle = (low + high) / 2
            if max(abs(self.at(2, middle)), abs(self.at(2, -middle))) >= _DEAD_SECOND:
                low = middle
            else:
                high = middle
        return Property(rounded(high), "sampled")

    def _closes(self) -> Property:
        slope = derivative_in_value(self.activation.expression)
        shown = None if slope is None else str(slope.xreplace({VALUE: Symbol("y")}))
        return Property(shown, "proved")

    def _undefined(self) -> tuple[tuple[float, float], ...]:
        """Intervals found on the grid, ends by bisection, and single points among the breaks."""

        def missing(x: Any) -> bool:
            return bool(mp.isnan(self.at(0, x)))

        found = [
            (self.samples.snapped(a), self.samples.snapped(b))
            for a, b in self.samples.intervals(missing)
        ]
        points = [
            rounded(x) for x in self.samples.breaks if not mp.isfinite(self.samples.strict[x])
        ]
        alone = [(x, x) for x in points if not any(a <= x <= b for a, b in found)]
        return tuple(sorted({*found, *alone}))


@lru_cache(maxsize=1)
def _gauss() -> tuple[tuple[Any, Any], ...]:
    """Places and weights on [-1, 1] of Gauss's rule of 12 points, to the digits of a sheet."""
    rule = mpmath.calculus.quadrature.GaussLegendre(mp)
    return tuple(rule.calc_nodes(2, mp.prec))


def _negative(expression: Expr) -> Program:
    return lower({"value": -expression}, ("x",))


def _negated(p: Property) -> Property:
    return Property(None if p.value is None else 0.0 - p.value, p.how)
