"""The geometric product in C++ (``product.cpp``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lgatr.layout import Sectors, flat
from lgatr.ops._runtime.arguments import State, sizes
from lgatr.ops._runtime.choice import Passes
from lgatr.ops._runtime.cpu import kernel
from lgatr.ops._runtime.stage import Optionals, Tensors

if TYPE_CHECKING:
    from lgatr.ops.product.stage import Product, ProductOfHalves

_MULTIVECTORS = State("2 * C", "2 * C", wider=True)
_OUT = State("2 * C", "2 * C", written=True, wider=True)
_PRODUCT = kernel("product", {
    "x": _MULTIVECTORS, "y": _MULTIVECTORS, "out": _OUT, **sizes("T C"),
})  # fmt: skip
_GRADIENTS = kernel("product_gradients", {
    "x": _MULTIVECTORS, "y": _MULTIVECTORS, "grad": _MULTIVECTORS, "of_x": _OUT, "of_y": _OUT,
    **sizes("T C"),
})  # fmt: skip


def product(settings: Product | None, *inputs: Tensor) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    x, y = Sectors(*inputs[:3]), Sectors(*inputs[3:])
    w = x.v.shape[-1]
    out = Sectors(*(r.new_empty(*r.shape[:-1], w) for r in x))
    left, right, to = (flat(s) for s in (x, y, out))
    _PRODUCT(x.v, left, right, to, len(left.z), w // 2)
    return out, ()


def product_gradients(
    settings: Product | None, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    found = [x.new_zeros(x.shape) for x in inputs if x is not None]
    x, y = Sectors(*inputs[:3]), Sectors(*inputs[3:])  # type: ignore[arg-type]
    _gradients(x, y, Sectors(*grads), Sectors(*found[:3]), Sectors(*found[3:]))
    return found


def product_of_halves(
    settings: ProductOfHalves, z: Tensor, v: Tensor, b: Tensor
) -> tuple[Tensors, Tensors]:
    """Forward pass."""
    w = v.shape[-1] // 2
    out = tuple([x.new_empty((*x.shape[:-1], w)) for x in (z, v, b)])
    left, right = (z[..., :w], v[..., :w], b[..., :w]), (z[..., w:], v[..., w:], b[..., w:])
    to = out
    if z.dim() != 2 or not z.stride(1) == v.stride(2) == b.stride(2) == 1:
        left, right, to = (flat(Sectors(*x)) for x in (left, right, out))
    _PRODUCT(v, left, right, to, len(left[0]), w // 2)
    return out, ()


def product_of_halves_gradients(
    settings: ProductOfHalves, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
) -> Optionals:
    """Backward pass."""
    given = [x for x in inputs if x is not None]
    found = [x.new_empty(x.shape) for x in given]
    w = given[1].shape[-1] // 2
    (x, y), (to_x, to_y) = (
        (Sectors(*(r[..., :w] for r in rows)), Sectors(*(r[..., w:] for r in rows)))
        for rows in (given, found)
    )
    _gradients(x, y, Sectors(*grads), to_x, to_y)
    return found


def _gradients(x: Sectors, y: Sectors, grad: Sectors, to_x: Sectors, to_y: Sectors) -> None:
    states = [flat(s) for s in (x, y, grad, to_x, to_y)]
    _GRADIENTS(x.v, *states, len(states[0].z), x.mv_channels)


PRODUCT = Passes(product, product_gradients)
PRODUCT_OF_HALVES = Passes(product_of_halves, product_of_halves_gradients)
