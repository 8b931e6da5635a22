"""A cell that a user writes as five lines of text, on every engine, without a change in anygate.

Its oracle is the same five lines as anyone would write them in torch.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_engine import Toy

import anygate
from anygate import CellType, FormulaError, Product
from anygate.engines import EngineError, Request, protocol

T, B, I, H = 5, 3, 4, 6  # noqa: E741
WIDE = torch.float64
NOVEL = CellType(
    "bounded memory",
    products=("z_f", "z_g"),
    states=("h", "m"),
    slots={"forget_gate": "sigmoid", "candidate": "tanh"},
    gates=("forget_gate",),
    vectors={"pull": 0.5},
    lines="""
        f = forget_gate(z_f)
        g = candidate(z_g - pull*h_before)
        m = f*m_before + (1 - f)*g
        k = 2*m
        h = k/sqrt(1 + k*k)   # between -1 and 1, whatever the candidate
    """,
)
TWO = CellType(
    "two products",
    products=("z_r", Product("z_n", operand="r*h_before")),
    states=("h",),
    slots={"reset_gate": "sigmoid", "candidate": "tanh"},
    gates=("reset_gate",),
    lines="r = reset_gate(z_r); n = candidate(z_n); h = n - r*h_before",
)


def by_hand(module: Any, x: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One layer and direction of NOVEL with softsign in the candidate."""
    outputs = []
    for step in x:
        z = step @ module.weight_ih_l0.T + module.bias_ih_l0
        z_f, z_g = (z + h @ module.weight_hh_l0.T + module.bias_hh_l0).chunk(2, -1)
        f = torch.sigmoid(z_f)
        m = f * m + (1 - f) * nn.functional.softsign(z_g - module.pull_l0 * h)
        h = 2 * m / (1 + 4 * m * m).sqrt()
        outputs.append(h)
    return torch.stack(outputs), h, m


def made(engine: str, dtype: torch.dtype = WIDE, **options: Any) -> Any:
    torch.manual_seed(0)
    return anygate.Recurrent(
        NOVEL, I, H, dtype=dtype, candidate="softsign", engine=engine, **options
    )


