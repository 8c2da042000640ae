"""Names that user code imports from here."""

from __future__ import annotations

from torch import Tensor

from lgatr.utils.nonlinearities import get_nonlinearity


def residual_add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two tensors, either of which may be missing."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


__all__ = ["get_nonlinearity", "residual_add"]
