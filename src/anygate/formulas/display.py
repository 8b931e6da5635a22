"""An activation in a notebook: its formula, and f and f' drawn in a small picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from .activation import Activation
from .sheet import curve

__all__ = ["html", "picture"]

_WIDTH, _HEIGHT, _REACH = 280, 160, 4.0
_Row = dict[str, float | None]


def html(activation: Activation) -> str:
    """A formula (LaTeX for MathJax), the parameters, the source and the picture."""
    parameters = ", ".join(f"{k} = {v:g}" for k, v in activation.parameters.items())
    lines = [f"<b>{escape(activation.label)}</b>{': ' + escape(parameters) if parameters else ''}"]
    lines.append(f"$$ {escape(activation.latex(), quote=False)} $$")
    lines.append(picture(activation))
    if activation.source:
        lines.append(f"<small>{escape(activation.source)}</small>")
    return "<div>" + "<br>".join(lines) + "</div>"


def picture(activation: Activation) -> str:
    """f (solid) and f' (dashed) on [-4, 4] as an SVG text."""
    rows = curve(activation, -_REACH, _REACH, 129, orders=1)
    values = [v for row in rows for v in (row["f"], row["d1"]) if v is not None]
    # A tenth more than the curves need, so that no line runs along the edge.
    low, high = 1.1 * max(min([*values, -1.0]), -4.0), 1.1 * min(max([*values, 1.0]), 4.0)

    def place(x: float, y: float) -> str:
        across = (x + _REACH) / (2 * _REACH) * _WIDTH
        up = (high - min(max(y, low), high)) / (high - low) * _HEIGHT
        return f"{across:.1f},{up:.1f}"

    axis = '<polyline points="{}" fill="none" stroke="#999" stroke-width="1"/>'
    label = f"{activation.label} (solid) and its derivative (dashed) from -4 to 4"
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        + axis.format(f"{place(-_REACH, 0)} {place(_REACH, 0)}")
        + axis.format(f"{place(0, low)} {place(0, high)}")
        + _line(rows, "f", place, 'stroke="#0072b2" stroke-width="2"')
        + _line(rows, "d1", place, 'stroke="#d55e00" stroke-width="2" stroke-dasharray="5 3"')
        + "</svg>"
    )


def _line(rows: Sequence[_Row], key: str, place: Callable[[float, float], str], style: str) -> str:
    points = [place(row["x"] or 0.0, value) for row in rows if (value := row[key]) is not None]
    return f'<polyline points="{" ".join(points)}" fill="none" {style}/>'
