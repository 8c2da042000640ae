"""What a checkpoint must hold for commands to count on it, wherever it comes from."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.errors import UserError


def fault(checkpoint: dict[Any, Any], on_meta: bool) -> str | None:
    """What of a checkpoint is not of the kind that every command may count on."""
    if odd := [key for key in checkpoint if not isinstance(key, str)]:
        return f"holds {reprlib.repr(odd[0])} in the place of a name"
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(name, str):
            return f"state_dict holds weights of {reprlib.repr(name)}, which is no name"
        if problem := _no_weights(value, on_meta):
            return f"{reprlib.repr(name)} of state_dict is {problem}"
    for part, (is_right, wanted) in PARTS.items():
        if part in checkpoint and not is_right(checkpoint[part]):
            return f"{part} must be {wanted}, not {reprlib.repr(checkpoint[part])}"
    return None


def _no_weights(value: Any, on_meta: bool) -> str | None:
    """Why a value cannot be copied into a parameter, if it cannot."""
    if not isinstance(value, Tensor):
        return f"{reprlib.repr(value)}, no tensor"
    if value.is_nested or value.layout is not torch.strided or value.is_quantized:
        return "sparse, nested or quantized"
    if value.is_complex():
        return "complex"
    return "without numbers (on meta)" if value.is_meta and not on_meta else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _are_named_states(value: Any) -> bool:
    return _is_named(value) and all(isinstance(state, Mapping) for state in value.values())


def _are_states(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_named, value))


def _are_optimizers(value: Any) -> bool:
    groups = [state.get("param_groups") for state in value] if _are_states(value) else [None]
    return all(group and _are_states(group) for group in groups)


PARTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "global_step": (_is_count, "a whole number"),
    "epoch": (_is_count, "a whole number"),
    "callbacks": (_are_named_states, "states by name"),
    "loops": (_are_named_states, "states by name"),
    "optimizer_states": (_are_optimizers, "a list of states with param_groups"),
    "lr_schedulers": (_are_states, "a list of states"),
    "pytorch-lightning_version": (lambda value: isinstance(value, str), "text"),
}
"""Parts of a checkpoint besides its weights: whether a value is of the kind, and its name."""


def check_training_state(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that holds weights but not what it takes to go on training.

    Raises
    ------
    UserError
        If a part is missing.
    """
    if missing := [part for part in PARTS if part not in checkpoint]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; training cannot go on from it")
