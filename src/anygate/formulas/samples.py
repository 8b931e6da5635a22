"""The values of a formula and its first two derivatives on a grid over the whole line, with what
is searched for between the grid's points: peaks, ends of intervals, growth towards a pole."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

from sympy import Expr

from .derivative import differentiate
from .precise import CONTEXT as mp
from .precise import OPS
from .program import bind, lower
from .structure import find_breaks, zero_by_structure

__all__ = ["Samples", "rounded", "tiny"]

_LARGE = 150  # nodes of f, f' and f'' together; above it the grid is coarser
_STRICT: dict[str, Callable[..., Any]] = {
    **OPS,
    "div": lambda a, b: mp.nan if b == 0 else OPS["div"](a, b),
    "log": lambda x: mp.nan if x == 0 else OPS["log"](x),
    "log1p": lambda x: mp.nan if x == -1 else OPS["log1p"](x),
}
"""A division by zero has no value, though floats give it one."""
_LISTED = 6  # intervals; more of them mean an oscillating function
_NEAR = 8
"""Of an oscillating function the intervals within this |x| are looked at, and of those ..."""
_NEAREST = 12
"""... as many as this."""
_BREAKS = 25_000
"""Breaks times nodes: a break takes some twelve times the work of all nodes, so about 0.7 s."""


def tiny(x: Any) -> Any:
    """A step beside x, far below float64's and far above the working precision."""
    return mp.mpf("1e-18") * max(1, abs(x))


