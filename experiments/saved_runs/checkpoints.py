"""Write checkpoints atomically, and check their checksums before reading them."""

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
    """Write each checkpoint to a temporary file in the same directory, then rename it.

    Lightning writes to the system's temporary directory first. Moving from there to another file
    system is a copy, which a full disk or a signal can truncate under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint."""
        # Through memory, because torch's file writer hides the reason when a disk is full.
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
    """Load a checkpoint of a run after checking its checksums, without running code in it.

    Raises
    ------
    UserError
        If it is damaged, or not a checkpoint of a run.
    """
    try:
        check_archive(path)
        found = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch and its unpickler raise anything for junk
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
    """Whether a file exists and is a readable checkpoint."""
    try:
        read_checkpoint(path, "meta")
    except (OSError, UserError):
        return False
    return True


def check_fits(task: Any, checkpoint: Mapping[str, Any], path: Path, max_steps: int = -1) -> int:
    """Check that a task can continue from a checkpoint; returns its number of steps.

    Parameters
    ----------
    task
        Newly built task.
    checkpoint, path
        Content and path of the checkpoint.
    max_steps
        Length of the training; -1 for no limit.

    Raises
    ------
    UserError
        If it is of another network or optimizer, or has more than ``max_steps`` steps.
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
