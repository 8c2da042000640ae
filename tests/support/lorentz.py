"""Lorentz transformations built without the library's algebra: matrices and their minors."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

PARITY = torch.diag(torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
TIME_REVERSAL = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))


def rotation() -> Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    q = q * r.diagonal().sign()
    if torch.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[1:, 1:] = q
    return matrix


def random_transformation(rapidity: float = 2.0) -> Tensor:
    """A random element of SO+(1,3), (4, 4)."""
    rapid = torch.tensor(rapidity, dtype=torch.float64)
    direction = torch.randn(3, dtype=torch.float64)
    n = direction / direction.norm()
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[0, 0] = rapid.cosh()
    matrix[0, 1:] = matrix[1:, 0] = rapid.sinh() * n
    matrix[1:, 1:] += (rapid.cosh() - 1) * torch.outer(n, n)
    return rotation() @ matrix @ rotation()


def on_multivectors(matrix: Tensor) -> Tensor:
    """The action on multivectors, (16, 16): the k-th exterior power on grade k."""
    full = torch.zeros(16, 16, dtype=torch.float64)
    start = 0
    for grade in range(5):
        blades = list(combinations(range(4), grade))
        for i, rows in enumerate(blades):
            for j, columns in enumerate(blades):
                minor = matrix[list(rows)][:, list(columns)]
                full[start + i, start + j] = torch.linalg.det(minor) if grade else 1.0
        start += len(blades)
    return full


def transform(multivectors: Tensor, matrix: Tensor) -> Tensor:
    return multivectors @ on_multivectors(matrix).to(multivectors.dtype).T
