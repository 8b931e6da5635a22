"""Any text is a formula or a FormulaError, soon; and a formula is the same in every engine."""

from __future__ import annotations

import math
import pickle
import random
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from drawn_formulas import WORDS, formula
from enclosure import enclosed

from anygate.engines import reference
from anygate.engines.cpu.elementwise import elementwise
from anygate.engines.eager.operations import bind_program
from anygate.formulas import Activation, FormulaError, Program, evaluate, lower, names, resolve
from anygate.formulas.canonical import canonical, from_canonical
from anygate.formulas.derivative import differentiate
from anygate.formulas.parse import parse_own

POINTS = (0.0, 0.37, -1.9, 6.5, -40.0, 1e-3, 88.9, -1e4, 1e30, -3e38)


@dataclass
class Outcome:
    """The fate of a text: accepted or refused, the seconds of processor time that this took, and
    how many values were held against their bounds."""

    accepted: bool
    seconds: float
    values: int = 0


def text(draw: random.Random) -> str:
    """A formula, one with a few characters changed, words in any order, or functions nested around
    a number."""
    kind = draw.random()
    if kind < 0.55:
        return formula(draw, draw.randint(1, 20))
    if kind < 0.75:
        return _changed(draw, formula(draw, draw.randint(1, 20)))
    if kind < 0.87:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 25)))
    if kind < 0.97:
        return _nested(draw)
    return " + ".join(
        f"{draw.choice('123')}e-{draw.randint(1, 300)}*x" for _ in range(draw.randint(2, 90))
    )


def _changed(draw: random.Random, whole: str) -> str:
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(whole) + 1)
        cut = draw.choice((0, 0, 1, 1, 3, 10))
        whole = whole[:place] + draw.choice((*WORDS, "", "")) + whole[place + cut :]
    return whole


def _nested(draw: random.Random) -> str:
    inner = draw.choice(("1", "0.3", "-2", "x", "9801", "exp(20)", "1/3", "pi", "x/7"))
    every = sorted(names())
    several = [draw.choice(every) for _ in range(draw.choice((1, 1, 2, 3)))]
    for k in range(draw.randint(2, 24)):
        inner = f"{several[k % len(several)]}({inner})"
        if draw.random() < 0.1:
            inner = f"({inner})**{draw.choice(('2', '0.5', '32', '-1'))}"
        if draw.random() < 0.05:
            inner = f"where({inner} < {draw.choice('x123')}, {draw.choice('x1')}, 2)"
    return inner


def attempt(whole: str, engines: bool = True, cpu: bool = True) -> Outcome:
    """Reads a text, and compares the engines (cpu: that one too). AssertionError for a formula that
    does not come back as itself and for values that no float arithmetic could give; every exception
    of the formula layer but FormulaError comes through."""
    begun = time.process_time()
    whole = re.sub(r"\bk\b", "-0.6", whole)
    try:
        activation = resolve(whole)
        refusal = ""
    except FormulaError as error:
        refusal = str(error)
    seconds = time.process_time() - begun
    assert len(refusal) < 2_000
    if refusal:
        return Outcome(False, seconds)
    expression = activation.expression
    again = from_canonical(canonical(expression))
    assert again == expression
    own = activation.parameters  # of a text that is the bare name of a built-in
    assert Activation("again", again, **own).program == activation.program
    assert parse_own(Activation("printed", expression, **own).formula) == expression
    assert pickle.loads(pickle.dumps(activation)) == activation
    values = sum(_engines_agree(p, cpu) for p in _programs(activation)) if engines else 0
    return Outcome(True, seconds, values)


def _programs(activation: Activation) -> list[Program]:
    closed = activation.closed
    return [lower({"y": e}, ("x",)) for e in (closed, differentiate(closed))]


def _engines_agree(program: Program, cpu: bool) -> int:
    """The number of values that were held against their bounds."""
    held = 0
    for dtype in ("float64", "float32"):
        points = np.array(POINTS, dtype)
        found = _found(program, dtype, points, cpu)
        for k, x in enumerate(points.tolist()):
            bounds = enclosed(program, x, dtype)
            if bounds is None:
                continue
            for engine, value in found.items():
                held += 1
                inside = math.isfinite(value[k]) and bounds[0] <= float(value[k]) <= bounds[1]
                assert inside, (engine, dtype, x, float(value[k]), *map(float, bounds))
        nans = {engine: np.isnan(_at(program, dtype, engine)) for engine in found}
        assert all(nans.values()), (dtype, nans)
    return held


def _at(program: Program, dtype: str, engine: str) -> Any:
    """Of NaN: NaN, unless the program does not look at it in a value."""
    if not _passes_nan(program):
        return np.nan
    point = np.array([math.nan], dtype)
    return _found(program, dtype, point, engine == "cpu", (engine,))[engine][0]


def _passes_nan(program: Program) -> bool:
    """True if the input reaches the output through operations alone, not through a comparison."""
    selects = {"where", "lt", "le", "gt", "ge"}
    if any(node.op in selects for node in program.nodes):
        return False
    reached = {k for k, node in enumerate(program.nodes) if node.op == "input"}
    for k, node in enumerate(program.nodes):
        if reached.intersection(node.arguments):
            reached.add(k)
    return program.outputs[0][1] in reached


def _found(
    program: Program, dtype: str, points: Any, cpu: bool, engines: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The values by each engine that computes in this format."""
    found = {}
    x = torch.from_numpy(points.copy())
    found["eager"] = bind_program(program, x)({"x": x})["y"].numpy()
    if dtype == "float64":
        with np.errstate(all="ignore"):
            (value,) = evaluate(program, reference.OPS, {"x": points}).values()
        found["reference"] = np.broadcast_to(value, points.shape)
    if cpu:
        padded = np.zeros(16, dtype)
        padded[: len(points)] = points
        result = np.empty_like(padded)
        elementwise(program, dtype)(padded.ctypes.data, result.ctypes.data, 16, 1)
        found["cpu"] = result[: len(points)]
    return {k: v for k, v in found.items() if not engines or k in engines}
