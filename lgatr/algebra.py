"""The geometric algebra Cl(1,3) of spacetime, computed from its metric.

Everything here is plain Python, worked out once on import: which blades there are, how two
of them multiply, and how the algebra splits into the pairs that make equivariant maps cheap.

Legend: G = 16 blades in the public order ``1, e0..e3, e01, e02, e03, e12, e13, e23, e012, e013,
e023, e123, e0123``; metric (+, -, -, -); I = e0123, with I I = -1.

**Pairs.** Right multiplication by I commutes with every Lorentz transformation connected to the
identity, so the ten linear maps equivariant under SO+(1,3) are the five grade projections and the
same followed by I (arXiv:2405.14806, proposition 2). In the basis of eight pairs (p, p I), with
p = 1, e0, e1, e2, e3, e01, e02, e03, multiplication by I is a rotation inside each pair. The pairs
form three *sectors* on which the group acts irreducibly: one scalar pair (1, I), four vector
pairs (e_mu, e_mu I), three bivector pairs (e_0i, e_0i I).
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

METRIC = (1, -1, -1, -1)
DIMENSION = len(METRIC)

BLADES: tuple[tuple[int, ...], ...] = tuple(
    blade for grade in range(DIMENSION + 1) for blade in combinations(range(DIMENSION), grade)
)
"""The basis vectors of each blade, in the public order."""

NUM_BLADES = len(BLADES)
GRADES: tuple[int, ...] = tuple(len(blade) for blade in BLADES)
NUM_GRADES = DIMENSION + 1
GRADE_SLICES: tuple[slice, ...] = tuple(
    slice(GRADES.index(grade), GRADES.index(grade) + GRADES.count(grade))
    for grade in range(NUM_GRADES)
)
PSEUDOSCALAR = NUM_BLADES - 1


def multiply_blades(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The product of two blades: the resulting blade and its sign.

    The basis vectors are sorted by neighbour swaps, each of which changes the sign, and equal
    neighbours contract with the metric.
    """
    vectors, sign = [*left, *right], 1
    for end in range(len(vectors) - 1, 0, -1):
        for i in range(end):
            if vectors[i] > vectors[i + 1]:
                vectors[i], vectors[i + 1] = vectors[i + 1], vectors[i]
                sign = -sign
    blade: list[int] = []
    for vector in vectors:
        if blade and blade[-1] == vector:
            sign *= METRIC[blade.pop()]
        else:
            blade.append(vector)
    return tuple(blade), sign


def _product_table() -> tuple[tuple[tuple[int, int], ...], ...]:
    index = {blade: i for i, blade in enumerate(BLADES)}
    rows = []
    for left in BLADES:
        products = [multiply_blades(left, right) for right in BLADES]
        rows.append(tuple((index[blade], sign) for blade, sign in products))
    return tuple(rows)


PRODUCT = _product_table()
"""``PRODUCT[a][b] = (c, sign)`` with ``e_a e_b = sign e_c``."""

REVERSE_SIGNS: tuple[int, ...] = tuple((-1) ** (g * (g - 1) // 2) for g in GRADES)
"""Sign of each blade under reversal of the order of its basis vectors."""

INVOLUTION_SIGNS: tuple[int, ...] = tuple((-1) ** g for g in GRADES)
"""Sign of each blade under grade involution, e_mu -> -e_mu."""

INNER_SIGNS: tuple[int, ...] = tuple(REVERSE_SIGNS[a] * PRODUCT[a][a][1] for a in range(NUM_BLADES))
"""The metric of the inner product <x, y> = <~x y>_0, diagonal in the blades."""


class Pair(NamedTuple):
    """A blade p and the blade of p I, with the sign in ``p I = sign * e_dual``."""

    blade: int
    dual: int
    sign: int


def _pair(blade: int) -> Pair:
    dual, sign = PRODUCT[blade][PSEUDOSCALAR]
    return Pair(blade, dual, sign)


SCALAR_PAIRS: tuple[Pair, ...] = (_pair(0),)
VECTOR_PAIRS: tuple[Pair, ...] = tuple(_pair(i) for i, g in enumerate(GRADES) if g == 1)
BIVECTOR_PAIRS: tuple[Pair, ...] = tuple(
    _pair(i) for i, blade in enumerate(BLADES) if len(blade) == 2 and blade[0] == 0
)
PAIRS: tuple[Pair, ...] = SCALAR_PAIRS + VECTOR_PAIRS + BIVECTOR_PAIRS
NUM_PAIRS = len(PAIRS)

PAIR_BLADES: tuple[int, ...] = tuple(p.blade for p in PAIRS) + tuple(p.dual for p in PAIRS)
"""Blade of each of the 16 pair-basis elements: the eight p, then the eight p I."""

PAIR_SIGNS: tuple[int, ...] = (1,) * NUM_PAIRS + tuple(p.sign for p in PAIRS)
"""Sign of that blade in the pair-basis element."""

PAIR_METRIC: tuple[int, ...] = tuple(INNER_SIGNS[p.blade] for p in PAIRS)
"""Inner-product sign of each p; that of p I is the opposite."""


class Product(NamedTuple):
    """One term of the geometric product in the pair basis: ``out += sign * left * right``."""

    left: int
    right: int
    out: int
    sign: int


def _pair_products() -> tuple[Product, ...]:
    position = {blade: i for i, blade in enumerate(PAIR_BLADES)}
    terms = []
    for i, a in enumerate(PAIR_BLADES):
        for j, b in enumerate(PAIR_BLADES):
            blade, sign = PRODUCT[a][b]
            out = position[blade]
            terms.append(Product(i, j, out, sign * PAIR_SIGNS[i] * PAIR_SIGNS[j] * PAIR_SIGNS[out]))
    return tuple(terms)


PAIR_PRODUCTS = _pair_products()
"""The 256 terms of the geometric product between the 16 pair-basis elements."""
