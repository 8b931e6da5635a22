"""Initial weights of recurrent modules, as functions of the module: each from a paper, in place.

    anygate.init.forget_bias_(lstm, 1.0)
    anygate.init.orthogonal_(anygate.init.glorot_(lstm))

All but `gain` take a recurrent module of anygate (LSTM, GRU, RNN, Recurrent and their single-step
cells) or of torch.nn, change its parameters without a gradient, in all layers and directions, and
return it. A parameter that is not theirs stays as it is. A gate here is the slot that a product of
the cell feeds: input_gate, forget_gate, candidate and output_gate of an LSTM; reset_gate,
update_gate and candidate of a GRU; candidate of an RNN.

Both biases of a gate are added, so only their sum counts: where a bias is set here, bias_ih gets
it and bias_hh gets zero. Setting both, as is often done, doubles it.

Raise TypeError for another module, and ValueError for a missing bias or for a weight that is
computed from other tensors (parametrized or pruned), which would not keep what is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from ..cells import Cell, CellType, Product, make
from ..cells import builtin as types
from ..cells.celltype import symbol
from ..engines.inside import evaluate_arrays
from ..formulas.activation import Activation
from ..formulas.lookup import resolve
from ..formulas.structure import break_points
from .design import ActivationLike
from .layers import RecurrentLayers
from .step import StepCell
from .widths import suffixes_of, width_of

__all__ = ["chrono_", "forget_bias_", "gain", "glorot_", "identity_", "orthogonal_"]

M = TypeVar("M", bound=nn.Module)
Keep = Literal["second_moment", "variance", "gradient"]
Array = NDArray[np.float64]

_TORCHS: dict[type, CellType] = {
    nn.LSTM: types.LSTM,
    nn.LSTMCell: types.LSTM,
    nn.GRU: types.GRU,
    nn.GRUCell: types.GRU,
    nn.RNN: types.ELMAN,
    nn.RNNCell: types.ELMAN,
}


# ---- biases -----------------------------------------------------------------------------------


def forget_bias_(module: M, value: float = 1.0) -> M:
    """Sets the forget gate's bias b_if + b_hf to `value`; the other gates keep theirs.

    With the usual bias near 0 the forget gate is sigmoid(0) = 1/2 and the memory halves each
    step; with 1 it keeps 0.73, with 2 it keeps 0.88 of it. With coupled=True, where the forget gate
    is 1 - input gate, the input gate's bias is set to -value, which for a sigmoid is the same. For
    LSTMs; TypeError for another cell.
    Sources: Gers, Schmidhuber & Cummins 2000, Neural Computation 12(10) (the forget gate);
    Jozefowicz, Zaremba & Sutskever 2015, ICML (a bias of 1 or 2 brings the LSTM level with the
    GRU).
    """
    suffixes = _suffixes(module, "bias_ih", "bias_hh")
    slots = _cell(module).slots
    if "input_gate" not in slots:
        raise TypeError(
            f"forget_bias_: this {type(module).__name__} has no forget gate; in a GRU the update "
            "gate keeps the memory (chrono_ sets its bias)"
        )
    gate = ("forget_gate", value) if "forget_gate" in slots else ("input_gate", -value)
    for suffix in suffixes:
        _set_bias(module, suffix, *gate)
    return module


def chrono_(module: M, t_max: float, generator: Generator | None = None) -> M:
    """Biases for memories that last from 2 to `t_max` time steps:

        b_f = log(u), u ~ Uniform(1, t_max - 1) for each unit      b_i = -b_f

    of an LSTM (with coupled=True b_i alone), and b_z = log(u) of a GRU's update gate,
    so that a sigmoid forget gate is 1 - 1/(u + 1) and the unit decays over u + 1 steps. The other
    gates keep theirs. Derived for gates between 0 and 1: a hard sigmoid is exactly 1 and without
    gradient from b_f = 2.5 (Keras's) or 3 (torch's) on. t_max >= 2.
    Source: Tallec & Ollivier 2018, arXiv:1804.11188.
    """
    if not 2 <= t_max < math.inf:
        raise ValueError(
            f"chrono_: t_max is the longest memory in time steps, 2 or more, not {t_max}"
        )
    signs = {"forget_gate": 1, "input_gate": -1, "update_gate": 1}
    suffixes = _suffixes(module, "bias_ih", "bias_hh")
    gates = {gate: signs[gate] for gate in _cell(module).slots if gate in signs}
    if not gates:
        raise TypeError(f"chrono_: this {type(module).__name__} has no gate that keeps a memory")
    for suffix in suffixes:
        like = _parameter_that_stays(module, f"bias_ih{suffix}")
        u = _scratch(like, (width_of(module, suffix),)).uniform_(1, t_max - 1, generator=generator)
        for gate, sign in gates.items():
            _set_bias(module, suffix, gate, sign * u.log())
    return module


# ---- weights ----------------------------------------------------------------------------------


def orthogonal_(module: M, gain: float = 1.0, generator: Generator | None = None) -> M:
    """Makes the recurrent matrix [H, H] of each gate orthogonal, drawn uniformly, times `gain`.

    Each gate's block by itself: the whole weight_hh [4H, H] made orthogonal would give blocks
    whose singular values are below 1. With projections [H, P] the columns are orthonormal.
    Source: Saxe, McClelland & Ganguli 2014, arXiv:1312.6120.
    """
    for suffix in _suffixes(module, "weight_hh"):
        for block, _ in _blocks(module, "weight_hh", suffix):
            _fill(block, nn.init.orthogonal_, gain, generator)
    return module


def identity_(module: M, scale: float = 1.0, gates: Iterable[str] = ("candidate",)) -> M:
    """Makes the recurrent matrix [H, H] of the named gates `scale` times the identity, and their
    biases zero; the other gates keep theirs.

    Le, Jaitly & Hinton 2015, arXiv:1504.00941 (IRNN) have one recurrent matrix, in
    h' = relu(W x + R h + b) with R = I and b = 0: an RNN. In an LSTM the candidate is what has this
    form, g = candidate(W_ig x + W_hg h + b), so it alone is the default. All four gates are the
    W_hh = I of Cooijmans et al. 2016, arXiv:1603.09025; that clears the forget gate's bias too, so
    set it afterwards.
    Raises ValueError with projections, where the matrix [H, P] is not square.
    """
    chosen = tuple(gates)
    suffixes = _suffixes(module, "weight_hh")
    known = tuple(dict.fromkeys(_gates(_cell(module)).values()))
    if isinstance(gates, str) or not chosen or set(chosen) - set(known):
        raise ValueError(f"identity_: gates are some of {', '.join(known)}, not {gates!r}")
    if _has_bias(module):
        _suffixes(module, "bias_ih", "bias_hh")
    if getattr(module, "proj_size", 0):
        raise ValueError(
            "identity_: with proj_size the recurrent matrix is not square; use orthogonal_"
        )
    for suffix in suffixes:
        for block, gate in _blocks(module, "weight_hh", suffix):
            if gate in chosen:
                _fill(block, lambda scratch: nn.init.eye_(scratch).mul_(scale))
        for gate in chosen if _has_bias(module) else ():
            _set_bias(module, suffix, gate, 0.0)
    return module


def glorot_(
    module: M,
    gain: float | Mapping[str, float] | None = None,
    distribution: Literal["uniform", "normal"] = "uniform",
    generator: Generator | None = None,
) -> M:
    """Draws the weights of each gate, weight_ih [H, I] and weight_hh [H, H], with mean zero and

        standard deviation = gain * sqrt(2 / (fan_in + fan_out))

    where fan_in is I or H and fan_out is H: of one gate, not 4H as for the whole matrix.
    gain: one for all gates, or by gate ({"candidate": 1.0}); gates without one get `gain(f)` of
    their activation f. A projection's weight_hr [P, H], which no activation follows, has gain 1.
    Biases stay. Source: Glorot & Bengio 2010, AISTATS.
    """
    draws = {"uniform": nn.init.xavier_uniform_, "normal": nn.init.xavier_normal_}
    if distribution not in draws:
        raise ValueError(f"glorot_: distribution is uniform or normal, not {distribution!r}")
    suffixes = _suffixes(module, "weight_ih", "weight_hh")
    projects = bool(getattr(module, "proj_size", 0))
    if projects:
        _suffixes(module, "weight_hr")
    every = {suffix: _gains(module, suffix, gain) for suffix in suffixes}
    for suffix, gains in every.items():
        for kind in ("weight_ih", "weight_hh"):
            for block, gate in _blocks(module, kind, suffix):
                _fill(block, draws[distribution], gains.get(gate, 1.0), generator)
        if projects:
            _fill(
                _parameter_that_stays(module, f"weight_hr{suffix}"),
                draws[distribution],
                1.0,
                generator,
            )
    return module


def _gains(
    module: nn.Module, suffix: str, given: float | Mapping[str, float] | None
) -> dict[str, float]:
    """A number for each gate of one layer and direction."""
    cell = _cell(module, suffix)
    gates = tuple(dict.fromkeys(gate for gate in _gates(cell).values() if gate))
    if isinstance(given, int | float):
        return dict.fromkeys(("", *gates), float(given))
    by_gate = dict(given or {})
    if unknown := sorted(by_gate.keys() - set(gates)):
        raise ValueError(f"glorot_: '{unknown[0]}' is no gate; gates are {', '.join(gates)}")
    for gate in gates:
        if gate not in by_gate:
            try:
                by_gate[gate] = _gain(cell.slots[gate], "second_moment")
            except ValueError as error:
                raise ValueError(f"glorot_: {gate}: {error}; give gain={{'{gate}': ...}}") from None
    return by_gate


# ---- the gain of an activation ----------------------------------------------------------------


def gain(activation: ActivationLike, keep: Keep = "second_moment") -> float:
    """The factor of the weights at which an activation f keeps the size of what passes through,
    for z ~ Normal(0, 1):

        second_moment   1 / sqrt(E[f(z)^2])     sizes, forward (He et al. 2015, arXiv:1502.01852)
        variance        1 / sqrt(Var[f(z)])     spread, forward (Brock et al. 2021, 2101.08692)
        gradient        1 / sqrt(E[f'(z)^2])    sizes, backward (He et al. 2015; Schoenholz et
                                                al. 2017, arXiv:1611.01232)

    Computed from the formula by Gauss-Legendre quadrature, right to ten digits; so it is there for
    every activation. `torch.nn.init.calculate_gain` has the same numbers for linear, relu and
    leaky_relu; others by agreement: tanh 5/3 (here 1.5925), selu 3/4 (here 1), sigmoid 1 (here
    1.8462, because its mean is 1/2: E[f^2] counts that, the variance would not).

    There is no gain, and a ValueError says so, where the mean is zero, infinite or has no value.
    """
    if keep not in get_args(Keep):
        raise ValueError(f"gain: keep is one of {', '.join(get_args(Keep))}, not {keep!r}")
    return _gain(resolve(activation), keep)


_DIGITS = 1e-10
_REACH = 38  # the normal density is 1e-314 there


@lru_cache(maxsize=512)
def _gain(activation: Activation, keep: Keep) -> float:
    coarse, fine = (_moment(activation, keep, *grid) for grid in ((48, 30), (64, 45)))
    what = {"gradient": "E[f'^2]", "variance": "Var[f]"}.get(keep, "E[f^2]")
    if not fine > 0:
        raise ValueError(f"{activation.label} has no gain, because its {what} is zero")
    if not abs(coarse - fine) <= _DIGITS * fine:
        raise ValueError(
            f"{activation.label} has no gain: {what} for standard normal z is infinite, "
            "or too rough to compute"
        )
    return 1 / math.sqrt(fine)


def _moment(activation: Activation, keep: Keep, points: int, depth: int) -> float:
    """The mean to keep. points: nodes in each panel; depth: how often panels halve towards a
    break, so that a singularity that can be integrated is."""
    z, weights = _nodes(tuple(float(b) for b in break_points(activation.closed)), points, depth)
    gradient = keep == "gradient"
    program = activation.program if gradient else activation.value_program
    with np.errstate(all="ignore"):
        found = evaluate_arrays(program, {"x": z, **activation.parameters})
        values = np.broadcast_to(found["derivative" if gradient else "value"], z.shape)
        if np.isnan(values).any():
            raise ValueError(f"{activation.label} has no gain, because it has no value everywhere")
        # The density's root goes to each factor: f(z)^2 alone may overflow where f^2*density does
        # not.
        root = np.exp(-z * z / 4) / (2 * math.pi) ** 0.25
        mean = float(np.sum(weights * (values * root) * root)) if keep == "variance" else 0.0
        scaled = (values - mean) * root
        total = float(np.sum(weights * scaled * scaled))
        ends = max(scaled[0] ** 2, scaled[-1] ** 2)
    if keep == "variance" and total <= 1e-20 * mean * mean:  # rounding of a constant
        return 0.0
    return total if ends <= _DIGITS * total else math.inf


def _nodes(breaks: tuple[float, ...], points: int, depth: int) -> tuple[Array, Array]:
    """Nodes and weights on [-38, 38], in panels of width 1 that end at the breaks."""
    inside = [b for b in breaks if abs(b) < _REACH]
    near = [b + side * 2.0**-k for b in inside for side in (-1, 1) for k in range(depth)]
    edges = np.unique([*range(-_REACH, _REACH + 1), *inside, *near])
    edges = edges[np.abs(edges) <= _REACH]
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = np.diff(edges)[:, None] / 2
    middle = (edges[:-1, None] + edges[1:, None]) / 2
    return (middle + half * nodes).ravel(), (half * weights).ravel()


# ---- parts of a module ------------------------------------------------------------------------


def _suffixes(module: Any, *kinds: str) -> list[str]:
    """The endings of the parameters' names, one for each layer and direction. Raises TypeError or
    ValueError where parameters of these kinds are not there to be written."""
    if not isinstance(module, (RecurrentLayers, StepCell, *_TORCHS)):
        raise TypeError(
            "a recurrent module of anygate or torch.nn is initialised, not "
            f"{type(module).__name__}; loop over model.modules() for those in a model"
        )
    if "bias_ih" in kinds and not _has_bias(module):
        raise ValueError(f"this {type(module).__name__} has no biases to set: it has bias=False")
    suffixes = suffixes_of(module) if isinstance(module, nn.RNNBase) else [""]
    for suffix in suffixes:
        for kind in kinds:
            _parameter_that_stays(cast(nn.Module, module), f"{kind}{suffix}")
    return suffixes


def _parameter_that_stays(module: nn.Module, name: str) -> Tensor:
    """A parameter that keeps what is written into it."""
    parameter = module._parameters.get(name)
    if parameter is None:
        raise ValueError(
            f"{name} is computed from other tensors (parametrized or pruned) and would lose what "
            "is written into it; initialise first, parametrize or prune after"
        )
    return parameter.detach()


def _has_bias(module: Any) -> bool:
    return bool(module.bias)


def _cell(module: Any, suffix: str | None = None) -> Cell:
    """The cell that a module of anygate or torch computes in one layer and direction; in the first
    where none is named."""
    if isinstance(module, RecurrentLayers | StepCell):
        return module._design.cell if suffix is None else module._designs[suffix].cell
    type = next(t for cls, t in _TORCHS.items() if isinstance(module, cls))
    if type is types.ELMAN:
        return make(type, {"candidate": resolve(module.nonlinearity)})
    return make(type)


def _gates(cell: Cell) -> dict[Product, str]:
    """For each product, the slot that it feeds; "" where it feeds none directly."""
    found = dict.fromkeys(cell.type.products, "")
    for product in found:
        reached = {symbol(product.name)}
        for equation in cell.type.equations:
            if not reached & equation.expression.free_symbols:
                continue
            if equation.kind == "slot":
                found[product] = equation.name
                break
            reached.add(symbol(equation.name))
    return found


def _blocks(module: Any, kind: str, suffix: str) -> list[tuple[Tensor, str]]:
    """The rows of each product in a parameter, [H] or [H, columns], and the gate it feeds. kind:
    weight_ih, weight_hh, bias_ih or bias_hh."""
    gates, hidden = _gates(_cell(module)), width_of(module, suffix)
    seen = [g for p, g in gates.items() if (p.input if kind.endswith("ih") else p.recurrent)]
    whole = _parameter_that_stays(module, f"{kind}{suffix}")
    return [(whole[k * hidden : (k + 1) * hidden], gate) for k, gate in enumerate(seen)]


def _set_bias(module: Any, suffix: str, gate: str, value: float | Tensor) -> None:
    with torch.no_grad():
        for block, name in _blocks(module, "bias_ih", suffix):
            if name == gate:
                block.copy_(torch.as_tensor(value))
        for block, name in _blocks(module, "bias_hh", suffix):
            if name == gate:
                block.zero_()


def _scratch(like: Tensor, shape: Any) -> Tensor:
    """An empty tensor to draw into: half types have no QR and too coarse a uniform_."""
    small = like.dtype in (torch.float16, torch.bfloat16)
    return torch.empty(shape, device=like.device, dtype=torch.float32 if small else like.dtype)


def _fill(block: Tensor, draw: Any, *arguments: Any) -> None:
    """Fills a block by one of torch.nn.init's functions."""
    with torch.no_grad():
        block.copy_(draw(_scratch(block, block.shape), *arguments))
