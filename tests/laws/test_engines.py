"""Any activations in any slots: eager equals the reference, in values and in all gradients.

How far apart they may be: k*eps times a size, with k = (T + 1)*(I + H). Each of T steps adds dot
products over I + H terms, each good to half an eps, and a few operations, and hands its error on to
the next. The size is the largest of a result's own and of what an eps at every input becomes on its
way (`_scale`, from the reference alone). Measured over 500 drawn cases: at most k/4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from anygate.engines import AUTO, EngineError, Request, choose, eager, load, reference
from anygate.formulas import ACTIVATIONS, sheet
from anygate.formulas.cell import PEEPHOLES, SLOTS, Cell

BOUNDED = tuple(n for n, a in ACTIVATIONS.items() if sheet(a).bounded.value)
SMOOTH = tuple(n for n, a in ACTIVATIONS.items() if not sheet(a).kinks.value)


@dataclass(frozen=True)
class Case:
    """One run of a layer, its inputs as float64 arrays that the dtype holds exactly."""

    cell: Cell
    dtype: torch.dtype
    reverse: bool
    arrays: dict[str, Any]

    @property
    def eps(self) -> float:
        return torch.finfo(self.dtype).eps


NAMES = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")


def make(
    cell: Cell,
    t: int,
    b: int,
    i: int,
    h: int,
    *,
    dtype: torch.dtype = torch.float64,
    reverse: bool = False,
    bias: bool = True,
    seed: int = 0,
    size: float = 0.5,
) -> Case:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float = 1.0) -> Any:
        values = torch.randn(*shape, generator=draw, dtype=torch.float64) * scale
        return values.to(dtype).double().numpy()

    arrays = {
        "x": normal(t, b, i),
        "h0": normal(b, h, scale=size),
        "c0": normal(b, h, scale=size),
        "weight_ih": normal(4 * h, i, scale=size / math.sqrt(i)),
        "weight_hh": normal(4 * h, h, scale=size / math.sqrt(h)),
        "bias": normal(4 * h, scale=size) if bias else None,
        "grad_output": normal(t, b, h),
        "grad_h": normal(b, h),
        "grad_c": normal(b, h),
    }
    return Case(cell, dtype, reverse, arrays)


def parameters(case: Case) -> dict[str, float]:
    """The activations' parameters as the dtype holds them; peepholes 0.25 (0 hides them)."""
    return {
        name: 0.25 if name in PEEPHOLES else torch.tensor(value, dtype=case.dtype).double().item()
        for name, value in case.cell.parameters.items()
    }


def by_reference(case: Case) -> dict[str, Any]:
    """Outputs and gradients by name."""
    a, values = case.arrays, parameters(case)
    given_ = [a[name] for name in NAMES]
    run = reference.run(case.cell, *given_, parameters=values, reverse=case.reverse)
    back = reference.backward(
        case.cell, run, *given_[:5], a["grad_output"], a["grad_h"], a["grad_c"],
        parameters=values, reverse=case.reverse,
    )  # fmt: skip
    grads = {f"grad of {name}": back[name] for name in NAMES if a[name] is not None}
    grads |= {f"grad of {k}": v.sum() for k, v in back["parameters"].items()}
    return {"output": run.output, "h": run.h, "c": run.c, **grads}


def by_eager(case: Case) -> dict[str, Any]:
    a = case.arrays
    tensors = {
        name: None if a[name] is None else torch.tensor(a[name], dtype=case.dtype).requires_grad_()
        for name in NAMES
    }
    values = {
        k: torch.tensor(v, dtype=case.dtype).requires_grad_() for k, v in parameters(case).items()
    }
    results = eager.run(case.cell, *tensors.values(), parameters=values, reverse=case.reverse)
    arriving = [torch.tensor(a[f"grad_{n}"], dtype=case.dtype) for n in ("output", "h", "c")]
    leaves = {k: v for k, v in {**tensors, **values}.items() if v is not None}
    grads = torch.autograd.grad(results, list(leaves.values()), arriving, allow_unused=True)
    found = dict(zip(("output", "h", "c"), results, strict=True))
    found |= {
        f"grad of {name}": torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }
    return {name: value.detach().double().numpy() for name, value in found.items()}


