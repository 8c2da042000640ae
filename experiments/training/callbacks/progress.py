"""What a training shows: one line with a bar, and a line for each validation."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

SHOWN = ("loss", "jets/s")
"""Metrics of steps. Lightning would read those with ``prog_bar=True`` in each of them."""
_WIDTH = 80


class StepProgressBar(ProgressBar):
    """One line of at most 80 columns: steps of the whole run, the time left, and its figures.

    Every validation leaves a line, also where output is no terminal and there is no bar. What the
    bar knows is read ``refresh_rate`` times a second and not in each step, because reading the loss
    waits for the GPU. The time left is that of steps and validations of this process.

    Parameters
    ----------
    refresh_rate
        Updates a second; 0 shows no bar.
    leave
        Whether the bar stays when the training is over.
    """

    def __init__(self, refresh_rate: int = 5, leave: bool = False) -> None:
        super().__init__()
        self.refresh_rate, self.leave = refresh_rate, leave
        self.console = Console()
        if self.console.width > _WIDTH:
            self.console = Console(width=_WIDTH)
        self._enabled, self._shown = True, float("-inf")
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began, self._first = 0.0, 0

    def disable(self) -> None:
        """Show nothing: called by Lightning in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is shown."""
        return not self._enabled

    def _open(self, total: int, completed: int = 0) -> None:
        if not (self._enabled and self.refresh_rate and self.console.is_terminal):
            return
        self.close()
        columns = (
            TextColumn("{task.description}"), BarColumn(None), TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[figures]}"),
        )  # fmt: skip
        self._bar = Progress(*columns, console=self.console, transient=not self.leave, expand=True)
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=max(total, 1), completed=completed, left="", figures=""
        )

    def _update(self, done: int, total: int, description: str, left: str, figures: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done, total=max(total, 1), description=description,
                left=left, figures=figures,
            )  # fmt: skip

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def line(self, text: str) -> None:
        """Print a line above the bar."""
        if self._enabled:
            console = self.console if self._bar is None else self._bar.console
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the steps that are done."""
        self._began, self._first = time.monotonic(), trainer.global_step
        self._shown = float("-inf")
        self._open(trainer.max_steps, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the step, unless one was shown just now."""
        if self.is_disabled or not self.refresh_rate:
            return
        last = trainer.global_step == trainer.max_steps
        if last or time.monotonic() - self._shown >= 1 / self.refresh_rate:
            self.show(trainer, pl_module)
            self._shown = time.monotonic()

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where the training is."""
        step, steps = trainer.global_step, trainer.max_steps
        figures = [f"{n} {_short(v)}" for n, v in self.get_metrics(trainer, pl_module).items()]
        self._update(
            step, steps, f"step {step}/{steps}", self._left(step, steps), "  ".join(figures)
        )

    def _left(self, step: int, steps: int) -> str:
        done = step - self._first
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._began) / done * (steps - step)
        return f"{timedelta(seconds=round(seconds))} left"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is shown: figures of the step, and the task's own of the last validation."""
        found = {name: trainer.callback_metrics.get(name) for name in SHOWN}
        steps = {name: float(value) for name, value in found.items() if value is not None}
        return {**steps, **{n: float(v) for n, v in trainer.progress_bar_metrics.items()}}

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Say that the time goes into a validation."""
        if self._bar is not None and self._task is not None and trainer.validating is not None:
            self._bar.update(self._task, left="validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line with the figures of the validation."""
        if trainer.sanity_checking or self.is_disabled:
            return
        names = getattr(pl_module, "validation_metrics", ())
        found = {n: trainer.callback_metrics.get(f"val/{n}") for n in names}
        figures = [f"{n} {_short(float(v))}" for n, v in found.items() if v is not None]
        spent = timedelta(seconds=round(time.monotonic() - self._began))
        self.line(f"step {trainer.global_step:>7}   {'   '.join(figures)}   {spent}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self.close()

    def on_exception(self, *_: Any) -> None:
        """Remove the bar, so that what is printed next begins a line."""
        self.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test."""
        self._open(_batches(trainer))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Show the batch."""
        total = _batches(trainer)
        self._update(batch_idx + 1, total, f"test {batch_idx + 1}/{total}", "", "")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self.close()


def _batches(trainer: Trainer) -> int:
    counts = trainer.num_test_batches
    total = sum(counts) if isinstance(counts, list) else counts
    return int(total) if total != float("inf") else 0


def _short(value: float) -> str:
    """Four significant digits, and no more characters than that needs."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
