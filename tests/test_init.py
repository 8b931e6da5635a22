"""Initialisation: what each function sets, what it leaves alone, and what it means for a run."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import anygate
from anygate.engines.reference import OPS
from anygate.formulas import evaluate, resolve
from anygate.nn import LSTM, LSTMCell, init

GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
EULER = 0.5772156649015329
I, H, T, B = 3, 6, 5, 2  # noqa: E741
CLASSES = (nn.LSTM, LSTM, nn.LSTMCell, LSTMCell)
LAYERS: tuple[dict[str, Any], ...] = ({}, {"num_layers": 2, "bidirectional": True})
MODULES = [
    (cls, options)
    for cls, options in itertools.product(CLASSES, LAYERS)
    if not (options and cls in (nn.LSTMCell, LSTMCell))
]
every_module = pytest.mark.parametrize(("cls", "options"), MODULES)


def blocks(module: nn.Module, kind: str) -> dict[tuple[str, str], Tensor]:
    """(parameter, gate) -> a copy of its rows; a projection has no gates."""
    found: dict[tuple[str, str], Tensor] = {}
    for name, parameter in module.named_parameters():
        if name.startswith(kind):
            gates = GATES if "weight_hr" not in name else ("projection",)
            parts = parameter.detach().clone().chunk(len(gates))
            found |= {(name, gate): part for gate, part in zip(gates, parts, strict=True)}
    return found


def everything(module: nn.Module) -> dict[tuple[str, str], Tensor]:
    return blocks(module, "")


def changed(before: dict[tuple[str, str], Tensor], module: nn.Module) -> set[tuple[str, str]]:
    """Kind of parameter and gate of the blocks that are not bit for bit what they were."""
    after = everything(module)
    assert after.keys() == before.keys()
    return {
        (name.split("_l")[0], gate)
        for (name, gate), block in before.items()
        if not torch.equal(block, after[name, gate])
    }


def bias_sums(module: nn.Module, gate: str) -> list[Tensor]:
    """b_ih + b_hh of a gate, for each layer and direction."""
    found = blocks(module, "bias")
    return [
        block + found[name.replace("bias_ih", "bias_hh"), g]
        for (name, g), block in found.items()
        if name.startswith("bias_ih") and g == gate
    ]


def forget_only(module: Any, c: float, steps: int = 1) -> Tensor:
    """The cell state of a module after some steps without input, all its weights being zero."""
    count = 1
    if isinstance(module, nn.RNNBase):
        count = module.num_layers * (2 if module.bidirectional else 1)
        shape = (count, B, H)
        zeros = torch.zeros(shape)
        return module(torch.zeros(steps, B, I), (zeros, torch.full(shape, c)))[1][1]
    state = torch.full((B, H), c)
    for _ in range(steps):
        _, state = module(torch.zeros(B, I), (torch.zeros(B, H), state))
    return state[None]


# ---- what all of them promise -----------------------------------------------------------------


@every_module
@pytest.mark.parametrize(
    ("initialise", "touches"),
    [
        (lambda m: init.forget_bias_(m), {("bias_ih", "forget_gate"), ("bias_hh", "forget_gate")}),
        (
            lambda m: init.chrono_(m, 50),
            {(b, g) for b in ("bias_ih", "bias_hh") for g in ("input_gate", "forget_gate")},
        ),
        (lambda m: init.orthogonal_(m), {("weight_hh", g) for g in GATES}),
        (
            lambda m: init.identity_(m),
            {(k, "candidate") for k in ("weight_hh", "bias_ih", "bias_hh")},
        ),
        (lambda m: init.glorot_(m), {(k, g) for k in ("weight_ih", "weight_hh") for g in GATES}),
    ],
    ids=["forget_bias_", "chrono_", "orthogonal_", "identity_", "glorot_"],
)
def test_what_is_touched(cls: Any, options: Any, initialise: Any, touches: Any) -> None:
    """Exactly the blocks that the doc names, in every layer and direction; the module comes back
    with the same Parameters, trainable as before, and no gradient graph."""
    module = cls(I, H, **options)
    parameters = list(module.parameters())
    parameters[1].requires_grad_(False)
    before = everything(module)
    assert initialise(module) is module
    assert changed(before, module) == touches
    for name, gate in before:
        if (name.split("_l")[0], gate) in touches:
            assert not torch.equal(before[name, gate], everything(module)[name, gate]), name
    for old, new in zip(parameters, module.parameters(), strict=True):
        assert old is new
        assert new.is_leaf and new.grad_fn is None
    assert [p.requires_grad for p in parameters] == [k != 1 for k in range(len(parameters))]


@pytest.mark.parametrize("cls", [LSTM, LSTMCell])
def test_the_engines_see_it(cls: Any) -> None:
    """Engines keep packed weights: after a run, the new weights count, not the packed ones."""
    torch.manual_seed(0)
    module = cls(I, H)
    x = torch.randn(*((T, B, I) if cls is LSTM else (B, I)))
    for initialise in (
        lambda m: init.forget_bias_(m, 3.0),
        lambda m: init.chrono_(m, 9),
        init.orthogonal_,
        init.identity_,
        init.glorot_,
    ):
        with torch.no_grad():
            before = module(x)[0].clone()
            initialise(module)
            fresh = cls(I, H)
            fresh.load_state_dict(module.state_dict())
            after = module(x)[0]
            assert torch.equal(after, fresh(x)[0])
        # With h0 = c0 = 0, one step of a cell sees neither R nor the forget gate.
        if cls is LSTM:
            assert not torch.equal(before, after)


@every_module
def test_without_bias(cls: Any, options: Any) -> None:
    module = cls(I, H, bias=False, **options)
    before = everything(module)
    for initialise in (init.forget_bias_, lambda m: init.chrono_(m, 10)):
        with pytest.raises(ValueError, match=f"this {cls.__name__} has no biases .*bias=False"):
            initialise(module)
    assert changed(before, module) == set()
    init.glorot_(init.identity_(init.orthogonal_(module)))


@pytest.mark.parametrize("module", [nn.Linear(I, H), nn.RNNCellBase(I, H, True, 4), None])
def test_other_modules_are_refused(module: Any) -> None:
    for initialise in (
        init.forget_bias_,
        lambda m: init.chrono_(m, 10),
        init.orthogonal_,
        init.identity_,
        init.glorot_,
    ):
        with pytest.raises(TypeError, match=f"not {type(module).__name__}"):
            initialise(module)


def test_computed_weights_are_refused() -> None:
    """Values that would be lost at the next forward are not written; those that stay are."""
    for spoil in (
        lambda m: parametrizations.weight_norm(m, "weight_hh_l1"),
        lambda m: prune.random_unstructured(m, "weight_hh_l1", 0.5),
    ):
        module = LSTM(I, H, num_layers=2)
        spoil(module)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        for initialise in (init.orthogonal_, init.identity_, init.glorot_):
            with pytest.raises(ValueError, match="weight_hh_l1 is computed from other tensors"):
                initialise(module)
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name]), name
        init.forget_bias_(module)
        assert not torch.equal(module.bias_ih_l1, before["bias_ih_l1"])


def test_all_or_nothing() -> None:
    """A weight that cannot be written is found before the first is."""
    for name, initialise in (("bias_hh_l1", init.identity_), ("weight_hr_l1", init.glorot_)):
        projected = {"proj_size": 2} if name.startswith("weight_hr") else {}
        module = nn.LSTM(I, H, num_layers=2, **projected)
        prune.random_unstructured(module, name, 0.5)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        with pytest.raises(ValueError, match=f"{name} is computed from other tensors"):
            initialise(module)
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[key]), key


def test_meta_device_and_half_types() -> None:
    for initialise in (init.forget_bias_, init.orthogonal_, init.identity_, init.glorot_):
        assert initialise(LSTM(I, H, device="meta")).weight_ih_l0.is_meta
        for dtype in (torch.bfloat16, torch.float16):
            weight = initialise(nn.LSTM(I, H, dtype=dtype)).weight_hh_l0
            assert weight.dtype == dtype and weight.isfinite().all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda m, g: init.chrono_(m, 30, generator=g),
        lambda m, g: init.orthogonal_(m, generator=g),
        lambda m, g: init.glorot_(m, generator=g),
    ],
)
def test_generator(draw: Any) -> None:
    """The same generator state, the same numbers, whatever the global state; layers differ."""
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        module = LSTM(H, H, num_layers=2)
        state = torch.get_rng_state()
        before = everything(module)
        draw(module, torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), state)
        touched = [k for k, v in everything(module).items() if not torch.equal(v, before[k])]
        results.append({k: everything(module)[k] for k in touched})
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        assert torch.equal(value, results[1][key])
    matrices = [v for v in results[0].values() if v.dim() == 2]
    for a, b in itertools.combinations(matrices, 2):
        assert not torch.equal(a, b)


# ---- biases -----------------------------------------------------------------------------------


@every_module
@pytest.mark.parametrize("value", [1.0, 2.0, -0.5])
def test_forget_bias(cls: Any, options: Any, value: float) -> None:
    """The sum of both biases is the value, exactly; run with no other weights, each step keeps
    sigmoid(value) of the memory."""
    module = init.forget_bias_(cls(I, H, **options), value)
    sums = bias_sums(module, "forget_gate")
    assert len(sums) == (4 if options else 1)
    for total in sums:
        assert torch.equal(total, torch.full((H,), value))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    init.forget_bias_(module, value)
    kept = forget_only(module, 2.0)
    expected = torch.sigmoid(torch.tensor(value)) * 2.0
    torch.testing.assert_close(kept, expected.expand_as(kept), rtol=8e-7, atol=0)


@pytest.mark.parametrize("cls", [LSTM, LSTMCell])
def test_forget_bias_of_coupled_gates(cls: Any) -> None:
    """The memory that is kept is the same as with a forget gate of its own; what stands in the
    unused forget gate's rows does not matter. So for chrono_, step by step."""
    for initialise, steps in (
        (lambda m: init.forget_bias_(m, 2.0), 1),
        (lambda m: init.chrono_(m, 20, torch.Generator().manual_seed(0)), T),
    ):
        kept = []
        for coupled in (False, True):
            module = cls(I, H, coupled=coupled)
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.zero_()
            kept.append(forget_only(initialise(module), 3.0, steps))
        assert kept[0].min() > 0.5
        torch.testing.assert_close(*kept, rtol=1e-6, atol=0)


