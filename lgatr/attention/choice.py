"""Which backend was measured to be fastest on this machine, remembered between programs."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path

import torch

from lgatr.utils.cache import cache_directory


def path() -> Path:
    """The file, in the library's cache directory."""
    return cache_directory() / "attention.json"


def _key(device: torch.device, dtype: torch.dtype, packed: bool) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    kind = "packed" if packed else "dense"
    return f"{name} | torch {torch.__version__} | {str(dtype).removeprefix('torch.')} | {kind}"


@cache
def _table() -> dict[str, str]:
    try:
        table = json.loads(path().read_text())
    except (OSError, ValueError, RuntimeError):
        return {}  # never measured, or nothing readable: priorities decide
    return table if isinstance(table, dict) else {}


def remembered(device: torch.device, dtype: torch.dtype, packed: bool) -> str | None:
    """Name of the fastest backend, or None if it was never measured."""
    table = _table()
    return table.get(_key(device, dtype, packed)) if table else None


def remember(device: torch.device, dtype: torch.dtype, packed: bool, name: str) -> Path:
    """Write down the fastest backend; returns the file."""
    target = path()
    _table.cache_clear()
    table = {**_table(), _key(device, dtype, packed): name}
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, suffix=".json")
    with os.fdopen(handle, "w") as file:
        json.dump(table, file, indent=2)
    os.replace(temporary, target)
    _table.cache_clear()
    return target
