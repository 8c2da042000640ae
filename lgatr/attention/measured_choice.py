"""The backend measured to be fastest on this machine, stored in the cache directory."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from lgatr.utils.cache import add_to_table, cache_directory, read_table


def path() -> Path:
    """The file, in the library's cache directory."""
    return cache_directory() / "attention.json"


def _key(device: torch.device, dtype: torch.dtype, packed: bool) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kind = "packed" if packed else "dense"
    return f"{name} | torch {torch.__version__} | {str(dtype).removeprefix('torch.')} | {kind}"


@cache
def _measured() -> dict[str, str]:
    """Stored measurements; empty if missing or unreadable, and priorities decide."""
    try:
        table = read_table(path())
    except OSError:
        return {}
    return {key: name for key, name in table.items() if isinstance(name, str)}


def fastest_backend(device: torch.device, dtype: torch.dtype, packed: bool) -> str | None:
    """Name of the fastest backend, or None if it was never measured."""
    table = _measured()
    return table.get(_key(device, dtype, packed)) if table else None


def save_fastest_backend(device: torch.device, dtype: torch.dtype, packed: bool, name: str) -> Path:
    """Store the fastest backend; returns the file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = path()
    add_to_table(target, _key(device, dtype, packed), name)
    _measured.cache_clear()
    return target