@every_module
def test_chrono(cls: Any, options: Any) -> None:
    """b_i = -b_f, u = exp(b_f) uniform in [1, t_max - 1]; with no other weights, a unit keeps
    (1 - 1/(u + 1))^t of its memory over t steps."""
    t_max, size = 40.0, 400
    module = init.chrono_(cls(1, size, **options), t_max)
    forget, inputs = bias_sums(module, "forget_gate"), bias_sums(module, "input_gate")
    for b_f, b_i in zip(forget, inputs, strict=True):
        assert torch.equal(b_i, -b_f)
        u = b_f.double().exp()
        assert u.min() >= 1 - 1e-6 and u.max() <= (t_max - 1) * (1 + 1e-6)
        spread = (t_max - 2) / math.sqrt(12)
        assert abs(u.mean() - t_max / 2) < 5 * spread / math.sqrt(size)
        # The empirical distribution function against the uniform one (Kolmogorov): 1.95/sqrt(n)
        # is passed by chance once in a thousand draws; these draws are seeded.
        steps = torch.arange(1, size + 1) / size
        assert (u.sort().values.sub(1) / (t_max - 2) - steps).abs().max() < 1.95 / math.sqrt(size)
    for a, b in itertools.combinations(forget, 2):
        assert not torch.equal(a, b)

    small = cls(I, H, **options)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    init.chrono_(small, t_max)
    u = torch.stack(bias_sums(small, "forget_gate")).exp()[:, None]
    kept = forget_only(small, 1.0, steps=T)
    torch.testing.assert_close(kept, ((1 - 1 / (u + 1)) ** T).expand_as(kept), rtol=1e-5, atol=0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_chrono_at_its_ends() -> None:
    for total in bias_sums(init.chrono_(LSTM(I, H), 2), "forget_gate"):
        assert torch.equal(total, torch.zeros(H))
    for t_max in (1.9, 0, -5, math.inf, math.nan):
        with pytest.raises(ValueError, match="t_max is the longest memory in time steps, 2 or"):
            init.chrono_(LSTM(I, H), t_max)


# ---- weights ----------------------------------------------------------------------------------


@every_module
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_orthogonal(cls: Any, options: Any, dtype: torch.dtype, gain: float) -> None:
    """Q^T Q = gain^2 for each gate, to the rounding of QR and of the product."""
    module = init.orthogonal_(cls(I, H, dtype=dtype, **options), gain)
    found = blocks(module, "weight_hh")
    assert len(found) == (16 if options else 4)
    for q in found.values():
        off = q.T @ q - gain**2 * torch.eye(H, dtype=dtype)
        assert off.abs().max() < 8 * H * torch.finfo(dtype).eps
    for a, b in itertools.combinations(found.values(), 2):
        assert not torch.allclose(a.abs(), b.abs())


def test_orthogonal_reaches_reflections_too() -> None:
    """Uniform over all orthogonal matrices: both determinants come."""
    signs = {
        round(torch.linalg.det(q).item())
        for _ in range(5)
        for q in blocks(init.orthogonal_(LSTM(I, H)), "weight_hh").values()
    }
    assert signs == {-1, 1}


def test_orthogonal_with_projections() -> None:
    module = init.orthogonal_(nn.LSTM(I, H, proj_size=2, dtype=torch.float64))
    for q in blocks(module, "weight_hh").values():
        assert q.shape == (H, 2)
        assert (q.T @ q - torch.eye(2)).abs().max() < 1e-14


@every_module
def test_identity(cls: Any, options: Any) -> None:
    module = init.identity_(cls(I, H, **options), 0.5, gates=("candidate", "input_gate"))
    for (_, gate), block in blocks(module, "weight_hh").items():
        assert torch.equal(block, 0.5 * torch.eye(H)) == (gate in ("candidate", "input_gate"))
    for gate in GATES:
        for total in bias_sums(module, gate):
            assert (total == 0).all() == (gate in ("candidate", "input_gate"))
    full = init.identity_(cls(I, H, **options), gates=GATES)
    for block in blocks(full, "weight_hh").values():
        assert torch.equal(block, torch.eye(H))


def test_identity_is_the_irnn() -> None:
    """An LSTM whose gates are open and whose memory is cut is h' = relu(W x + R h + b): with
    identity_ it computes what a ReLU network of Le et al. does."""
    options = {"dtype": torch.float64}
    ours = LSTM(
        I,
        H,
        candidate="relu",
        input_gate="1",
        forget_gate="0",
        output_gate="1",
        cell_output="identity",
        **options,
    )
    irnn = nn.RNN(I, H, nonlinearity="relu", **options)
    init.identity_(ours)
    with torch.no_grad():
        irnn.weight_hh_l0.copy_(torch.eye(H))
        irnn.bias_ih_l0.zero_()
        irnn.bias_hh_l0.zero_()
        irnn.weight_ih_l0.copy_(ours.weight_ih_l0[2 * H : 3 * H])
    x = torch.randn(T, B, I, **options)
    torch.testing.assert_close(ours(x)[0], irnn(x)[0], rtol=1e-13, atol=1e-13)


def test_identity_refuses() -> None:
    for gates in ((), ("cell_output",), "candidate", ("candidate", "g")):
        with pytest.raises(ValueError, match="gates are some of input_gate, forget_gate"):
            init.identity_(LSTM(I, H), gates=gates)
    module = nn.LSTM(I, H, proj_size=2)
    before = everything(module)
    with pytest.raises(ValueError, match="with proj_size the recurrent matrix is not square"):
        init.identity_(module)
    assert changed(before, module) == set()


def spreads(module: nn.Module, kind: str) -> dict[tuple[str, str], float]:
    """The root mean square of each gate's weights over sqrt(2 / (fan_in + fan_out))."""
    return {
        key: (b.square().mean().sqrt() / math.sqrt(2 / sum(b.shape))).item()
        for key, b in blocks(module, kind).items()
    }


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            nn.LSTM(70, 50, 2, bidirectional=True),
            dict.fromkeys(GATES, "sigmoid") | {"candidate": "tanh"},
        ),
        (
            LSTMCell(
                70, 50, candidate="relu", gate_activation="hard_sigmoid", forget_gate="identity"
            ),
            {
                "input_gate": "hard_sigmoid",
                "forget_gate": "identity",
                "candidate": "relu",
                "output_gate": "hard_sigmoid",
            },
        ),
    ],
)
def test_glorot(module: Any, names: dict[str, str], distribution: Any) -> None:
    """Each gate's spread is its own activation's gain times Glorot's, fans counted for one gate.
    The relative error of a root mean square of n draws is at most 1/sqrt(2n); five of these."""
    init.glorot_(module, distribution=distribution)
    room = 5 / math.sqrt(2 * 50 * 50)
    for kind in ("weight_ih", "weight_hh"):
        for (_, gate), spread in spreads(module, kind).items():
            assert spread == pytest.approx(init.gain(names[gate]), rel=room)
    bounds = {
        block.abs().max().item() / (init.gain(names[gate]) * math.sqrt(6 / sum(block.shape)))
        for (_, gate), block in blocks(module, "weight").items()
    }
    # 2500 uniform draws come within 1 % of their bound; normal ones go beyond it.
    assert all(0.99 < b <= 1 + 1e-6 for b in bounds) == (distribution == "uniform")


