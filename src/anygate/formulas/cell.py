"""The LSTM cell as a formula: its equations, once; its forward and backward, derived."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import sympy
from sympy import Expr, Symbol

from .activation import Activation, differentiate
from .lookup import resolve
from .primitives import VARIABLE, Primitive, clip
from .program import Program, lower

__all__ = [
    "GATES",
    "PEEPHOLES",
    "SLOTS",
    "Cell",
    "Line",
    "backward_outputs",
    "cell_lines",
    "derivative_from_output",
    "forward_outputs",
    "line_slopes",
    "values_of",
]

GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
"""The four slots with weights, in PyTorch's order i f g o."""
SLOTS = (*GATES, "cell_output")
PEEPHOLES = ("input_gate.peephole", "forget_gate.peephole", "output_gate.peephole")
"""The parameters that a cell with peepholes has, one number each for every hidden unit."""

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

    peephole: the gates see the cell state (Gers & Schmidhuber 2000): p_i * c_previous is added to
    z_i, p_f * c_previous to z_f and p_o * c to z_o, with a number for each hidden unit.
    coupled: f = 1 - i (Greff et al. 2017: CIFG); what stands in forget_gate is not used.
    clip: every activation's argument is limited to [-clip, clip], as ONNX defines it ("applied to
    the input of activations"), the cell output's with the rest. Others read it otherwise: ONNX
    Runtime leaves the cell output's argument alone (its issue 27224), TensorFlow's cell_clip limits
    the cell state itself. Ours is the specification's.
    per_unit: parameters, named SLOT.PARAMETER, that have a value for each hidden unit, given when
    the cell runs; the others are numbers in the formula.

    Raises ValueError for a clip that is not positive or an unknown name in per_unit.
    """

    input_gate: Activation = _SIGMOID
    forget_gate: Activation = _SIGMOID
    candidate: Activation = _TANH
    output_gate: Activation = _SIGMOID
    cell_output: Activation = _TANH
    peephole: bool = False
    coupled: bool = False
    clip: float | None = None
    per_unit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be a positive number, not {self.clip}")
        if self.peephole:
            missing = tuple(name for name in PEEPHOLES if name not in self.per_unit)
            object.__setattr__(self, "per_unit", (*missing, *self.per_unit))
        for name in self.per_unit:
            if name not in self.parameters:
                raise ValueError(f"no parameter is called '{name}'; there are: {self.parameters}")

    @property
    def slots(self) -> dict[str, Activation]:
        """The five activations by slot."""
        return {slot: getattr(self, slot) for slot in SLOTS}

    @property
    def is_default(self) -> bool:
        """Whether this computes what torch.nn.LSTM computes."""
        return self == Cell()

    @property
    def parameters(self) -> dict[str, float]:
        """Values of all the activations' parameters, named SLOT.PARAMETER; and the peepholes',
        SLOT.peephole, which are 0 where none is given."""
        return {
            **dict.fromkeys(PEEPHOLES if self.peephole else (), 0.0),
            **{
                f"{slot}.{key}": value
                for slot, activation in self.slots.items()
                for key, value in activation.parameters.items()
            },
        }

    @property
    def forward(self) -> Program:
        """Inputs: z_GATE for the four gates, c_previous, parameters (SLOT.PARAMETER).
        Outputs: h, c, and saved_GATE: what `backward` needs of each gate, its value where the
        derivative follows from that, else its activation's argument before clipping."""
        return _forward(self)

    @property
    def backward(self) -> Program:
        """Inputs: saved_GATE, c_previous, c, grad_h, grad_c (what arrives from the next step),
        parameters. Outputs: grad_z_GATE, grad_c_previous and grad_SLOT.PARAMETER."""
        return _backward(self)


@dataclass(frozen=True)
class Line:
    """One line of the cell's equations: an activation's value at `argument` (before clipping), or
    what `program` makes of earlier lines."""

    name: str
    argument: str = ""
    program: Program | None = None


@lru_cache(maxsize=256)
def cell_lines(cell: Cell) -> tuple[Line, ...]:
    """The equations line by line, for engines that let others differentiate them. The first lines'
    inputs are z_GATE, c_previous and the parameters; the last is h."""
    found = []
    for name, expression in _equations(cell).items():
        if name in SLOTS and not (cell.coupled and name == "forget_gate"):
            found.append(Line(name, "c" if name == "cell_output" else f"a_{name}"))
        else:
            inputs = tuple(sorted(str(symbol) for symbol in expression.free_symbols))
            found.append(Line(name, program=lower({name: expression}, inputs)))
    return tuple(found)


def _activated(cell: Cell, slot: str, argument: Symbol) -> Expr:
    """A slot's activation at `argument`, its parameters named after the slot."""
    inside: Expr = argument
    if cell.clip is not None:
        limit = sympy.Rational(*cell.clip.as_integer_ratio())
        inside = clip(argument, -limit, limit)
    return cell.slots[slot].expression.xreplace({VARIABLE: inside, **_names(cell, slot)})


def _names(cell: Cell, slot: str) -> dict[Expr, Expr]:
    """What an activation's own parameters are called in the cell."""
    return {_symbol(key): _symbol(f"{slot}.{key}") for key in cell.slots[slot].parameters}


