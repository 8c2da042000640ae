"""Measure training jets per second and the time spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class JetsPerSecond(Callback):
    """Count training jets and the duration of steps.

    On a GPU, a step is often only launched when it is over, and waited for later: all time that is
    not spent waiting for data counts as that of steps, but none of validation.

    The first steps, in which memory is allocated and kernels are chosen, do not count. Counts are
    saved in checkpoints.

    Parameters
    ----------
    skip_steps
        Number of first steps that are not counted.
    """

    def __init__(self, skip_steps: int = 3) -> None:
        self.skip_steps = skip_steps
        self.jets, self.seconds, self._seen = 0, 0.0, 0
        self._start, self._end = 0.0, 0.0
        self.waited, self._waited_before = 0.0, 0.0
        self.before = 0.0
        """Training time in seconds before the run was resumed."""
        self._began: float | None = None

    @property
    def rate(self) -> float | None:
        """Training jets per second so far, or None before the first counted step."""
        return self.jets / self.seconds if self.seconds else None

    @property
    def waiting(self) -> float | None:
        """Fraction of the time spent waiting for the next batch."""
        return self.waited / (self.waited + self.seconds) if self.seconds else None

    def state_dict(self) -> dict[str, Any]:
        """Counts for a checkpoint."""
        since = 0.0 if self._began is None else time.perf_counter() - self._began
        return {
            "jets": self.jets,
            "seconds": self.seconds,
            "waited": self.waited,
            "trained": self.before + since,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the counts of a checkpoint."""
        self.jets, self.seconds = state_dict["jets"], state_dict["seconds"]
        self.waited, self.before = state_dict["waited"], state_dict["trained"]

    def on_train_start(self, *_: Any) -> None:
        """Start the clock of the training."""
        self._began = time.perf_counter()

    def on_train_batch_start(self, trainer: Any = None, *_: Any) -> None:
        """Start the clock of the step, and add the time since the last one."""
        self._start = time.perf_counter()
        waited = _waited(trainer)
        between = self._start - self._end
        if self._end and self._seen > self.skip_steps:
            # What else happens between steps may wait for a GPU, which is no lack of data.
            lack = between if waited is None else min(waited - self._waited_before, between)
            self.waited += lack
            self.seconds += between - lack
        self._waited_before = waited or 0.0

    def on_validation_end(self, *_: Any) -> None:
        """Exclude validation from data-wait time."""
        self._end = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        """Exclude shuffling from data-wait time."""
        self._end = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the batch and its duration."""
        self._seen += 1
        self._end = time.perf_counter()
        if self._seen <= self.skip_steps:
            return
        self.jets += len(batch)
        self.seconds += self._end - self._start
        # A tensor on the CPU: Lightning would copy a number to the GPU, and wait for it.
        rate = torch.tensor(float(self.rate or 0.0))
        pl_module.log("jets/s", rate, batch_size=len(batch))


def _waited(trainer: Any) -> float | None:
    """Seconds that training has waited for its loader; None if that does not count them."""
    feed = getattr(getattr(trainer, "train_dataloader", None), "feed", None)
    return None if feed is None else float(feed.waited)