def test_glorot_with_given_gains() -> None:
    one = spreads(init.glorot_(nn.LSTM(60, 60), 2.0), "weight")
    by_gate = spreads(init.glorot_(nn.LSTM(60, 60), {"candidate": 7.0}), "weight")
    for name, gate in one:
        assert one[name, gate] == pytest.approx(2.0, rel=0.06)
        expected = 7.0 if gate == "candidate" else init.gain("sigmoid")
        assert by_gate[name, gate] == pytest.approx(expected, rel=0.06)
    module = init.glorot_(nn.LSTM(60, 60, proj_size=50), 5.0)
    assert module.weight_hr_l0.std().item() == pytest.approx(math.sqrt(2 / 110), rel=0.06)


def test_glorot_refuses() -> None:
    module = LSTM(I, H, output_gate="exp(x*x)")
    before = everything(module)
    with pytest.raises(ValueError, match="'gate' is no gate; gates are input_gate"):
        init.glorot_(module, {"gate": 1.0})
    with pytest.raises(ValueError, match=r"output_gate: .* no gain: .*give gain=\{'output_gate'"):
        init.glorot_(module)
    with pytest.raises(ValueError, match="uniform or normal, not 'xavier'"):
        init.glorot_(module, distribution="xavier")  # type: ignore[arg-type]
    assert changed(before, module) == set()
    init.glorot_(module, {"output_gate": 1.0})


