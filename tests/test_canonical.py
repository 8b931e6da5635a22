"""The canonical text of an expression is read back as the expression itself."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time

import pytest
import sympy
from drawn_formulas import formula

from anygate.formulas import ACTIVATIONS, FormulaError, lower, resolve
from anygate.formulas.canonical import MAX_DEPTH, canonical, from_canonical

x = sympy.Symbol("x", real=True)


def assert_kept(expression: sympy.Expr) -> None:
    """Equal, with the same text again and the same Program."""
    text = canonical(expression)
    again = from_canonical(text)
    assert again == expression
    assert canonical(again) == text
    names = sorted(s.name for s in expression.free_symbols)
    assert lower({"y": again}, names) == lower({"y": expression}, names)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_catalogue(name: str) -> None:
    activation = ACTIVATIONS[name]
    for one in (activation, activation.derivative(), activation.derivative(2)):
        assert_kept(one.expression)
        assert_kept(one.closed)


@pytest.mark.parametrize("seed", range(8))
def test_drawn_formulas(seed: int) -> None:
    draw, kept = random.Random(seed), 0
    while kept < 40:
        try:
            activation = resolve(formula(draw, draw.randint(2, 14)).replace("k", "0.7"))
        except FormulaError:
            continue
        kept += 1
        assert_kept(activation.expression)
        assert_kept(activation.derivative().expression)


def test_what_evaluation_would_change() -> None:
    """SymPy distributes 2*(x + 1) and folds 2*3 when it builds them; reading builds nothing new."""
    held = sympy.Mul(2, sympy.Add(x, 1, evaluate=False), evaluate=False)
    assert held != 2 * (x + 1)
    assert_kept(held)
    assert_kept(sympy.Mul(2, 3, x, evaluate=False))
    assert_kept(x * sympy.E**2)


@pytest.mark.parametrize(
    "name", ["y", "input_gate.k", "a b", "\u00e4", "lambda", '"', "c#1", "\ud800"]
)
def test_names_of_symbols(name: str) -> None:
    expression = sympy.Symbol(name, real=True) * x
    assert from_canonical(canonical(expression)) == expression
    assert canonical(expression).isascii()


def test_the_text_is_the_same_in_every_process() -> None:
    """Its order comes from the tree, never from hashes of this process."""
    code = (
        "import hashlib; from anygate.formulas import ACTIVATIONS as A;"
        "from anygate.formulas.canonical import canonical as c;"
        "t = ''.join(c(f.expression) + c(f.derivative().expression) for f in A.values());"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = "".join(
        canonical(f.expression) + canonical(f.derivative().expression) for f in ACTIVATIONS.values()
    )
    assert found == {hashlib.sha256(here.encode()).hexdigest()}


def text_of(nodes: list[list[object]]) -> str:
    return json.dumps(nodes, separators=(",", ":"))


X = '["symbol","x"]'
HOSTILE = {
    "empty": "",
    "no list": "1",
    "no nodes": "[]",
    "no node": "[1]",
    "cut": f"[{X}",
    "deep": "[" * 100_000,
    "a condition alone": f'[{X},["lt",0,0]]',
    "a condition as a number": f'[{X},["lt",0,0],["tanh",1]]',
    "a number as a condition": f'[{X},["where",0,0,0]]',
    "unknown": f'[{X},["gamma",0]]',
    "code": f'[{X},["__import__",0]]',
    "too few": f'[{X},["add",0]]',
    "too many": f'[{X},["tanh",0,0]]',
    "later": '[["tanh",1],["symbol","x"]]',
    "itself": '[["tanh",0]]',
    "negative": f'[{X},["tanh",-1]]',
    "truth": f'[{X},["tanh",true]]',
    "spaces": f"[{X} ]",
    "unused": f'[{X},["pi"],["tanh",0]]',
    "twice": f'[{X},{X},["add",0,1]]',
    "not in lowest terms": '[["number","2/4"]]',
    "zero below": '[["number","1/0"]]',
    "minus zero": '[["number","-0"]]',
    "digits": text_of([["number", "9" * 5_000]]),
    "other digits": '[["number","\\u0665"]]',
    "power of a number": '[["number","10"],["number","4096"],["pow",0,1],["pow",2,1]]',
    "large power": f'[{X},["number","99999"],["pow",0,1]]',
    "power of x": f'[{X},["pow",0,0]]',
    "doubling": text_of([["symbol", "x"], *(["add", i, i] for i in range(90))]),
    "levels": text_of([["symbol", "x"], *(["tanh", i] for i in range(MAX_DEPTH))]),
    "nodes": text_of([["symbol", f"a{i}"] for i in range(30_000)]),
    "long": "[" + " " * 2_000_000 + "]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text(name: str) -> None:
    begun = time.process_time()  # not the wall's: other tests share the processor
    with pytest.raises(FormulaError):
        from_canonical(HOSTILE[name])
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "expression",
    [
        sympy.gamma(x),
        sympy.Float(0.5) * x,
        sympy.Symbol("x"),
        sympy.Dummy("x", real=True),
        sympy.I,
        sympy.oo,
        sympy.Integer(10) ** 5000,
        x ** sympy.Integer(5000),
        x**x,
    ],
    ids=lambda e: type(e).__name__,
)
def test_what_has_no_text(expression: sympy.Expr) -> None:
    with pytest.raises(FormulaError):
        canonical(expression)
