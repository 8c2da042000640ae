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
_KIND, _ARGUMENTS = "lgatr.network", "lgatr.arguments"
_DIGEST, _CHECKSUM = "lgatr.sha256", "lgatr.sha256.all"
"""Checksums of the weights, and of everything."""


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError("saving networks needs safetensors; pip install safetensors") from error
    return safetensors


def digest(state: Mapping[str, Tensor], *texts: str) -> str:
    """SHA-256 of texts, and of weights with their names, formats and shapes."""
    found = hashlib.sha256("".join(f"{len(text)} {text}\n" for text in texts).encode())
    for name in sorted(state):
        tensor = state[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_pretrained(
    directory: str | Path, kind: str, arguments: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Path:
    """Write weights and arguments under a temporary name, then rename."""
    library = _safetensors()
    empty = next((name for name, tensor in state.items() if tensor.is_meta), None)
    if empty is not None:
        raise ValueError(
            f"{empty} is on meta, without numbers to save; "
            'net.to_empty(device="cpu"), then load weights'
        )
    target = Path(directory) / FILE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{FILE_NAME}.partial")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        text = json.dumps(arguments)
        header = {_KIND: kind, _ARGUMENTS: text, _CHECKSUM: digest(tensors, kind, text)}
        partial.write_bytes(library.torch.save(tensors, metadata=header))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file, compared with the checksum in it, if any.

    Raises
    ------
    ValueError
        If it is no safetensors file, or damaged.
    """
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
    except library.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file or damaged ({error})") from error
    # Files of other programs have no checksum, those of earlier versions one of the weights.
    texts = header.get(_KIND, ""), header.get(_ARGUMENTS, "")
    for name, covered in ((_CHECKSUM, texts), (_DIGEST, ())):
        if name in header and header[name] != digest(state, *covered):
            raise ValueError(
                f"{path}: damaged; the weights or arguments do not match their checksum, copy it "
                "again"
            )
    return state, header


def read_pretrained(
    source: str | Path,
) -> tuple[Path, str, dict[str, Any], dict[str, Tensor]]:
    """File, kind, arguments and weights; see :meth:`Network.from_pretrained`."""
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"a saved network is a directory or file, not {type(source).__name__}")
    path = Path(source)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save_pretrained writes {FILE_NAME}")
    state, header = read_safetensors(path)
    if _KIND not in header:
        raise ValueError(f"{path}: holds weights without their network; use load_checkpoint")
    try:
        arguments = json.loads(header.get(_ARGUMENTS, ""))
    except ValueError as error:
        raise ValueError(f"{path}: the arguments of the network are damaged ({error})") from error
    if not isinstance(arguments, dict):
        raise ValueError(f"{path}: the arguments of the network are damaged (no mapping)")
    return path, header[_KIND], arguments, state
