"""Sums of signed products of planes: the geometric product and all its derivatives.

A bilinear map given by a table of terms ``out[k] += sign * x[i] * y[j]`` has derivatives of the
same kind: with respect to x they are ``sum sign * g[k] * y[j]``, collected in i. One function,
told which role (i, j or k) each operand plays, is therefore its own gradient, to any order.

With the geometric product's terms these are geometric products too, of Hermitian conjugates, so
all are computed by :mod:`lgatr.ops.product.formula`; the table itself is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lgatr.algebra import NUM_PAIRS, PAIR_PRODUCTS
from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, constant, flat
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.derivatives import gradients_are_batched
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels
from lgatr.ops.product import formula as weyl

Roles = tuple[int, int, int]
"""Which entry of a term (0 left, 1 right, 2 out) the operands and the result stand for."""

PRODUCT_ROLES: Roles = (0, 1, 2)


def _planes(x: Sectors) -> list[Tensor]:
    """The 16 coefficients in the pair basis, each a view ``(T, C)``."""
    c = x.mv_channels
    rows = [x.z, *x.v.unbind(0), *x.b.unbind(0)]
    return [row[..., :c] for row in rows] + [row[..., c : 2 * c] for row in rows]


def _dense_table(roles: Roles) -> tuple[float, ...]:
    """The same terms as a dense table ``(16, 16, 16)``: first operand, second operand, result."""
    n = 2 * NUM_PAIRS
    table = [0.0] * n**3
    for term in PAIR_PRODUCTS:
        i, j, k = (term[role] for role in roles)
        table[(i * n + j) * n + k] += term.sign
    return tuple(table)


# Made on import: while torch traces a program it would not remember a cached result.
_PRODUCT_TABLE = _dense_table(PRODUCT_ROLES)


def signed_products_reference(x: Sectors, y: Sectors, roles: Roles = PRODUCT_ROLES) -> Sectors:
    """The same sums with ordinary operations: all products of two coefficients, times a table.

    Needs sixteen times the memory, but only operations that every runtime has; exported programs
    contain this form.
    """
    left, right = torch.stack(_planes(x), dim=-1), torch.stack(_planes(y), dim=-1)
    terms = _PRODUCT_TABLE if roles == PRODUCT_ROLES else _dense_table(roles)
    table = constant(terms, left.device, left.dtype).view(-1, 2 * NUM_PAIRS)
    out = (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2) @ table
    re, im = out.movedim(-1, 0).unflatten(0, (2, NUM_PAIRS)).unbind(0)
    pairs = torch.cat([re, im], dim=-1)
    return Sectors(pairs[0], pairs[1 : 1 + NUM_VECTORS], pairs[1 + NUM_VECTORS :])


# With u = x y, and + for the Hermitian conjugate: u = x y, g_x = g_u y+, g_y = x+ g_u; whichever of
# the two operands comes first. Flags: exchange the operands, conjugate the left, the right.
_AS_PRODUCT: dict[Roles, tuple[bool, bool, bool]] = {
    (0, 1, 2): (False, False, False),
    (1, 0, 2): (True, False, False),
    (2, 1, 0): (False, False, True),
    (1, 2, 0): (True, False, True),
    (0, 2, 1): (False, True, False),
    (2, 0, 1): (True, True, False),
}


def _signed_products(x: Sectors, y: Sectors, roles: Roles) -> Sectors:
    exchange, left, right = _AS_PRODUCT[roles]
    if exchange:
        x, y = y, x
    return product(x, y, left, right)


def product(x: Sectors, y: Sectors, x_dagger: bool = False, y_dagger: bool = False) -> Sectors:
    """The geometric product, of Hermitian conjugates where asked; without gradients.

    By the kernel of the device.
    """
    if x.v.dim() == 3 and has_triton_kernels(x.z) and not (x_dagger or y_dagger):
        from lgatr.ops.product import triton as triton_products

        return triton_products.product(x, y, weyl.empty(x))
    if has_native_kernels(x.v) and not (x_dagger and y_dagger):
        out = weyl.empty(x)
        left, right, place = (flat(s) for s in (x, y, out))
        native.product(left, right, place, x_dagger, y_dagger)
        return out
    return weyl.product(x, y, x_dagger, y_dagger)


def product_gradients(
    x: Sectors, y: Sectors, grad: Sectors, places: tuple[Sectors, Sectors] | None = None
) -> tuple[Sectors, Sectors]:
    """The gradients of x and y, given that of their product; written into ``places`` if given."""
    places = places or (weyl.empty(x), weyl.empty(y))
    if x.v.dim() == 3 and has_triton_kernels(x.z):
        from lgatr.ops.product import triton as triton_products

        grad = Sectors(*(g.contiguous() for g in grad))
        return triton_products.product_gradients(x, y, grad, places)
    if has_native_kernels(x.v):
        left, right, g, *to = (flat(s) for s in (x, y, grad, *places))
        native.product_gradients(left, right, g, (to[0], to[1]))
        return places
    return weyl.product_gradients(x, y, grad, places)


def _save(ctx: Any, inputs: tuple[Any, ...]) -> None:
    *tensors, roles = inputs
    ctx.roles = _roles(roles)
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients as signed products, which have derivatives and can be traced."""
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


