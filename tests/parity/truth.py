"""The LSTM, the GRU and the RNN as anyone would write them in torch, in float64 and differentiated
by autograd, and how far from them a module may be. Nothing here uses the package; every class is
held to the same loops.

How far: k*eps times a size, as in tests/laws/test_engines.py. Each of T steps adds dot products
over I + H terms, each good to half an eps, and a few operations, and hands its error on, layer by
layer: k = layers*(T + 1)*(I + H). The size is the largest of 1, the result's own, and what an eps
at every input becomes on its way, which is measured by moving every input by 2^-20 of itself.
Half types sum in float32 and round states once a step: k = 4*layers, twice the most that was
measured (by nn.LSTM itself, over 5 seeds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

import anygate

T, B, I, H = 5, 3, 4, 6  # noqa: E741
ARGUMENTS = (
    "mode",
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
)
"""Attributes in which a module of torch's tells how it was made."""
Function = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
Results = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """A class to hold to the behaviour of torch's class of its family (LSTM, GRU or RNN), and the
    function in its candidate (and cell output)."""

    name: str
    layer: Callable[..., Any]
    one_step: Callable[..., Any]
    function: Function = torch.tanh
    family: str = "LSTM"

    def __call__(self, *args: Any, seed: int = 0, **options: Any) -> Any:
        """A module. A projection is left out where the family has none."""
        torch.manual_seed(seed)
        if self.family != "LSTM":
            options.pop("proj_size", None)
        return self.layer(*args, **options)

    def cell(self, *args: Any, seed: int = 0, **options: Any) -> Any:
        torch.manual_seed(seed)
        return self.one_step(*args, **options)


def _ours(activation: str, function: Function, family: str = "LSTM") -> Kind:
    classes = (getattr(anygate, family), getattr(anygate, f"{family}Cell"))
    layer, cell = (partial(c, activation=activation) for c in classes)
    name = activation if family == "LSTM" else f"{family} {activation}"
    return Kind(name, layer, cell, function, family)


