"""The LSTM cell as a formula: its equations, once; its forward and backward, derived."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import sympy
from sympy import Expr, Symbol

from .activation import Activation, differentiate
from .lookup import resolve
from .primitives import VARIABLE, Primitive
from .program import Program, lower

__all__ = ["GATES", "SLOTS", "Cell", "derivative_from_output"]

GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
"""The four slots with weights, in PyTorch's order i f g o."""
SLOTS = (*GATES, "cell_output")

_SIGMOID = resolve("sigmoid")
_TANH = resolve("tanh")


def _symbol(name: str) -> Symbol:
    return Symbol(name, real=True)


@dataclass(frozen=True)
class Cell:
    """The LSTM with an activation in each of its five slots:

        i = input_gate(z_i)    f = forget_gate(z_f)    g = candidate(z_g)    o = output_gate(z_o)
        c = f * c_previous + i * g                     h = o * cell_output(c)

    z are the pre-activations W x + R h_previous + b. `forward` and `backward` are Programs over
    single elements; an engine runs them over [B, H]. Frozen and hashable.
    """

    input_gate: Activation = _SIGMOID
    forget_gate: Activation = _SIGMOID
    candidate: Activation = _TANH
    output_gate: Activation = _SIGMOID
    cell_output: Activation = _TANH

    @property
    def slots(self) -> dict[str, Activation]:
        """The five activations by slot."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def is_default(self) -> bool:
        """Whether this computes what torch.nn.LSTM computes."""
        return self == Cell()

    @property
    def parameters(self) -> dict[str, float]:
        """Values of all the activations' parameters, named SLOT.PARAMETER."""
        return {
            f"{slot}.{key}": value
            for slot, activation in self.slots.items()
            for key, value in activation.parameters.items()
        }

    @property
    def forward(self) -> Program:
        """Inputs: z_GATE for the four gates, c_previous, parameters (SLOT.PARAMETER).
        Outputs: h, c, and saved_GATE: what `backward` needs of each gate, its value where the
        derivative follows from that, else its pre-activation."""
        return _forward(self)

    @property
    def backward(self) -> Program:
        """Inputs: saved_GATE, c_previous, c, grad_h, grad_c (what arrives from the next step),
        parameters. Outputs: grad_z_GATE, grad_c_previous and grad_SLOT.PARAMETER."""
        return _backward(self)


def _in_slot(cell: Cell, slot: str, expression: Expr, argument: Expr) -> Expr:
    """An activation's expression at `argument`, its parameters named after the slot."""
    names = {_symbol(key): _symbol(f"{slot}.{key}") for key in cell.slots[slot].parameters}
    return expression.xreplace({VARIABLE: argument, **names})


def _equations(cell: Cell) -> dict[str, Expr]:
    """The cell, each line after the lines it needs."""
    activated = {
        slot: _in_slot(cell, slot, cell.slots[slot].expression, _symbol(f"z_{slot}"))
        for slot in GATES
    }
    i, f, g, o, c = (_symbol(name) for name in (*GATES, "c"))
    output = _in_slot(cell, "cell_output", cell.cell_output.expression, c)
    return {
        **activated,
        "c": f * _symbol("c_previous") + i * g,
        "cell_output": output,
        "h": o * _symbol("cell_output"),
    }


def _slopes(cell: Cell) -> dict[str, dict[Symbol, Expr]]:
    """For each line of the equations, its derivative by each symbol it uses."""
    slopes: dict[str, dict[Symbol, Expr]] = {}
    for name, expression in _equations(cell).items():
        by = sorted(expression.free_symbols, key=str)
        slopes[name] = {s: expression.diff(s) for s in by}
        closed = derivative_from_output(cell.slots[name]) if name in GATES else None
        if closed is not None and _saves_value(cell.slots[name]):
            value = _in_slot(cell, name, closed[1], VARIABLE).xreplace({closed[0]: _symbol(name)})
            slopes[name][_symbol(f"z_{name}")] = value
    return slopes


@lru_cache(maxsize=256)
def _forward(cell: Cell) -> Program:
    equations = _equations(cell)
    values: dict[Symbol, Expr] = {}
    for name, expression in equations.items():
        values[_symbol(name)] = expression.xreplace(values)
    outputs = {"h": values[_symbol("h")], "c": values[_symbol("c")]}
    for gate in GATES:
        saves_value = _saves_value(cell.slots[gate])
        outputs[f"saved_{gate}"] = values[_symbol(gate)] if saves_value else _symbol(f"z_{gate}")
    inputs = (*(f"z_{gate}" for gate in GATES), "c_previous", *cell.parameters)
    return lower(outputs, inputs)


@lru_cache(maxsize=256)
def _backward(cell: Cell) -> Program:
    equations = _equations(cell)
    grads: dict[Symbol, Expr] = {
        _symbol("h"): _symbol("grad_h"),
        _symbol("c"): _symbol("grad_c"),
    }
    for name, slopes in reversed(_slopes(cell).items()):
        arriving = grads.get(_symbol(name), sympy.S.Zero)
        for symbol, slope in slopes.items():
            grads[symbol] = grads.get(symbol, sympy.S.Zero) + arriving * slope
    known: dict[Symbol, Expr] = {_symbol("cell_output"): equations["cell_output"]}
    for gate in GATES:
        saved = _symbol(f"saved_{gate}")
        if _saves_value(cell.slots[gate]):
            known[_symbol(gate)] = saved
        else:
            known[_symbol(gate)] = equations[gate].xreplace({_symbol(f"z_{gate}"): saved})
            known[_symbol(f"z_{gate}")] = saved
    names = [*(f"z_{gate}" for gate in GATES), "c_previous", *cell.parameters]
    outputs = {f"grad_{n}": grads.get(_symbol(n), sympy.S.Zero).xreplace(known) for n in names}
    saved_names = (f"saved_{gate}" for gate in GATES)
    return lower(outputs, (*saved_names, "c_previous", "c", "grad_h", "grad_c", *cell.parameters))


@lru_cache(maxsize=512)
def _closed_derivative(expression: Expr) -> tuple[Symbol, Expr] | None:
    y = _symbol("y")
    slope = differentiate(expression)
    if not slope.has(VARIABLE):
        return y, slope
    for inner in expression.atoms(Primitive):
        outer = expression.xreplace({inner: y})
        scale = outer.diff(y)
        if outer.has(VARIABLE) or not scale.is_Rational or scale == 0:
            continue
        in_terms_of_inner = slope.xreplace({inner: y})
        if not in_terms_of_inner.has(VARIABLE):
            offset = outer.xreplace({y: sympy.S.Zero})
            return y, in_terms_of_inner.xreplace({y: (y - offset) / scale})
    return None


def _saves_value(activation: Activation) -> bool:
    """Whether the value is all that backward needs: f' closes in it, and no derivative by a
    parameter needs x, as affine's by alpha does."""
    if derivative_from_output(activation) is None:
        return False
    slopes = (activation.expression.diff(_symbol(name)) for name in activation.parameters)
    return not any(slope.has(VARIABLE) for slope in slopes)


def derivative_from_output(activation: Activation) -> tuple[Symbol, Expr] | None:
    """(y, f' as an expression in y = f(x)) where the derivative closes in the output, as
    y*(1 - y) does for sigmoid; None where it does not.

    Found by structure: f = a*u(x) + b with numbers a and b, and f' made of the same u.
    """
    return _closed_derivative(activation.expression)