def _batched_gradients(
    tensors: Sequence[Tensor], grads: Sequence[Tensor], roles: Roles
) -> tuple[Tensor, ...]:
    """The gradients for several ``grads`` at once, which only torch's own operations take."""
    second = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in tensors]
        outputs = signed_products_reference(Sectors(*own[:3]), Sectors(*own[3:]), roles)
    return torch.autograd.grad(outputs, own, grads, create_graph=second)


class _SignedProducts(torch.autograd.Function):
    @staticmethod
    def forward(
        zx: Tensor, vx: Tensor, bx: Tensor, zy: Tensor, vy: Tensor, by: Tensor, roles: Roles
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _signed_products(Sectors(zx, vx, bx), Sectors(zy, vy, by), roles)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _save(ctx, inputs)
        ctx.save_for_forward(*inputs[:6])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        if gradients_are_batched():
            return (*_batched_gradients(tensors, grads, ctx.roles), None)
        if ctx.roles != PRODUCT_ROLES or torch.is_grad_enabled():
            return _gradients(ctx, *grads)
        x, y = Sectors(*tensors[:3]), Sectors(*tensors[3:])
        of_x, of_y = product_gradients(x, y, Sectors(*grads))
        return (*of_x, *of_y, None)

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


# Missing in the oldest torch we accept.
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)

# The same as an operator, for programs that torch compiles: 256 terms would be 256 nodes to trace.
_LIBRARY = torch.library.Library("lgatr", "FRAGMENT")
_LIBRARY.define(
    "signed_products(Tensor zx, Tensor vx, Tensor bx, Tensor zy, Tensor vy, Tensor by, int[] roles)"
    " -> (Tensor, Tensor, Tensor)"
)


def _roles(values: Sequence[int]) -> Roles:
    left, right, out = values
    return left, right, out


def _operator(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _signed_products(Sectors(*args[:3]), Sectors(*args[3:6]), _roles(args[6]))


def _fake(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    z, v, b = (x.new_empty(x.shape) for x in args[:3])
    return z, v, b


_LIBRARY.impl("signed_products", _operator, "CompositeExplicitAutograd")
torch.library.register_fake("lgatr::signed_products", _fake, lib=_LIBRARY)
torch.library.register_autograd(
    "lgatr::signed_products",
    _gradients,
    setup_context=lambda ctx, inputs, output: _save(ctx, inputs),
    lib=_LIBRARY,
)


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
    if not (torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack()):
        return Sectors(*_SignedProducts.apply(*x, *y, roles))
    if _is_exporting():
        return signed_products_reference(x, y, roles)
    return Sectors(*torch.ops.lgatr.signed_products(*x, *y, roles))


assert NUM_BIVECTORS == 3, "the last three pairs are the bivectors"


class ProductStage(Stage):
    """The geometric product of the first half of the channels with the second half.

    Inputs are z, v and b of both, side by side in the last dimension; outputs those of the product.
    """

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return signed_products(*_halves(inputs))

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return product(*_halves(inputs)), ()

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        found = [x.new_empty(x.shape) for x in inputs if x is not None]
        product_gradients(*_halves(inputs), Sectors(*grads), _halves(found))
        return found


def _halves(joined: Optionals) -> tuple[Sectors, Sectors]:
    """Both operands, as views."""
    left, right = zip(*(x.chunk(2, dim=-1) for x in joined if x is not None), strict=True)
    return Sectors(*left), Sectors(*right)
