"""The content of a property sheet: properties, kinks, and how each of them is known."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

from .activation import Activation

__all__ = ["How", "Kink", "Property", "Sheet"]

How = Literal["proved", "sampled"]


@dataclass(frozen=True)
class Property:
    """A value and how it is known."""

    value: Any
    how: How


@dataclass(frozen=True)
class Kink:
    """A place where f jumps ("jump"), only its derivative does ("kink"), f grows without bound or
    has no one-sided limit ("pole"), or only lacks a value ("hole")."""

    x: float
    kind: Literal["jump", "kink", "pole", "hole"]
    slope_left: float
    slope_right: float


@dataclass(frozen=True)
class Sheet:
    """The properties of one activation.

    low, high: infimum and supremum of f. limit_left, limit_right: limits at -inf and +inf, None
    where there is none. bounded, odd: truth values. monotone: "increasing" (nowhere decreasing),
    "decreasing", "constant" or "no". mean_output: mean of f(x) for x standard normal;
    zero_centred: that it is within 0.05 of zero. kinks: places where f or f' jumps.
    lipschitz: the Lipschitz bound, infinite if f jumps. largest_slope: supremum of |f'| away from
    jumps. saturated: intervals where |f'| is below a tenth of largest_slope (empty where that is
    infinite). dead: intervals where f' is exactly zero.
    second_peak: largest |f''| and the x where it lies. second_dies: the |x| beyond which |f''|
    stays below 0.01, None if it does not. closes: f' as a formula in y = f(x), or None.
    undefined: intervals, or points (a, a), where f has no value. slots: what it means in each slot.
    repeats: that saturated or dead go on as an oscillating function's do; of the intervals within
    |x| < 8 the nearest to 0 are listed. skipped: conditions, denominators and places of kinks that
    were not looked at, because there were too many; 0 for all but the largest formulas.
    straight_through: that round or floor is in it, of which f' knows nothing: what is said of f' is
    not said of f's own slope.
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
    largest_slope: Property
    saturated_region: Property
    dead_region: Property
    second_peak: Property
    second_dies: Property
    closes: Property
    undefined: tuple[tuple[float, float], ...]
    slots: dict[str, tuple[str, ...]]
    repeats: bool = False
    skipped: int = 0
    straight_through: bool = False

    def __str__(self) -> str:
        """A property a line, as `anygate show` prints it."""
        from .describe import describe

        return describe(self)

    def __repr__(self) -> str:
        low, high = self.low.value, self.high.value
        return f"<Sheet of {self.activation.label}: from {low:.4g} to {high:.4g}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(str(self))}</pre>"

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
            **_as_json(fields),
        }


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _as_json(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_as_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
