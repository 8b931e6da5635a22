"""Colours, dashes and shapes: one look per activation, readable without colour.

The hues are Okabe and Ito's (distinguishable with every common colour blindness) without their
yellow, which vanishes on white. Hues, dashes and shapes come in lists of lengths 7, 5 and 8 without
a common factor, so that 280 activations would pass before one look returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INK = "#1b1f24"
MUTED = "#5b6570"
GRID = "#e3e6ea"
HUES = (INK, "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (5, 2, 1, 2, 1, 2))
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Look:
    """The way in which one activation is drawn everywhere."""

    colour: str
    dash: tuple[int, ...]
    shape: str


def look(index: int) -> Look:
    """The look of the activation at ``index``; the first one is drawn in ink, solid, round."""
    return Look(HUES[index % len(HUES)], DASHES[index % len(DASHES)], SHAPES[index % len(SHAPES)])


def config() -> dict[str, Any]:
    """The Vega-Lite configuration shared by all charts, on the page and in the files."""
    axis = {
        "labelColor": MUTED,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "titlePadding": 8,
    }
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
        "title": {"fontSize": 14, "color": INK, "anchor": "start", "fontWeight": 600, "offset": 8},
        "text": {"color": INK, "fontSize": 12},
        "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelColor": INK, "titleColor": INK},
    }


_PATHS = {
    "circle": "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
    "square": "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "triangle-up": "M0 -4.4L4.6 3.6H-4.6Z",
    "diamond": "M0 -5L4 0L0 5L-4 0Z",
    "cross": "M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "triangle-down": "M0 4.4L4.6 -3.6H-4.6Z",
    "triangle-right": "M4.4 0L-3.6 4.6V-4.6Z",
    "triangle-left": "M-4.4 0L3.6 4.6V-4.6Z",
}


def swatch(drawn: Look, *, symbol: bool = True) -> str:
    """A small SVG of a look, for keys and tables; decoration, so hidden from screen readers."""
    path = f'<path transform="translate(17 7)" d="{_PATHS[drawn.shape]}" fill="{drawn.colour}"/>'
    dash = " ".join(map(str, drawn.dash)) if drawn.dash[1] else "none"
    return (
        '<svg class="swatch" width="34" height="14" viewBox="0 0 34 14" aria-hidden="true" '
        f'focusable="false"><path d="M1 7H33" fill="none" stroke="{drawn.colour}" '
        f'stroke-width="2" stroke-dasharray="{dash}"/>{path if symbol else ""}</svg>'
    )
