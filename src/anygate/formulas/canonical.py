"""An expression as text that is read back as the same expression, node by node.

The printed formula is for people: reading it again evaluates it again, and SymPy may then put
it together otherwise. This text is for machines: keys of registries and caches, pickles, operator
arguments. It lists the distinct nodes of the tree, each after its parts, as JSON:

    x*tanh(x/2)  ->  [["symbol","x"],["number","1/2"],["mul",1,0],["tanh",2],["mul",0,3]]

The order of a sum's or a product's parts, which a Program follows, is the tree's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sympy
from sympy import Expr

from .errors import FormulaError, short
from .primitives import Primitive

__all__ = ["canonical", "from_canonical"]

MAX_TEXT = 1_000_000
MAX_NODES = 20_000
MAX_SIZE = 1_000_000
"""Parts of the tree when nothing is shared, and digits of all its numbers when powers are worked
out; a number counts as one part for every 16 of its characters."""
MAX_DEPTH = 400
MAX_DIGITS = 4_000
MAX_EXPONENT = 4_096

_PRIMITIVES = {cls.__name__: cls for cls in Primitive.__subclasses__()}
_RELATIONS: dict[str, Any] = {
    "lt": sympy.StrictLessThan,
    "le": sympy.LessThan,
    "gt": sympy.StrictGreaterThan,
    "ge": sympy.GreaterThan,
}
_OPERATIONS: dict[str, Any] = {
    "add": sympy.Add,
    "mul": sympy.Mul,
    "pow": sympy.Pow,
    "exponential": sympy.exp,  # what SymPy makes of e**2
    **_RELATIONS,
    "and": sympy.And,
    "or": sympy.Or,
    "not": sympy.Not,
    **_PRIMITIVES,
}
_NAMES = {cls: name for name, cls in _OPERATIONS.items()}
_ATOMS: dict[str, Any] = {
    "pi": sympy.pi,
    "e": sympy.E,
    "true": sympy.true,
    "false": sympy.false,
}
_ATOM_NAMES = {atom: name for name, atom in _ATOMS.items()}
_CONDITIONS = ("and", "or", "not")
_MANY = ("add", "mul", "and", "or")  # two arguments or more


def canonical(expression: Expr) -> str:
    """The text of an expression in the vocabulary: ASCII, one for each expression.

    `from_canonical` of it is equal to the expression, with the same arguments in the same places,
    and so lowers to the same Program. Symbols are real and may have any name. Nothing is evaluated,
    and time and length grow with the number of distinct nodes.

    Raises FormulaError for a part outside the vocabulary and for an expression beyond the limits of
    this module, which are far above those of a formula.
    """
    index: dict[Any, int] = {}
    nodes: list[list[Any]] = []
    tally = _Tally()
    todo: list[tuple[Any, bool]] = [(expression, False)]
    while todo:
        part, ready = todo.pop()
        if part in index:
            continue
        arguments = () if _is_leaf(part) else part.args
        if arguments and not ready:
            todo.append((part, True))
            todo += [(a, False) for a in reversed(arguments)]
            if len(todo) > MAX_SIZE:
                raise FormulaError("the expression has too many parts")
            continue
        node = [_name(part), *(index[a] for a in arguments)] if arguments else _leaf(part)
        tally.count(node)
        index[part] = len(nodes)
        nodes.append(node)
    text = json.dumps(nodes, separators=(",", ":"))
    if len(text) > MAX_TEXT:
        raise FormulaError(f"the expression has more than {MAX_TEXT:,} characters as text")
    if _build(nodes) != expression:
        raise FormulaError("the expression has no text that is read back as itself")
    return text


def from_canonical(text: str) -> Expr:
    """The expression of a text that `canonical` wrote.

    The text may come from anywhere: it is data and never code, is checked against the vocabulary
    and the limits before anything is built, and no part is evaluated.
    Raises FormulaError for any other text, also for another spelling of the same expression.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise FormulaError(f"a canonical formula is a text of at most {MAX_TEXT:,} characters")
    try:
        nodes = json.loads(text)
    except (ValueError, RecursionError):
        raise FormulaError(f"no canonical formula: {short(text)}") from None
    if not isinstance(nodes, list) or not nodes:
        raise FormulaError("a canonical formula is a list of nodes that is not empty")
    tally = _Tally()
    for node in nodes:
        tally.count(node)
    expression = _build(nodes)
    if not isinstance(expression, Expr) or canonical(expression) != text:
        raise FormulaError("the text is not as `canonical` writes it")
    return expression


