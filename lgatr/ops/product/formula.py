"""The geometric product in plain torch: by the table of the algebra, and by complex matrices.

Legend: T tokens (any leading shape), C channels. States have no auxiliary scalars.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.algebra import NUM_PAIRS, PAIR_PRODUCTS
from lgatr.layout import NUM_VECTORS, Sectors, constant


def _dense_table() -> tuple[float, ...]:
    """The terms of the product as a table ``(16, 16, 16)``: left, right, result."""
    n = 2 * NUM_PAIRS
    table = [0.0] * n**3
    for left, right, out, sign in PAIR_PRODUCTS:
        table[(left * n + right) * n + out] += sign
    return tuple(table)


# Made on import: while torch traces a program it would not remember a cached result.
_TABLE = _dense_table()


def _planes(x: Sectors) -> list[Tensor]:
    """The 16 coefficients in the pair basis, each a view ``(T, C)``."""
    c = x.mv_channels
    rows = [x.z, *x.v.unbind(0), *x.b.unbind(0)]
    return [row[..., :c] for row in rows] + [row[..., c : 2 * c] for row in rows]


def product_by_table(x: Sectors, y: Sectors) -> Sectors:
    """The product as the algebra defines it: all products of two coefficients, times a table.

    Needs sixteen times the memory, but only operations that every runtime has; exported programs
    contain this form, and all others are tested against it.
    """
    left, right = torch.stack(_planes(x), dim=-1), torch.stack(_planes(y), dim=-1)
    table = constant(_TABLE, left.device, left.dtype).view(-1, 2 * NUM_PAIRS)
    out = (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2) @ table
    re, im = out.movedim(-1, 0).unflatten(0, (2, NUM_PAIRS)).unbind(0)
    pairs = torch.cat([re, im], dim=-1)
    return Sectors(pairs[0], pairs[1 : 1 + NUM_VECTORS], pairs[1 + NUM_VECTORS :])


class Entry(NamedTuple):
    """An entry of the 4x4 matrix: which entry of E (part 0) or O (part 1), conjugated, its sign."""

    part: int
    row: int
    column: int
    conjugate: bool
    sign: int


def _tilde(part: int, row: int, column: int) -> Entry:
    """An entry of the adjugate of the conjugate transpose of E or O."""
    return Entry(part, 1 - row, 1 - column, True, 1 if row == column else -1)


def _left_matrix() -> tuple[tuple[Entry, ...], ...]:
    rows = []
    for part in (0, 1):
        for row in (0, 1):
            own = [Entry(part, row, column, False, 1) for column in (0, 1)]
            other = [_tilde(1 - part, row, column) for column in (0, 1)]
            rows.append((*own, *other))
    return tuple(rows)


LEFT = _left_matrix()
"""The 4x4 matrix by which x multiplies from the left."""

Planes = tuple[Tensor, Tensor]
"""Real and imaginary parts."""


def _components(x: Sectors) -> tuple[list[list[Planes]], ...]:
    """The entries of E and of O."""
    c = x.mv_channels
    found = []
    for rows in ((x.z, *x.b.unbind(0)), x.v.unbind(0)):
        (p, q), (r, s), (t, u), (v, w) = ((row[..., :c], row[..., c : 2 * c]) for row in rows)
        found.append([[(p + v, q + w), (r - u, s + t)], [(r + u, s - t), (p - v, q - w)]])
    return tuple(found)


def product_by_matrices(x: Sectors, y: Sectors) -> Sectors:
    """The product as a complex 4x4 matrix times a complex 4x2 matrix, see the package's text."""
    left, right = _components(x), _components(y)
    columns = [part[row] for part in right for row in (0, 1)]  # 4 rows of 2 entries
    re: Tensor | None = None
    im: Tensor | None = None
    for k in range(4):
        entries = [(left[e.part][e.row][e.column], e) for e in (row[k] for row in LEFT)]
        a = torch.stack([p if e.sign > 0 else -p for (p, _), e in entries]).unsqueeze(1)
        b = torch.stack(
            [q if e.conjugate == (e.sign < 0) else -q for (_, q), e in entries]
        ).unsqueeze(1)
        c, d = (torch.stack([entry[i] for entry in columns[k]]) for i in (0, 1))
        if re is None or im is None:
            re, im = a * c, a * d
        else:
            re, im = torch.addcmul(re, a, c), torch.addcmul(im, a, d)
        re, im = torch.addcmul(re, b, d, value=-1), torch.addcmul(im, b, c)
    assert re is not None and im is not None
    return _multivectors(re, im)


def _multivectors(re: Tensor, im: Tensor) -> Sectors:
    """The multivectors whose E and O are the rows of a matrix ``(4, 2, T, C)``."""
    parts = []
    for first in (0, 2):
        (a, b), (c, d) = re[first].unbind(0), re[first + 1].unbind(0)
        (p, q), (r, s) = im[first].unbind(0), im[first + 1].unbind(0)
        pairs = (a + d, p + s), (b + c, q + r), (q - r, c - b), (a - d, p - s)
        parts.append([torch.cat(pair, dim=-1) for pair in pairs])
    (z, *b_rows), v_rows = parts
    return Sectors(0.5 * z, 0.5 * torch.stack(v_rows), 0.5 * torch.stack(b_rows))