# ---- the gain ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "slope"),
    [
        ("identity", "linear", None),
        ("relu", "relu", None),
        ("leaky_relu", "leaky_relu", None),
        ("leaky_relu(k=0.3)", "leaky_relu", 0.3),
    ],
)
def test_gain_as_in_torch(ours: str, theirs: Any, slope: float | None) -> None:
    """The gains of torch's that are derived and not agreed upon."""
    assert init.gain(ours) == pytest.approx(nn.init.calculate_gain(theirs, slope), rel=1e-10)


@pytest.mark.parametrize(
    ("formula", "keep", "moment"),
    [
        ("exp(x)", "second_moment", math.e**2),
        ("exp(x)", "variance", math.e**2 - math.e),
        ("exp(x)", "gradient", math.e**2),
        ("x**3", "second_moment", 15.0),
        ("x**3", "gradient", 27.0),
        ("x**2", "variance", 2.0),
        ("sin(x)", "second_moment", (1 - math.exp(-2)) / 2),
        ("cos(3*x)", "variance", (1 + math.exp(-18)) / 2 - math.exp(-9)),
        ("where(x > 0, 1, 0)", "variance", 0.25),
        ("where(x > 1, 1, 0)", "second_moment", math.erfc(math.sqrt(0.5)) / 2),
        ("normal_cdf(x)", "second_moment", 1 / 3),
        ("erf(x)", "second_moment", 2 / math.pi * math.asin(2 / 3)),
        ("abs(x)", "variance", 1 - 2 / math.pi),
        ("relu", "variance", 0.5 - 0.5 / math.pi),
        ("selu", "second_moment", 1.0),
        ("log(abs(x))", "second_moment", math.pi**2 / 8 + (math.log(2) + EULER) ** 2 / 4),
        ("sqrt(abs(x))", "second_moment", math.sqrt(2 / math.pi)),
        ("exp(x*x/5)", "second_moment", math.sqrt(5)),
        ("exp(10*x)", "second_moment", math.exp(200)),
    ],
)
def test_gain_in_closed_form(formula: str, keep: Any, moment: float) -> None:
    """E[f^2], Var[f] and E[f'^2] known by hand, smooth, kinked, jumping and singular."""
    assert init.gain(formula, keep) == pytest.approx(1 / math.sqrt(moment), rel=1e-9)