class _Tally:
    """Checks nodes one after the other: their form, and the limits of the whole."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.depths: list[int] = []
        self.conditions: list[bool] = []
        self.digits: list[int] = []  # of all numbers below, as powers would multiply them
        self.ratios: list[tuple[int, int] | None] = []  # of a node that is a number

    def count(self, node: Any) -> None:
        if not (isinstance(node, list) and node and isinstance(node[0], str)):
            raise _bad(node)
        if len(self.sizes) >= MAX_NODES:
            raise FormulaError(f"the expression has more than {MAX_NODES:,} distinct parts")
        name, *arguments = node
        if name in _OPERATIONS:
            if not all(type(a) is int and 0 <= a < len(self.sizes) for a in arguments):
                raise _bad(node)
            self._check_arguments(node)
            size = 1 + sum(self.sizes[a] for a in arguments)
            depth = 1 + max(self.depths[a] for a in arguments)
            digits = self._digits(node)
            ratio = None
        else:
            digits = self._check_leaf(node)
            size, depth = 1 + digits // 16, 1
            ratio = _ratio(arguments[0]) if digits else None
        if max(size, digits) > MAX_SIZE or depth > MAX_DEPTH:
            raise FormulaError(
                f"the expression has more than {MAX_SIZE:,} parts or {MAX_DEPTH} levels"
            )
        self.sizes.append(size)
        self.depths.append(depth)
        self.digits.append(digits)
        self.ratios.append(ratio)
        self.conditions.append(name in _RELATIONS or name in (*_CONDITIONS, "true", "false"))

    def _check_arguments(self, node: list[Any]) -> None:
        name, *arguments = node
        count = 1 if name in ("not", "exponential") else 2
        if name in _PRIMITIVES:
            count = _PRIMITIVES[name].arity()
        wrong = len(arguments) < 2 if name in _MANY else len(arguments) != count
        wanted = [name in _CONDITIONS] * len(arguments)
        if name == "where":
            wanted = [True, False, False]
        if wrong or [self.conditions[a] for a in arguments] != wanted:
            raise _bad(node)
        if name == "pow":
            ratio = self.ratios[arguments[1]]
            if ratio is None or max(map(abs, ratio)) > MAX_EXPONENT:
                raise FormulaError(f"a power must be a number of at most {MAX_EXPONENT:,}")

    def _digits(self, node: list[Any]) -> int:
        """The number of digits the numbers of a part may have together once they are worked out."""
        name, *arguments = node
        if name == "pow":
            ratio = self.ratios[arguments[1]]
            assert ratio is not None
            factor: int = max(1, abs(ratio[0]))
            return factor * self.digits[int(arguments[0])]
        return sum(self.digits[a] for a in arguments)

    @staticmethod
    def _check_leaf(node: list[Any]) -> int:
        """Characters of a number; 0 for the other leaves."""
        match node:
            case ["symbol", str(name)] if name:
                return 0
            case ["number", str(text)] if len(text) <= 2 * MAX_DIGITS + 2 and _ratio(text):
                return len(text)
            case [str(name)] if name in _ATOMS:
                return 0
        raise _bad(node)


def _bad(node: Any) -> FormulaError:
    return FormulaError(f"no part of a canonical formula: {short(repr(node))}")


def _ratio(text: str) -> tuple[int, int] | None:
    """Numerator and denominator of a number in lowest terms, None if it is not written so."""
    above, _, below = text.partition("/")
    digits = (above.removeprefix("-"), below or "1")
    if not all(d.isascii() and d.isdigit() and len(d) <= MAX_DIGITS for d in digits):
        return None
    p, q = int(above), int(below or 1)
    return (p, q) if q and _spelled(sympy.Rational(p, q)) == text else None


def _spelled(number: sympy.Rational) -> str:
    return str(int(number.p)) if number.q == 1 else f"{int(number.p)}/{int(number.q)}"


def _is_leaf(part: Any) -> bool:
    return isinstance(part, sympy.Symbol | sympy.Rational) or part in _ATOM_NAMES


def _leaf(part: Any) -> list[str]:
    if isinstance(part, sympy.Symbol):
        if part != sympy.Symbol(part.name, real=True):  # a Dummy, or one with other assumptions
            raise FormulaError(f"the symbol {short(part.name)} is not a plain real one")
        return ["symbol", part.name]
    if isinstance(part, sympy.Rational) and part.is_finite:
        if max(abs(int(part.p)), int(part.q)).bit_length() > 3 * MAX_DIGITS:
            raise FormulaError(f"a number has more than {MAX_DIGITS:,} digits")
        return ["number", _spelled(part)]
    if part in _ATOM_NAMES:
        return [_ATOM_NAMES[part]]
    raise _outside(part)


def _name(part: Any) -> str:
    if type(part) not in _NAMES:
        raise _outside(part)
    return _NAMES[type(part)]


def _outside(part: Any) -> FormulaError:
    return FormulaError(f"{type(part).__name__} is outside the vocabulary of formulas")


def _build(nodes: list[list[Any]]) -> Any:
    """The expression of checked nodes; nothing in it is evaluated."""
    built: list[Any] = []
    for name, *arguments in nodes:
        if name in _OPERATIONS:
            built.append(_MAKERS.get(name, _unevaluated(name))(*[built[a] for a in arguments]))
        elif name == "symbol":
            built.append(sympy.Symbol(arguments[0], real=True))
        elif name == "number":
            ratio = _ratio(arguments[0])
            assert ratio is not None
            built.append(sympy.Rational(*ratio))
        else:
            built.append(_ATOMS[name])
    return built[-1]


def _unevaluated(name: str) -> Callable[..., Any]:
    return lambda *arguments: _OPERATIONS[name](*arguments, evaluate=False)


_MAKERS: dict[str, Callable[..., Any]] = {
    "add": lambda *arguments: sympy.Add._from_args(arguments),
    "mul": lambda *arguments: sympy.Mul._from_args(arguments),
    # These two evaluate little, and `canonical` refuses what they would change.
    "and": sympy.And,
    "or": sympy.Or,
}
