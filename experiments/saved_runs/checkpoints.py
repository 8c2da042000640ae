"""Checkpoints on disk: whole or not at all, and never read without a look at their checksums."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from data.atomic import atomic_path
from experiments.errors import UserError
from experiments.saved_runs import run_directory
from experiments.saved_runs.checkpoint_contents import fault
from lgatr.utils.archive import check_archive


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint under a temporary name in the same folder, then rename it.

    Lightning's own writer goes through the system's temporary folder; from there to another file
    system a "move" is a copy, which a full disk or a kill can cut in half under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint."""
        # Through memory: on a full disk torch's own file writer hides the reason.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint."""
        return read_checkpoint(Path(path), map_location)


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint of a run after comparing it with its checksums; no code in it is run.

    Raises
    ------
    UserError
        If it is damaged, or no checkpoint of a run.
    """
    try:
        check_archive(path)
        found = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch and its unpickler meet junk with errors of any kind
        raise UserError(f"{path} is damaged or not a checkpoint of ours; choose another") from error
    if not (isinstance(found, dict) and isinstance(found.get("state_dict"), Mapping)):
        raise UserError(f"{path}: holds no weights of a run; choose another")
    if problem := fault(found, on_meta=str(map_location) == "meta"):
        raise UserError(f"{path}: {problem}; it is no checkpoint of a run, choose another")
    return found


def load_best(run: Path) -> tuple[Path, dict[str, Any]]:
    """Load the checkpoint with the weights that a run was, or would be, tested with.

    Returns
    -------
    path
        ``best.ckpt``, or ``last.ckpt`` of a run that validated nothing or is not finished.
    checkpoint
        Its content; see :func:`model_weights`.

    Raises
    ------
    UserError
        If there is none, or it is damaged.
    """
    path = run_directory.tested_checkpoint(run)
    return path, read_checkpoint(path)


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of the model alone, without that of the rest of its task."""
    prefix = "model."
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }


def is_whole(path: Path) -> bool:
    """Whether a file is there and a readable checkpoint."""
    try:
        read_checkpoint(path, "meta")
    except (OSError, UserError):
        return False
    return True


def check_fits(task: Any, checkpoint: Mapping[str, Any], path: Path, max_steps: int = -1) -> int:
    """See whether a task can go on from a checkpoint; returns the steps that were done.

    Parameters
    ----------
    task
        Newly built.
    checkpoint, path
        Its content, and where it was read.
    max_steps
        Of the training; -1 for no limit.

    Raises
    ------
    UserError
        If it is of another network or optimizer, or beyond ``max_steps``.
    """
    saved, own = checkpoint["state_dict"], task.state_dict()
    wrong = sorted(saved.keys() ^ own.keys()) or sorted(
        name for name in own if saved[name].shape != own[name].shape
    )
    if wrong:
        raise UserError(
            f"{path}: is of another network ({len(wrong)} of its weights differ, such as "
            f"{wrong[0]}); start a new run"
        )
    task.on_load_checkpoint(checkpoint)
    step = int(checkpoint.get("global_step", 0))
    if 0 <= max_steps < step:
        raise UserError(
            f"{path}: has {step} steps already; set trainer.max_steps to {step} or more"
        )
    return step
