"""The property sheet as text for people."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from .activation import Activation
from .sheet import Kink, Property, Sheet
from .sheet import sheet as make_sheet

__all__ = ["describe", "rows"]

KEY = "(p) proved by structure or interval arithmetic; (s) sampled from -1e300 to 1e300"
_WIDTH = 96
_LABEL = 22
_WORDS = {"jump": "f jumps", "pole": "f has a pole", "hole": "f has no value"}


def describe(of: Sheet | Activation | str) -> str:
    """The whole sheet, a property a line, (p) proved and (s) sampled; of a Sheet or of anything
    that `resolve` accepts."""
    name, *parts = rows(of)
    lines = [name[0][1]]
    for part in parts:
        lines += [*(_line(*row) if row[1] else row[0] for row in part), ""]
    return "\n".join([*lines, KEY])


def rows(of: Sheet | Activation | str) -> list[list[tuple[str, str]]]:
    """The parts of the sheet, each a list of a property's title and text: its name, the function,
    its properties, and what it means in each slot of an LSTM."""
    sheet = of if isinstance(of, Sheet) else make_sheet(of)
    name = [("name", sheet.activation.label)]
    return [name, list(_head(sheet)), list(_properties(sheet)), list(_slots(sheet))]


def _head(sheet: Sheet) -> Iterator[tuple[str, str]]:
    a = sheet.activation
    yield _row("f(x)", a.formula)
    yield _row("f'(x)", a.derivative().formula)
    if sheet.straight_through:
        yield _row(
            "straight-through",
            "f' passes over round and floor as if they were not there: it is what training uses, "
            "not f's own slope",
        )
    if a.parameters:
        yield _row("parameters", ", ".join(f"{k} = {v:g}" for k, v in a.parameters.items()))
    for title, text in (
        ("also called", ", ".join(a.aliases)),
        ("source", a.source),
        ("note", a.note),
    ):
        if text:
            yield _row(title, text)


def _properties(sheet: Sheet) -> Iterator[tuple[str, str]]:
    low, high = sheet.low, sheet.high
    if sheet.undefined:
        yield _row("undefined", f"f is not a number {_intervals_in_words(sheet.undefined)}")
    yield _row("range", f"{_number(low.value)} to {_number(high.value)}", _weaker_of(low, high))
    yield _row(
        "limits",
        f"{_number(sheet.limit_left.value)} at -inf, {_number(sheet.limit_right.value)} at +inf",
        sheet.limit_left,
    )
    yield _row("bounded", _yes(sheet.bounded), sheet.bounded)
    yield _row("monotone", sheet.monotone.value, sheet.monotone)
    yield _row("odd", _yes(sheet.odd), sheet.odd)
    value = sheet.mean_output.value
    mean = "no mean" if math.isnan(value) else f"mean {_number(value)}"
    mean = f"{_yes(sheet.zero_centred)}; {mean} for normal x"
    yield _row("zero-centred", mean, sheet.zero_centred)
    kinks = "; ".join(map(_kink, sheet.kinks.value)) or "none"
    if sheet.skipped:
        kinks += f"; {sheet.skipped} conditions were not searched, there are too many"
    yield _row("kinks", kinks, sheet.kinks)
    yield _row("Lipschitz bound", _number(sheet.lipschitz.value), sheet.lipschitz)
    saturated = _intervals_in_words(sheet.saturated) if sheet.saturated else "nowhere"
    saturated += ", and so on" if sheet.repeats else ""
    saturated += f" (|f'| under a tenth of {_number(sheet.largest_slope.value)})"
    yield _row("saturated", saturated, sheet.saturated_region)
    dead = _intervals_in_words(sheet.dead_region.value) if sheet.dead_region.value else "nowhere"
    yield _row("zero slope", dead, sheet.dead_region)
    yield _row("second derivative", _second(sheet), sheet.second_peak)
    closes = f"yes: f' = {sheet.closes.value} with y = f(x)" if sheet.closes.value else "no"
    yield _row("closes in output", closes, sheet.closes)


def _second(sheet: Sheet) -> str:
    size, place = sheet.second_peak.value
    if not size:
        return "zero wherever it exists"
    dies = sheet.second_dies.value
    if math.isinf(size):
        where = f"towards x = {_number(place)}" if math.isfinite(place) else "with |x|"
        return f"grows without bound {where}"
    tail = f"below 0.01 beyond |x| = {_number(dies)}" if dies is not None else "does not die out"
    return f"at most {_number(size)} (at x = {_number(place)}), {tail}"


def _slots(sheet: Sheet) -> Iterator[tuple[str, str]]:
    yield "In the slots of an LSTM:", ""
    shared = [s for s in next(iter(sheet.slots.values())) if _everywhere(s, sheet)]
    for slot, sentences in sheet.slots.items():
        own = [s for s in sentences if s not in shared]
        yield _row(slot, " ".join(own) or "Nothing special.")
    if shared:
        yield _row("each of them", " ".join(shared))


def _everywhere(sentence: str, sheet: Sheet) -> bool:
    return all(sentence in sentences for sentences in sheet.slots.values())


def _row(title: str, text: str, known: Property | None = None) -> tuple[str, str]:
    return title, text + (f" ({known.how[0]})" if known else "")


def _line(title: str, text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"  {title}".ljust(_LABEL),
        subsequent_indent=" " * _LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _weaker_of(a: Property, b: Property) -> Property:
    return a if a.how == "sampled" else b


def _yes(p: Property) -> str:
    return "yes" if p.value else "no"


def _number(value: float | None) -> str:
    return "no limit" if value is None else f"{value + 0.0:.4g}"


def _kink(kink: Kink) -> str:
    if kink.kind != "kink":
        return f"{_WORDS[kink.kind]} at {_number(kink.x)}"
    left, right = _number(kink.slope_left), _number(kink.slope_right)
    return f"f' goes from {left} to {right} at x = {_number(kink.x)}"


def _intervals_in_words(intervals: tuple[tuple[float, float], ...]) -> str:
    words = []
    for low, high in intervals:
        if low == high:
            words.append(f"at {_number(low)}")
        elif math.isinf(low) and math.isinf(high):
            words.append("everywhere")
        elif math.isinf(low):
            words.append(f"below {_number(high)}")
        elif math.isinf(high):
            words.append(f"above {_number(low)}")
        else:
            words.append(f"from {_number(low)} to {_number(high)}")
    return ", ".join(words)
