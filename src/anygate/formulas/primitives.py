"""The closed vocabulary: every function that a formula may use.

Each primitive states its derivative in the same vocabulary, so a formula can be
differentiated as often as one likes and every engine needs only these functions, each
implemented well once. Stability over the whole float range comes from here and never from
rewriting an expression (SymPy's `simplify` merges a stable sigmoid into one that overflows).
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr

__all__ = [
    "PRIMITIVES",
    "VARIABLE",
    "Primitive",
    "is_straight_through",
    "maximum",
    "minimum",
    "where",
]

VARIABLE = sympy.Symbol("x", real=True)
"""The argument of every formula. Text may call it x or z."""


class Primitive(sympy.Function):
    """A function of the vocabulary. A subclass gives `slope`; `text` and `latex` where text and
    LaTeX have another name for it than its class's."""

    is_real = True
    nargs: Any = 1
    latex = ""
    text = ""

    @staticmethod
    def slope(x: Expr) -> Expr:
        """The derivative, written in the vocabulary."""
        raise TypeError("a primitive must state its derivative")

    def fdiff(self, argindex: int = 1) -> Expr:
        return self.slope(*self.args)

    def chain(self, inner: tuple[Expr, ...]) -> Expr:
        """The derivative by a symbol, from those of the arguments."""
        return sympy.Add(*[self.fdiff(k) * d for k, d in enumerate(inner, 1) if d != 0])

    def _eval_derivative(self, symbol: sympy.Symbol) -> Expr:
        return self.chain(
            tuple(a.diff(symbol) if isinstance(a, Expr) else sympy.S.Zero for a in self.args)
        )

    def _eval_evalf(self, prec: int) -> Expr | None:
        """A number as SymPy's own arithmetic asks for it, such as the sign of tanh(2)."""
        from .constants import constant_value

        digits = 60 if prec <= 180 else 120 if prec <= 380 else prec // 3
        if self.free_symbols or digits > 2_000:
            return None
        value = constant_value(self, digits)
        return sympy.Float._new(value._mpf_, prec) if value - value == 0 else None

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        arguments = ", ".join(printer._print(a) for a in self.args)
        power = "" if exp is None else f"^{{{exp}}}"
        name = self.latex or rf"\operatorname{{{self.word()}}}"
        return rf"{name}{power}\left({arguments}\right)"

    @classmethod
    def arity(cls) -> int:
        """The number of arguments it takes."""
        return int(max(cls.nargs.args))

    @classmethod
    def word(cls) -> str:
        """Its name in formula text."""
        return cls.text or cls.__name__

    def _sympystr(self, printer: Any) -> str:
        arguments = ", ".join(printer._print(a) for a in self.args)
        return f"{self.word()}({arguments})"


class sigmoid(Primitive):
    """1/(1 + exp(-x))"""

    latex = r"\sigma"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sigmoid(x) * (1 - sigmoid(x))


class tanh(Primitive):
    """(exp(x) - exp(-x))/(exp(x) + exp(-x))"""

    latex = r"\tanh"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return 1 - tanh(x) ** 2


class exp(Primitive):
    """e to the power x"""

    latex = r"\exp"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return exp(x)


class expm1(Primitive):
    """exp(x) - 1, without the cancellation near 0"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return exp(x)


class log(Primitive):
    """The natural logarithm"""

    latex = r"\log"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return 1 / x


class log1p(Primitive):
    """log(1 + x), without the cancellation near 0"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return 1 / (1 + x)


class softplus(Primitive):
    """log(1 + exp(x))"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sigmoid(x)


class softsign(Primitive):
    """x/(1 + |x|). A primitive because the quotient rule cancels all digits of its slope:
    2.3 % off at x = 1e6 in float32."""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return (1 + absolute(x)) ** -2


class isru(Primitive):
    """x/sqrt(1 + x^2). A primitive for the same reason as softsign."""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return hypot(x, 1) ** -3


class erf(Primitive):
    """The error function"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return 2 / sympy.sqrt(sympy.pi) * gaussian(x)


class erfc(Primitive):
    """1 - erf(x)"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return -2 / sympy.sqrt(sympy.pi) * gaussian(x)


class gaussian(Primitive):
    """exp(-x^2), with x^2 not rounded first (that costs x^2/2 ulp in the tail)"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return -2 * x * gaussian(x)


class normal_cdf(Primitive):
    """P(N < x) of the standard normal distribution, (1 + erf(x/sqrt 2))/2"""

    latex = r"\Phi"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return normal_pdf(x)


class normal_pdf(Primitive):
    """exp(-x^2/2)/sqrt(2 pi)"""

    latex = r"\varphi"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return -x * normal_pdf(x)


class absolute(Primitive):
    """|x|; its derivative at 0 is 0"""

    text = "abs"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sign(x)

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\left|{{{printer._print(self.args[0])}}}\right|{power}"


