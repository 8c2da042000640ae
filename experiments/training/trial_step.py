"""Take one training step and one validation step with Lightning, and restore everything."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import lightning
import torch
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.plugins import Precision
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from experiments.data.batch import EventBatch
from experiments.tasks.base import Task

_OF_THE_RUN = (
    "accumulate_grad_batches", "accelerator", "callbacks", "check_val_every_n_epoch", "devices",
    "logger", "max_epochs", "max_steps", "max_time", "min_epochs", "min_steps", "num_nodes",
    "plugins", "profiler", "strategy", "sync_batchnorm", "val_check_interval",
)  # fmt: skip
"""Trainer options that say how long and where to train, but not what a step does."""


class _Trial(lightning.LightningModule):
    """Loss and optimizer of a task, without its logging and its recorded steps."""

    def __init__(self, task: Task[Any], max_steps: int) -> None:
        super().__init__()
        self.model, self.max_steps = task.model, max_steps
        # In a tuple, so that the task is not registered as a submodule.
        self._task = (task,)

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        (task,) = self._task
        given = task.presented(batch)
        return task.loss_of(task.checked(task.raw_outputs(given), given), given)

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        (task,) = self._task
        with torch.autocast(self.device.type, enabled=False):
            given = task.presented(batch)
            task.checked(task.raw_outputs(given), given)

    def configure_optimizers(self) -> Any:
        (task,) = self._task
        return task.optimizer_and_schedule(self.max_steps)


def try_step(cfg: DictConfig, task: Task[Any], batch: EventBatch, device: torch.device) -> None:
    """Train and validate on one batch, with the precision, clipping and optimizer of a run.

    Weights, buffers and random-number generators are restored.

    Parameters
    ----------
    cfg
        Configuration of the run.
    task
        Newly built.
    batch
        A few events.
    device
        Device of the training; other processes are not involved.
    """
    for name, part in task.named_children():
        if name != "model":  # which Lightning moves
            part.to(device)
    with _restored(task.model), _uncompiled(task.model), tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself gives them
            trainer = _trainer(cfg, device, folder)
            loader: Any = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
            trainer.fit(_Trial(task, cfg.trainer.max_steps), loader, loader)


def _trainer(cfg: DictConfig, device: torch.device, folder: str) -> lightning.Trainer:
    """The trainer of the run, for one step on one device."""
    chosen = {str(k): v for k, v in cfg.trainer.items() if k not in _OF_THE_RUN}
    plugins = [instantiate(p) for p in cfg.trainer.get("plugins") or [] if OmegaConf.is_dict(p)]
    options = {
        "logger": False, "callbacks": [], "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": 1 if device.index is None else [device.index],
        "max_steps": 1, "val_check_interval": 1, "check_val_every_n_epoch": None,
        "default_root_dir": folder,
        # Given explicitly, so that Lightning does not detect SLURM or torchrun.
        "plugins": [LightningEnvironment(), *(p for p in plugins if isinstance(p, Precision))],
    }  # fmt: skip
    trainer: lightning.Trainer = instantiate({**chosen, **options}, _convert_="all")
    # Keep the signal handlers.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Restore weights and buffers (values, dtypes, devices), training modes, and random numbers."""
    # By holder and name, because a change of dtype replaces buffers by other tensors.
    places: list[tuple[Any, str, Tensor, torch.device, Tensor]] = [
        (holder, name, tensor, tensor.device, tensor.detach().cpu().clone())
        for module in model.modules()
        for holder in (module._parameters, module._buffers)
        for name, tensor in holder.items()
        if tensor is not None
    ]
    training = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for module, mode in training:
                module.training = mode
            model.zero_grad(set_to_none=True)
            for holder, name, tensor, device, value in places:
                holder[name] = tensor
                tensor.data = value.to(device)


def _uncompiled(model: nn.Module) -> AbstractContextManager[None]:
    """Run compiled networks eagerly, because compilation takes minutes."""
    if any(getattr(module, "_compiled", None) is not None for module in model.modules()):
        stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()