def _equations(cell: Cell) -> dict[str, Expr]:
    """The cell, each line after the lines it needs. a_GATE is the activation's argument."""
    i, f, g, o, c = (_symbol(name) for name in (*GATES, "c"))
    sees = {gate: _symbol("c_previous") for gate in GATES} | {"output_gate": c}

    def gate(name: str) -> dict[str, Expr]:
        argument = _symbol(f"z_{name}")
        if f"{name}.peephole" in cell.parameters:
            argument += _symbol(f"{name}.peephole") * sees[name]
        return {f"a_{name}": argument, name: _activated(cell, name, _symbol(f"a_{name}"))}

    lines = gate("input_gate")
    lines |= {"forget_gate": 1 - i} if cell.coupled else gate("forget_gate")
    lines |= gate("candidate")
    lines["c"] = f * _symbol("c_previous") + i * g
    lines |= gate("output_gate")
    lines["cell_output"] = _activated(cell, "cell_output", c)
    lines["h"] = o * _symbol("cell_output")
    return lines


def line_slopes(cell: Cell) -> dict[str, dict[Symbol, Expr]]:
    """For each line of the equations, its derivative by each symbol it uses."""
    slopes: dict[str, dict[Symbol, Expr]] = {}
    for name, expression in _equations(cell).items():
        by = sorted(expression.free_symbols, key=str)
        slopes[name] = {s: expression.diff(s) for s in by}
        argument = _symbol(f"a_{name}")
        if name in GATES and argument in by and _saves_value(cell, name):
            closed = derivative_from_output(cell.slots[name])
            assert closed is not None
            slopes[name][argument] = closed[1].xreplace(
                {closed[0]: _symbol(name), **_names(cell, name)}
            )
    return slopes


def values_of(cell: Cell) -> dict[Symbol, Expr]:
    """Every line of the equations, in terms of the cell's inputs."""
    values: dict[Symbol, Expr] = {}
    for name, expression in _equations(cell).items():
        values[_symbol(name)] = expression.xreplace(values)
    return values


def forward_outputs(cell: Cell) -> dict[str, Expr]:
    """What `Cell.forward` computes."""
    values = values_of(cell)
    outputs = {"h": values[_symbol("h")], "c": values[_symbol("c")]}
    for gate in GATES:
        saved = gate if _saves_value(cell, gate) else f"a_{gate}"
        outputs[f"saved_{gate}"] = values[_symbol(saved)]
    return outputs


@lru_cache(maxsize=256)
def _forward(cell: Cell) -> Program:
    inputs = (*(f"z_{gate}" for gate in GATES), "c_previous", *cell.parameters)
    return lower(forward_outputs(cell), inputs)


def backward_outputs(cell: Cell) -> dict[str, Expr]:
    """What `Cell.backward` computes, and grad_c_total: dL/dc, with what arrives through h."""
    equations = _equations(cell)
    grads: dict[Symbol, Expr] = {
        _symbol("h"): _symbol("grad_h"),
        _symbol("c"): _symbol("grad_c"),
    }
    for name, slopes in reversed(line_slopes(cell).items()):
        arriving = grads.get(_symbol(name), sympy.S.Zero)
        for symbol, slope in slopes.items():
            grads[symbol] = grads.get(symbol, sympy.S.Zero) + arriving * slope
    known: dict[Symbol, Expr] = {_symbol("cell_output"): equations["cell_output"]}
    for gate in GATES:
        saved = _symbol(f"saved_{gate}")
        if _saves_value(cell, gate):
            known[_symbol(gate)] = saved
        else:
            argument = _symbol(f"a_{gate}")
            known[_symbol(gate)] = equations[gate].xreplace({argument: saved})
            known[argument] = saved
    names = [*(f"z_{gate}" for gate in GATES), "c_previous", *cell.parameters]
    wanted = {f"grad_{n}": grads.get(_symbol(n), sympy.S.Zero) for n in names}
    wanted["grad_c_total"] = grads[_symbol("c")]
    return {name: expression.xreplace(known) for name, expression in wanted.items()}


@lru_cache(maxsize=256)
def _backward(cell: Cell) -> Program:
    outputs = backward_outputs(cell)
    del outputs["grad_c_total"]
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


def _saves_value(cell: Cell, gate: str) -> bool:
    """Whether the value is all that backward needs: f' closes in it, and no derivative by a
    parameter needs x, as affine's by alpha does. A clipped argument is not seen in the value."""
    if cell.coupled and gate == "forget_gate":
        return True
    activation = cell.slots[gate]
    if cell.clip is not None or derivative_from_output(activation) is None:
        return False
    slopes = (activation.expression.diff(_symbol(name)) for name in activation.parameters)
    return not any(slope.has(VARIABLE) for slope in slopes)


def derivative_from_output(activation: Activation) -> tuple[Symbol, Expr] | None:
    """(y, f' as an expression in y = f(x)) where the derivative closes in the output, as
    y*(1 - y) does for sigmoid; None where it does not.

    Found by structure: f = a*u(x) + b with numbers a and b, and f' made of the same u.
    """
    return _closed_derivative(activation.expression)