class sign(Primitive):
    """-1, 0 or 1; its derivative is 0 everywhere, so no delta ever appears"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sympy.S.Zero


class rounded(Primitive):
    """The nearest whole number, of two the even one. Its slope is 1 everywhere, as if it were not
    there (straight-through): the true one, 0 and at the steps none, would teach nothing."""

    text = "round"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sympy.S.One


class floor(Primitive):
    """The largest whole number that is not above x; slope 1 everywhere, as round has it"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sympy.S.One


class sin(Primitive):
    """The sine"""

    latex = r"\sin"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return cos(x)


class cos(Primitive):
    """The cosine"""

    latex = r"\cos"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return -sin(x)


class sinh(Primitive):
    """(exp(x) - exp(-x))/2"""

    latex = r"\sinh"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return cosh(x)


class cosh(Primitive):
    """(exp(x) + exp(-x))/2"""

    latex = r"\cosh"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return sinh(x)


class asinh(Primitive):
    """log(x + sqrt(x^2 + 1))"""

    @staticmethod
    def slope(x: Expr) -> Expr:
        return 1 / hypot(x, 1)


class atan(Primitive):
    """The inverse tangent"""

    latex = r"\arctan"

    @staticmethod
    def slope(x: Expr) -> Expr:
        return hypot(x, 1) ** -2


class hypot(Primitive):
    """sqrt(x^2 + y^2), without overflow of the squares"""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> Expr:
        return self.args[argindex - 1] / self

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        # not sympy.sqrt, which would factorise a number under the root
        root = rf"\sqrt{{{printer._print(self.args[0] ** 2 + self.args[1] ** 2)}}}"
        return root if exp is None else rf"\left({root}\right)^{{{exp}}}"


class maximum(Primitive):
    """The larger of two. At a tie the one without x owns the point, else the second:
    max(x, 0) and max(0, x) both have slope 0 at 0. NaN stays NaN."""

    nargs = 2
    text = "max"
    latex = r"\max"

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        return _order_extreme(cls, a, b)

    def chain(self, inner: tuple[Expr, ...]) -> Expr:
        return where(_ordered(sympy.StrictGreaterThan, *self.args), *inner)


class minimum(Primitive):
    """The smaller of two; ties as in max"""

    nargs = 2
    text = "min"
    latex = r"\min"

    @classmethod
    def eval(cls, a: Expr, b: Expr) -> Expr | None:
        return _order_extreme(cls, a, b)

    def chain(self, inner: tuple[Expr, ...]) -> Expr:
        return where(_ordered(sympy.StrictLessThan, *self.args), *inner)


def _ordered(kind: Any, a: Expr, b: Expr) -> Any:
    """A comparison as it stands: SymPy would ask for the sign of a - b, at any cost."""
    return kind(a, b, evaluate=False)


def _order_extreme(cls: Any, a: Expr, b: Expr) -> Expr | None:
    if a == b:
        return a
    return cls(b, a) if b.has(VARIABLE) and not a.has(VARIABLE) else None


class clip(Primitive):
    """clip(x, low, high): x held within [low, high], min(max(x, low), high): `high` where low is
    above high. Both ends belong to the inside, so the slope there is that of x. NaN stays NaN."""

    nargs = 3

    def chain(self, inner: tuple[Expr, ...]) -> Expr:
        x, low, high = self.args
        above = sympy.Or(_ordered(sympy.StrictGreaterThan, x, high), _crossed(low, high))
        inside = where(_ordered(sympy.StrictLessThan, x, low), inner[1], inner[0])
        return where(above, inner[2], inside)


def _crossed(low: Expr, high: Expr) -> Any:
    """low > high: decided where both are constants."""
    from .constants import compare

    if low.free_symbols or high.free_symbols:
        return _ordered(sympy.StrictGreaterThan, low, high)
    return sympy.true if compare(sympy.StrictGreaterThan, low, high) else sympy.false


class where(Primitive):
    """where(condition, a, b): a if the condition holds, else b.

    The derivative selects between the derivatives of the branches; nothing is chained through
    the branch not taken, so its infinities never become NaN. The condition states which side
    owns a kink.
    """

    nargs = 3

    @classmethod
    def eval(cls, condition: Any, a: Expr, b: Expr) -> Expr | None:
        if condition == sympy.true or a == b:
            return a
        if condition == sympy.false:
            return b
        return None

    def chain(self, inner: tuple[Expr, ...]) -> Expr:
        return where(self.args[0], *inner[1:])

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        rows, rest = [], self
        while isinstance(rest, where):
            condition, a, rest = rest.args
            rows.append(rf"{printer._print(a)} & \text{{if}}\: {printer._print(condition)}")
        rows.append(rf"{printer._print(rest)} & \text{{otherwise}}")
        cases = r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"
        return cases if exp is None else rf"\left({cases}\right)^{{{exp}}}"


PRIMITIVES: dict[str, type[Primitive]] = {cls.word(): cls for cls in Primitive.__subclasses__()}
"""Every primitive by the name it has in formula text."""


def is_straight_through(expression: Any) -> bool:
    """True if the formula has steps that its derivative passes over: round or floor of something
    that changes with the variable. The derivative is then not the function's own slope."""
    return any(part.has(VARIABLE) for part in expression.atoms(rounded, floor))
