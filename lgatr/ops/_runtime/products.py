"""How the kernels on CUDA multiply float32 numbers.

``SPLIT`` into 16-bit numbers (:mod:`lgatr.ops._runtime.triton_split`) has the accuracy of float32,
and is the default. ``AS_THEY_ARE`` leaves tensor cores to round to TF32, as
``torch.backends.cuda.matmul.allow_tf32`` allows. ``ROUNDED`` to bfloat16 is for what
:mod:`lgatr.utils.autocast` leaves to autocast; autocast to float16 gets TF32. Sums are float32
numbers always, and numbers of 16 bits are multiplied as they are.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import torch

from lgatr.utils.autocast import is_naive

AS_THEY_ARE, ROUNDED, SPLIT = 0, 1, 2


class Products(NamedTuple):
    """How numbers are multiplied: those of scalars and pseudoscalars, and all others."""

    invariants: int
    components: int


_thread = threading.local()


def products() -> Products:
    """What the user asks for at this moment, or asked for when the outputs were computed."""
    chosen: Products | None = getattr(_thread, "chosen", None)
    if chosen is not None:
        return chosen
    exact = AS_THEY_ARE if torch.backends.cuda.matmul.allow_tf32 else SPLIT
    if torch.is_autocast_enabled("cuda"):
        # TF32 has as many bits as float16, and no overflow.
        half = torch.get_autocast_dtype("cuda") == torch.float16
        rounded = AS_THEY_ARE if half else ROUNDED
        return Products(rounded, rounded if is_naive() else exact)
    return Products(exact, exact)


class same_products:
    """Inside the block numbers are multiplied as given; for a gradient, as its outputs were."""

    def __init__(self, chosen: Products) -> None:
        self.chosen, self.before = chosen, None

    def __enter__(self) -> None:
        self.before = getattr(_thread, "chosen", None)
        _thread.chosen = self.chosen

    def __exit__(self, *exception: Any) -> None:
        _thread.chosen = self.before