TORCH = Kind("torch", nn.LSTM, nn.LSTMCell)
ANYGATE = Kind("anygate", anygate.LSTM, anygate.LSTMCell)
RELU = _ours("relu", torch.relu)
FORMULA = _ours("x*sigmoid(x)", nn.functional.silu)
TORCH_GRU = Kind("torch GRU", nn.GRU, nn.GRUCell, family="GRU")
GRU = Kind("GRU", anygate.GRU, anygate.GRUCell, family="GRU")
GRU_FORMULA = _ours("x*sigmoid(x)", nn.functional.silu, "GRU")
TORCH_RNN = Kind("torch RNN", nn.RNN, nn.RNNCell, family="RNN")
RNN = Kind("RNN", anygate.RNN, anygate.RNNCell, family="RNN")
TORCH_RNN_RELU = Kind(
    "torch RNN relu",
    partial(nn.RNN, nonlinearity="relu"),
    partial(nn.RNNCell, nonlinearity="relu"),
    torch.relu,
    "RNN",
)
RNN_RELU = _ours("relu", torch.relu, "RNN")
PAIRS = ((TORCH, ANYGATE), (TORCH_GRU, GRU), (TORCH_RNN, RNN), (TORCH_RNN_RELU, RNN_RELU))
"""torch's class and ours of each family at torch's activations."""
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""The blocks of H rows in each weight."""


def lstm(
    weights: Mapping[str, Tensor],
    x: Tensor,
    hx: State,
    function: Function = torch.tanh,
    lengths: Sequence[int] | None = None,
    between: Function = lambda x: x,
    family: str = "LSTM",
) -> tuple[Tensor, State]:
    """All layers and directions that the weights' names tell of; x [T, B, I], time first.

    lengths: how many steps each sequence has; beyond, outputs are 0 and states stay.
    between: what the output of a layer goes through on its way to the next (dropout).
    family: LSTM, or another of STEPS.
    """
    steps, batch = x.shape[:2]
    ends = torch.tensor([steps] * batch if lengths is None else list(lengths))
    alive = (torch.arange(steps).unsqueeze(1) < ends).unsqueeze(-1)
    states: list[State] = []
    layer = 0
    while f"weight_ih_l{layer}" in weights:
        x = between(x) if layer else x
        outputs = []
        for suffix in ("", "_reverse"):
            if f"weight_ih_l{layer}{suffix}" in weights:
                start = tuple(state[len(states)] for state in hx)
                own = _own(weights, f"_l{layer}{suffix}")
                one = partial(STEPS[family], own, function=function)
                output, end = _direction(one, x, start, alive, bool(suffix))
                outputs.append(output)
                states.append(end)
        x = torch.cat(outputs, -1)
        layer += 1
    return x, tuple(torch.stack(each) for each in zip(*states, strict=True))


def _own(weights: Mapping[str, Tensor], ending: str) -> dict[str, Tensor]:
    return {n.removesuffix(ending): w for n, w in weights.items() if n.endswith(ending)}


def _direction(
    one: Callable[..., State], x: Tensor, start: State, alive: Tensor, reverse: bool
) -> tuple[Tensor, State]:
    now = start
    outputs: list[Any] = [None] * len(x)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new = one(x[t], *now)
        now = tuple(torch.where(alive[t], a, b) for a, b in zip(new, now, strict=True))
        outputs[t] = torch.where(alive[t], new[0], 0)
    return torch.stack(outputs), now


def step(w: Mapping[str, Tensor], x: Tensor, h: Tensor, c: Tensor, function: Function) -> State:
    """One time step of one layer; w has weight_ih, weight_hh and perhaps biases and weight_hr."""
    z = _linear(w, "ih", x) + _linear(w, "hh", h)
    i, f, g, o = z.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * function(g)
    h = torch.sigmoid(o) * function(c)
    return (h @ w["weight_hr"].T if "weight_hr" in w else h), c


def _linear(w: Mapping[str, Tensor], kind: str, t: Tensor) -> Tensor:
    product = t @ w[f"weight_{kind}"].T
    return product + w[f"bias_{kind}"] if f"bias_{kind}" in w else product


def gru_step(w: Mapping[str, Tensor], x: Tensor, h: Tensor, function: Function) -> State:
    """One time step of a GRU whose reset gate acts after the product with h."""
    x_r, x_u, x_n = _linear(w, "ih", x).chunk(3, -1)
    h_r, h_u, h_n = _linear(w, "hh", h).chunk(3, -1)
    r, u = torch.sigmoid(x_r + h_r), torch.sigmoid(x_u + h_u)
    return ((1 - u) * function(x_n + r * h_n) + u * h,)


def rnn_step(w: Mapping[str, Tensor], x: Tensor, h: Tensor, function: Function) -> State:
    """One time step of an Elman network."""
    return (function(_linear(w, "ih", x) + _linear(w, "hh", h)),)


STEPS: dict[str, Callable[..., State]] = {"LSTM": step, "GRU": gru_step, "RNN": rnn_step}
STATES = {"LSTM": ("h", "c"), "GRU": ("h",), "RNN": ("h",)}


# ---- inputs ---------------------------------------------------------------------------------


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same numbers for every class; made as float32 first, so that both dtypes hold them."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw).to(dtype)


def states(module: Any, batch: int, seed: int = 7) -> Any:
    """hx as the module takes it, of its dtype: h0 (and c0) [layers * directions, B, size]."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    dtype = next(module.parameters()).dtype
    h = normal(count, batch, module.proj_size or module.hidden_size, seed=seed, dtype=dtype)
    if getattr(module, "mode", "LSTM") != "LSTM":
        return h
    return h, normal(count, batch, module.hidden_size, seed=seed + 1, dtype=dtype)


def as_tuple(state: Any) -> State:
    """The states of an LSTM, of a GRU or of an RNN as a tuple."""
    return state if isinstance(state, tuple) else (state,)


