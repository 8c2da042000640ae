"""Lorentz-invariant inner product and norms."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.algebra import GRADE_SLICES, INNER_SIGNS
from lgatr.layout import constant
from lgatr.ops.norm.formula import sector_squared_norm
from lgatr.utils.inputs import broadcast, check_multivectors


def inner_product(x: Tensor, y: Tensor) -> Tensor:
    r"""The invariant inner product :math:`\langle \tilde x y \rangle_0`.

    Parameters
    ----------
    x, y
        Multivectors ``(..., 16)``; leading dimensions broadcast.

    Returns
    -------
    ``(..., 1)``.
    """
    check_multivectors("x", x, pointwise=True)
    check_multivectors("y", y, like=x, pointwise=True)
    x, y = broadcast(x, y)
    signs = constant(INNER_SIGNS, x.device, x.dtype)
    return (x * signs * y).sum(dim=-1, keepdim=True)


def abs_squared_norm(x: Tensor) -> Tensor:
    r"""A norm that is never negative: :math:`\sum_g |\langle \tilde x_g x_g \rangle_0|`.

    The absolute value is taken grade by grade, so the result is Lorentz invariant.

    Parameters
    ----------
    x
        Multivectors ``(..., 16)``.

    Returns
    -------
    ``(..., 1)``.
    """
    check_multivectors("x", x, pointwise=True)
    signs = constant(INNER_SIGNS, x.device, x.dtype)
    squares = x * x * signs
    first, *rest = (squares[..., g].sum(dim=-1, keepdim=True).abs() for g in GRADE_SLICES)
    for norm in rest:
        first = first + norm
    return first


def _load_inner_product_factors(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    # lloca 2.0 imports this name: the signs of the inner product in the public order of blades.
    return constant(INNER_SIGNS, torch.device(device), dtype)


__all__ = ["abs_squared_norm", "inner_product", "sector_squared_norm"]
