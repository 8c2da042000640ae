"""The geometric product of hidden states, and of two linear maps of one."""

from __future__ import annotations

import torch
from torch import Tensor

from lgatr.layout import Sectors
from lgatr.ops._runtime.choice import CPP, TRITON, Operation
from lgatr.ops._runtime.stage import Fused, Optionals, Stage, Tensors
from lgatr.ops.linear.stage import Linear, side_by_side
from lgatr.ops.product import operator
from lgatr.ops.product.formula import product_by_matrices, product_by_table

# Missing in the oldest torch we accept.
_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def _formula(x: Sectors, y: Sectors) -> Sectors:
    """The product by whichever formula suits: traced, exported, or neither."""
    if not torch.compiler.is_compiling():
        return product_by_matrices(x, y)
    return product_by_table(x, y) if _is_exporting() else operator.traced_product(x, y)


class Product(Stage):
    """Inputs are z, v and b of both factors; outputs those of the product."""

    operation = operator.PRODUCT_OPERATION

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return _formula(Sectors(*inputs[:3]), Sectors(*inputs[3:]))  # type: ignore[arg-type]


class ProductOfHalves(Stage):
    """The product of the first half of the channels with the second half.

    Inputs are z, v and b of both factors, side by side in the last dimension.
    """

    operation = Operation(__package__, "product_of_halves", CPP, TRITON)

    def plain(self, *inputs: Tensor | None) -> Tensors:
        return _formula(*halves(inputs))


def halves(joined: Optionals) -> tuple[Sectors, Sectors]:
    """Both factors, as views."""
    left, right = zip(*(x.chunk(2, dim=-1) for x in joined if x is not None), strict=True)
    return Sectors(*left), Sectors(*right)


_PRODUCT_STAGE = Product()


def sector_product(x: Sectors, y: Sectors, bivector: bool = True) -> Sectors:
    """The geometric product of two states, channel by channel; auxiliary scalars are not used.

    Parameters
    ----------
    x, y
        States with equal multivector channels and no auxiliary scalars.
    bivector
        If False, the bivectors of the result are set to zero.
    """
    out = Sectors(*_PRODUCT_STAGE(*x, *y))
    return out if bivector else out._replace(b=torch.zeros_like(out.b))


def bilinear(left: Linear, right: Linear) -> Fused:
    """The product of two linear maps of one state, by one matrix product per sector.

    Both maps are to multivectors without auxiliary scalars.
    """
    linear = side_by_side(left, right)
    # Both factors are computed again for the gradients: they are the largest tensors of a block.
    return Fused(linear, ProductOfHalves(), linear.count, "recomputed")
