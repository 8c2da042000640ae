"""Jets per second, in the progress bar, the log and the results; and what loading them costs."""

from __future__ import annotations

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class JetsPerSecond(Callback):
    """Count training jets and the time between the start and the end of each step.

    The first steps, in which memory is allocated and kernels are chosen, do not count. Resumed runs
    go on counting.

    Parameters
    ----------
    skip_steps
        Steps left out at the start.
    """

    def __init__(self, skip_steps: int = 3) -> None:
        self.skip_steps = skip_steps
        self.jets, self.seconds, self._seen = 0, 0.0, 0
        self._start, self._end = 0.0, 0.0
        self.waited = 0.0
        self.before = 0.0
        """Seconds that the run was in training before it was resumed."""
        self._began: float | None = None

    @property
    def rate(self) -> float | None:
        """Jets per second of training so far, or None if nothing was measured."""
        return self.jets / self.seconds if self.seconds else None

    @property
    def waiting(self) -> float | None:
        """Share of the time in which training waited for its next batch."""
        return self.waited / (self.waited + self.seconds) if self.seconds else None

    def state_dict(self) -> dict[str, Any]:
        """What is kept in checkpoints."""
        since = 0.0 if self._began is None else time.perf_counter() - self._began
        return {
            "jets": self.jets,
            "seconds": self.seconds,
            "waited": self.waited,
            "trained": self.before + since,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.jets, self.seconds = state_dict["jets"], state_dict["seconds"]
        self.waited, self.before = state_dict["waited"], state_dict["trained"]

    def on_train_start(self, *_: Any) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self._start = time.perf_counter()
        if self._end and self._seen > self.skip_steps:
            self.waited += self._start - self._end

    def on_validation_end(self, *_: Any) -> None:
        """Validation is no waiting."""
        self._end = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Nor is the start of a pass, which shuffles."""
        self._end = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the batch."""
        self._seen += 1
        self._end = time.perf_counter()
        if self._seen <= self.skip_steps:
            return
        self.jets += len(batch)
        self.seconds += self._end - self._start
        pl_module.log("jets/s", float(self.rate or 0.0), prog_bar=True, batch_size=len(batch))