def _size(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def _scale(case: Case, expected: Mapping[str, Any]) -> dict[str, float]:
    """For each result, the largest number that its sum runs over: an error of one rounding of a
    state reaches every later one, and the gradients are made of products of both."""
    moved = by_reference(_nudged(case))
    shift = 2.0**-20
    sizes = {}
    for name, value in expected.items():
        spread = _size(np.asarray(moved[name]) - np.asarray(value)) / shift
        sizes[name] = max(_size(value), spread, 1.0)
    return sizes


def _nudged(case: Case) -> Case:
    """All inputs changed by 2^-20 of themselves: how much results move when inputs do."""
    draw = np.random.default_rng(1)
    arrays = {
        name: None if a is None else a * (1 + 2.0**-20 * draw.choice((-1.0, 1.0), a.shape))
        for name, a in case.arrays.items()
    }
    return replace(case, arrays=arrays)


def difference(
    case: Case, engine: Callable[[Case], dict[str, Any]] = by_eager
) -> tuple[float, str]:
    """The largest difference of the engines in units of what is allowed, and where it is."""
    expected, found = by_reference(case), engine(case)
    steps, _, inputs = case.arrays["x"].shape
    k = (steps + 1) * (inputs + case.arrays["h0"].shape[1])
    sizes = _scale(case, expected)
    # The CPU engine gives no gradients of the formulas' own parameters; nothing else may lack.
    own = {f"grad of {name}" for name in case.cell.parameters} if engine is not by_eager else set()
    assert set(expected) - own <= set(found) <= set(expected)
    worst = (0.0, "")
    for name, value in ((n, v) for n, v in expected.items() if n in found):
        assert found[name].shape == np.shape(value), name
        off = _size(found[name] - value) / (k * case.eps * sizes[name])
        worst = max(worst, (off, name))
    return worst


def near_kinks(case: Case, room: float) -> bool:
    """Whether a pre-activation lies so near a kink that rounding decides the side. Exactly on it
    (c is 0 where a gate is) both engines take the side that the formula states."""
    values = _pre_activations(case)
    for slot, activation in case.cell.slots.items():
        kinks = [kink.x for kink in sheet(activation).kinks.value]
        kinks += [] if case.cell.clip is None else [-case.cell.clip, case.cell.clip]
        for kink in kinks:
            away = np.abs(values[slot] - kink)
            if np.any((away > 0) & (away < room * (1 + np.abs(values[slot])))):
                return True
    return False


def overflows(case: Case) -> bool:
    """Whether the reference itself leaves what float32 holds with room for products."""
    return not all(np.isfinite(v).all() and _size(v) < 1e18 for v in by_reference(case).values())


def _pre_activations(case: Case) -> dict[str, Any]:
    a, values = case.arrays, parameters(case)
    h, c = a["h0"], a["c0"]
    seen: dict[str, list[Any]] = {slot: [] for slot in SLOTS}
    steps = range(len(a["x"]))
    for t in reversed(steps) if case.reverse else steps:
        bias = 0 if a["bias"] is None else a["bias"]
        z = a["x"][t] @ a["weight_ih"].T + h @ a["weight_hh"].T + bias
        now = reference.step(case.cell, z, c, values)
        before, h, c = c, now["h"], now["c"]
        for slot, part in zip(SLOTS, [*np.split(z, 4, -1), c], strict=True):
            state = c if slot == "output_gate" else before
            seen[slot].append(part + values.get(f"{slot}.peephole", 0.0) * state)
    return {slot: np.array(parts) for slot, parts in seen.items()}


@st.composite
def cells(draw: Any, pool: tuple[str, ...] = tuple(ACTIVATIONS)) -> Cell:
    """Any two activations in any two slots, the rest at their defaults; any variant."""
    slots = draw(st.lists(st.sampled_from(SLOTS), min_size=2, max_size=2, unique=True))
    variant: dict[str, Any] = {
        "peephole": draw(st.booleans()),
        "coupled": draw(st.booleans()),
        "clip": draw(st.sampled_from((None, None, 0.75))),
    }
    chosen = {slot: ACTIVATIONS[draw(st.sampled_from(pool))] for slot in slots}
    return Cell(**chosen, **variant)


@st.composite
def cases(draw: Any, pool: tuple[str, ...] = tuple(ACTIVATIONS)) -> Case:
    return make(
        draw(cells(pool)),
        draw(st.integers(0, 7)),
        draw(st.integers(0, 4)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 5)),
        dtype=draw(st.sampled_from((torch.float32, torch.float64))),
        reverse=draw(st.booleans()),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
        size=draw(st.sampled_from((0.25, 0.5, 1.0))),
    )