@pytest.mark.parametrize("name", sorted(anygate.ACTIVATIONS))
def test_gain_laws(name: str) -> None:
    """For the whole catalogue: E[f^2] = Var[f] + E[f]^2 with the mean from the closed formula by
    a quadrature of another kind; a factor divides the gain; a constant changes no variance."""
    f = anygate.ACTIVATIONS[name]
    second, variance = (init.gain(f, keep) ** -2 for keep in ("second_moment", "variance"))
    z = np.linspace(-12, 12, 240_001)
    with np.errstate(all="ignore"):  # branches that `where` does not take
        values = evaluate(f.value_program, OPS, {"x": z, **f.parameters})["value"]
    mean = np.trapezoid(values * np.exp(-z * z / 2), z) / math.sqrt(2 * math.pi)
    # The trapezium's error at a jump of size 1 is half a step of 1e-4 times the density.
    assert second == pytest.approx(variance + mean**2, rel=3e-4, abs=3e-5)
    scaled = anygate.Activation("scaled", 3 * f.closed)
    for keep in ("second_moment", "variance", "gradient"):
        assert init.gain(scaled, keep) == pytest.approx(init.gain(f, keep) / 3, rel=1e-9)
    shifted = anygate.Activation("shifted", f.closed + 2)
    assert init.gain(shifted, "variance") == pytest.approx(init.gain(f, "variance"), rel=1e-9)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "penalized_tanh", "hard_sigmoid"])
