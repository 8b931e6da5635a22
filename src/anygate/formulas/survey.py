"""The property sheet: all that can be known of an activation before anything runs.

Each property says whether it is proved (by the formula's structure, or by interval arithmetic
over all of float64) or sampled (computed with 25 digits on a grid from -1e300 to 1e300).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

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
from .program import Program, bind, evaluate, lower
from .properties import Kink, Property, Sheet
from .structure import exactly_zero, find_breaks, parity

__all__ = ["survey"]

_DEAD_SECOND = 0.01  # |f''| under this has died out
_MANY = 6  # intervals; more of them mean an oscillating function
_LARGE = 150  # nodes of f, f' and f'' together; above it the sheet is coarser
_NOISE = mp.mpf("1e-15")  # relative; smaller steps may be rounding
_STRICT: dict[str, Callable[..., Any]] = {
    **OPS,
    "div": lambda a, b: mp.nan if b == 0 else OPS["div"](a, b),
    "log": lambda x: mp.nan if x == 0 else OPS["log"](x),
    "log1p": lambda x: mp.nan if x == -1 else OPS["log1p"](x),
}
"""A division by zero has no value, though floats give it one."""
_SLACK = 1e-3  # how near a proved bound must come to the sampled value


def survey(activation: Activation) -> Sheet:
    """The sheet of an activation, at CONTEXT's working precision."""
    return _Maker(activation).make()