class Samples:
    """f, f' and f'' of an expression in x. What they take is bounded: grid, breaks and searches are
    the fewer, the larger the three are.

    programs: of f, f' and f''. breaks: every x where something may jump, of those that were looked
    at; known: that there are no others; skipped: how many conditions and breaks were not looked at.
    grid: in order; values: the three on it. strict: f at the breaks, by operations that have no
    value where a denominator is zero.
    """

    def __init__(self, expression: Expr) -> None:
        self.programs = [lower({"value": differentiate(expression, n)}, ("x",)) for n in range(3)]
        self.size = max(1, sum(len(p.nodes) for p in self.programs))
        self.is_large = self.size > _LARGE
        self._runs = [bind(program, OPS) for program in self.programs]
        self._known: list[dict[Any, Any]] = [{}, {}, {}]
        self._zero = zero_by_structure(self.programs[1])
        self._growth: dict[tuple[Any, int], bool] = {}
        searched = find_breaks(expression)
        most = max(8, _BREAKS // self.size)
        self.breaks = tuple(sorted(sorted(searched.points, key=abs)[:most]))
        missing = len(searched.points) - len(self.breaks)
        self.known = searched.known and not missing
        self.skipped = searched.skipped + missing
        strict = bind(self.programs[0], _STRICT)
        self.strict = {x: strict({"x": x})["value"] for x in self.breaks}
        self.grid = self._make_grid()
        self.values = [[self.at(order, x) for x in self.grid] for order in range(3)]

    def _make_grid(self) -> list[Any]:
        step = 32 if not self.is_large else 8 if self.size < 4 * _LARGE else 4
        near = [mp.mpf(k) / step for k in range(-8 * step, 8 * step + 1)]
        far = [mp.mpf(10) ** (mp.mpf(k) / 8) for k in range(8, 33)]
        far += [mp.mpf(10) ** k for k in (6, 9, 12, 30, 100, 200, 300)]
        around = [b + s * tiny(b) for b in self.breaks for s in (-1, 0, 1)]
        return sorted({*near, *far, *(-x for x in far), *around})

    def at(self, order: int, x: Any) -> Any:
        """f, f' or f'' at x, computed once."""
        place, known = mp.mpf(x), self._known[order]
        if place not in known:
            known[place] = self._runs[order]({"x": place})["value"]
        return known[place]

    def is_dead(self, x: Any) -> bool:
        """True if f' is exactly zero at x, by structure and not by underflow."""
        slope = self.at(1, x)
        return (slope == 0 or bool(mp.isnan(slope))) and self._zero(x)

    def extremes(self, order: int, height: Callable[[Any], Any]) -> list[Any]:
        """The x at which height(value) of a derivative peaks between grid points: the highest few
        and those nearest to 0."""
        sizes = [height(v) for v in self.values[order]]
        peaks = [
            k
            for k in range(1, len(sizes) - 1)
            if sizes[k] > sizes[k - 1] and sizes[k] > sizes[k + 1]
        ]
        several = 2 if self.is_large else 4
        near = sorted(peaks, key=lambda k: abs(self.grid[k]))[:several]
        high = sorted(peaks, key=lambda k: sizes[k], reverse=True)[:several]
        return [self._refine(order, height, k) for k in sorted({*near, *high})]

    def _refine(self, order: int, height: Callable[[Any], Any], k: int) -> Any:
        """The peak between the neighbours of grid point k, by golden section."""
        low, high = self.grid[k - 1], self.grid[k + 1]
        ratio = (mp.sqrt(5) - 1) / 2
        for _ in range(20 if self.is_large else 50):
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            if height(self.at(order, a)) < height(self.at(order, b)):
                low = a
            else:
                high = b
        return (low + high) / 2

    def kind(self, x: Any) -> Literal["jump", "kink", "pole", "hole"] | None:
        """The kind of a break at x; None if nothing breaks there."""
        if self.grows(x, -1) or self.grows(x, 1):
            return "pole"
        step = tiny(x)
        left, right = (self.at(0, x + s * step) for s in (-1, 1))
        slopes = self.at(1, x - step), self.at(1, x + step)
        here = self.at(0, x)
        if mp.isnan(left) or mp.isnan(right):  # an end of the domain
            return None
        room = mp.mpf("1e-9") * max(1, abs(left)) + 4 * step * max(map(abs, slopes))
        if abs(left - right) > 2 * room:
            return "jump"
        if not mp.isfinite(self.strict[x]):
            return "hole"
        if max(abs(left - here), abs(right - here)) > room:
            return "jump"
        bends = abs(slopes[0] - slopes[1]) > 1e-9 * max(1, *map(abs, slopes))
        return "kink" if bends else None

    def grows(self, x: Any, side: int) -> bool:
        """True if |f| grows without bound towards x from that side, as 1/x or log(x) do."""
        if (x, side) not in self._growth:
            near = [self.at(0, x + side * tiny(x) * 10**k) for k in (12, 8, 4, 0)]
            self._growth[x, side] = not any(mp.isnan(v) for v in near) and _growing(near)
        return self._growth[x, side]

    def poles(self) -> set[int]:
        """The signs of the infinities at the poles."""
        at = [(x, s) for x in self.breaks for s in (-1, 1) if self.grows(x, s)]
        return {int(mp.sign(self.at(0, x + s * tiny(x)))) for x, s in at}

    def regions(
        self, inside: Callable[[Any], bool], peaks: list[Any]
    ) -> tuple[tuple[tuple[float, float], ...], bool]:
        """Intervals of x where `inside` holds, as far as a finer grid and the peaks confirm them;
        and whether there are others, as of an oscillating function: then only the intervals
        nearest to 0 are there."""
        found = self._stretches(inside)
        sure = sum(self.grid[last] - self.grid[first] > 1e-6 for first, last in found)
        repeats = sure > _LISTED
        wide = self._wide(self._nearest(found) if repeats else found, inside)
        exceptions = self._exceptions(wide, inside, peaks)
        # it repeats for ever, or the merged intervals are not whole
        repeats = repeats or len(wide) > _LISTED or bool(exceptions)
        if repeats:
            near = [(max(a, -_NEAR), min(b, _NEAR)) for a, b in wide if a < _NEAR and b > -_NEAR]
            wide = [p for a, b in near for p in _without(a, b, exceptions)]
        return tuple((self.snapped(a), self.snapped(b)) for a, b in wide), repeats

    def intervals(self, inside: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
        """All intervals that the grid shows, ends found by bisection."""
        return [self._ends(*stretch, inside) for stretch in self._stretches(inside)]

    def _stretches(self, inside: Callable[[Any], bool]) -> list[tuple[int, int]]:
        """First and last grid point of each stretch where `inside` holds."""
        runs = itertools.groupby(range(len(self.grid)), key=lambda k: inside(self.grid[k]))
        found = [list(places) for holds, places in runs if holds]
        return [(places[0], places[-1]) for places in found]

    def _nearest(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        def distance(stretch: tuple[int, int]) -> Any:
            first, last = (self.grid[k] for k in stretch)
            return max(first, -last, mp.zero)

        near = [stretch for stretch in found if distance(stretch) < _NEAR]
        return sorted(sorted(near, key=distance)[:_NEAREST])

    def _wide(
        self, found: list[tuple[int, int]], inside: Callable[[Any], bool]
    ) -> list[tuple[Any, Any]]:
        ends = [self._ends(*stretch, inside) for stretch in found]
        return [(a, b) for a, b in ends if b - a > 1e-6]

    def _ends(self, first: int, last: int, inside: Callable[[Any], bool]) -> tuple[Any, Any]:
        low = self._edge(first - 1, first, inside) if first else -mp.inf
        return low, self._edge(last + 1, last, inside) if last + 1 < len(self.grid) else mp.inf

    def _edge(self, outside: int, within: int, inside: Callable[[Any], bool]) -> Any:
        a, b = self.grid[outside], self.grid[within]
        for _ in range(60):
            middle = (a + b) / 2
            a, b = (middle, b) if not inside(middle) else (a, middle)
        return b

    def _exceptions(
        self, wide: list[tuple[Any, Any]], inside: Callable[[Any], bool], peaks: list[Any]
    ) -> list[Any]:
        """The x within intervals, of a grid four times as fine and of peaks, not `inside`."""
        points = [a + k * (b - a) / 4 for a, b in itertools.pairwise(self.grid) for k in (1, 2, 3)]
        room = 1e-6
        within = [x for x in (*points, *peaks) if any(a + room < x < b - room for a, b in wide)]
        return sorted(x for x in within if not inside(x))

    def snapped(self, x: Any) -> float:
        """As a float; the break that x is meant to be."""
        near = [b for b in self.breaks if mp.isfinite(x) and abs(b - x) <= 1e9 * tiny(b)]
        return rounded(near[0] if near else x)


def _growing(values: list[Any]) -> bool:
    sizes = [abs(v) for v in values]
    steps = [b - a for a, b in itertools.pairwise(sizes)]
    return steps[0] > 0.1 and all(b > 0.9 * a for a, b in itertools.pairwise(steps))


def _without(low: Any, high: Any, exceptions: list[Any]) -> list[tuple[Any, Any]]:
    """An interval without the neighbourhoods of exceptions."""
    cuts = [low, *(x for x in exceptions if low < x < high), high]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b - a > 0.05 or len(cuts) == 2]


def rounded(value: Any) -> float:
    """As a float, without the noise of sampling in the last digits."""
    number = float(value)
    near = round(number, 9)
    return (near + 0.0) if abs(number) < 1e6 and abs(number - near) < 1e-12 else number
