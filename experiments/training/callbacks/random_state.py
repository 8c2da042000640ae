"""Save random-number generators in checkpoints, for exact resumption."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback


class RandomState(Callback):
    """Save and restore the states of torch, NumPy and Python."""

    def __init__(self) -> None:
        self._pending: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """All states as tensors and plain numbers."""
        name, keys, *rest = tuple(np.random.get_state(legacy=True))
        version, internal, gauss = random.getstate()
        state: dict[str, Any] = {
            "torch": torch.get_rng_state(),
            "numpy": [name, torch.from_numpy(np.asarray(keys).astype("int64")), *rest],
            "python": [version, list(internal), gauss],
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until training starts, because setting up draws random numbers."""
        self._pending = state_dict

    def on_train_start(self, *_: Any) -> None:
        """Restore the states."""
        state, self._pending = self._pending, {}
        if not state:
            return
        torch.set_rng_state(state["torch"].cpu())
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype("uint32"), *rest))
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])
