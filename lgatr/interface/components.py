"""Put components into multivectors and take them out."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.algebra import NUM_BLADES
from lgatr.layout import constant
from lgatr.utils.inputs import check_dense


def embed(values: Tensor, components: tuple[int, ...]) -> Tensor:
    """Multivectors ``(..., 16)`` with ``values`` ``(..., n)`` at the given components.

    Raises
    ------
    TypeError, ValueError
        If this is no dense tensor, or the last dimension of ``values`` has another size.
    """
    check_dense("components", values, f"(..., {len(components)})")
    if values.shape[-1:] != (len(components),):
        raise ValueError(
            f"expected {len(components)} components in the last dimension, "
            f"got a tensor of shape {tuple(values.shape)}"
        )
    index = constant(components, values.device, torch.int64)
    out = values.new_zeros(*values.shape[:-1], NUM_BLADES)
    return out.index_copy(-1, index, values)


def extract(multivectors: Tensor, components: tuple[int, ...]) -> Tensor:
    """The given components of multivectors ``(..., 16)``.

    Raises
    ------
    TypeError, ValueError
        If this is no dense tensor, or the last dimension is not 16.
    """
    check_dense("multivectors", multivectors, f"(..., {NUM_BLADES})")
    if multivectors.shape[-1:] != (NUM_BLADES,):
        raise ValueError(
            f"expected multivectors (..., {NUM_BLADES}), got shape {tuple(multivectors.shape)}"
        )
    return multivectors.index_select(-1, constant(components, multivectors.device, torch.int64))
