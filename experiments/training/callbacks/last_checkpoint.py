"""Checkpoint for exact resumption."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from data.signals import deferred_signals, pending_signal, raise_pending

STOPPED = "training_stopped"
"""Key in a checkpoint: whether training had stopped early."""


class LastCheckpoint(ModelCheckpoint):
    """Save ``last.ckpt`` at points from which a run resumes exactly.

    These are every ``every_n_train_steps``, the last step, a signal that ends the run, and each
    validation. If a validation is due, the state is saved after it, because Lightning would skip
    it when resuming. Nothing is saved during gradient accumulation, since checkpoints hold no
    gradients.

    Should be the last callback, so that checkpoints contain what others decide in a validation.
    """

    _resumed_stopped = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deferral = ExitStack()
        self._defers = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if due and no validation follows; end if a signal was received."""
        loop = trainer.fit_loop
        if loop._should_accumulate():
            return
        if not self._defers:  # before the first step there is nothing to save
            self._deferral.enter_context(deferred_signals())
            self._defers = True
        ending = trainer.strategy.reduce_boolean_decision(pending_signal() is not None, all=False)
        assert loop._data_fetcher is not None
        if loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            return
        step, every = trainer.global_step, self._every_n_train_steps
        if ending or step == trainer.max_steps or (every and step % every == 0):
            # Log this step first: the log must not lag behind the checkpoint.
            trainer._logger_connector.update_train_step_metrics()
            self._save(trainer)
        if ending:
            raise_pending()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; end if a signal was received."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or trainer.fit_loop._should_accumulate():
            return
        self._save(trainer)
        if trainer.strategy.reduce_boolean_decision(pending_signal() is not None, all=False):
            raise_pending()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop deferring signals."""
        self._end_deferral()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop deferring signals."""
        self._end_deferral()

    def _end_deferral(self) -> None:
        self._defers = False
        self._deferral.close()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: training is counted in steps, not epochs."""

    def _save(self, trainer: Trainer) -> None:
        assert self.dirpath is not None and self.filename is not None
        self._save_checkpoint(trainer, str(Path(self.dirpath) / f"{self.filename}.ckpt"))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save whether training has stopped early, which Lightning does not."""
        checkpoint[STOPPED] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Update paths of checkpoints if the run directory was moved."""
        self._resumed_stopped = bool(checkpoint.get(STOPPED))
        for state in checkpoint["callbacks"].values():
            if isinstance(state, dict) and "best_model_path" in state:
                _move(state, str(self.dirpath))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again if training had stopped early."""
        super().on_train_start(trainer, pl_module)
        trainer.should_stop |= self._resumed_stopped


def _move(state: dict[str, Any], folder: str) -> None:
    """Change the directory in the state of a checkpoint callback."""

    def moved(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    state["dirpath"] = folder
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[key] = moved(state.get(key, ""))
    state["best_k_models"] = {moved(k): v for k, v in state.get("best_k_models", {}).items()}
