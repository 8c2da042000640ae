"""Networks in safetensors files, with their constructor arguments in the header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FILE_NAME = "model.safetensors"
_KIND, _ARGUMENTS, _DIGEST = "lgatr.network", "lgatr.arguments", "lgatr.sha256"


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError("saving networks needs safetensors; pip install safetensors") from error
    return safetensors


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights with their names, formats and shapes."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_pretrained(
    directory: str | Path, kind: str, arguments: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Path:
    """Write weights and arguments under a temporary name, then rename."""
    library = _safetensors()
    target = Path(directory) / FILE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{FILE_NAME}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        header = {_KIND: kind, _ARGUMENTS: json.dumps(arguments), _DIGEST: digest(tensors)}
        partial.write_bytes(library.torch.save(tensors, metadata=header))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def read_pretrained(
    source: str | Path,
) -> tuple[str, dict[str, Any], dict[str, Tensor], torch.dtype]:
    """Kind, arguments, weights, and their format; see :meth:`Network.from_pretrained`."""
    library = _safetensors()
    path = Path(source)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save_pretrained writes {FILE_NAME}")
    try:
        with library.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
    except library.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file or damaged ({error})") from error
    if _KIND not in header:
        raise ValueError(f"{path}: holds weights without their network; use load_checkpoint")
    # Files of earlier versions, and of other programs, have no checksum.
    if _DIGEST in header and header[_DIGEST] != digest(state):
        raise ValueError(f"{path}: damaged; the weights do not match their checksum, copy it again")
    dtype = next((t.dtype for t in state.values() if t.is_floating_point()), torch.float32)
    return header[_KIND], json.loads(header[_ARGUMENTS]), state, dtype
