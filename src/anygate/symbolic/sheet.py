"""What can be known of an activation before anything runs: the property sheet.

Each property says whether it is proved (by the formula's structure, or by interval arithmetic
over the whole real line) or sampled (computed with 25 digits on a grid from -1e300 to 1e300).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from mpmath import mp
from sympy import Expr

from .activation import Activation, differentiate
from .cell import derivative_from_output
from .intervals import bound_below
from .meanings import meanings
from .precise import PRECISE
from .primitives import VARIABLE
from .program import Program, evaluate, lower
from .structure import break_points, breaks_known, exactly_zero, parity

__all__ = ["Kink", "Property", "Sheet", "curve", "sheet"]

How = Literal["proved", "sampled"]
_DIGITS = 25
_SATURATED = 0.1  # of the largest |f'|
_DEAD_SECOND = 0.01  # |f''| under this has died out
_MANY = 6  # intervals; more of them mean an oscillating function
_SLACK = 1e-3  # how near a proved bound must come to the sampled value


@dataclass(frozen=True)
class Property:
    """A value and how it is known."""

    value: Any
    how: How


@dataclass(frozen=True)
class Kink:
    """A place where f jumps ("jump") or only its derivative does ("kink")."""

    x: float
    kind: Literal["jump", "kink"]
    slope_left: float
    slope_right: float


@dataclass(frozen=True)
class Sheet:
    """The properties of one activation.

    low, high: infimum and supremum of f. limit_left, limit_right: limits at -inf and +inf, None
    where there is none. bounded, odd: truth values. monotone: "increasing" (nowhere decreasing),
    "decreasing", "constant" or "no". mean_output: mean of f(x) for x standard normal;
    zero_centred: that it is within 0.05 of zero. kinks: places where f or f' jumps.
    lipschitz: supremum of |f'|. saturated: intervals where |f'| is below a tenth of that largest
    value (empty where it is infinite). dead: intervals where f' is exactly zero.
    second_peak: largest |f''| and the x where it lies. second_dies: the |x| beyond which |f''|
    stays below 0.01, None if it does not. closes: f' as a formula in y = f(x), or None.
    undefined: intervals where f is not a number. slots: what it means in each slot.
    """

    activation: Activation
    low: Property
    high: Property
    limit_left: Property
    limit_right: Property
    bounded: Property
    monotone: Property
    odd: Property
    mean_output: Property
    zero_centred: Property
    kinks: Property
    lipschitz: Property
    saturated_region: Property
    dead_region: Property
    second_peak: Property
    second_dies: Property
    closes: Property
    undefined: tuple[tuple[float, float], ...]
    slots: dict[str, tuple[str, ...]]

    @property
    def saturated(self) -> tuple[tuple[float, float], ...]:
        """Intervals of x where |f'| is below a tenth of its largest value."""
        return self.saturated_region.value  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: infinite numbers as "inf" and "-inf"."""
        fields = {k: v for k, v in asdict(self).items() if k != "activation"}
        return {
            "name": self.activation.label,
            "formula": self.activation.formula,
            "derivative": self.activation.derivative().formula,
            "latex": self.activation.latex(),
            "parameters": dict(self.activation.parameters),
            "aliases": list(self.activation.aliases),
            "source": self.activation.source,
            "note": self.activation.note,
            **_plain(fields),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@lru_cache(maxsize=256)
def sheet(activation: Activation) -> Sheet:
    """The property sheet; about a second for a formula not seen before."""
    with mp.workdps(_DIGITS):
        return _Maker(activation).make()


@lru_cache(maxsize=256)
def _orders(expression: Expr, inputs: tuple[str, ...], orders: int) -> Program:
    return lower({f"d{n}": differentiate(expression, n) for n in range(orders + 1)}, inputs)


def curve(
    activation: Activation, low: float, high: float, n: int, orders: int = 2
) -> list[dict[str, float | None]]:
    """f and its derivatives at n points from low to high: rows of x, f, d1, d2 ...; None where
    the value is not finite."""
    program = _orders(activation.expression, activation.inputs, orders)
    names = ("f", *(f"d{k}" for k in range(1, orders + 1)))
    rows: list[dict[str, float | None]] = []
    with mp.workdps(_DIGITS):
        parameters = {k: mp.mpf(v) for k, v in activation.parameters.items()}
        for k in range(n):
            x = low + (high - low) * k / (n - 1)
            values = evaluate(program, PRECISE, {"x": mp.mpf(x), **parameters})
            row: dict[str, float | None] = {"x": x}
            for name, value in zip(names, values.values(), strict=True):
                row[name] = float(value) if math.isfinite(float(value)) else None
            rows.append(row)
    return rows


class _Maker:
    """Works out the properties from a formula and its values on a grid."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.expression = activation.closed
        self.programs = [
            lower({"value": differentiate(self.expression, n)}, ("x",)) for n in range(3)
        ]
        self.breaks = break_points(self.expression)
        self.grid = self._make_grid()
        self.f, self.slope, self.second = ([self.at(n, x) for x in self.grid] for n in range(3))

    def at(self, order: int, x: Any) -> Any:
        return evaluate(self.programs[order], PRECISE, {"x": mp.mpf(x)})["value"]

    def _make_grid(self) -> list[Any]:
        near = [mp.mpf(k) / 32 for k in range(-256, 257)]
        far = [mp.mpf(10) ** (mp.mpf(k) / 8) for k in range(8, 33)]
        far += [mp.mpf(10) ** k for k in (6, 9, 12, 30, 100, 200, 300)]
        tiny = mp.mpf("1e-18")
        around = [b + s for b in self.breaks for s in (-tiny, 0, tiny)]
        return sorted({*near, *far, *(-x for x in far), *around})

    def make(self) -> Sheet:
        low, high = self._range()
        left, right = self._limit(-1), self._limit(1)
        lipschitz = self._lipschitz()
        odd = self._odd()
        mean = Property(0.0, odd.how) if odd.value else self._mean()
        limit = 0 if math.isinf(lipschitz.value) else _SATURATED * lipschitz.value
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
            kinks=self._kinks(),
            lipschitz=lipschitz,
            saturated_region=Property(saturated, "sampled"),
            dead_region=Property(dead, "sampled"),
            second_peak=self._second_peak(),
            second_dies=self._second_dies(),
            closes=self._closes(),
            undefined=self._undefined(),
            slots=meanings(low.value, high.value, dead, monotone.value),
        )

    def _finite(self, values: list[Any]) -> list[Any]:
        return [v for v in values if not mp.isnan(v)]

    def _range(self) -> tuple[Property, Property]:
        values = self._finite(self.f)
        if not values:
            return Property(math.nan, "sampled"), Property(math.nan, "sampled")
        low = min([*values, *(self.at(0, x) for x in self._extremes(0, mp.fneg))])
        high = max([*values, *(self.at(0, x) for x in self._extremes(0, mp.mpf))])
        limits = (self._limit(-1), self._limit(1))
        mirrored = self._bound(_negative(self.expression), -high, *map(_negated, limits))
        return self._bound(self.programs[0], low, *limits), _negated(mirrored)

    def _bound(self, program: Program, sampled: Any, *limits: Property) -> Property:
        """The infimum: proved where interval arithmetic comes within a thousandth of it."""
        if any(limit.value == -math.inf for limit in limits):
            return Property(-math.inf, "sampled")
        finite = [mp.mpf(m.value) for m in limits if m.value is not None]
        sampled = min([sampled, *(v for v in finite if mp.isfinite(v))])
        slack = _SLACK * max(1, abs(sampled))
        bound, proved = bound_below(program, {}, sampled - slack)
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

    def _lipschitz(self) -> Property:
        sizes = [abs(s) for s in self.slope if not mp.isnan(s)]
        largest = max(sizes, default=mp.nan)
        if not mp.isfinite(largest) or largest > 1e6:
            return Property(math.inf, "sampled")
        peaks = [abs(self.at(1, x)) for x in self._extremes(1, abs)]
        largest = max([largest, *peaks])
        slack = _SLACK * max(1, largest)
        slope = differentiate(self.expression)
        proved = all(
            bound_below(program, {}, -largest - slack)[1]
            for program in (self.programs[1], _negative(slope))
        )
        return Property(_rounded(largest), "proved" if proved else "sampled")

    def _extremes(self, order: int, height: Callable[[Any], Any]) -> list[Any]:
        """Where height(value) of that derivative peaks between grid points, |x| <= 8."""
        values = (self.f, self.slope, self.second)[order]
        sizes = [height(v) for v in values]
        peaks = [
            k
            for k in range(1, len(sizes) - 1)
            if sizes[k] > sizes[k - 1] and sizes[k] > sizes[k + 1] and abs(self.grid[k]) <= 8
        ]
        return [self._refine(order, height, k) for k in peaks[:8]]

    def _refine(self, order: int, height: Callable[[Any], Any], k: int) -> Any:
        """The peak between the neighbours of grid point k, by golden section."""
        low, high = self.grid[k - 1], self.grid[k + 1]
        ratio = (mp.sqrt(5) - 1) / 2
        for _ in range(50):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            if height(self.at(order, a)) < height(self.at(order, b)):
                low = a
            else:
                high = b
        return (low + high) / 2

    def _monotone(self) -> Property:
        slopes = self._finite(self.slope)
        jumps = [k for k in self._kinks().value if k.kind == "jump"]
        up, down = any(s > 0 for s in slopes), any(s < 0 for s in slopes)
        values = self._finite(self.f)
        steps = [b - a for a, b in itertools.pairwise(values)]
        falls = any(s < 0 for s in steps)
        rises = any(s > 0 for s in steps)
        if (up and down) or (rises and falls):
            return Property("no", "proved")  # two points show it
        if not rises and not falls:
            same = not self.expression.has(VARIABLE)
            return Property("constant", "proved" if same else "sampled")
        slope = differentiate(self.expression)
        program = self.programs[1] if rises else _negative(slope)
        proved = not jumps and bound_below(program, {}, mp.zero)[1]
        return Property("increasing" if rises else "decreasing", "proved" if proved else "sampled")

    def _odd(self) -> Property:
        if parity(self.expression) == "odd":
            return Property(True, "proved")
        for x, value in zip(self.grid, self.f, strict=True):
            other = self.at(0, -x)
            if mp.isfinite(value) and abs(value + other) > 1e-15 * max(1, abs(value)):
                return Property(False, "proved")
        return Property(True, "sampled")

    def _mean(self) -> Property:
        """Of f at standard normal x, by the trapezium rule; exact to many digits there."""
        pairs = [(x, v) for x, v in zip(self.grid, self.f, strict=True) if abs(x) <= 8]
        if any(not mp.isfinite(v) for _, v in pairs):
            return Property(math.nan, "sampled")
        weighted = [(x, v * PRECISE["normal_pdf"](x)) for x, v in pairs]
        total = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(weighted))
        return Property(_rounded(total), "sampled")

    def _kinks(self) -> Property:
        kinks = []
        tiny = mp.mpf("1e-18")
        for x in self.breaks:
            left, here, right = (self.at(0, x + s) for s in (-tiny, 0, tiny))
            slopes = self.at(1, x - tiny), self.at(1, x + tiny)
            jump = max(abs(left - here), abs(right - here)) > 1e-9 * max(1, abs(here))
            if jump or abs(slopes[0] - slopes[1]) > 1e-9 * max(1, *map(abs, slopes)):
                kind: Literal["jump", "kink"] = "jump" if jump else "kink"
                kinks.append(Kink(_rounded(x), kind, _rounded(slopes[0]), _rounded(slopes[1])))
        return Property(tuple(kinks), "proved" if breaks_known(self.expression) else "sampled")

    def _region(self, inside: Callable[[Any], bool]) -> tuple[tuple[float, float], ...]:
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
        wide = [(a, b) for a, b in found if b - a > 1e-6]
        if len(wide) > _MANY:  # it repeats for ever; the grid is dense only here
            wide = [(a, b) for a, b in wide if abs(a) <= 8 and abs(b) <= 8]
        return tuple((_rounded(a), _rounded(b)) for a, b in wide)

    def _edge(self, outside: int, within: int, inside: Callable[[Any], bool]) -> Any:
        a, b = self.grid[outside], self.grid[within]
        for _ in range(60):
            middle = (a + b) / 2
            a, b = (a, middle) if inside(middle) else (middle, b)
        return b

    def _second_peak(self) -> Property:
        candidates = [*self._extremes(2, abs), *(x for x in self.grid if abs(x) <= 8)]
        x = max(candidates, key=lambda p: (abs(self.at(2, p)), -abs(p), p))
        return Property((_rounded(abs(self.at(2, x))), _rounded(x)), "sampled")

    def _second_dies(self) -> Property:
        alive = [abs(x) for x, s in zip(self.grid, self.second, strict=True)
                 if mp.isnan(s) or abs(s) >= _DEAD_SECOND]  # fmt: skip
        if not alive:
            return Property(0.0, "sampled")
        if max(alive) > 1e5:
            return Property(None, "sampled")
        low = max(alive)
        high = min(abs(x) for x in self.grid if abs(x) > low)
        for _ in range(60):
            middle = (low + high) / 2
            if max(abs(self.at(2, middle)), abs(self.at(2, -middle))) >= _DEAD_SECOND:
                low = middle
            else:
                high = middle
        return Property(_rounded(high), "sampled")

    def _closes(self) -> Property:
        closed = derivative_from_output(self.activation)
        return Property(None if closed is None else str(closed[1]), "proved")

    def _undefined(self) -> tuple[tuple[float, float], ...]:
        found: list[list[float]] = []
        for k, value in enumerate(self.f):
            if mp.isnan(value):
                if k and mp.isnan(self.f[k - 1]):
                    found[-1][1] = float(self.grid[k])
                else:
                    found.append([float(self.grid[k]) if k else -math.inf, float(self.grid[k])])
        if found and mp.isnan(self.f[-1]):
            found[-1][1] = math.inf
        return tuple((a, b) for a, b in found)


def _negative(expression: Expr) -> Program:
    return lower({"value": -expression}, ("x",))


def _negated(p: Property) -> Property:
    return Property(None if p.value is None else 0.0 - p.value, p.how)


def _rounded(value: Any) -> float:
    """As a float, without the noise of sampling in the last digits."""
    number = float(value)
    near = round(number, 9)
    return (near + 0.0) if abs(number) < 1e6 and abs(number - near) < 1e-12 else number
