"""Checkpoints on disk: whole or not at all."""

from __future__ import annotations

import io
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from data.atomic import atomic_path


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
