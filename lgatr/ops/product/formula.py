r"""The geometric product as a product of small complex matrices.

Multiplication by I from the right is a complex structure: a pair (p, p I) holds one complex
number per channel. Write a multivector as even part plus :math:`e_0` times another even part,
:math:`x = E + e_0 O`. Even elements are :math:`z + \sum_k b_k\,e_{0k}`, and the :math:`e_{0k}`
multiply like Pauli matrices (whose imaginary unit is :math:`e_{01} e_{02} e_{03} = -I`), so E and
O are complex 2x2 matrices,

.. math:: E = \begin{pmatrix} z + b_3 & b_1 + i b_2 \\ b_1 - i b_2 & z - b_3 \end{pmatrix},

and O likewise from :math:`V_0, \ldots, V_3`, because :math:`e_0 e_k = e_{0k}`. Moving
:math:`e_0` past an even element gives :math:`e_0 E e_0 = \tilde E`, the adjugate of the
conjugate transpose, and therefore

.. math:: x y = (E_x E_y + \tilde O_x O_y) + e_0\,(O_x E_y + \tilde E_x O_y):

a complex 4x4 matrix times a complex 4x2 matrix, half as many products of numbers as the table of
blades has. These are the Weyl (light-cone) components of the spinor formalism.

The derivatives are geometric products again. With the Hermitian conjugate
:math:`x^\dagger = e_0 \tilde x e_0` (reversal, then reflection of space) the sum of squares of
the coefficients is the scalar part of :math:`x^\dagger x`, so that for :math:`u = x y` the
gradients are :math:`g_x = g_u\,y^\dagger` and :math:`g_y = x^\dagger g_u`.

Legend: T tokens, C channels. Everything works on planes ``(T, C)``.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors
from lgatr.ops._runtime.scratch import scratch

_PLANE = 1 << 17
"""Numbers of a plane that are worked on at a time, so that all planes stay in the caches."""


class Entry(NamedTuple):
    """An entry of the 4x4 matrix: which Weyl component, conjugated or not, and its sign."""

    part: int
    row: int
    column: int
    conjugate: bool
    sign: int


def _tilde(part: int, row: int, column: int) -> Entry:
    """An entry of the adjugate of the conjugate transpose of E (part 0) or O (part 1)."""
    sign = 1 if row == column else -1
    return Entry(part, 1 - row, 1 - column, True, sign)


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


def _dagger(entry: Entry) -> Entry:
    """Where an entry of the left matrix of the Hermitian conjugate of x is found in x itself.

    E becomes its conjugate transpose, and O its adjugate.
    """
    part, row, column, conjugate, sign = entry
    if part == 0:
        return Entry(part, column, row, not conjugate, sign)
    if row == column:
        return Entry(part, 1 - row, 1 - column, conjugate, sign)
    return Entry(part, row, column, conjugate, -sign)


LEFT_DAGGER = tuple(tuple(_dagger(entry) for entry in row) for row in LEFT)
"""The same for the Hermitian conjugate of x."""


class _Operand:
    """Room for E and O of a multivector, with all views of it that are needed, made once.

    The dimensions are E or O, row, column, and the planes -Im, Re, Im: both a number and i times
    it are then neighbouring planes.
    """

    def __init__(self, planes: Tensor) -> None:
        self.planes = planes
        self.entries = [
            [[entry.unbind(0) for entry in row.unbind(0)] for row in part.unbind(0)]
            for part in planes.unbind(0)
        ]
        """-Im, Re and Im by part, row and column."""
        self.diagonal = [(part[0, 0, 1:], part[1, 1, 1:]) for part in planes.unbind(0)]
        self.imaginary = [(part[:, :, 0], part[:, :, 2]) for part in planes.unbind(0)]
        rows = planes.flatten(0, 1).unbind(0)
        self.numbers = [row[:, 1:] for row in rows]
        """Both columns of each row of the 4x2 matrix."""
        self.times_i = [row[:, :2] for row in rows]


class _Workspace:
    """Two operands and a product of ``(T, C)``."""

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        planes = scratch("weyl", (64, *shape), like)
        self.address = planes.data_ptr()
        self.a, self.b = (
            _Operand(part.view(2, 2, 2, 3, *shape)) for part in (planes[:24], planes[24:48])
        )
        self.out = planes[48:].view(2, 2, 2, 2, *shape)
        """E or O, row, column, Re and Im."""
        self.rows = self.out.flatten(0, 1).unbind(0)


def _workspace(x: Sectors) -> _Workspace:
    """The workspace for pieces of this shape: that of the last call, if it fits."""
    shape = (*x.v.shape[1:-1], x.mv_channels)
    key = (shape, x.v.dtype, x.v.device)
    last: tuple[object, _Workspace] | None = getattr(_local, "last", None)
    if last is None or last[0] != key or last[1].address != scratch("weyl", (1,), x.v).data_ptr():
        last = _local.last = (key, _Workspace(shape, x.v))
    return last[1]


_local = threading.local()


def _rows(x: Sectors) -> tuple[list[Tensor], list[Tensor]]:
    """The rows of E and of O as real and imaginary planes ``(2, T, C)``."""
    c = x.mv_channels
    z = x.z[..., : 2 * c].unflatten(-1, (2, c)).movedim(-2, 0)
    b, v = (r.unflatten(-1, (2, c)).movedim(-2, 1).unbind(0) for r in (x.b, x.v))
    return [z, *b], list(v)


def _components(x: Sectors, out: _Operand, dagger: bool = False) -> _Operand:
    """E and O of x, or of its Hermitian conjugate."""
    for part, (zero, one, two, three) in enumerate(_rows(x)):
        # E of the conjugate is conjugated, which exchanges -Im and Im; O changes signs.
        conjugated, adjugated = dagger and part == 0, dagger and part == 1
        w = out.entries[part]
        (one_re, one_im), (two_re, two_im) = one.unbind(0), two.unbind(0)
        place = 0 if conjugated else 2
        if conjugated:
            (zero_re, zero_im), (three_re, three_im) = zero.unbind(0), three.unbind(0)
            for entry, sign in ((w[0][0], 1), (w[1][1], -1)):
                torch.add(zero_re, three_re, alpha=sign, out=entry[1])
                torch.add(zero_im, three_im, alpha=sign, out=entry[0])
        else:
            sign = -1 if adjugated else 1
            torch.add(zero, three, alpha=sign, out=out.diagonal[part][0])
            torch.add(zero, three, alpha=-sign, out=out.diagonal[part][1])
        s = -1 if conjugated else 1
        for entry, sign in ((w[0][1], -s), (w[1][0], s)):
            torch.add(one_re, two_im, alpha=sign, out=entry[1])
            torch.add(one_im, two_re, alpha=-sign, out=entry[place])
        source, target = out.imaginary[part][:: 1 if conjugated else -1]
        torch.neg(source, out=target)
        if adjugated:
            for entry in (w[0][1], w[1][0]):
                for plane in entry:
                    plane.neg_()
    return out


def _multiply(
    left: _Operand, right: _Operand, table: tuple[tuple[Entry, ...], ...], space: _Workspace
) -> Tensor:
    """The 4x4 matrix that ``table`` makes of ``left``, times the 4x2 matrix ``right``."""
    for place, entries in zip(space.rows, table, strict=True):
        for k, (part, row, column, conjugate, sign) in enumerate(entries):
            _, real, imaginary = left.entries[part][row][column]
            if k == 0:
                torch.mul(right.numbers[k], real, out=place)
                if sign < 0:
                    place.neg_()
            else:
                place.addcmul_(right.numbers[k], real, value=sign)
            place.addcmul_(right.times_i[k], imaginary, value=-sign if conjugate else sign)
    return space.out


def _store(w: Tensor, place: Sectors) -> None:
    """Write the multivectors with Weyl components ``2 w`` into ``place``."""
    w.mul_(0.5)
    for part, (zero, one, two, three) in zip(w.unbind(0), _rows(place), strict=True):
        (first, upper), (lower, last) = (row.unbind(0) for row in part.unbind(0))
        torch.add(first, last, out=zero)
        torch.sub(first, last, out=three)
        torch.add(upper, lower, out=one)
        torch.sub(lower[0], upper[0], out=two[1])
        torch.sub(upper[1], lower[1], out=two[0])


def empty(x: Sectors) -> Sectors:
    """Room for multivectors like x."""
    t, c2 = x.v.shape[1:-1], 2 * x.mv_channels
    shapes = ((*t, c2), (NUM_VECTORS, *t, c2), (NUM_BIVECTORS, *t, c2))
    return Sectors(*(x.v.new_empty(shape) for shape in shapes))


def _pieces(states: tuple[Sectors, ...]) -> list[tuple[Sectors, ...]]:
    """The states cut into pieces of as many tokens as the caches hold planes of."""
    tokens, channels = states[0].v.shape[1], states[0].mv_channels
    size = max(_PLANE // max(channels, 1), 1)
    if states[0].v.dim() != 3 or tokens <= size:
        return [states]
    count = -(-tokens // size)
    size = -(-tokens // count)
    cut = [
        zip(x.z.split(size), x.v.split(size, 1), x.b.split(size, 1), strict=True) for x in states
    ]
    return [tuple(Sectors(*parts) for parts in pieces) for pieces in zip(*cut, strict=True)]


def product(x: Sectors, y: Sectors, x_dagger: bool = False, y_dagger: bool = False) -> Sectors:
    """The geometric product, of Hermitian conjugates where asked."""
    out = empty(x)
    for left, right, place in _pieces((x, y, out)):
        space = _workspace(left)
        a, b = _components(left, space.a), _components(right, space.b, y_dagger)
        _store(_multiply(a, b, LEFT_DAGGER if x_dagger else LEFT, space), place)
    return out


def product_gradients(
    x: Sectors, y: Sectors, grad: Sectors, places: tuple[Sectors, Sectors]
) -> tuple[Sectors, Sectors]:
    """Write the gradients of x and y into ``places``, given that of their product."""
    gx, gy = places
    for left, right, g, place_x, place_y in _pieces((x, y, grad, gx, gy)):
        space = _workspace(left)
        w = _components(g, space.a)
        of_y = _components(right, space.b, dagger=True)
        _store(_multiply(w, of_y, LEFT, space), place_x)
        of_x = _components(left, space.b)
        _store(_multiply(of_x, w, LEFT_DAGGER, space), place_y)
    return gx, gy
