"""Operations on stacks of tensors and matrices, one launch for a whole stack.

Legend: N tensors of a stack, D size of a dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _unfolded(stack: Tensor, dim: int) -> tuple[int, int, int]:
    """Entries before, in and behind a dimension of the tensors of a stack ``(N, ...)``."""
    shape = stack.shape[1:]
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


def along(stack: Tensor, matrices: Tensor, dim: int) -> Tensor:
    """Multiply one dimension of each tensor by its matrix: ``sum_d x[.. d ..] m[d, e]``.

    Parameters
    ----------
    stack
        ``(N, ...)``, contiguous.
    matrices
        ``(N, D, E)``.
    dim
        Dimension of the tensors, of size D; 0 is the first behind N.
    """
    before, size, behind = _unfolded(stack, dim)
    shape = (*stack.shape[: dim + 1], matrices.shape[-1], *stack.shape[dim + 2 :])
    if behind == 1:
        product = stack.view(len(stack), before, size) @ matrices
    elif before == 1:
        product = matrices.mT @ stack.view(len(stack), size, behind)
    else:
        product = matrices.mT.unsqueeze(1) @ stack.view(len(stack), before, size, behind)
    return product.view(shape)


def add_products(products: Tensor, stack: Tensor, dim: int, weight: float) -> None:
    """Move matrices by ``weight`` towards the products of slices ``sum x[.. d ..] x[.. e ..]``.

    Parameters
    ----------
    products
        ``(N, D, D)``, changed in place.
    stack
        ``(N, ...)``, contiguous.
    dim
        As of :func:`along`.
    """
    before, size, behind = _unfolded(stack, dim)
    if behind == 1:
        rows = stack.view(len(stack), before, size).mT
    elif before == 1:
        rows = stack.view(len(stack), size, behind)
    else:
        parts = stack.view(len(stack), before, size, behind).transpose(1, 2)
        rows = parts.reshape(len(stack), size, before * behind)
    products.baddbmm_(rows, rows.mT, beta=1.0 - weight, alpha=weight)


def orthogonal(matrices: Tensor) -> Tensor:
    """The orthogonal factor of the QR decomposition of each matrix ``(N, D, D)``.

    LAPACK's, but for rounding: a product of D reflections, which are multiplied here as
    ``1 - V T V^T`` (UT transform; Joffrain et al. 2006, doi:10.1145/1141885.1141886), because
    libraries on a GPU form the product matrix by matrix, with many launches for each.
    """
    packed, tau = torch.geqrf(matrices)
    vectors = packed.tril(-1)
    vectors.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    # A factor of zero stands for no reflection.
    none = tau == 0
    vectors = vectors.masked_fill(none.unsqueeze(-2), 0.0)
    inverse = (vectors.mT @ vectors).triu(1)
    inverse.diagonal(dim1=-2, dim2=-1).copy_(tau.masked_fill(none, 1.0).reciprocal())
    factor = torch.linalg.solve_triangular(inverse, vectors.mT, upper=True)
    found = -(vectors @ factor)
    found.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return found
