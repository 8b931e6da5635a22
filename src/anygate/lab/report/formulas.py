"""The shapes of the activations: values, derivatives, saturation and readable mathematics.

This is the only place of the report that asks :mod:`anygate.formulas`, and only through
:func:`shape_of`. A formula that cannot be resolved costs its picture, never the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..findings.sheets import TooSlow, allowance, sheet_of, within
from ..study.store.schema import ActivationInfo

LO, HI, POINTS = -4.0, 4.0, 241


@dataclass(frozen=True)
class Shape:
    """The curves and formulas that are drawn of one activation.

    ``points`` are ``(x, f, f', f'')`` with None where not finite; ``saturated`` the intervals with
    ``|f'| < 0.1 max|f'|``; ``mathml`` and ``mathml_derivative`` are presentation MathML, or empty.
    """

    points: tuple[tuple[float, float | None, float | None, float | None], ...]
    saturated: tuple[tuple[float, float], ...]
    mathml: str = ""
    mathml_derivative: str = ""


ShapeSource = Callable[[ActivationInfo], Shape | None]


def shape_of(info: ActivationInfo) -> Shape | None:
    """The shape of an activation by its formula, else by its label; None if neither resolves."""
    from ...formulas import curve

    found = sheet_of(info.formula, info.label)
    if found is None:
        return None
    activation = found.activation
    try:
        with within(allowance()):
            rows = curve(activation, LO, HI, POINTS, orders=2)
            mathml = [to_mathml(a.closed) for a in (activation, activation.derivative())]
    except TooSlow:
        return None
    return Shape(
        points=tuple((float(r["x"] or 0.0), r["f"], r["d1"], r["d2"]) for r in rows),
        saturated=tuple((float(a), float(b)) for a, b in found.saturated),
        mathml=mathml[0],
        mathml_derivative=mathml[1],
    )


def to_mathml(expression: object) -> str:
    """A SymPy expression as a ``<math>`` element, or ``""`` where SymPy's printer has no answer.

    ``where`` becomes a case distinction. The printer leaves ``<`` and ``>`` bare in operators,
    which no parser of HTML should have to guess at; they are escaped here.
    """
    import sympy
    from sympy.printing.mathml import MathMLPresentationPrinter

    if not isinstance(expression, sympy.Basic):
        return ""
    try:
        inner = _cases(_familiar(expression), MathMLPresentationPrinter().doprint)
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return ""
    inner = re.sub(r"<mo><(=?)</mo>", r"<mo>&lt;\1</mo>", inner)
    inner = inner.replace("&InvisibleTimes;", "&#x22C5;")  # x·sigmoid(x), not xsigmoid(x)
    inner = re.sub(r"<mo>>(=?)</mo>", r"<mo>&gt;\1</mo>", inner)
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML">{inner}</math>'


def _cases(expression: Any, show: Callable[[Any], str]) -> str:
    """A ``where`` on the outside as a brace with one row per case; anything else as printed."""
    rows = []
    while type(expression).__name__ == "where":
        condition, value, expression = expression.args
        rows.append(f"<mtd>{show(value)}</mtd><mtd><mtext>if&#160;</mtext>{show(condition)}</mtd>")
    if not rows:
        return show(expression)
    rows.append(f"<mtd>{show(expression)}</mtd><mtd><mtext>else</mtext></mtd>")
    table = "".join(f"<mtr>{row}</mtr>" for row in rows)
    return f'<mrow><mo>{{</mo><mtable columnalign="left left">{table}</mtable></mrow>'


def _familiar(expression: Any) -> Any:
    """The expression with anygate's own primitives in the notation of a textbook."""
    import sympy

    spelled: dict[str, Callable[..., Any]] = {
        "maximum": sympy.Max,
        "minimum": sympy.Min,
        "absolute": sympy.Abs,
        "expm1": lambda x: sympy.exp(x) - 1,
    }
    return expression.replace(
        lambda e: type(e).__name__ in spelled, lambda e: spelled[type(e).__name__](*e.args)
    )


def at(shape: Shape, x: float) -> tuple[float | None, float | None, float | None]:
    """f, f' and f'' at the sampled point nearest to ``x``."""
    _, f, d1, d2 = min(shape.points, key=lambda p: abs(p[0] - x))
    return f, d1, d2


def describe_saturation(shape: Shape) -> str:
    """The saturated stretches between -4 and 4, in words: ``below −1.82 and above 1.82``."""
    seen = [_stretch(a, b) for a, b in shape.saturated if b > LO and a < HI]
    text = " and ".join([", ".join(seen[:-1]), seen[-1]] if len(seen) > 1 else seen)
    return text.replace("-", "−") or "nowhere"


def _stretch(a: float, b: float) -> str:
    if math.isinf(a) and math.isinf(b):
        return "everywhere"
    if math.isinf(a):
        return f"below {b:.3g}"
    return f"above {a:.3g}" if math.isinf(b) else f"from {a:.3g} to {b:.3g}"