def change(hx: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """function of each state, in the form in which hx has them."""
    return tuple(map(function, hx)) if isinstance(hx, tuple) else function(hx)


def loop(
    kind: Kind, weights: Mapping[str, Tensor], x: Tensor, hx: Any, between: Function = lambda x: x
) -> tuple[Tensor, Any]:
    """The results of a module of the kind for x [T, B, I] and hx, by the loops above."""
    output, ends = lstm(
        weights, x, as_tuple(hx), kind.function, between=between, family=kind.family
    )
    return output, ends if len(ends) > 1 else ends[0]


# ---- results of a module and of the truth ---------------------------------------------------


def mix(results: Mapping[Any, Tensor], pick: Sequence[Any] = ("output", "h", "c")) -> Tensor:
    """A scalar in which every number of the results has a weight of its own."""
    terms = [r for name, r in results.items() if name in pick]
    return sum(((t * _ramp(t)).sum() for t in terms), start=terms[0].new_zeros(()))


def _ramp(t: Tensor) -> Tensor:
    return torch.linspace(-1, 1, t.numel(), dtype=t.dtype, device=t.device).reshape(t.shape)


def run(module: Any, x: Any, hx: Any = None) -> Results:
    """The results of a call, by name: "output", "h" and, of an LSTM, "c"."""
    output, ends = module(x) if hx is None else module(x, hx)
    return {"output": output} | dict(zip("hc", as_tuple(ends), strict=False))


def plain(output: Any) -> Tensor:
    """The output as a tensor; a packed one is padded."""
    return pad_packed_sequence(output)[0] if isinstance(output, PackedSequence) else output


def found(module: Any, x: Any, hx: Any, pick: Sequence[str] = ("output", "h", "c")) -> Any:
    """Outputs and gradients of a module by name; x is a tensor, or makes the input from its leaf
    (`x = (leaf, function)`, for packed input)."""
    leaf, make = x if isinstance(x, tuple) else (x, lambda t: t)
    leaf = leaf.detach().requires_grad_()
    state = None if hx is None else change(hx, lambda s: s.detach().requires_grad_())
    module.zero_grad()
    output, ends = module(make(leaf)) if state is None else module(make(leaf), state)
    results = {"output": plain(output)} | dict(zip("hc", as_tuple(ends), strict=False))
    mix(results, pick).backward()
    results["grad x"] = leaf.grad
    results |= {f"grad {n}": p.grad for n, p in module.named_parameters()}
    if state is not None:
        results |= {f"grad {n}0": s.grad for n, s in zip("hc", as_tuple(state), strict=False)}
    return {n: torch.zeros(()) if r is None else r.detach() for n, r in results.items()}


def expected(
    kind: Kind,
    module: Any,
    x: Tensor,
    hx: Any,
    lengths: Sequence[int] | None = None,
    pick: Sequence[str] = ("output", "h", "c"),
    moved: bool = False,
) -> Results:
    """The values that `found` must have, by the loop above in float64. x as the module takes it, or
    time first with lengths. moved: with every input moved by 2^-20 of itself."""
    like = _moved if moved else (lambda t: t)
    own = {n: like(p.detach().double()).requires_grad_() for n, p in module.named_parameters()}
    leaf = like(x.detach().double()).requires_grad_()
    batched, first = x.dim() == 3, module.batch_first and lengths is None
    padded = leaf.unsqueeze(1) if not batched else leaf.transpose(0, 1) if first else leaf
    given = as_tuple(states(module, padded.shape[1]) if hx is None else hx)
    names = STATES[kind.family]
    start = [like(s.detach().double() * (hx is not None)).requires_grad_() for s in given]
    wide = start if batched or hx is None else [s.unsqueeze(1) for s in start]
    output, ends = lstm(own, padded, tuple(wide), kind.function, lengths, family=kind.family)
    if not batched:
        output, ends = output.squeeze(1), tuple(s.squeeze(1) for s in ends)
    results = {"output": output.transpose(0, 1) if batched and first else output}
    results |= dict(zip(names, ends, strict=True))
    leaves = {"x": leaf, **own}
    if hx is not None:
        leaves |= {f"{n}0": s for n, s in zip(names, start, strict=True)}
    loss = mix(results, pick)
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    results |= {f"grad {n}": g for n, g in zip(leaves, grads, strict=True)}
    return {n: r.detach() for n, r in results.items()}


def _moved(t: Tensor) -> Tensor:
    signs = torch.randint(2, t.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return t * (1 + 2.0**-20 * signs)


def size(t: Tensor) -> float:
    return t.abs().max().item() if t.numel() else 0.0


def rounding(
    module: Any, steps: int, truth: Mapping[str, Tensor], moved: Mapping[str, Tensor]
) -> dict[str, float]:
    """The error that each result may have; see the top of this file."""
    layers, dtype = getattr(module, "num_layers", 1), next(module.parameters()).dtype
    eps = torch.finfo(dtype).eps
    if eps > 1e-6:
        return {n: 4 * layers * eps * max(1.0, size(t)) for n, t in truth.items()}
    width = max(module.input_size, 2 * module.hidden_size if layers > 1 else 0)
    k = layers * (steps + 1) * (width + module.hidden_size)
    spread = {n: size(moved[n] - t) * 2.0**20 for n, t in truth.items()}
    return {n: k * eps * max(1.0, size(t), spread[n]) for n, t in truth.items()}


def near(
    results: Mapping[str, Tensor], truth: Mapping[str, Tensor], room: Mapping[str, float]
) -> None:
    """Every result of the truth is there, has its shape, and is within its room."""
    for name, value in truth.items():
        assert name in results, f"{name} is missing"
        given = results[name]
        if given.shape != value.shape:  # no gradient arrived: as good as zeros
            assert given.shape == () and "grad" in name, (name, given.shape, value.shape)
        off = size(given.double() - value)
        assert off <= room[name], f"{name} is off by {off:.3g}, allowed are {room[name]:.3g}"


def near_kink(kind: Kind, module: Any, x: Tensor, hx: Any, lengths: Sequence[int] | None) -> bool:
    """True if relu gets a number so near 0 that rounding decides its side, and so the gradient
    (moved by half an eps of bfloat16, the truth itself jumps by ten of them). Exactly at 0, where a
    cell state is, both sides agree. How near, is as in tests/laws/test_engines.py."""
    nearest = [math.inf]

    def watched(t: Tensor) -> Tensor:
        away = t.detach().abs()
        nearest.append(away[away > 0].min().item() if away.any() else math.inf)
        return torch.relu(t)

    if kind.function is not torch.relu:
        return False
    if lengths is not None:  # what lies beyond a sequence's end concerns nobody
        alive = torch.arange(len(x)).unsqueeze(1) < torch.tensor(lengths)
        x = torch.where(alive.unsqueeze(-1), x, 0)
    expected(replace(kind, function=watched), module, x, hx, lengths)
    eps = torch.finfo(next(module.parameters()).dtype).eps
    return min(nearest) < 64 * (module.input_size + module.hidden_size) * eps


def check(
    kind: Kind,
    module: Any,
    x: Any,
    hx: Any = None,
    *,
    lengths: Sequence[int] | None = None,
    pick: Sequence[str] = ("output", "h", "c"),
) -> Results:
    """The module's outputs and all gradients are the truth's to rounding (gradients only where no
    kink is near); returns the module's."""
    leaf = x[0] if isinstance(x, tuple) else x
    arguments = (kind, module, leaf, hx, lengths, pick)
    truth, moved = expected(*arguments), expected(*arguments, moved=True)
    results = found(module, x, hx, pick)
    if near_kink(kind, module, leaf, hx, lengths):
        truth = {n: t for n, t in truth.items() if "grad" not in n}
        assert all(r.isfinite().all() for r in results.values())
    steps = leaf.shape[1 if module.batch_first and lengths is None and leaf.dim() == 3 else 0]
    near(results, truth, rounding(module, steps, truth, moved))
    return results
