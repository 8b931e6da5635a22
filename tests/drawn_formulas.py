"""Drawn formula texts of the whole grammar, for laws over any formula."""

from __future__ import annotations

import random

from anygate.formulas.lookup import names
from anygate.formulas.primitives import PRIMITIVES

UNARY = sorted(n for n, p in PRIMITIVES.items() if p.arity() == 1)
LEAVES = ("x", "x", "x", "k", "0", "1", "2", "0.5", "-3", "pi", "e", "0.1", "1/3", "99", "7e-3")
HARSH = ("1e300", "1e-300", "9801", "1e5", "exp(20)", "6.5383e-08", "1e-17", "3.5e38", "-1e39")
COMPARE = ("<", "<=", ">", ">=")
_PARTS = """
    x z k pi e max min clip where sqrt relu softmax gelu 0 1 2 0.5 32 1e300 1e-300 99999 1e400 1j
    'a' lambda not and or if else in is for import None __import__ ( ) ( ) [ ] { } , . : := = ==
    < <= > >= + - * / ** @ ~ ^ % # _ ; \\ \0 \u0445
"""
WORDS = (*PRIMITIVES, *_PARTS.split(), " ", "\n")
"""Parts of formulas, of Python, and of neither."""


def formula(draw: random.Random, size: int, catalogue: bool = True, harsh: bool = True) -> str:
    """A formula with about `size` leaves in x and the parameter k."""
    if size <= 1:
        return draw.choice(HARSH) if harsh and draw.random() < 0.1 else draw.choice(LEAVES)

    def inner(share: int = 1) -> str:
        return formula(draw, max(1, (size - 1) // share), catalogue, harsh)

    kind = draw.random()
    if kind < 0.34:
        return f"({inner(2)} {draw.choice('+-**/')} {inner(2)})"
    if kind < 0.42:
        return f"({inner()})**{draw.choice(('2', '-1', '0.5', '3', '-0.5', '1.5', '7', '32'))}"
    if kind < 0.62:
        return f"{draw.choice(UNARY)}({inner()})"
    if kind < 0.72 and catalogue:
        return f"{draw.choice(sorted(names()))}({inner()})"
    if kind < 0.80:
        return f"{draw.choice(('max', 'min', 'hypot'))}({inner(2)}, {inner(2)})"
    if kind < 0.84:
        return f"clip({inner(3)}, {inner(3)}, {inner(3)})"
    if kind < 0.88:
        return f"-{inner()}"
    if kind < 0.91:
        return (
            "(" + " + ".join(formula(draw, 1 + size // 4, catalogue, harsh) for _ in "1234") + ")"
        )
    if kind < 0.94:
        return f"({inner(3)} if {condition(draw, size, catalogue, harsh)} else {inner(3)})"
    return f"where({condition(draw, size, catalogue, harsh)}, {inner(3)}, {inner(3)})"


def condition(draw: random.Random, size: int, catalogue: bool, harsh: bool) -> str:
    """A comparison, or several joined."""
    kind = draw.random()
    if kind < 0.15 and size > 2:
        return f"not ({condition(draw, size // 2, catalogue, harsh)})"
    if kind < 0.35 and size > 2:
        parts = (condition(draw, size // 2, catalogue, harsh) for _ in "12")
        return f" {draw.choice(('and', 'or'))} ".join(f"({p})" for p in parts)
    sides = [formula(draw, max(1, size // 4), catalogue, harsh) for _ in "12"]
    return f"{sides[0]} {draw.choice(COMPARE)} {sides[1]}"


KINKED = (
    "abs({a})",
    "clip({a}, {b}, {c})",
    "hard_sigmoid({a})",
    "hard_silu({a})",
    "hard_tanh({a})",
    "leaky_relu({a})",
    "max({a}, {b})",
    "min({a}, {b})",
    "relu6({a})",
    "softshrink({a})",
    "where({a} > {b}, {c}, {d})",
    "where(sin({a}) > 0.1*x, {b}, {c})",
)
SMOOTH = ("{a} + {b}", "{a}*{b}", "{a} - x/3", "tanh({a})", "mish({a})", "sin({a})", "2*{a} + 1")


def nested_kinks(draw: random.Random) -> str:
    """Functions with kinks inside each other, up to five deep."""

    def nest(depth: int) -> str:
        if depth == 0:
            return draw.choice(("x", "x", "x", "0.5", "-1", "x*x", "x - 2"))
        form = draw.choice(KINKED if draw.random() < 0.7 else SMOOTH)
        inner = {
            key: nest(depth - 1 if k == 0 else draw.randrange(depth))
            for k, key in enumerate("abcd")
        }
        return form.format(**inner)

    return nest(draw.randint(2, 5))
