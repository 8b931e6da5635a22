"""zoneout=, recurrent_dropout= and layer_norm= as arguments of the modules."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import anygate
from anygate.engines import EngineError, names

T, B, I, H = 6, 3, 4, 5  # noqa: E741
WIDE = torch.float64
CLASSES = {"LSTM": anygate.LSTM, "GRU": anygate.GRU, "RNN": anygate.RNN}
NOISES: dict[str, dict[str, Any]] = {
    "zoneout": {"zoneout": 0.3},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "both": {"zoneout": 0.3, "recurrent_dropout": 0.4},
}
EACH = pytest.mark.parametrize("cls", CLASSES)
NOISY = pytest.mark.parametrize("noise", NOISES)


def made(cls: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return CLASSES[cls](I, H, dtype=WIDE, **options)


def data(steps: int = T, batch: int = B) -> Tensor:
    return torch.randn(steps, batch, I, dtype=WIDE, generator=torch.Generator().manual_seed(1))


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def run(module: Any, x: Any, seed: int = 3, **options: Any) -> Any:
    torch.manual_seed(seed)
    return module(x, **options)


def values(result: Any) -> tuple[Tensor, ...]:
    """Output and states of a call."""
    return result[0], *as_tuple(result[1])


# ---- which engine, and that all draw alike --------------------------------------------------


@EACH
@NOISY
def test_every_engine_computes_the_same(cls: str, noise: str) -> None:
    """The masks are drawn outside of the engines, so one seed is one result, gradients too."""
    options = NOISES[noise] | {"num_layers": 2, "bidirectional": True}
    seen = []
    for engine in set(names()) - {"cuda"}:  # which has tests of its own
        module, x = made(cls, engine=engine, **options), data().requires_grad_()
        results = values(run(module, x))
        loss = sum((r * torch.linspace(-1, 1, r.numel()).view_as(r)).sum() for r in results)
        seen.append([*results, *torch.autograd.grad(loss, [x, *module.parameters()])])
    for other in seen[1:]:
        for a, b in zip(other, seen[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@NOISY
def test_the_cpu_engine_runs_noise_and_refuses_layer_norm(noise: str) -> None:
    x = data().float()
    assert str(anygate.LSTM(I, H, **NOISES[noise]).explain(x)) == "engine: cpu"
    choice = anygate.LSTM(I, H, layer_norm=True, **NOISES[noise]).explain(x)
    assert choice.name == "eager" and "mean over the hidden units" in choice.refused[0][1]
    with pytest.raises(EngineError, match=r"layer norm.*\(cpu: a mean over the hidden units"):
        anygate.LSTM(I, H, layer_norm=True, engine="cpu")(x)


# ---- what it does in training ---------------------------------------------------------------


def reference_lstm(
    module: Any, x: Tensor, rates: dict[str, float], dropout: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer by hand, with masks drawn in the order in which the module draws them."""
    torch.manual_seed(seed)
    shape = (*x.shape[:-1], H)
    keep = {state: x.new_empty(shape).bernoulli_(rate) for state, rate in rates.items()}
    kept = torch.ones(B, H, dtype=WIDE)
    if dropout:
        kept = x.new_empty(B, H).bernoulli_(1 - dropout) / (1 - dropout)
    h = c = x.new_zeros(B, H)
    outputs = []
    for t, step in enumerate(x):
        z = step @ module.weight_ih_l0.T + module.bias_ih_l0
        z = z + (kept * h) @ module.weight_hh_l0.T + module.bias_hh_l0
        i, f, g, o = z.chunk(4, -1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        new_h = o.sigmoid() * new_c.tanh()
        m_h, m_c = (keep[s][t] if s in keep else 0.0 for s in ("h", "c"))
        h, c = m_h * h + (1 - m_h) * new_h, m_c * c + (1 - m_c) * new_c
        outputs.append(h)
    return torch.stack(outputs), h, c


@pytest.mark.parametrize(
    ("options", "rates", "dropout"),
    [
        ({"zoneout": 0.3}, {"h": 0.3, "c": 0.3}, 0.0),
        ({"zoneout": {"h": 0.05, "c": 0.5}}, {"h": 0.05, "c": 0.5}, 0.0),
        ({"zoneout": {"c": 0.5}}, {"c": 0.5}, 0.0),
        ({"recurrent_dropout": 0.4}, {}, 0.4),
        ({"zoneout": {"h": 0.2}, "recurrent_dropout": 0.4}, {"h": 0.2}, 0.4),
    ],
    ids=str,
)
def test_as_the_equations_say(
    options: dict[str, Any], rates: dict[str, float], dropout: float
) -> None:
    """Krueger et al. 2017 and Gal & Ghahramani 2016, step by step, with the same masks."""
    module, x = made("LSTM", **options), data()
    wanted = reference_lstm(module, x, rates, dropout, seed=3)
    output, (h, c) = run(module, x)
    for a, b in zip((output, h[0], c[0]), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@EACH
@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_zoneouts_share(cls: str, rate: float) -> None:
    """A unit's state stays exactly what it was with the probability `rate`, whatever its value."""
    torch.manual_seed(0)
    module = CLASSES[cls](I, 64, zoneout=rate, dtype=WIDE)
    output, _ = module(data(40, 8))
    same = (output[1:] == output[:-1]).double().mean().item()
    count = output[1:].numel()
    assert abs(same - rate) < 4 * (rate * (1 - rate) / count) ** 0.5
    at_start = (output[0] == 0).double().mean().item()
    assert abs(at_start - rate) < 4 * (rate * (1 - rate) / output[0].numel()) ** 0.5


@EACH
def test_zoneout_of_one_keeps_all(cls: str) -> None:
    module = made(cls, zoneout=1.0)
    count = 2 if cls == "LSTM" else 1
    start = tuple(torch.randn(1, B, H, dtype=WIDE) for _ in range(count))
    for mode in (True, False):
        output, ends = module.train(mode)(data(), start if count > 1 else start[0])
        assert torch.equal(output, start[0].expand(T, B, H))
        assert all(torch.equal(a, b) for a, b in zip(as_tuple(ends), start, strict=True))


@EACH
def test_recurrent_dropout_is_one_mask_for_a_sequence(cls: str) -> None:
    """Nothing depends through R on a hidden unit of h: the output's gradient by h0 is
    zero there, but for a GRU, whose u*h goes past the products. What comes out is h itself."""
    torch.manual_seed(0)
    module = CLASSES[cls](I, 64, recurrent_dropout=0.5, dtype=WIDE)
    count = 2 if cls == "LSTM" else 1
    start = tuple(torch.zeros(1, B, 64, dtype=WIDE, requires_grad=True) for _ in range(count))
    with torch.no_grad():
        module.weight_hh_l0.copy_(torch.randn_like(module.weight_hh_l0).abs() + 0.1)
    output, _, kept = run(module, data(), hx=start if count > 1 else start[0], return_states=True)
    (by_h,) = torch.autograd.grad(output[0].sum(), start[0])
    hidden = (by_h == 0).double().mean().item()
    wanted = 0.0 if cls == "GRU" else 0.5
    assert abs(hidden - wanted) <= 4 * (wanted * (1 - wanted) / by_h.numel()) ** 0.5
    assert torch.equal(as_tuple(kept)[0][0], output)


# ---- evaluation -----------------------------------------------------------------------------


@EACH
def test_recurrent_dropout_is_off_in_evaluation(cls: str) -> None:
    module, plain = made(cls, recurrent_dropout=0.4).eval(), made(cls).eval()
    for a, b in zip(values(module(data())), values(plain(data())), strict=True):
        assert torch.equal(a, b)


def test_zoneout_in_evaluation_is_its_mean() -> None:
    """s' = rate*s_before + (1 - rate)*new, by hand; no random number is drawn."""
    module = made("LSTM", zoneout={"h": 0.2, "c": 0.5}).eval()
    h = c = torch.zeros(B, H, dtype=WIDE)
    outputs = []
    for step in data():
        z = step @ module.weight_ih_l0.T + module.bias_ih_l0
        i, f, g, o = (z + h @ module.weight_hh_l0.T + module.bias_hh_l0).chunk(4, -1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h, c = 0.2 * h + 0.8 * o.sigmoid() * new_c.tanh(), 0.5 * c + 0.5 * new_c
        outputs.append(h)
    before = torch.get_rng_state()
    output, (h_end, c_end) = module(data())
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in ((output, torch.stack(outputs)), (h_end[0], h), (c_end[0], c)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@EACH
def test_training_averages_to_evaluation_after_one_step(cls: str) -> None:
    """Over many rows: E[m*s + (1 - m)*new] is what evaluation computes, for one step."""
    torch.manual_seed(0)
    module = CLASSES[cls](I, H, zoneout=0.3, dtype=WIDE)
    rows = 4000
    x = data(1, 1).expand(1, rows, I)
    shape = (1, rows, H)
    count = 2 if cls == "LSTM" else 1
    start = tuple(torch.full(shape, 0.5, dtype=WIDE) for _ in range(count))
    hx = start if count > 1 else start[0]
    noisy, mean = module(x, hx)[0], module.eval()(x, hx)[0]
    off = (noisy.mean(1) - mean.mean(1)).abs().max().item()
    assert off < 5 * 0.5 / rows**0.5
    assert noisy.std() > 0


# ---- gradients, forms of input, reproducibility ---------------------------------------------


@EACH
@NOISY
def test_gradients_against_differences(cls: str, noise: str) -> None:
    module = made(cls, **NOISES[noise])
    own = [n for n, _ in module.named_parameters()]

    def call(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        given = dict(zip(own, weights, strict=True))
        return values(torch.func.functional_call(module, given, (x,)))

    leaves = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(call, (data().requires_grad_(), *leaves), fast_mode=True)


@EACH
@NOISY
def test_the_seed_decides(cls: str, noise: str) -> None:
    module = made(cls, num_layers=2, **NOISES[noise])
    first, again, other = (run(module, data(), seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(run(module.eval(), data(), 3)[0], run(module, data(), 4)[0])


@EACH
@NOISY
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed(cls: str, noise: str, bidirectional: bool) -> None:
    """Evaluation as row by row; training reproducible, and finished rows hold their state."""
    module = made(cls, num_layers=2, bidirectional=bidirectional, **NOISES[noise])
    lengths, x = [6, 2, 4], data()
    pack = pack_padded_sequence(x, lengths, enforce_sorted=False)
    first, second = (values(run(module, pack)) for _ in range(2))
    assert torch.equal(first[0].data, second[0].data)
    back, _ = pad_packed_sequence(first[0])
    for row, n in enumerate(lengths):
        assert not back[n:, row].any()
        if not bidirectional:
            torch.testing.assert_close(first[1][-1, row], back[n - 1, row], rtol=0, atol=0)
    first[0].data.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    module.eval()
    back, _ = pad_packed_sequence(module(pack)[0])
    for row, n in enumerate(lengths):
        alone = module(x[:n, row : row + 1])[0][:, 0]
        torch.testing.assert_close(back[:n, row], alone, rtol=1e-12, atol=1e-13)


@EACH
def test_lengths_and_resets_go_with_it(cls: str) -> None:
    """As a pack of the same rows with the same seed; a reset forgets in evaluation as always."""
    module = made(cls, zoneout=0.3, recurrent_dropout=0.2)
    lengths = [6, 4, 2]
    packed, _ = pad_packed_sequence(run(module, pack_padded_sequence(data(), lengths))[0])
    torch.testing.assert_close(run(module, data(), lengths=lengths)[0], packed)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3] = True
    module.eval()
    torch.testing.assert_close(module(data(), reset=reset)[0][3:], module(data()[3:])[0])


# ---- layer norm -----------------------------------------------------------------------------


def normed(z: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return nn.functional.layer_norm(z, (H,), gain.flatten(), shift.flatten(), 1e-5)


@pytest.mark.parametrize("engine", ["eager", "reference"])
def test_layer_norm_by_hand(engine: str) -> None:
    """Each gate's product and c before the cell output, with gains and shifts that are learnt."""
    module, x = made("LSTM", layer_norm=True, engine=engine), data()
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "gain" in name or "shift" in name:
                p.uniform_(-1, 1)

    def part(name: str, z: Tensor) -> Tensor:
        return normed(z, getattr(module, f"gain_{name}_l0"), getattr(module, f"shift_{name}_l0"))

    h = c = torch.zeros(B, H, dtype=WIDE)
    outputs = []
    for step in x:
        z = step @ module.weight_ih_l0.T + module.bias_ih_l0
        z = z + h @ module.weight_hh_l0.T + module.bias_hh_l0
        pairs = zip(("z_i", "z_f", "z_g", "z_o"), z.chunk(4, -1), strict=True)
        i, f, g, o = (part(name, block) for name, block in pairs)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * part("c", c).tanh()
        outputs.append(h)
    output, (h_end, c_end) = module(x)
    for a, b in ((output, torch.stack(outputs)), (h_end[0], h), (c_end[0], c)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    grads = [
        torch.autograd.grad(r.square().sum(), list(module.parameters()))
        for r in (output, torch.stack(outputs))
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@EACH
def test_layer_norms_parameters(cls: str) -> None:
    """gain 1 and shift 0 for each product, after those of torch; reset brings them back."""
    module, plain = made(cls, layer_norm=True), made(cls)
    torchs = list(plain.state_dict())
    assert list(module.state_dict())[: len(torchs)] == torchs
    more = [name for name in list(module.state_dict())[len(torchs) :] if name != "_extra_state"]
    products = [p.name for p in plain.cell.type.products] + (["c"] if cls == "LSTM" else [])
    assert sorted(more) == sorted(f"{k}_{p}_l0" for p in products for k in ("gain", "shift"))
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7)
    module.reset_parameters()
    for name in more:
        assert set(getattr(module, name).flatten().tolist()) == {1.0 if "gain" in name else 0.0}


# ---- as modules -----------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("option", [*NOISES, "layer norm"])
def test_state_dict_copies_and_repr(cls: str, option: str) -> None:
    """Noise has no parameters: the checkpoint is torch's, and says so where evaluation, with the
    mean of the noise, is not."""
    options = NOISES.get(option, {"layer_norm": True})
    module = made(cls, **options)
    if option in NOISES:
        theirs = getattr(nn, cls)(I, H, dtype=WIDE)
        own = module.state_dict()
        assert ("_extra_state" in own) == ("zoneout" in options)
        own.pop("_extra_state", None)
        theirs.load_state_dict(own, strict=True)
        module.load_state_dict(dict(theirs.state_dict()), strict=True)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(run(other, data())[0], run(module, data())[0])
        assert repr(other) == repr(module)
    for name, value in options.items():
        assert f"{name}={value}" in repr(module)


@EACH
@NOISY
def test_swap_keeps_it(cls: str, noise: str) -> None:
    model = nn.ModuleDict({"a": getattr(nn, cls)(I, H, dtype=WIDE)})
    anygate.swap(model, **NOISES[noise])
    text = repr(model["a"])
    assert all(f"{name}={value}" in text for name, value in NOISES[noise].items())
    anygate.swap(model, "softsign")
    assert all(f"{name}={value}" in repr(model["a"]) for name, value in NOISES[noise].items())
    first, other = (run(model["a"], data(), seed)[0] for seed in (3, 4))
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="to give that up, say"):
        anygate.swap(model, to=nn, activation="tanh")
    anygate.swap(model, to=nn, activation="tanh", zoneout=0.0, recurrent_dropout=0.0)
    assert type(model["a"]) is getattr(nn, cls)


def test_single_steps() -> None:
    """zoneout in a cell; recurrent dropout keeps its mask over a sequence, which no step sees."""
    for kind in (anygate.LSTMCell, anygate.GRUCell, anygate.RNNCell):
        cell = kind(I, 64, zoneout=0.5)
        x = torch.randn(8, I)
        h = as_tuple(cell(x))[0]
        share = (h == 0).double().mean().item()
        assert abs(share - 0.5) < 4 * (0.25 / h.numel()) ** 0.5
        assert not (as_tuple(cell.eval()(x))[0] == 0).any()
        with pytest.raises(TypeError, match="recurrent_dropout"):
            kind(I, H, recurrent_dropout=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zoneout": 1.5}, "zoneout: h's rate is a probability, not 1.5"),
        ({"zoneout": {"x": 0.5}}, "zoneout: LSTM has no state 'x'"),
        ({"zoneout": float("nan")}, "rate is a probability, not nan"),
        ({"recurrent_dropout": 1.0}, "from 0 to below 1, not 1.0"),
        ({"recurrent_dropout": -0.5}, "from 0 to below 1"),
        ({"recurrent_dropout": 0.5, "proj_size": 2}, "proj_size cannot be had with zoneout of h"),
        ({"zoneout": 0.5, "proj_size": 2}, "proj_size cannot be had with zoneout of h"),
    ],
    ids=str,
)
def test_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        anygate.LSTM(I, H, **options)
