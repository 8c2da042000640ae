"""How the kernels on CUDA multiply float32 numbers.

``SPLIT`` into halves (:mod:`lgatr.ops._runtime.triton_split`) has the accuracy of float32, and is
the default. ``AS_THEY_ARE`` leaves tensor cores to round to TF32, as
``torch.backends.cuda.matmul.allow_tf32`` allows. ``ROUNDED`` to bfloat16 is what autocast asks for.
Numbers of 16 bits are multiplied as they are, whatever the choice.
"""

from __future__ import annotations

import torch

AS_THEY_ARE, ROUNDED, SPLIT = 0, 1, 2


def products_of(device: str) -> int:
    """What the user asks for at this moment, on devices of a type."""
    if torch.is_autocast_enabled(device):
        return ROUNDED
    return AS_THEY_ARE if torch.backends.cuda.matmul.allow_tf32 else SPLIT