def inputs(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    shapes = ((T, B, I), (1, B, H), (1, B, H))
    x, h, m = (torch.randn(*shape, dtype=WIDE, requires_grad=True) for shape in shapes)
    return x, h, m


@pytest.fixture
def toy() -> Iterator[None]:
    """The engine of toy_engine.py, asked before all others."""
    protocol.register(Toy(), first=True)
    yield
    protocol.unregister("toy")


# ---- what it computes -------------------------------------------------------------------------

ON_THE_CPU = pytest.mark.parametrize("engine", [n for n in protocol.names() if n != "cuda"])


@ON_THE_CPU
def test_every_engine_computes_what_the_lines_say(engine: str) -> None:
    """Values, states and gradients by everything, the cell's own vector included."""
    module, (x, h, m) = made(engine), inputs()
    wanted = by_hand(module, x, h[0], m[0])
    output, (h_end, m_end) = module(x, (h, m))
    found = (output, h_end[0], m_end[0])
    leaves = [x, h, m, *module.parameters()]
    torch.manual_seed(2)
    weights = [torch.randn_like(w) for w in wanted]
    losses = [
        sum((w * r).sum() for w, r in zip(weights, results, strict=True))
        for results in (found, wanted)
    ]
    grads = [torch.autograd.grad(loss, leaves) for loss in losses]
    for a, b in zip((*found, *grads[0]), (*wanted, *grads[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@ON_THE_CPU
def test_gradients_against_differences(engine: str) -> None:
    module = made(engine, num_layers=2, bidirectional=True)
    names = [n for n, _ in module.named_parameters()]

    def run(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, weights, strict=True))
        output, ends = torch.func.functional_call(module, given, (x,))
        return output, *ends

    leaves = (inputs()[0], *(p.detach().clone().requires_grad_() for p in module.parameters()))
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("engine", ["cpu", "eager"])
def test_it_learns(engine: str) -> None:
    """A few steps of Adam on the sum of the inputs, in float32; its vector learns too."""
    module, head = made(engine, torch.float32), nn.Linear(H, 1)
    before = module.pull_l0.detach().clone()
    assert set(before.flatten().tolist()) == {0.5}
    x = torch.randn(8, 16, I)
    target = x[..., :1].sum(0)
    optimiser = torch.optim.Adam([*module.parameters(), *head.parameters()], 0.03)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(head(module(x)[0][-1]), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert not torch.equal(module.pull_l0, before)


def test_all_that_a_layer_can_do() -> None:
    """Deep, both ways, batch first, packed, lengths, states of all steps, copies, one step."""
    module = made("auto", num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(B, T, I, dtype=WIDE)
    lengths = [5, 2, 4]
    rnn = nn.utils.rnn
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, ends = module(packed)
    back, _ = rnn.pad_packed_sequence(output, batch_first=True)
    found, others, kept = module(x, lengths=lengths, return_states=True)
    torch.testing.assert_close(back, found, rtol=1e-12, atol=1e-13)
    for a, b, all_steps in zip(ends, others, kept, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        assert a.shape == (4, B, H) and all_steps.shape == (4, B, T, H)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x)[0], module(x)[0])
    layer = made("auto")
    step = anygate.RecurrentCell(NOVEL, I, H, dtype=WIDE, candidate="softsign")
    step.load_state_dict({n.removesuffix("_l0"): w for n, w in layer.state_dict().items()})
    assert not layer.batch_first
    h, m = step(x[0])
    one, (h_one, m_one) = layer(x[0][None])
    for a, b in ((h, one[0]), (h, h_one[0]), (m, m_one[0])):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_its_parameters_and_its_name() -> None:
    module = made("auto", num_layers=2)
    shapes = {n: tuple(p.shape) for n, p in module.named_parameters() if n.endswith("l1")}
    assert shapes == {
        "weight_ih_l1": (2 * H, H),
        "weight_hh_l1": (2 * H, H),
        "bias_ih_l1": (2 * H,),
        "bias_hh_l1": (2 * H,),
        "pull_l1": (1, H),
    }
    assert repr(module) == "Recurrent(bounded memory, 4, 6, num_layers=2, activation=softsign)"
    assert module.cell.type == NOVEL and module.cell.slots["candidate"].name == "softsign"


def test_init_swap_and_record_know_it() -> None:
    module = made("auto")
    anygate.init.orthogonal_(module)
    for block in module.weight_hh_l0.detach().chunk(2):
        torch.testing.assert_close(block @ block.T, torch.eye(H, dtype=WIDE))
    with anygate.record(module) as recording:
        module(torch.randn(T, B, I, dtype=WIDE))[0].sum().backward()
    (record,) = recording.records
    assert list(record.slots) == ["forget_gate", "candidate"]
    assert {"max_abs_m", "grad_h", "grad_m"} <= record.lines.keys()
    model = nn.ModuleDict({"a": module, "b": nn.LSTM(I, H)})
    summary = anygate.swap(model, "relu")
    assert [entry.names for entry in summary.replaced] == [("b",)]
    assert "a: is a Recurrent, which has no class of torch.nn to swap with" in str(summary)


# ---- which engines take it --------------------------------------------------------------------


def test_explain_says_the_kind_and_who_refuses() -> None:
    x = torch.randn(T, B, I)
    assert NOVEL.kind == "one product" and TWO.kind == "two products"
    assert str(anygate.Recurrent(NOVEL, I, H).explain(x)) == "engine: cpu"
    choice = anygate.Recurrent(TWO, I, H).explain(x)
    assert choice.name == "eager"
    ((name, reason),) = choice.refused
    assert name == "cpu" and "two products a step" in reason and "eager" in reason
    with pytest.raises(EngineError, match=r"no engine can run this two products \(cpu: two prod"):
        anygate.Recurrent(TWO, I, H, engine="cpu")(x)


@pytest.mark.parametrize("engine", ["eager", "reference"])
def test_two_products_a_step(engine: str) -> None:
    torch.manual_seed(0)
    module = anygate.Recurrent(TWO, I, H, dtype=WIDE, engine=engine)
    x, h = torch.randn(T, B, I, dtype=WIDE), torch.randn(1, B, H, dtype=WIDE)
    now, outputs = h[0], []
    for step in x:
        of_x = (step @ module.weight_ih_l0.T + module.bias_ih_l0).chunk(2, -1)
        weights, biases = module.weight_hh_l0.chunk(2), module.bias_hh_l0.chunk(2)
        r = torch.sigmoid(of_x[0] + now @ weights[0].T + biases[0])
        n = torch.tanh(of_x[1] + (r * now) @ weights[1].T + biases[1])
        now = n - r * now
        outputs.append(now)
    found = module(x, h)[0]
    torch.testing.assert_close(found, torch.stack(outputs), rtol=1e-12, atol=1e-13)
    own = list(module.parameters())
    grads = [torch.autograd.grad(r.square().sum(), own) for r in (found, torch.stack(outputs))]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("toy")
def test_an_engine_is_one_class_and_one_line() -> None:
    """Registered, "auto" picks it for every kind of module; nn has never heard of it."""
    x, h, m = inputs()
    module = made("auto")
    assert module.explain(x).name == "toy"
    assert protocol.names()[0] == "toy"
    wanted = by_hand(module, x, h[0], m[0])
    found = module(x, (h, m))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-12, atol=1e-13)
    (by_x,) = torch.autograd.grad(found[0].square().sum(), x)
    torch.testing.assert_close(by_x, torch.autograd.grad(wanted[0].square().sum(), x)[0])
    for kind in (anygate.LSTM, anygate.GRU, anygate.RNN):
        torch.manual_seed(0)
        named, other = kind(I, H, dtype=WIDE, engine="toy"), kind(I, H, dtype=WIDE, engine="eager")
        other.load_state_dict(named.state_dict())
        torch.testing.assert_close(named(x)[0], other(x)[0], rtol=1e-12, atol=1e-13)
    choice = anygate.GRU(I, H, reset_after=False).explain(x.float())
    assert choice.name == "eager"
    assert choice.refused[0] == ("toy", "it knows cells of one product, not two products")


def test_an_engine_that_went_is_forgotten() -> None:
    """Registered last, "auto" goes by the others first; taken out, all is as before, although the
    module has run on it."""
    before, x = protocol.names(), torch.randn(T, B, I)
    module = made("auto", torch.float32)
    assert module.explain(x).name == "cpu"
    protocol.register(Toy())
    try:
        assert protocol.names() == (*before, "toy")
        assert module.explain(x).name == "cpu"
        protocol.register(Toy(), first=True)
        assert protocol.names() == ("toy", *before)
        assert module.explain(x).name == "toy"
        module(x)
    finally:
        protocol.unregister("toy")
    assert protocol.names() == before
    assert module.explain(x).name == "cpu"
    with pytest.raises(EngineError, match="no engine is called 'toy'; there are: auto, cpu, cuda"):
        made("toy").explain(x)


def test_a_request_can_be_asked_of_each_engine() -> None:
    request = Request(made("auto").cell, "cpu", "float32", True)
    said = {name: protocol.load(name).refuses(request) for name in protocol.names()}
    assert said.pop("cuda") == "it runs on NVIDIA GPUs, not on cpu"
    assert said == dict.fromkeys(said)


# ---- what a user gets wrong -------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no product": ({"products": ()}, "mine: a cell has at least one state and one product"),
    "unknown name": ({"lines": "h = tanh(y)"}, "line 'h = tanh(y)': 'y' is not known here; there "),
    "nearly a name": ({"lines": "h = h_befor"}, "Did you mean h_before?"),
    "state not given": ({"states": ("h", "c")}, "mine: no line gives the state 'c'"),
    "no equation": ({"lines": "tanh(z)"}, "'tanh(z)' is no line; write NAME = formula, such as"),
    "slot not used": ({"slots": {"gate": "tanh"}}, "mine: no line applies the slot 'gate'"),
    "slot used twice": (
        {"slots": {"g": "tanh"}, "lines": "h = g(z) + g(2*z)"},
        "the slot g is applied twice; give each place its own",
    ),
    "unknown activation": (
        {"slots": {"g": "tanhh"}, "lines": "h = g(z)"},
        "mine, the slot g: no activation is called 'tanhh'. Did you mean tanh",
    ),
    "two of one name": ({"products": ("z", "z")}, "mine: 'z' is the name of two products"),
    "two roles": ({"products": ("z", "h")}, "mine: 'h' is a product and a state"),
    "a word of formulas": ({"products": ("exp",)}, "'exp' is a word of formulas and no name for a"),
    "given twice": ({"lines": "h = z; h = 2*z"}, "mine: 'h' is given twice, in 'h = 2*z'"),
    "product given": (
        {"lines": "z = h_before; h = z"},
        "mine: 'z' is a product, which the line 'z = h_before' cannot give another value",
    ),
    "product of nothing": ({"products": (Product("z", False, False),)}, "'z' sees nothing"),
    "product too early": (
        {"products": ("z", Product("y", operand="r*h_before")), "lines": "h = y; r = z"},
        "'y' is not known here; there are h_before, z. The product y is known after the lines that",
    ),
    "no such output": ({"output": "c"}, "mine: the output 'c' is no state: ('h',)"),
    "no such gate": ({"gates": ("g",)}, "mine: the gate 'g' is no slot"),
    "no parameter": ({"lines": "h = relu(z, k=1)"}, "relu has no parameter 'k'"),
    "code": ({"lines": "h = __import__('os')"}, "unknown function '__import__'"),
    "no name": ({"name": " "}, "a cell's name is a text of 1 to 80 characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case: str) -> None:
    fields: dict[str, Any] = {
        "name": "mine",
        "products": ("z",),
        "states": ("h",),
        "lines": "h = z",
    }
    change, words = WRONG[case]
    with pytest.raises(FormulaError) as raised:
        CellType(**(fields | change))
    assert words in str(raised.value)


def test_a_module_says_what_it_wants() -> None:
    with pytest.raises(TypeError, match=r"a cell is an anygate.CellType, not str; write its equ"):
        anygate.Recurrent("LSTM", I, H)  # type: ignore[arg-type]
    words = "bounded memory has no slot 'output_gate'; it has: activation, gate_activation, forget"
    with pytest.raises(ValueError, match=words):
        anygate.Recurrent(NOVEL, I, H, output_gate="relu")
    with pytest.raises(FormulaError, match="candidate: no activation is called 'relo'"):
        anygate.RecurrentCell(NOVEL, I, H, candidate="relo")
    with pytest.raises(TypeError, match=r"the state must be 2 tensors \(h, m\), not Tensor"):
        made("auto", torch.float32)(torch.randn(T, B, I), torch.zeros(1, B, H))


def test_a_cell_with_a_mask_of_its_own_needs_an_engine() -> None:
    """A module has no numbers for it; it is said when the module is made, not when it runs."""
    masked = NOVEL.with_(masks=("keep",), k="2*keep*m")
    for kind in (anygate.Recurrent, anygate.RecurrentCell):
        with pytest.raises(ValueError, match="bounded memory has the mask keep"):
            kind(masked, I, H)
