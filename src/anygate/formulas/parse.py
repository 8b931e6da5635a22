"""Formula text to expression. Text comes from untrusted places: it is read through Python's
`ast` and a whitelist, never evaluated, and its size is bounded before anything is built."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, NoReturn

import sympy
from sympy import Expr

from .constants import constant_value
from .errors import FormulaError, short
from .exact import (
    MAX_BITS,
    MAX_POWER,
    MAX_ROOT,
    allowed_power,
    beyond_float64,
    compared,
    constant_parts,
    fits_float64,
    is_constant,
    power,
    product,
)
from .primitives import PRIMITIVES, VARIABLE, Primitive, absolute, maximum, minimum, where

__all__ = [
    "MAX_LENGTH",
    "MAX_SIZE",
    "NOT_ELEMENTWISE",
    "check_parameter_name",
    "is_condition",
    "nearest",
    "parse",
    "parse_own",
    "reserved_names",
]

MAX_LENGTH = 2000
MAX_NODES = 600
MAX_DEPTH = 60
MAX_SIZE = 1000  # operations, with the functions of the catalogue written out
MAX_CONSTANT = 200  # of those without the variable: SymPy evaluates them time and again
_OWN = 20  # how much longer a text of our own may be than a user's

NOT_ELEMENTWISE = {
    "softmax": "it divides by a sum over all units",
    "log_softmax": "it subtracts a sum over all units",
    "softmin": "it divides by a sum over all units",
    "sparsemax": "it projects all units together",
    "glu": "it multiplies one half of the units by the other",
    "geglu": "it multiplies one half of the units by the other",
    "swiglu": "it multiplies one half of the units by the other",
    "reglu": "it multiplies one half of the units by the other",
    "maxout": "it takes the maximum over several units",
    "crelu": "it returns two values for each unit",
}

_COMPARISONS = {
    ast.Lt: sympy.StrictLessThan,
    ast.LtE: sympy.LessThan,
    ast.Gt: sympy.StrictGreaterThan,
    ast.GtE: sympy.GreaterThan,
}
_CHAINS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    **dict.fromkeys((ast.Add, ast.Sub), (ast.Add, ast.Sub)),
    **dict.fromkeys((ast.Mult, ast.Div), (ast.Mult, ast.Div)),
}
_VARIABLES = ("x", "z")
_WORDS = {"and", "or", "if", "else"}
_NUMBER_INTO_WORD = re.compile(
    r"(?<![\w.])((?>0[xX][\da-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
    r"|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?))([^\W\d]\w*)"
)
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E}


def is_condition(expr: Any) -> bool:
    """True if this is true or false, not a number. (SymPy's Symbol is both Expr and Boolean.)"""
    return isinstance(expr, sympy.logic.boolalg.Boolean) and not isinstance(expr, Expr)


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The known names most like this one: the same but for capitals, or up to three others."""
    from difflib import get_close_matches

    known = list(dict.fromkeys(candidates))
    name = short(name).lower()
    return [name] if name in known else get_close_matches(name, known, n=3, cutoff=cutoff)


def _chain(pair: type[Primitive]) -> Callable[..., Expr]:
    """max or min of two or more arguments from the primitive of two."""
    return lambda *arguments: reduce(pair, arguments)


# name -> (function, how many arguments it takes, or None for two or more)
_FUNCTIONS: dict[str, tuple[Callable[..., Expr], int | None]] = {
    **{name: (function, function.arity()) for name, function in PRIMITIVES.items()},
    "sqrt": (lambda x: power(x, sympy.S.Half), 1),
    "max": (_chain(maximum), None),
    "maximum": (_chain(maximum), None),
    "min": (_chain(minimum), None),
    "minimum": (_chain(minimum), None),
    "clamp": (PRIMITIVES["clip"], 3),
}


def reserved_names() -> set[str]:
    """The words that mean something in every formula: functions of the vocabulary and constants."""
    return {*_FUNCTIONS, *_CONSTANTS, *NOT_ELEMENTWISE}


def parse(
    text: str,
    activations: Mapping[str, Callable[..., Expr]] | None = None,
    variables: tuple[str, ...] = _VARIABLES,
) -> Expr:
    """The expression of a formula text such as "where(x > 0, x, a*expm1(x))".

    Knows + - * / **, comparisons, and/or/not, `a if condition else b`, the functions of the
    vocabulary, max, min, clip, sqrt, pi and e; `activations` adds functions of one argument.
    The variable is x or z (or what `variables` says); every other name is a parameter. Decimal
    numbers are exact: 0.2 is 1/5. Raises FormulaError with the place marked; never evaluates the
    text.
    """
    return _parse(text, activations or {}, variables, 1)


def parse_own(text: str) -> Expr:
    """The expression of a text that `text.write` made: longer ones are read."""
    return _parse(text, {}, _VARIABLES, _OWN)


def _parse(
    text: str,
    activations: Mapping[str, Callable[..., Expr]],
    variables: tuple[str, ...],
    room: int,
) -> Expr:
    """`parse`, with limits that are `room` times as wide."""
    if not isinstance(text, str):
        raise FormulaError(f"a formula is a text, not {type(text).__name__}")
    if len(text) > room * MAX_LENGTH:
        raise FormulaError(
            f"the formula is {len(text):,} characters long; at most {room * MAX_LENGTH:,} are read"
        )
    text = text.strip()
    if not text:
        raise FormulaError("the formula is empty; write one like 'x*sigmoid(x)'")
    _check_tokens(text)
    try:
        tree = ast.parse(text, mode="eval")
    except (RecursionError, MemoryError):
        raise FormulaError("the formula is nested too deeply") from None
    except (SyntaxError, ValueError) as error:
        _syntax_error(text, error)
    _check_size(tree, room)
    try:
        result = _Reader(text, activations, variables, room * MAX_SIZE).read(tree.body)
    except RecursionError:
        raise FormulaError("the formula is nested too deeply") from None
    if is_condition(result):
        raise FormulaError(
            f"'{short(text)}' is a condition, not a value; "
            f"write where({short(text)}, value_if_true, value_if_false)"
        )
    return _in_vocabulary(text, result)


def _in_vocabulary(text: str, result: Expr) -> Expr:
    """The expression with functions of SymPy's own (Abs, exp) replaced by primitives. Raises
    FormulaError for what has no such name."""
    if result.has(sympy.I, sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
        raise FormulaError(f"the formula '{short(text)}' is not finite and real")
    if result.has(sympy.Abs):  # of sqrt(x**2)
        result = result.replace(sympy.Abs, absolute)
    if result.has(sympy.exp):  # of e*e
        result = result.replace(sympy.exp, PRIMITIVES["exp"])
    for part in constant_parts(result):
        if not fits_float64(part):
            raise FormulaError(
                f"a part of the formula '{short(text)}' is not a finite real number: "
                f"{short(str(part))}"
            )
    for part in result.atoms(sympy.Pow):
        if not allowed_power(*part.args):
            raise FormulaError(
                f"the formula '{short(text)}' comes to the power {part.exp} of a part; a power "
                f"must be an integer or a half, of at most {MAX_POWER}"
            )
    return result


def check_parameter_name(name: str) -> None:
    """Raises FormulaError for a name that no text could have for a parameter."""
    try:
        found = parse(name)
    except FormulaError:
        found = None
    if not isinstance(found, sympy.Symbol) or found.name != name:
        raise FormulaError(f"'{short(name)}' is no name for a parameter of a formula")


def _check_tokens(text: str) -> None:
    """Refuses what Python's parser warns of on stderr before it reads it: a number that runs into a
    word (`3x`, `1if x > 0 else 2`) and a backslash."""
    if (place := text.find("\\")) >= 0:
        raise FormulaError(
            f"the formula '{short(text)}' has a backslash, which means nothing in one"
            f"{_mark(text, place)}"
        )
    if found := _NUMBER_INTO_WORD.search(text):
        number, word = found.groups()
        remedy = "a space" if word in _WORDS else "*"
        raise FormulaError(
            f"in the formula '{short(text)}' the number {short(number)} runs into "
            f"'{short(word)}'; write {remedy} between them{_mark(text, found.start())}"
        )


def _syntax_error(text: str, error: Exception) -> NoReturn:
    offset = getattr(error, "offset", None)
    where_ = _mark(text, offset - 1) if offset and getattr(error, "lineno", 1) == 1 else ""
    reason = getattr(error, "msg", None) or str(error)
    raise FormulaError(f"the formula '{short(text)}' cannot be read: {reason}{where_}") from None


def _check_size(tree: ast.AST, room: int) -> None:
    """Bounds the parts and the nesting; a chain such as a + b - c counts as one level."""
    nodes, level = 0, [tree]
    for _ in range(room * MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        nodes += len(level)
        if nodes > room * MAX_NODES:
            raise FormulaError(f"the formula has more than {MAX_NODES} parts; that is too many")
        if not level:
            return
    raise FormulaError(f"the formula is nested more than {MAX_DEPTH} levels deep")


def _children(node: ast.AST) -> list[ast.AST]:
    if not isinstance(node, ast.BinOp) or type(node.op) not in _CHAINS:
        return list(ast.iter_child_nodes(node))
    links = _links(node)
    return [links[0].left, *(link.right for link in links)]


def _links(node: ast.BinOp) -> list[ast.BinOp]:
    """The operations of a chain such as a + b - c from left to right, found without recursion."""
    family, links = _CHAINS.get(type(node.op)), [node]
    while family and isinstance(node.left, ast.BinOp) and type(node.left.op) in family:
        node = node.left
        links.append(node)
    return links[::-1]


def _mark(text: str, column: int) -> str:
    if len(text) > 80 or "\n" in text:
        return ""
    return f"\n    {text}\n    {' ' * max(0, column)}^"


class _Reader:
    def __init__(
        self,
        text: str,
        activations: Mapping[str, Callable[..., Expr]],
        variables: tuple[str, ...],
        largest: int,
    ) -> None:
        self.text = text
        self.activations = activations
        self.variables = variables
        self.largest = largest
        self.variable: str | None = None
        self.sizes: dict[Any, int] = {}

    def fail(self, node: ast.AST, message: str) -> NoReturn:
        raise FormulaError(message + _mark(self.text, getattr(node, "col_offset", 0)))

    def read(self, node: ast.expr) -> Any:
        method = getattr(self, "_" + type(node).__name__, None)
        if method is None:
            self.fail(node, f"{_KINDS.get(type(node), type(node).__name__)} cannot be used here")
        try:
            result = method(node)
        except FormulaError:
            raise
        except (ValueError, ArithmeticError, TypeError) as error:  # from SymPy's own arithmetic
            self.fail(node, f"this part cannot be worked out: {short(str(error))}")
        self._check_constant(node, result)
        size = self._size(node, result)
        if size > self.largest:
            self.fail(node, f"the formula has more than {MAX_SIZE} operations when written out")
        if size > MAX_CONSTANT and is_constant(result):
            self.fail(
                node,
                f"this number has more than {MAX_CONSTANT} operations when written out: write its "
                "value",
            )
        return result

    def _size(self, node: ast.AST, part: Any) -> int:
        """The number of operations a part has as a tree; silu(silu(...)) doubles with each level.
        Refuses constants beyond float64 that grew inside, as in (x*1e300)**32."""
        if part not in self.sizes:
            if isinstance(part, sympy.Rational):
                self._check_constant(node, part)
            self.sizes[part] = 1 + sum(self._size(node, a) for a in part.args)
        return self.sizes[part]

    def value(self, node: ast.expr) -> Expr:
        result = self.read(node)
        if is_condition(result):
            self.fail(node, "a value is needed here, not a condition")
        return result

    def condition(self, node: ast.expr) -> Any:
        result = self.read(node)
        if not is_condition(result):
            self.fail(node, "a condition is needed here, such as x > 0")
        return result

    def _check_constant(self, node: ast.AST, result: Any) -> None:
        """Refuse a number that float64 cannot hold before anything larger is made of it."""
        if not isinstance(result, Expr) or not is_constant(result):
            return
        if isinstance(result, sympy.Rational):
            if beyond_float64(result):
                self.fail(node, "this number is outside the range of float64")
            return
        if not fits_float64(result):
            self.fail(node, "this part is not a finite real number")

    def _Constant(self, node: ast.Constant) -> Expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.fail(node, f"only real numbers can be used, not {short(repr(node.value))}")
        if isinstance(node.value, int) and node.value.bit_length() <= MAX_BITS:
            return sympy.Integer(node.value)
        if isinstance(node.value, int) or not math.isfinite(node.value):
            self.fail(node, "this number is outside the range of float64")
        if node.value == 0 and _has_digits(ast.get_source_segment(self.text, node) or ""):
            self.fail(node, "this number is outside the range of float64: it would become 0")
        return sympy.Rational(repr(node.value))

    def _Name(self, node: ast.Name) -> Expr:
        name = node.id
        if name in self.variables:
            if self.variable not in (None, name):
                self.fail(node, "the formula uses both x and z; its one variable is x or z")
            self.variable = name
            return VARIABLE
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in _FUNCTIONS or name in self.activations:
            self.fail(node, f"'{name}' is a function: write {name}(x)")
        if name in NOT_ELEMENTWISE:
            self.not_elementwise(node, name)
        if name.startswith("_"):
            self.fail(node, f"'{short(name)}' is no name for a parameter")
        return sympy.Symbol(name, real=True)

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return sympy.Not(self.condition(node.operand))
        if isinstance(node.op, ast.Invert):
            self.fail(node, "write 'not' instead of ~")
        value = self.value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value

    def _BinOp(self, node: ast.BinOp) -> Any:
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            join = sympy.And if isinstance(node.op, ast.BitAnd) else sympy.Or
            return join(self.condition(node.left), self.condition(node.right))
        if isinstance(node.op, ast.BitXor):
            self.fail(node, "^ is not a power here: write x**2")
        if isinstance(node.op, ast.Pow):
            return self._raise(node, self.value(node.left), self.value(node.right))
        if type(node.op) not in _CHAINS:
            self.fail(node, f"the operator {type(node.op).__name__} cannot be used in a formula")
        links = _links(node)
        parts = [self.value(links[0].left), *(self._link(link) for link in links)]
        # All at once: SymPy sorts the whole chain for each part that it gets alone.
        result = (sympy.Add if type(node.op) in (ast.Add, ast.Sub) else product)(*parts)
        self._check_constant(node, result)
        self._check_constant(node, result.as_coeff_Mul()[0])
        return result

    def _link(self, link: ast.BinOp) -> Expr:
        """The term or factor that a link of a chain brings: -b of a - b, 1/b of a/b."""
        part = self.value(link.right)
        if isinstance(link.op, ast.Sub):
            return -part
        if not isinstance(link.op, ast.Div):
            return part
        if self._is_zero(part):
            self.fail(link, "this divides by zero")
        return power(part, sympy.S.NegativeOne)

    @staticmethod
    def _is_zero(part: Expr) -> bool:
        return is_constant(part) and bool(constant_value(part) == 0)

    def _raise(self, node: ast.BinOp, base: Expr, exponent: Expr) -> Expr:
        if not is_constant(exponent):
            if is_constant(base) and constant_value(base) > 0:
                return PRIMITIVES["exp"](product(exponent, PRIMITIVES["log"](base)))
            self.fail(node.right, "a power must be a number; write exp(p*log(x)) for x > 0")
        root = MAX_ROOT if is_constant(base) else 2
        if not isinstance(exponent, sympy.Rational) or exponent.q > root:
            self.fail(node.right, "a power must be an integer or a half, such as 2, -1 or 0.5")
        if exponent.q > 2 and constant_value(base) < 0:
            self.fail(node, "this part is not a finite real number")
        if abs(exponent) > MAX_POWER:
            self.fail(node.right, f"a power may be at most {MAX_POWER}")
        if exponent.is_negative and self._is_zero(base):
            self.fail(node, "this divides by zero")
        result = power(base, exponent)
        if result.is_Pow and abs(result.exp) > MAX_POWER:
            self.fail(node, f"a power may be at most {MAX_POWER}")
        return result

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        join = sympy.And if isinstance(node.op, ast.And) else sympy.Or
        return join(*[self.condition(v) for v in node.values])

    def _Compare(self, node: ast.Compare) -> Any:
        values = [self.value(v) for v in (node.left, *node.comparators)]
        parts = []
        for op, left, right in zip(node.ops, values, values[1:], strict=False):
            if type(op) not in _COMPARISONS:
                self.fail(node, "conditions are written with <, <=, > or >=")
            parts.append(compared(_COMPARISONS[type(op)], left, right))
        return sympy.And(*parts)

    def _IfExp(self, node: ast.IfExp) -> Expr:
        return where(self.condition(node.test), self.value(node.body), self.value(node.orelse))

    def _Call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name):
            self.fail(node, "only functions of the vocabulary can be called, by their plain name")
        name = node.func.id
        if name in NOT_ELEMENTWISE:
            self.not_elementwise(node, name)
        if any(isinstance(a, ast.Starred) for a in node.args):
            self.fail(node, "* cannot be used before an argument")
        if name in _FUNCTIONS:
            return self._function(node, name)
        if name in self.activations:
            return self._activation(node, name)
        self.fail(node, f"unknown function '{short(name)}'.{self._suggest(name)}")

    def _function(self, node: ast.Call, name: str) -> Expr:
        function, count = _FUNCTIONS[name]
        if node.keywords:
            self.fail(node, f"{name} takes no named arguments")
        if len(node.args) != count if count else len(node.args) < 2:
            wanted = "two or more" if not count else "one" if count == 1 else str(count)
            plural = "" if count == 1 else "s"
            self.fail(node, f"{name} takes {wanted} argument{plural}, not {len(node.args)}")
        if name == "where":
            return where(self.condition(node.args[0]), *[self.value(a) for a in node.args[1:]])
        return function(*[self.value(a) for a in node.args])

    def _activation(self, node: ast.Call, name: str) -> Expr:
        if len(node.args) != 1:
            self.fail(node, f"inside a formula, {name} takes one argument: {name}(x)")
        options = {str(k.arg): self.value(k.value) for k in node.keywords}
        for key, value in options.items():
            if not is_constant(value):
                self.fail(node, f"the parameter {key} of {name} must be a number here")
        return self.activations[name](self.value(node.args[0]), **options)

    def _suggest(self, name: str) -> str:
        near = nearest(name, [*_FUNCTIONS, *self.activations])
        return f" Did you mean {' or '.join(near)}?" if near else " 'anygate list' shows all."

    def not_elementwise(self, node: ast.AST, name: str) -> NoReturn:
        self.fail(
            node,
            f"{name} is not elementwise ({NOT_ELEMENTWISE[name]}), so it cannot be an "
            "activation of a unit; apply it to the LSTM's output instead",
        )


def _has_digits(text: str) -> bool:
    """True if a number that reads as 0 is written with another digit, as in 1e-400."""
    return any(c in "123456789" for c in text.lower().partition("e")[0])


_KINDS: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute (a dot)",
    ast.Lambda: "a lambda",
    ast.Subscript: "an index in brackets",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dictionary",
    ast.JoinedStr: "a text",
    ast.NamedExpr: "an assignment",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Await: "await",
}
