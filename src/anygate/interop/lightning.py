"""Recording as a callback of Lightning."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ..nn import Recording, record

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError as error:
        raise ImportError(
            "anygate.interop.lightning needs Lightning; install it with pip install lightning"
        ) from error

__all__ = ["RecordCallback"]


class RecordCallback(Callback):
    """`anygate.record` in a Lightning Trainer: measures every N-th training batch.

        callback = RecordCallback(every=50)
        Trainer(callbacks=[callback]).fit(model)
        print(callback.recording)

    every: of how many training batches one is measured, the first included; validation is not.
    log: also tell the trainer's loggers the scalars of `Recording.scalars`, at its global step.
    recording: all that was measured, with the trainer's global step as each record's step.
    Raises ValueError as `record` does, when training starts.
    """

    def __init__(self, every: int = 50, log: bool = True) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number from 1, not {every!r}")
        self.every, self.log = every, log
        self.recording = Recording()
        self._batch = -1
        self._open = ExitStack()
        self._now: Recording | None = None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """Begin to measure, if it is this batch's turn."""
        self._batch += 1
        if self._batch % self.every == 0:
            self._now = self._open.enter_context(record(module))

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep and log what was measured."""
        if self._now is None:
            return
        now, self._now = self._now, None
        self._open.close()
        step = trainer.global_step
        self.recording.add(now, step)
        if self.log:
            scalars = {f"anygate/{name}": v for r in now for name, v in r.scalars().items()}
            for logger in trainer.loggers:
                logger.log_metrics(scalars, step=step)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Leave the model as it was."""
        self._now = None
        self._open.close()
