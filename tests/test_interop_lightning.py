"""anygate.record as a Lightning callback."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anygate

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lightning.pytorch import LightningModule, Trainer
        from lightning.pytorch.loggers import CSVLogger

        from anygate.interop.lightning import RecordCallback
except ImportError:
    pytest.skip("lightning is not installed", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")


class Model(LightningModule):
    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.lstm, self.head = anygate.LSTM(2, 4, activation="relu"), nn.Linear(4, 1)
        self.fails_at = fails_at

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == self.fails_at:
            raise RuntimeError("stop")
        return self.head(self.lstm(batch[0])[0][-1]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


def fit(model: Model, callback: Any, folder: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.randn(7, 5, 3, 2))
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[callback],
        logger=CSVLogger(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=folder,
        enable_checkpointing=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=None))


def test_every_third_batch_is_measured_and_logged(tmp_path: Path) -> None:
    callback = RecordCallback(every=3)
    fit(Model(), callback, tmp_path)
    steps = [r.step for r in callback.recording]
    assert len(steps) == 3 and steps == sorted(set(steps))
    assert all(r.layer == "lstm.l0" and r.grad_h is not None for r in callback.recording)
    (logged,) = tmp_path.rglob("metrics.csv")
    assert "anygate/lstm.l0/candidate/zero_slope" in logged.read_text()


def test_a_failing_fit_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = Model(fails_at=2)
    with pytest.raises(RuntimeError, match="stop"):
        fit(model, RecordCallback(every=1), tmp_path)
    with anygate.record(model) as recording:
        model.lstm(torch.randn(3, 1, 2))
    assert len(recording) == 1


def test_every_must_be_a_whole_number() -> None:
    with pytest.raises(ValueError, match="whole number"):
        RecordCallback(every=0)