class _Maker:
    """Works out the properties from a formula and its values on a grid."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.expression = activation.closed
        self.programs = [
            lower({"value": differentiate(self.expression, n)}, ("x",)) for n in range(3)
        ]
        self.size = max(1, sum(len(p.nodes) for p in self.programs))
        self.boxes = min(250, 8_000 // self.size) if self.size > _LARGE else 250
        searched = find_breaks(self.expression)
        self.breaks, self.known, self.skipped = searched.points, searched.known, searched.skipped
        self.steps = is_straight_through(self.expression)
        self.repeats = False
        self.runs = [bind(program, OPS) for program in self.programs]
        self.strict = {
            x: evaluate(self.programs[0], _STRICT, {"x": x})["value"] for x in self.breaks
        }
        self.grid = self._make_grid()
        self.f, self.slope, self.second = ([self.at(n, x) for x in self.grid] for n in range(3))

    def at(self, order: int, x: Any) -> Any:
        return self.runs[order]({"x": mp.mpf(x)})["value"]

    def _make_grid(self) -> list[Any]:
        step = 32 if self.size <= _LARGE else 8 if self.size < 4 * _LARGE else 4
        near = [mp.mpf(k) / step for k in range(-8 * step, 8 * step + 1)]
        far = [mp.mpf(10) ** (mp.mpf(k) / 8) for k in range(8, 33)]
        far += [mp.mpf(10) ** k for k in (6, 9, 12, 30, 100, 200, 300)]
        around = [b + s * _tiny(b) for b in self.breaks for s in (-1, 0, 1)]
        return sorted({*near, *far, *(-x for x in far), *around})

    def make(self) -> Sheet:
        low, high = self._range()
        left, right = self._limit(-1), self._limit(1)
        self.kinks = self._kinks()
        self.whole = not any(k.kind != "kink" for k in self.kinks.value)
        self.peaks = self._extremes(1, abs)
        slope = self._largest_slope()
        jumps = self.steps or self._breaks_off()
        lipschitz = Property(math.inf, "sampled") if jumps else slope
        odd = self._odd()
        mean = self._mean()
        if odd.value and not math.isnan(mean.value):
            mean = Property(0.0, odd.how)
        limit = 0 if math.isinf(slope.value) else mp.mpf(slope.value) / 10 * (1 - mp.mpf("1e-20"))
        saturated = self._region(lambda x: abs(self.at(1, x)) < limit)
        dead = self._region(lambda x: exactly_zero(self.programs[1], x))
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
            repeats=self.repeats,
            skipped=self.skipped,
            straight_through=self.steps,
        )

    def _finite(self, values: list[Any]) -> list[Any]:
        return [v for v in values if not mp.isnan(v)]

    def _range(self) -> tuple[Property, Property]:
        values = self._finite(self.f)
        values += [s * mp.inf for s in self._poles()]
        if not values:
            return Property(math.nan, "sampled"), Property(math.nan, "sampled")
        low = min([*values, *(self.at(0, x) for x in self._extremes(0, mp.fneg))])
        high = max([*values, *(self.at(0, x) for x in self._extremes(0, mp.mpf))])
        limits = (self._limit(-1), self._limit(1))
        mirrored = self._bound(_negative(self.expression), -high, *map(_negated, limits))
        return self._bound(self.programs[0], low, *limits), _negated(mirrored)

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
        return Property(_rounded(sampled), "proved" if proved else "sampled")

    def _limit(self, side: int) -> Property:
        values = [self.at(0, side * mp.mpf(10) ** k) for k in (3, 6, 12, 25, 50, 100, 200, 300)]
        last, before = values[-1], values[-2]
        if mp.isnan(last):
            return Property(None, "sampled")
        if mp.isfinite(last) and abs(last - before) <= 1e-9 * max(1, abs(last)):
            return Property(_rounded(last), "sampled")
        sizes = [abs(v) for v in values]
        grows = all(b > a or mp.isinf(b) for a, b in itertools.pairwise(sizes))
        return Property(math.copysign(math.inf, last) if grows else None, "sampled")

    def _breaks_off(self) -> bool:
        """True if f jumps or has a pole: no Lipschitz bound."""
        return any(k.kind in ("jump", "pole") for k in self.kinks.value)

    def _largest_slope(self) -> Property:
        sizes = [abs(s) for s in self.slope if not mp.isnan(s)]
        largest = max(sizes, default=mp.nan)
        if not mp.isfinite(largest):
            return Property(math.inf, "sampled")
        peaks = [abs(self.at(1, x)) for x in self.peaks]
        largest = max([largest, *peaks])
        slack = _SLACK * max(1, largest)
        slope = differentiate(self.expression)
        proved = all(
            bound_below(program, {}, -largest - slack, self.boxes)[1]
            for program in (self.programs[1], _negative(slope))
        )
        if not proved and largest > 1e6:
            return Property(math.inf, "sampled")
        proved = proved and self.known
        return Property(_rounded(largest), "proved" if proved else "sampled")

    def _extremes(self, order: int, height: Callable[[Any], Any]) -> list[Any]:
        """The x at which height(value) of a derivative peaks between grid points: the highest few
        and those nearest to 0."""
        values = (self.f, self.slope, self.second)[order]
        sizes = [height(v) for v in values]
        peaks = [
            k
            for k in range(1, len(sizes) - 1)
            if sizes[k] > sizes[k - 1] and sizes[k] > sizes[k + 1]
        ]
        several = 4 if self.size <= _LARGE else 2
        near = sorted(peaks, key=lambda k: abs(self.grid[k]))[:several]
        high = sorted(peaks, key=lambda k: sizes[k], reverse=True)[:several]
        chosen = sorted({*near, *high})
        return [self._refine(order, height, k) for k in chosen]

    def _refine(self, order: int, height: Callable[[Any], Any], k: int) -> Any:
        """The peak between the neighbours of grid point k, by golden section."""
        low, high = self.grid[k - 1], self.grid[k + 1]
        ratio = (mp.sqrt(5) - 1) / 2
        for _ in range(50 if self.size <= _LARGE else 20):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            if height(self.at(order, a)) < height(self.at(order, b)):
                low = a
            else:
                high = b
        return (low + high) / 2

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
        program = self.programs[1] if rises else _negative(slope)
        sure = self.whole and self.known and not self.steps
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
        """Of f at standard normal x, by Gauss's rule between the breaks: to many digits where the
        pieces are smooth."""
        if self._poles():
            return Property(math.nan, "sampled")
        step = 16 if self.steps else 2 if self.size <= _LARGE else 1
        cuts = {mp.mpf(k) / step for k in range(-8 * step, 8 * step + 1)} | {
            mp.mpf(-12),
            mp.mpf(12),
        }
        ends = sorted(cuts | {b for b in self.breaks if abs(b) < 12})
        total = mp.zero
        for a, b in itertools.pairwise(ends):
            for place, weight in _gauss():
                x = (a + b) / 2 + (b - a) / 2 * place
                total += (b - a) / 2 * weight * self.at(0, x) * OPS["normal_pdf"](x)
        return Property(_rounded(total) if mp.isfinite(total) else math.nan, "sampled")

    def _kinks(self) -> Property:
        kinks = []
        for x in self.breaks:
            kind = self._kind(x)
            if kind:
                sides = (self.at(1, x + s * _tiny(x)) for s in (-1, 1))
                kinks.append(Kink(_rounded(x), kind, *map(_rounded, sides)))
        return Property(tuple(kinks), "proved" if self.known else "sampled")

    def _kind(self, x: Any) -> Literal["jump", "kink", "pole", "hole"] | None:
        """The kind of a break at x; None if nothing breaks there."""
        tiny = _tiny(x)
        if self._grows(x, -1) or self._grows(x, 1):
            return "pole"
        left, right = (self.at(0, x + s * tiny) for s in (-1, 1))
        slopes = self.at(1, x - tiny), self.at(1, x + tiny)
        here = self.at(0, x)
        if mp.isnan(left) or mp.isnan(right):  # an end of the domain
            return None
        room = mp.mpf("1e-9") * max(1, abs(left)) + 4 * tiny * max(map(abs, slopes))
        if abs(left - right) > 2 * room:
            return "jump"
        if not mp.isfinite(self.strict[x]):
            return "hole"
        if max(abs(left - here), abs(right - here)) > room:
            return "jump"
        bends = abs(slopes[0] - slopes[1]) > 1e-9 * max(1, *map(abs, slopes))
        return "kink" if bends else None

    def _grows(self, x: Any, side: int) -> bool:
        """True if |f| grows without bound towards x from that side, as 1/x or log(x) do."""
        near = [self.at(0, x + side * _tiny(x) * 10**k) for k in (12, 8, 4, 0)]
        sizes = [abs(v) for v in near]
        if any(mp.isnan(v) for v in near):
            return False
        steps = [b - a for a, b in itertools.pairwise(sizes)]
        return steps[0] > 0.1 and all(b > 0.9 * a for a, b in itertools.pairwise(steps))

    def _poles(self) -> set[int]:
        """The signs of the infinities at the poles."""
        at = [(x, s) for x in self.breaks for s in (-1, 1) if self._grows(x, s)]
        return {int(mp.sign(self.at(0, x + s * _tiny(x)))) for x, s in at}

    def _region(self, inside: Callable[[Any], bool]) -> tuple[tuple[float, float], ...]:
        """Intervals of x where `inside` holds, as far as a finer grid confirms them."""
        found = self._stretches(inside)
        wide = [(a, b) for a, b in found if b - a > 1e-6]
        bad = self._exceptions(wide, inside)
        if len(wide) > _MANY or bad:
            # it repeats for ever, or the merged intervals are not whole: only the near pieces
            self.repeats = True
            near = [(max(a, -8), min(b, 8)) for a, b in wide if a < 8 and b > -8]
            wide = [p for a, b in near for p in _without(a, b, bad)]
        return tuple((self._snapped(a), self._snapped(b)) for a, b in wide)

    def _exceptions(self, wide: list[Any], inside: Callable[[Any], bool]) -> list[Any]:
        """The x within intervals, of a grid four times as fine and of peaks, not `inside`."""
        points = [a + k * (b - a) / 4 for a, b in itertools.pairwise(self.grid) for k in (1, 2, 3)]
        points += self.peaks
        room = 1e-6
        within = [x for x in points if any(a + room < x < b - room for a, b in wide)]
        return sorted(x for x in within if not inside(x))

    def _stretches(self, inside: Callable[[Any], bool]) -> list[list[Any]]:
        """Intervals of x where `inside` holds, seen on the grid, ends found by bisection."""
        found: list[list[Any]] = []
        before = False
        for k, x in enumerate(self.grid):
            now = inside(x)
            if now and not before:
                found.append([self._edge(k - 1, k, inside) if k else -mp.inf, mp.inf])
            elif before and not now:
                found[-1][1] = self._edge(k, k - 1, inside)
            before = now
        return found

    def _edge(self, outside: int, within: int, inside: Callable[[Any], bool]) -> Any:
        a, b = self.grid[outside], self.grid[within]
        for _ in range(60):
            middle = (a + b) / 2
            a, b = (a, middle) if inside(middle) else (middle, b)
        return b

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
        for x in (b for b in self.breaks if any(self._grows(b, s) for s in (-1, 1))):
            return Property((math.inf, _rounded(x)), "sampled")
        sizes += [(abs(self.at(2, x)), -abs(x), x) for x in self._extremes(2, abs)]
        size, _, x = max(((_rounded(s), *at) for s, *at in sizes), default=(math.nan, 0, mp.zero))
        return Property((_rounded(size), _rounded(x)), "sampled")

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
        for _ in range(60 if self.size <= _LARGE else 20):
            middle = (low + high) / 2
            if max(abs(self.at(2, middle)), abs(self.at(2, -middle))) >= _DEAD_SECOND:
                low = middle
            else:
                high = middle
        return Property(_rounded(high), "sampled")

    def _closes(self) -> Property:
        slope = derivative_in_value(self.activation.expression)
        shown = None if slope is None else str(slope.xreplace({VALUE: Symbol("y")}))
        return Property(shown, "proved")

    def _undefined(self) -> tuple[tuple[float, float], ...]:
        """Intervals found on the grid, ends by bisection, and single points among the breaks."""

        def missing(x: Any) -> bool:
            return bool(mp.isnan(self.at(0, x)))

        found = [(self._snapped(a), self._snapped(b)) for a, b in self._stretches(missing)]
        points = [_rounded(x) for x in self.breaks if not mp.isfinite(self.strict[x])]
        alone = [(x, x) for x in points if not any(a <= x <= b for a, b in found)]
        return tuple(sorted({*found, *alone}))

    def _snapped(self, x: Any) -> float:
        near = [b for b in self.breaks if mp.isfinite(x) and abs(b - x) <= 1e9 * _tiny(b)]
        return _rounded(near[0] if near else x)


def _without(low: Any, high: Any, bad: list[Any]) -> list[tuple[Any, Any]]:
    """An interval without the neighbourhoods of bad points."""
    cuts = [low, *(x for x in bad if low < x < high), high]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b - a > 0.05 or len(cuts) == 2]


def _tiny(x: Any) -> Any:
    """A step beside x, far below float64's and far above the working precision."""
    return mp.mpf("1e-18") * max(1, abs(x))


@lru_cache(maxsize=1)
def _gauss() -> tuple[tuple[Any, Any], ...]:
    """Places and weights on [-1, 1] of Gauss's rule of 12 points, to the digits of a sheet."""
    rule = mpmath.calculus.quadrature.GaussLegendre(mp)
    return tuple(rule.calc_nodes(2, mp.prec))


def _negative(expression: Expr) -> Program:
    return lower({"value": -expression}, ("x",))


def _negated(p: Property) -> Property:
    return Property(None if p.value is None else 0.0 - p.value, p.how)


def _rounded(value: Any) -> float:
    """As a float, without the noise of sampling in the last digits."""
    number = float(value)
    near = round(number, 9)
    return (near + 0.0) if abs(number) < 1e6 and abs(number - near) < 1e-12 else number
