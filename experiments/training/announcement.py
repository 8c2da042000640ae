"""What a run says at its start: what is trained, on what, where, and how to follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from omegaconf import DictConfig

from experiments.data.batch import DataSpec
from experiments.tasks.base import Task

_MOST_FEATURES = 6


def announcement(
    cfg: DictConfig, spec: DataSpec, task: Task[Any], datamodule: Any, trainer: Trainer
) -> list[str]:
    """Lines about a run that begins, or goes on."""
    model = task.model
    parameters = sum(p.numel() for p in model.parameters()) if hasattr(model, "parameters") else 0
    lines = [
        f"Model      {type(model).__name__}, {parameters:,} parameters",
        f"Task       {type(task).__name__}: {spec.described}",
    ]
    counts = datamodule.num_jets() if hasattr(datamodule, "num_jets") else {}
    if counts:
        splits = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        path = cfg.data.get("path")
        lines.append(f"Data       {splits}" + (f" ({Path(str(path)).name})" if path else ""))
    if hasattr(datamodule, "prepare"):
        lines.append(f"Features   {_features(datamodule.prepare.features)}")
    attention = cfg.get("attention", {}).get("name")
    lines.append(f"Device     {_device(trainer)}; attention {attention}")
    if any("tensorboard" in type(log).__module__ or hasattr(log, "root_dir") for log in
           trainer.loggers):  # fmt: skip
        lines.append(f"Follow by  tensorboard --logdir {Path(cfg.run_dir) / 'logs'}")
    return lines


def _features(names: tuple[str, ...]) -> str:
    if not names:
        return "four-momenta"
    shown = ", ".join(names[:_MOST_FEATURES])
    rest = len(names) - _MOST_FEATURES
    return f"four-momenta, {shown}" + (f" and {rest} more" if rest > 0 else "")


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    if device.type == "cuda":
        return f"{count}{torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{count}{device.type}, {threads} thread{'s' if threads > 1 else ''}"
