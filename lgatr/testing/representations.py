"""How physics objects transform: exterior powers of the 4x4 matrix of a transformation."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

_AXIAL_ORDER = (3, 2, 1, 0)
"""Where ``embed_axialvector`` puts (t, x, y, z) among e012, e013, e023, e123."""


def _minor(matrix: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Tensor:
    """The determinant of a part of the matrix, expanded along its first row.

    Nothing is divided, unlike in an elimination, which fails on almost vanishing entries.
    """
    if not rows:
        return matrix.new_ones(())
    terms = [
        (-1) ** i
        * matrix[rows[0], column]
        * _minor(matrix, rows[1:], columns[:i] + columns[i + 1 :])
        for i, column in enumerate(columns)
    ]
    return torch.stack(terms).sum()


def _exterior_power(matrix: Tensor, grade: int) -> Tensor:
    """The action on grade ``grade``: the minors of the matrix."""
    blades = list(combinations(range(4), grade))
    minors = [_minor(matrix, rows, columns) for rows in blades for columns in blades]
    return torch.stack(minors).view(len(blades), len(blades))


def _axialvector(matrix: Tensor) -> Tensor:
    order = list(_AXIAL_ORDER)
    return _exterior_power(matrix, 3)[order][:, order]


def _multivector(matrix: Tensor) -> Tensor:
    return torch.block_diag(*(_exterior_power(matrix, grade) for grade in range(5)))


REPRESENTATIONS = {
    "scalar": lambda matrix: None,
    "vector": lambda matrix: matrix,
    "bivector": lambda matrix: _exterior_power(matrix, 2),
    "axialvector": _axialvector,
    "pseudoscalar": lambda matrix: _exterior_power(matrix, 4),
    "multivector": _multivector,
}
"""Representation by name; each acts on the last dimension, in the order of ``embed_*``.

``"slim vector"`` is a vector in the last but one dimension, as the slim layers have it.
"""


def transform(x: Tensor, matrix: Tensor, representation: str = "vector") -> Tensor:
    """Apply a Lorentz transformation to physics objects.

    Parameters
    ----------
    x
        Objects in the last dimension: 1, 4, 6 or 16 numbers, any number for ``"scalar"``; in the
        last but one dimension for ``"slim vector"``.
    matrix
        ``(4, 4)``, see :mod:`lgatr.testing.transformations`.
    representation
        A key of :data:`REPRESENTATIONS`, or ``"slim vector"``.

    Raises
    ------
    ValueError
        If there is no such representation, or ``x`` has another size.
    """
    if representation == "slim vector":
        return transform(x.transpose(-1, -2), matrix, "vector").transpose(-1, -2)
    if representation not in REPRESENTATIONS:
        known = ", ".join((*REPRESENTATIONS, "slim vector"))
        raise ValueError(f"no representation {representation!r}; choose from {known}")
    action = REPRESENTATIONS[representation](matrix.to(torch.float64).cpu())
    if action is None:
        return x
    if x.shape[-1] != action.shape[0]:
        raise ValueError(
            f"a {representation} has {action.shape[0]} components in its last dimension, got shape "
            f"{tuple(x.shape)}"
        )
    return x @ action.to(device=x.device, dtype=x.dtype).T