def test_gain_against_mpmath(name: str) -> None:
    f = resolve(name)
    slope = f.derivative()
    with mp.workdps(20):
        ends = [-20, -8, -4, -3, -2.5, -1, 0, 1, 2.5, 3, 4, 8, 20]
        second = mp.quad(lambda z: f.precise(z) ** 2 * mp.npdf(z), ends)
        gradient = mp.quad(lambda z: slope.precise(z) ** 2 * mp.npdf(z), ends)
    assert init.gain(name) == pytest.approx(float(1 / mp.sqrt(second)), rel=1e-10)
    assert init.gain(name, "gradient") == pytest.approx(float(1 / mp.sqrt(gradient)), rel=1e-10)


def test_gain_of_homogeneous_keeps_the_second_moment() -> None:
    """The purpose of a gain: E[f(g z)^2] = 1 where f(g z) = g f(z)."""
    z = torch.randn(2_000_000, dtype=torch.float64)
    for name in ("relu", "leaky_relu", "abs(x)"):
        g = init.gain(name)
        f = resolve(name)
        low, high = f.value(-1.0), f.value(1.0)
        out = torch.where(z > 0, high * g * z, -low * g * z)
        assert out.square().mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(5 / len(z)))


@pytest.mark.parametrize(
    ("formula", "keep", "message"),
    [
        ("0*x", "second_moment", r"no gain, because its E\[f\^2\] is zero"),
        ("0.3", "variance", r"no gain, because its Var\[f\] is zero"),
        ("1", "variance", r"no gain, because its Var\[f\] is zero"),
        ("where(x > 0, 1, 0)", "gradient", r"no gain, because its E\[f'\^2\] is zero"),
        ("1/x", "second_moment", r"no gain: E\[f\^2\] for standard normal z is infinite"),
        ("sqrt(abs(x))", "gradient", r"no gain: E\[f'\^2\] for standard normal z is infinite"),
        ("exp(x*x/4)", "second_moment", "is infinite, or too rough"),
        ("exp(exp(x))", "variance", "is infinite, or too rough"),
        ("sin(400*x)", "second_moment", "is infinite, or too rough"),
        ("log(x)", "second_moment", "it has no value everywhere"),
        ("sqrt(x - 30)", "second_moment", "it has no value everywhere"),
    ],
)
def test_no_gain(formula: str, keep: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        init.gain(formula, keep)


def test_gain_refuses() -> None:
    with pytest.raises(ValueError, match="keep is one of second_moment, variance, gradient"):
        init.gain("relu", "mean")  # type: ignore[arg-type]
    with pytest.raises(anygate.FormulaError, match="Did you mean relu"):
        init.gain("rel")