def check(case: Case, engine: Callable[[Case], dict[str, Any]] = by_eager) -> None:
    # At a kink the rounding of the sum decides the side; how near, is the sum's own error.
    terms = case.arrays["weight_hh"].shape[0] + case.arrays["x"].shape[2]
    assume(not near_kinks(case, 64 * terms * case.eps))
    assume(not overflows(case))
    off, name = difference(case, engine)
    assert off <= 1, f"{name} is {off:.3g} times as far from the reference as allowed"


@settings(max_examples=150)
@given(cases())
def test_any_two_activations_in_any_two_slots(case: Case) -> None:
    check(case)


@settings(max_examples=60)
@given(cases(BOUNDED))
def test_bounded_activations(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_in_every_slot(name: str) -> None:
    """All five slots at once would overflow for some; each slot alone, drawn for none to escape."""
    for place, slot in enumerate(SLOTS):
        case = make(Cell(**{slot: ACTIVATIONS[name]}), 3, 2, 2, 3, seed=place, size=0.5)
        assert not near_kinks(case, 1e-12)
        off, what = difference(case)
        assert off <= 1, (slot, what)


@pytest.mark.parametrize(
    ("t", "b", "i", "h"),
    [(0, 3, 2, 4), (5, 0, 2, 4), (0, 0, 1, 1), (1, 1, 1, 1), (4, 2, 3, 1), (1, 3, 1, 5)],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_small_and_empty_shapes(t: int, b: int, i: int, h: int, reverse: bool) -> None:
    case = make(Cell(candidate=ACTIVATIONS["softsign"]), t, b, i, h, reverse=reverse)
    expected = by_reference(case)
    assert expected["output"].shape == (t, b, h)
    if t == 0:  # the state comes back as it went in, and so do the gradients
        for name in ("h", "c"):
            np.testing.assert_array_equal(expected[name], case.arrays[f"{name}0"])
            np.testing.assert_array_equal(expected[f"grad of {name}0"], case.arrays[f"grad_{name}"])
    assert difference(case)[0] <= 1


# ---- the reference itself -------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "hard_tanh": torch.nn.functional.hardtanh,
    "softsign": torch.nn.functional.softsign,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "elu": torch.nn.functional.elu,
    "identity": lambda x: x,
    "sine": torch.sin,
    "mish": torch.nn.functional.mish,
}


def by_autograd(case: Case) -> dict[str, Any]:
    """The LSTM as anyone would write it in torch, differentiated by autograd; independent of
    the package but for nothing."""
    a = case.arrays
    leaves = {
        n: torch.tensor(a[n], dtype=torch.float64).requires_grad_()
        for n in NAMES
        if a[n] is not None
    }
    f = {slot: PLAIN[activation.name] for slot, activation in case.cell.slots.items()}
    h, c = leaves["h0"], leaves["c0"]
    outputs: list[Any] = [None] * len(a["x"])
    steps = range(len(a["x"]))
    for t in reversed(steps) if case.reverse else steps:
        z = leaves["x"][t] @ leaves["weight_ih"].T + h @ leaves["weight_hh"].T
        z = z + leaves["bias"] if "bias" in leaves else z
        i, forget, g, o = z.split(h.shape[1], -1)
        see, bound = (0.25 if case.cell.peephole else 0.0), case.cell.clip or math.inf
        i = f["input_gate"]((i + see * c).clamp(-bound, bound))
        forget = f["forget_gate"]((forget + see * c).clamp(-bound, bound))
        forget = 1 - i if case.cell.coupled else forget
        c = forget * c + i * f["candidate"](g.clamp(-bound, bound))
        o = f["output_gate"]((o + see * c).clamp(-bound, bound))
        h = o * f["cell_output"](c.clamp(-bound, bound))
        outputs[t] = h
    results = (torch.stack(outputs), h, c)
    arriving = [torch.tensor(a[f"grad_{n}"]) for n in ("output", "h", "c")]
    grads = torch.autograd.grad(results, list(leaves.values()), arriving)
    found = dict(zip(("output", "h", "c"), results, strict=True))
    found |= {f"grad of {n}": g for n, g in zip(leaves, grads, strict=True)}
    return {name: value.detach().numpy() for name, value in found.items()}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_reference_against_plain_torch(name: str, reverse: bool) -> None:
    for seed, slots in enumerate([SLOTS[2:3], SLOTS[4:], SLOTS[2:], SLOTS[:2], SLOTS]):
        cell = Cell(**dict.fromkeys(slots, ACTIVATIONS[name]))
        case = make(cell, 5, 3, 2, 4, reverse=reverse, bias=seed % 2 == 0, seed=seed, size=0.4)
        assert not near_kinks(case, 1e-12)
        expected, found = by_autograd(case), by_reference(case)
        for what, value in expected.items():
            np.testing.assert_allclose(
                found[what], value, rtol=1e-12, atol=1e-12 * max(1, _size(value)), err_msg=what
            )


@pytest.mark.parametrize("variant", [{"peephole": True}, {"coupled": True}, {"clip": 0.5},
                                     {"peephole": True, "coupled": True, "clip": 0.5}])  # fmt: skip
def test_variants_against_plain_torch(variant: dict[str, Any]) -> None:
    """Peepholes, coupled gates and clipped arguments, written independently in torch."""
    for seed in range(4):
        cell = Cell(candidate=ACTIVATIONS["softsign"], **variant)
        case = make(cell, 5, 3, 2, 4, reverse=seed % 2 == 0, seed=seed)
        expected, found = by_autograd(case), by_reference(case)
        for what, value in expected.items():
            np.testing.assert_allclose(
                found[what], value, rtol=1e-12, atol=1e-12 * max(1, _size(value)), err_msg=what
            )


# ---- derivatives of any order ---------------------------------------------------------------


def _as_function(case: Case) -> tuple[Any, tuple[Tensor, ...]]:
    tensors = [
        torch.tensor(case.arrays[n], dtype=torch.float64).requires_grad_()
        for n in NAMES
        if case.arrays[n] is not None
    ]
    values = {
        k: torch.tensor(v, dtype=torch.float64).requires_grad_()
        for k, v in case.cell.parameters.items()
    }
    count = len(tensors)

    def run(*arguments: Tensor) -> Any:
        first = [*arguments[:count], *[None] * (6 - count)]
        return eager.run(
            case.cell, *first,
            parameters=dict(zip(values, arguments[count:], strict=True)), reverse=case.reverse,
        )  # fmt: skip

    return run, (*tensors, *values.values())


@settings(max_examples=25)
@given(cells(), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_gradcheck(cell: Cell, reverse: bool, bias: bool, seed: int) -> None:
    """First and second derivatives against differences in float64, away from kinks."""
    case = make(cell, 2, 2, 1, 2, reverse=reverse, bias=bias, seed=seed, size=0.4)
    assume(not near_kinks(case, 1e-3))
    run, arguments = _as_function(case)
    assert torch.autograd.gradcheck(run, arguments, atol=1e-5, rtol=1e-5)
    assert torch.autograd.gradgradcheck(run, arguments, atol=1e-4, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("name", SMOOTH)
def test_pointwise_gradients_of_every_smooth_activation(name: str) -> None:
    """`apply` differentiated three times equals the third derived formula."""
    activation = ACTIVATIONS[name]
    x = torch.linspace(-3, 3, 24, dtype=torch.float64).requires_grad_()
    value = eager.apply(activation, x)
    for order in (1, 2, 3):
        if not value.requires_grad:
            break
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True, allow_unused=True)
        derived = activation.derivative(order)
        expected = torch.tensor([derived.value(v) for v in x.tolist()], dtype=torch.float64)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-13)


def test_one_tensor_in_two_places() -> None:
    """h0 given as c0 too: each place has its own gradient, to the second order."""
    case = make(Cell(), 3, 2, 2, 3)
    a = {n: torch.tensor(case.arrays[n]).requires_grad_() for n in NAMES}

    def run(state: Tensor) -> Any:
        rest = [a[n] for n in NAMES[3:]]
        return eager.run(case.cell, a["x"], state, state, *rest)[0]

    assert torch.autograd.gradcheck(run, (a["h0"],))
    assert torch.autograd.gradgradcheck(run, (a["h0"],))


# ---- the comparison itself can fail ---------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("sub", lambda a, b: a + b),
        ("mul", lambda a, b: -(a * b)),
        ("add", lambda a, b: a - b),
        ("tanh", lambda x: -torch.tanh(x)),
        ("sigmoid", lambda x: torch.sigmoid(x) * (1 + 1e-9)),
        ("gt", lambda a, b: a < b),
    ],
)
def test_a_wrong_operation_is_seen(op: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One operation of a copy of the table turned round: the comparison must not pass."""
    cell = Cell(candidate=ACTIVATIONS["leaky_relu"], cell_output=ACTIVATIONS["tanh"])
    case = make(cell, 3, 2, 2, 3, seed=3)
    assert difference(case)[0] <= 1
    monkeypatch.setitem(eager.OPS, op, wrong)
    try:
        assert difference(case)[0] > 1
    finally:
        monkeypatch.undo()
        assert difference(case)[0] <= 1


@pytest.mark.parametrize("slot", SLOTS)
def test_a_wrong_slot_is_seen(slot: str) -> None:
    """The two engines on different cells differ: no slot is dead."""
    case = make(Cell(), 3, 2, 2, 3)
    other = replace(case, cell=Cell(**{slot: ACTIVATIONS["softsign"]}))
    expected, found = by_reference(case), by_eager(other)
    assert _size(found["output"] - expected["output"]) > 1e-3


# ---- extremes -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_nan_in_x_comes_out(dtype: torch.dtype) -> None:
    """In its own row and from its own step on; nowhere else."""
    case = make(Cell(candidate=ACTIVATIONS["relu"]), 4, 3, 2, 3)
    case.arrays["x"][1, 2, 0] = math.nan
    run = reference.run(case.cell, *(case.arrays[n] for n in NAMES))
    tensors = [torch.tensor(case.arrays[n], dtype=dtype) for n in NAMES]
    output = eager.run(case.cell, *tensors)[0]
    expected = torch.zeros(4, 3, 3, dtype=torch.bool)
    expected[1:, 2] = True
    assert torch.equal(output.isnan(), expected)
    assert np.array_equal(np.isnan(run.output), expected.numpy())


@pytest.mark.parametrize("value", [1e30, -1e30, math.inf, -math.inf])
def test_huge_inputs_saturate(value: float) -> None:
    """The default cell at 1e30 and at infinity: gates at 0 or 1, nothing NaN, gradients finite."""
    case = make(Cell(), 3, 2, 1, 3, dtype=torch.float32)
    case.arrays["x"][1] = value
    run = reference.run(case.cell, *(case.arrays[n] for n in NAMES))
    tensors = [torch.tensor(case.arrays[n], dtype=torch.float32) for n in NAMES]
    output, h, c = eager.run(case.cell, *tensors)
    for found, expected in ((output, run.output), (h, run.h), (c, run.c)):
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, rtol=1e-5)


def test_overflow_is_not_hidden() -> None:
    """A state that leaves float32 is infinite in eager and not a wrong finite number."""
    cell = Cell(**dict.fromkeys(SLOTS, ACTIVATIONS["squared_relu"]))
    case = make(cell, 6, 1, 1, 2, dtype=torch.float32, size=2.0, seed=1)
    case.arrays["x"][:] = 50.0
    case.arrays["weight_ih"][:] = 2.0
    case.arrays["weight_hh"][:] = 1.0
    output = eager.run(cell, *(torch.tensor(case.arrays[n]).float() for n in NAMES))[0]
    assert not output.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_follow_the_reference(dtype: torch.dtype) -> None:
    case = make(Cell(candidate=ACTIVATIONS["gelu"]), 5, 2, 2, 4, dtype=dtype)
    expected, found = by_reference(case), by_eager(case)
    for name, value in expected.items():
        size = max(_size(value), 1.0)
        assert _size(found[name] - value) <= 32 * case.eps * size, name


# ---- protocol and choice --------------------------------------------------------------------


def test_the_engine_is_chosen_and_explained() -> None:
    request = Request(Cell(), "cpu", "float32", training=True)
    assert choose(request).name in AUTO
    assert str(choose(request, "reference")) == "engine: reference"
    with pytest.raises(
        EngineError, match=r"no engine is called 'fast'; there are: auto, .*reference"
    ):
        load("fast")
    with pytest.raises(EngineError, match=r"no engine can run this LSTM .*eager: .*not int64"):
        choose(replace(request, dtype="int64"))
