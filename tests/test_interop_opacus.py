"""Per-sample gradients by Opacus: right for an output that is used alone, refused for all else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anygate
from anygate.interop.opacus import prepare

pytest.importorskip("opacus")
from opacus import PrivacyEngine
from opacus.grad_sample import GradSampleModule

INPUT, H, B, T = 5, 4, 3, 6


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus' and torch's
        yield


class Net(nn.Module):
    def __init__(self, rnn: nn.Module, features: int = H) -> None:
        super().__init__()
        self.rnn = rnn
        self.head = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: anygate.LSTM(INPUT, H, batch_first=True, activation="relu", peephole=True),
        lambda: anygate.GRU(INPUT, H, 2, batch_first=True, gate_activation="hard_sigmoid"),
        lambda: anygate.RNN(INPUT, H // 2, batch_first=True, bidirectional=True),
        lambda: anygate.LSTM(INPUT, H, batch_first=True, activation="elu", trainable=True),
    ],
    ids=["lstm", "gru", "rnn", "trainable"],
)
def test_the_gradient_of_each_sample(make: Any) -> None:
    torch.manual_seed(0)
    model = prepare(Net(make()))
    x = torch.randn(B, T, INPUT)
    expected = [torch.autograd.grad(model(row[None]).sum(), [*model.parameters()]) for row in x]
    GradSampleModule(model, loss_reduction="sum")(x).sum().backward()
    for place, parameter in enumerate(model.parameters()):
        for row in range(B):
            torch.testing.assert_close(parameter.grad_sample[row], expected[row][place])  # type: ignore[attr-defined]


def test_a_step_of_private_training() -> None:
    torch.manual_seed(0)
    model = Net(nn.LSTM(INPUT, H, batch_first=True))
    anygate.swap(model, "softsign")
    prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data = torch.utils.data.TensorDataset(torch.randn(8, T, INPUT), torch.randint(2, (8,)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    before = model.rnn.weight_hh_l0.detach().clone()  # type: ignore[union-attr,operator]
    private, stepper, batches = PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    for x, y in batches:
        if len(x):
            nn.functional.cross_entropy(private(x), y).backward()
            stepper.step()
            stepper.zero_grad()
    assert not torch.equal(model.rnn.weight_hh_l0, before)  # type: ignore[arg-type]


def test_what_opacus_would_not_see_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Net(anygate.GRU(INPUT, H, batch_first=True))
    prepare(anygate.GRU(INPUT, H, batch_first=True))  # another one of its class
    with pytest.raises(RuntimeError, match="Opacus computes per-sample gradients of modules with"):
        GradSampleModule(bare)(torch.randn(B, T, INPUT)).sum().backward()
    monkeypatch.setattr(GradSampleModule, "GRAD_SAMPLERS", {})
    with pytest.raises(
        RuntimeError, match=r"call anygate.interop.opacus.prepare\(model\) before Gr"
    ):
        GradSampleModule(Net(anygate.LSTM(INPUT, H, batch_first=True)))
    layer: Any = prepare(anygate.LSTM(INPUT, H, batch_first=True))
    assert prepare(layer) is layer and len(layer._forward_hooks) == 1
    x, state = torch.randn(B, T, INPUT), torch.zeros(1, B, H)
    with pytest.raises(RuntimeError, match="a gradient reaches the final state of a layer"):
        layer(x)[1][0].sum().backward()
    with pytest.raises(RuntimeError, match=r"sees the first argument of LSTM alone.*not hx"):
        layer(x, (state, state))
    with pytest.raises(RuntimeError, match="nothing else, not lengths"):
        layer(x, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match="make it batch_first=True"):
        prepare(anygate.LSTM(INPUT, H))
    with pytest.raises(ValueError, match="zoneout and recurrent dropout would be drawn anew"):
        prepare(anygate.LSTM(INPUT, H, batch_first=True, zoneout=0.1))
    with pytest.raises(
        ValueError, match="cell: Opacus sees the gradient of a module's first resul"
    ):
        prepare(nn.ModuleDict({"cell": anygate.LSTMCell(INPUT, H)}))
