"""Sums of signed products of planes: the geometric product and all its derivatives.

A bilinear map given by a table of terms ``out[k] += sign * x[i] * y[j]`` has derivatives of the
same kind: with respect to x they are ``sum sign * g[k] * y[j]``, collected in i. One function,
told which role (i, j or k) each operand plays, is therefore its own gradient, to any order.

Each term is one fused multiply-add over a plane of all tokens and channels, accumulated in
place: no intermediate, no gather, and no scatter whose order could vary between runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lgatr.algebra import NUM_PAIRS, PAIR_PRODUCTS
from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors

Roles = tuple[int, int, int]
"""Which entry of a term (0 left, 1 right, 2 out) the operands and the result stand for."""

PRODUCT_ROLES: Roles = (0, 1, 2)


def _empty_like(x: Sectors) -> Sectors:
    return Sectors(torch.empty_like(x.z), torch.empty_like(x.v), torch.empty_like(x.b))


def _planes(x: Sectors) -> list[Tensor]:
    """The 16 coefficients in the pair basis, each a view ``(T, C)``."""
    c = x.mv_channels
    rows = [x.z, *x.v.unbind(0), *x.b.unbind(0)]
    return [row[..., :c] for row in rows] + [row[..., c : 2 * c] for row in rows]


@cache
def _terms(roles: Roles) -> list[list[tuple[int, int, int]]]:
    """For each result plane its terms (first operand, second operand, sign), a positive first."""
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(2 * NUM_PAIRS)]
    for term in PAIR_PRODUCTS:
        rows[term[roles[2]]].append((term[roles[0]], term[roles[1]], term.sign))
    return [sorted(row, key=lambda t: -t[2]) for row in rows]


def signed_products_reference(x: Sectors, y: Sectors, roles: Roles = PRODUCT_ROLES) -> Sectors:
    """The same sums written with ordinary differentiable operations."""
    left, right = _planes(x), _planes(y)
    out = [sum(s * left[i] * right[j] for i, j, s in row) for row in _terms(roles)]
    rows = [
        torch.cat([re, im], -1)  # type: ignore[list-item]
        for re, im in zip(out[:NUM_PAIRS], out[NUM_PAIRS:], strict=True)
    ]
    return Sectors(rows[0], torch.stack(rows[1 : 1 + NUM_VECTORS]), torch.stack(rows[-3:]))


def _signed_products(x: Sectors, y: Sectors, roles: Roles) -> Sectors:
    out = _empty_like(x)
    left, right = _planes(x), _planes(y)
    for plane, ((i, j, _), *rest) in zip(_planes(out), _terms(roles), strict=True):
        torch.mul(left[i], right[j], out=plane)
        for i, j, sign in rest:
            plane.addcmul_(left[i], right[j], value=sign)
    return out


class _SignedProducts(torch.autograd.Function):
    @staticmethod
    def forward(
        zx: Tensor, vx: Tensor, bx: Tensor, zy: Tensor, vy: Tensor, by: Tensor, roles: Roles
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _signed_products(Sectors(zx, vx, bx), Sectors(zy, vy, by), roles)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, ctx.roles = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        x, y, g = Sectors(*tensors[:3]), Sectors(*tensors[3:]), Sectors(*grads)
        left, right, out = ctx.roles
        gx: tuple[Tensor | None, ...] = (None,) * 3
        gy: tuple[Tensor | None, ...] = (None,) * 3
        if any(ctx.needs_input_grad[:3]):
            gx = signed_products(g, y, (out, right, left))
        if any(ctx.needs_input_grad[3:6]):
            gy = signed_products(x, g, (left, out, right))
        return (*gx, *gy, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        saved = ctx.saved_tensors
        x, y = Sectors(*saved[:3]), Sectors(*saved[3:])
        dx, dy = (
            Sectors(*(torch.zeros_like(p) if t is None else t for t, p in zip(ts, ps, strict=True)))
            for ts, ps in ((tangents[:3], x), (tangents[3:6], y))
        )
        first = signed_products(dx, y, ctx.roles)
        second = signed_products(x, dy, ctx.roles)
        return tuple(a + b for a, b in zip(first, second, strict=True))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *args: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, roles = args
        # Planes are taken along the last dimension and the first of v and b, so the mapped
        # dimension may stand anywhere between; the second place suits z, v and b alike.
        places = (0, 1, 1, 0, 1, 1)
        moved = [
            t.movedim(d, place)
            if d is not None
            else t.unsqueeze(place).expand(*t.shape[:place], info.batch_size, *t.shape[place:])
            for t, d, place in zip(tensors, in_dims[:6], places, strict=True)
        ]
        out = signed_products(Sectors(*moved[:3]), Sectors(*moved[3:]), roles)
        return tuple(out), (0, 1, 1)


def signed_products(x: Sectors, y: Sectors, roles: Roles = PRODUCT_ROLES) -> Sectors:
    """Sums of signed products over the terms of the geometric product.

    Parameters
    ----------
    x, y
        States of equal shape without auxiliary scalars.
    roles
        Which places of a term the operands and the result take; the default is the geometric
        product itself.
    """
    if torch.compiler.is_compiling():
        return signed_products_reference(x, y, roles)
    return Sectors(*_SignedProducts.apply(*x, *y, roles))


assert NUM_BIVECTORS == 3, "signed_products_reference stacks the last three rows as bivectors"
